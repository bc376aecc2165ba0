"""Running the program as a user does, in this process or in one of its own, and reading what a run wrote."""

import contextlib
import hashlib
import io
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from conftest import REPOSITORY

from stylematch.cli.program import run
from stylematch.tables.contract import CLUSTERED, TABLES
from stylematch.tables.manifest import read_manifest

DEFAULT_INDEX = REPOSITORY / "indexes" / "default"
EXAMPLES = REPOSITORY / "examples" / "photos"
# Generous, since a test must not fail for a busy machine; what is awaited comes within seconds.
PATIENCE_S = 300


@dataclass(frozen=True)
class Result:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one sentence of a user's mistake."""
        lines = [line for line in self.err.splitlines() if line.startswith("stylematch-batch: ")]
        assert self.err.count("Traceback") == 0, self.err
        assert len(lines) == 1, self.err
        assert self.err.rstrip().endswith(lines[0]), self.err
        return lines[0]


def heed_interrupts() -> None:
    """Make a child heed Ctrl-C: a shell starts background jobs, and so their children, with it ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def call(*arguments) -> Result:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(argument) for argument in arguments])
    return Result(code, out.getvalue(), err.getvalue())


def score(photos, out, *options) -> Result:
    """Score on the CPU in one process without a gallery, unless the options say otherwise."""
    given = " ".join(map(str, options))
    defaults = ["--device", "cpu"] if "--device" not in given else []
    defaults += ["--workers", "1"] if "--workers" not in given else []
    defaults += ["--no-report"] if "-report" not in given else []
    # Inline, since a test has no time for one process more; the guarded way is that of test_nothing_lost.
    defaults += ["--photo-timeout-s", "0"] if "--photo-timeout-s" not in given else []
    return call("score", photos, "--out", out, *defaults, *options)


def scored(photos, out, *options) -> Path:
    """Score, and expect that it works; return OUT."""
    result = score(photos, out, *options)
    assert result.code == 0, result.err
    return out


def command(*arguments) -> list[str]:
    """The same command for a process of its own; to be run with ``environment()``."""
    return [sys.executable, "-m", "stylematch.cli", *map(str, arguments)]


def environment(**more) -> dict[str, str]:
    """Return an environment in which the package is found from any folder."""
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, **{name: str(value) for name, value in more.items()}}


def wait_for(condition, process):
    """Return what ``condition()`` returns once that is true; the process must be alive until then."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert process.poll() is None, f"ended with {process.returncode} before what was awaited"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return found


def table(out: Path, name: str) -> pa.Table:
    """Read a table of a run, in the order of its photos, faces and ranks (in a shard, styles stand together)."""
    rows = stored(out, name)
    if name not in CLUSTERED or not (out / "photos").is_dir():
        return rows
    keys = {"photo": pc.index_in(rows["path"], value_set=stored(out, "photos")["path"].combine_chunks())}
    keys |= {key: rows[key] for key in ("face", "rank") if key in rows.column_names}
    return rows.take(pc.sort_indices(pa.table(keys), sort_keys=[(key, "ascending") for key in keys]))


def stored(out: Path, name: str) -> pa.Table:
    """Read a table of a run, shard after shard, its rows as they are stored."""
    return pa.concat_tables(pq.read_table(path) for path in sorted((out / name).glob("*.parquet")))


def rows(out: Path, name: str) -> list[dict]:
    return table(out, name).to_pylist()


def manifest(out: Path) -> dict:
    content = read_manifest(out)
    assert content is not None, f"{out} is no finished run"
    return content


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def index_digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file of an index, and what its infos say but for the measured speed."""
    infos = json.loads((folder / "infos.json").read_text())
    infos.pop("speed", None)
    return {**digests(folder), "infos.json": json.dumps(infos, sort_keys=True)}


def table_digests(out: Path) -> dict[str, dict[str, str]]:
    """The SHA-256 of every file of the tables, shards and sidecars."""
    return {name: digests(out / name) for name in TABLES}
