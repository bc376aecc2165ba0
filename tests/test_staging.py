import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stylematch.errors import UserError
from stylematch.tables.contract import TABLES, faces_schema, photos_schema, recommendations_schema
from stylematch.tables.counts import count_tables
from stylematch.tables.exchange import exchange
from stylematch.tables.lock import held
from stylematch.tables.manifest import Manifest, read_manifest, write_manifest
from stylematch.tables.out import check_out, output_of
from stylematch.tables.shards import shard_path, sidecar_path
from stylematch.tables.staging import Decision, Staging
from stylematch.tables.writer import ShardWriter

SCHEMAS = dict(zip(TABLES, [photos_schema(), faces_schema(["Smiling"], 4), recommendations_schema()], strict=True))
RUN_A = "a" * 32
RUN_B = "b" * 32


def write_partition(staging: Staging, number: int, rows: int = 2) -> None:
    for table in TABLES:
        with ShardWriter(staging.table(table), number, SCHEMAS[table]) as writer:
            if table == "photos":
                empty = {name: [None] * rows for name in SCHEMAS[table].names}
                writer.write(
                    empty
                    | {
                        "path": [f"{number}-{i}.jpg" for i in range(rows)],
                        "bytes": [1] * rows,
                        "faces": [0] * rows,
                    }
                    | {"status": ["no_face"] * rows, "reason": ["no_face_found"] * rows}
                )


def finish(staging: Staging) -> None:
    now = datetime.now(UTC)
    counts = count_tables(staging.directory, {})
    write_manifest(staging.directory, Manifest(staging.run_id, counts, {}, "0", {}, {}, "cpu", now, now))
    staging.publish()


def whole_run(out: Path, run_id: str, *, rows: int = 2, overwrite: bool = False) -> Decision:
    with Staging(out, run_id, overwrite=overwrite) as staging:
        decision = staging.check()
        if decision is not Decision.NOTHING:
            staging.prepare()
            write_partition(staging, 0, rows)
            finish(staging)
    return decision


def names(directory: Path) -> set[str]:
    return {p.name for p in directory.iterdir()}


@pytest.mark.parametrize("existing", [False, True], ids=["absent", "empty"])
def test_a_run_appears_at_once_and_leaves_nothing_beside_it(tmp_path, existing):
    out = tmp_path / "deep" / "er" / "out"
    if existing:
        out.mkdir(parents=True)
    with Staging(out, RUN_A) as staging:
        assert staging.check() is Decision.START
        assert staging.prepare() == frozenset()
        write_partition(staging, 0)
        assert out.exists() == existing
        finish(staging)
    assert names(out) == {*TABLES, "manifest.json"}
    assert names(out.parent) == {"out"}
    assert read_manifest(out)["run_id"] == RUN_A


def test_what_a_dead_worker_left_half_written_is_not_published(tmp_path):
    out = tmp_path / "out"
    with Staging(out, RUN_A) as staging:
        staging.check()
        staging.prepare()
        for number in range(2):
            dead = ShardWriter(staging.table("photos"), number, SCHEMAS["photos"])
            dead.__enter__()
            dead._file.write(b"half")
            write_partition(staging, number)
        finish(staging)
    assert names(out / "photos") == {"part-00000.parquet", "part-00001.parquet", "_done"}
    assert len(names(out / "photos" / "_done")) == 2


def test_an_equal_run_has_nothing_to_do_unless_it_is_to_overwrite(tmp_path):
    out = tmp_path / "out"
    whole_run(out, RUN_A)
    before = (out / "manifest.json").stat().st_mtime_ns
    leftover = tmp_path / f".out.stylematch-staging-{RUN_B[:16]}"
    leftover.mkdir()
    assert whole_run(out, RUN_A) is Decision.NOTHING
    assert (out / "manifest.json").stat().st_mtime_ns == before
    assert names(tmp_path) == {"out"}
    assert whole_run(out, RUN_A, overwrite=True) is Decision.START
    assert (out / "manifest.json").stat().st_mtime_ns > before


def test_another_run_replaces_a_finished_one(tmp_path):
    out = tmp_path / "out"
    whole_run(out, RUN_A)
    (out / ".DS_Store").touch()  # what desktops leave is nobody's data
    assert whole_run(out, RUN_B, rows=3) is Decision.START
    assert read_manifest(out)["run_id"] == RUN_B
    assert read_manifest(out)["counts"]["found"] == 3
    assert names(tmp_path) == {"out"}


def test_an_unfinished_run_is_resumed_without_its_torn_shards(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), Staging(out, RUN_A) as staging:  # noqa: PT012
        staging.prepare()
        for number in range(5):
            write_partition(staging, number)
        raise KeyboardInterrupt
    torn = shard_path(staging.table("faces"), 1)
    torn.write_bytes(torn.read_bytes()[:-4])
    sidecar_path(staging.table("recommendations"), 2).unlink()
    flipped = shard_path(staging.table("photos"), 3)
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    (staging.table("photos") / ".part-00007.parquet.tmp").write_bytes(b"half")
    (staging.directory / "manifest.json").write_text("{}")
    kept = shard_path(staging.table("photos"), 0).stat().st_mtime_ns

    with Staging(out, RUN_A) as staging:
        assert staging.check() is Decision.RESUME
        assert staging.prepare() == {0, 4}
        files = {p.relative_to(staging.directory).as_posix() for p in staging.directory.rglob("*") if p.is_file()}
        for number in (1, 2, 3):
            write_partition(staging, number)
        finish(staging)
    kept_names = [name for n in (0, 4) for name in (f"part-0000{n}.parquet", f"_done/part-0000{n}.json")]
    assert files == {f"{table}/{name}" for table in TABLES for name in kept_names}
    assert shard_path(out / "photos", 0).stat().st_mtime_ns == kept
    assert read_manifest(out)["counts"]["found"] == 10


def test_stale_stagings_of_this_out_go_and_those_of_others_stay(tmp_path):
    with Staging(tmp_path / "out", RUN_A) as stale:
        stale.prepare()
    with Staging(tmp_path / "other", RUN_A) as other:
        other.prepare()
    with Staging(tmp_path / "out", RUN_B) as staging:
        assert staging.check() is Decision.START
        staging.prepare()
        assert not stale.directory.exists()
        assert other.directory.exists()


def test_a_run_killed_between_two_renames_is_put_back(tmp_path):
    # Publishing takes two renames where two names cannot be exchanged; this is the state between them.
    out = tmp_path / "out"
    whole_run(out, RUN_A)
    out.rename(tmp_path / f".out.stylematch-old-{RUN_B[:16]}")
    with Staging(out, RUN_B) as staging:
        assert read_manifest(out)["run_id"] == RUN_A
        staging.check()
        staging.prepare()
        write_partition(staging, 0)
        finish(staging)
    assert read_manifest(out)["run_id"] == RUN_B
    assert names(tmp_path) == {"out"}


def test_exchange_swaps_two_folders_in_one_step(tmp_path):
    (tmp_path / "a" / "of a").mkdir(parents=True)
    (tmp_path / "b" / "of b").mkdir(parents=True)
    if not exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot exchange two names")
    assert names(tmp_path / "a") == {"of b"}
    assert names(tmp_path / "b") == {"of a"}
    with pytest.raises(OSError, match="No such file"):
        exchange(tmp_path / "a", tmp_path / "absent")


def test_what_is_not_ours_is_refused_and_untouched(tmp_path):
    out = tmp_path / "my\nphotos"
    out.mkdir()
    (out / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match=r"my\\nphotos is not empty .*another folder"):
        check_out(out)
    (out / "manifest.json").write_text('{"tool": "other", "run_id": "x"}')
    with pytest.raises(UserError, match="not empty"):
        Staging(out, RUN_A)
    assert names(out) == {"holiday.jpg", "manifest.json"}
    assert names(tmp_path) == {"my\nphotos"}


def test_what_a_user_put_into_a_finished_run_is_not_deleted(tmp_path):
    out = tmp_path / "out"
    whole_run(out, RUN_A)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"notes\.txt"):
        whole_run(out, RUN_B)
    assert (out / "notes.txt").read_text() == "mine"


def test_out_that_cannot_be_a_folder_is_refused_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("dangling").symlink_to("nowhere")
    Path("loop").symlink_to("loop")
    for out, message in [
        ("file", "is a file"),
        ("file/out", "is a file or lies under one"),
        ("dangling", "link to nowhere"),
        ("loop", "link to nowhere"),
        (".", "current directory"),
        ("..", "current directory"),
        ("/", "current directory"),
        ("/proc", "mount point"),
        ("no\udcffutf", r"no\\udcffutf is no valid UTF-8"),
    ]:
        with pytest.raises(UserError, match=message) as caught:
            check_out(Path(out))
        assert "\n" not in str(caught.value)
    assert names(tmp_path) == {"file", "dangling", "loop"}


def test_a_link_to_a_folder_is_followed_and_stays(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to("real")
    whole_run(link, RUN_A)
    whole_run(link, RUN_B)
    assert link.is_symlink()
    assert read_manifest(tmp_path / "real")["run_id"] == RUN_B
    assert names(tmp_path) == {"real", "link"}


@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_a_parent_that_may_not_be_written_to_is_refused(mode):
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(mode)
        if root:  # whom no mode stops
            os.seteuid(65534)
        try:
            with pytest.raises(UserError, match="Permission denied"), Staging(Path(parent) / "out", RUN_A):
                pass
        finally:
            if root:
                os.seteuid(0)
            Path(parent).chmod(0o700)


def test_publishing_needs_a_manifest(tmp_path):
    with Staging(tmp_path / "out", RUN_A) as staging:
        staging.prepare()
        with pytest.raises(ValueError, match=r"manifest\.json"):
            staging.publish()


def test_two_runs_into_one_out_exclude_each_other(tmp_path):
    out = tmp_path / "out"
    code = (
        "import sys; from pathlib import Path; from stylematch.tables.staging import Staging\n"
        f"with Staging(Path({str(out)!r}), {RUN_B!r}) as s:\n"
        "    s.prepare(); print('locked', flush=True); sys.stdin.read()"
    )
    root = Path(__file__).resolve().parents[1]
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root)
    try:
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(UserError, match="another run is writing"), Staging(out, RUN_A):
            pass
        with Staging(tmp_path / "elsewhere", RUN_A):
            pass
    finally:
        other.kill()
        other.communicate()
    # A killed run's lock is gone with it, though its file is still there.
    assert whole_run(out, RUN_A) is Decision.START
    assert names(tmp_path) == {"out"}


def test_a_lock_file_that_its_holder_removed_is_not_trusted(tmp_path):
    with Staging(tmp_path / "out", RUN_A) as staging:
        lock = tmp_path / ".out.stylematch-lock"
        waiting = os.open(lock, os.O_RDWR)
        lock.unlink()
        lock.touch()
        fresh = os.open(lock, os.O_RDWR)
        fcntl.flock(fresh, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another run"), Staging(tmp_path / "out", RUN_B):
            pass
        os.close(waiting)
        os.close(fresh)
        assert staging.check() is Decision.START


def test_a_failing_publish_keeps_the_old_run_and_resumes(tmp_path):
    out = tmp_path / "out"
    whole_run(out, RUN_A)
    with pytest.raises(UserError, match=r"notes\.txt"), Staging(out, RUN_B) as staging:  # noqa: PT012
        staging.prepare()
        write_partition(staging, 0)
        (out / "notes.txt").touch()
        finish(staging)
    (out / "notes.txt").unlink()
    assert read_manifest(out)["run_id"] == RUN_A
    with Staging(out, RUN_B) as staging:
        assert staging.check() is Decision.RESUME
        assert staging.prepare() == {0}
        finish(staging)
    assert read_manifest(out)["run_id"] == RUN_B


def test_a_name_that_is_too_long_is_explained(tmp_path):
    with pytest.raises(UserError, match="File name too long"), Staging(tmp_path / ("o" * 250), RUN_A):
        pass


def test_no_runs_pictures_are_input_of_another(tmp_path):
    is_output = output_of(tmp_path / "out")
    whole_run(tmp_path / "another", RUN_A)
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "manifest.json").write_text('{"tool": "another"}')
    with Staging(tmp_path / "third", RUN_B) as unfinished:
        unfinished.prepare()
        assert is_output(unfinished.directory)
    assert is_output(tmp_path / "out")
    assert is_output(tmp_path / "another")
    assert not is_output(tmp_path / "another" / "report")
    assert not is_output(tmp_path / "holiday")


def test_a_child_that_outlives_a_killed_holder_keeps_no_lock(tmp_path):
    code = (
        "import os, sys, time; from pathlib import Path; from stylematch.tables.lock import held\n"
        f"with held(Path({str(tmp_path / 'lock')!r}), 'busy'):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        os.write(1, f'{os.getpid()}\\n'.encode()); time.sleep(60); os._exit(0)\n"
        "    sys.stdin.read()"
    )
    root = Path(__file__).resolve().parents[1]
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root)
    child = int(holder.stdout.readline())
    try:
        with pytest.raises(UserError, match="busy"), held(tmp_path / "lock", "busy"):
            pass
        holder.kill()
        holder.wait()
        os.kill(child, 0)  # it lives
        with held(tmp_path / "lock", "busy"):
            assert names(tmp_path) == {"lock"}
    finally:
        os.kill(child, signal.SIGKILL)
        holder.kill()
        holder.communicate()
