"""What Ray costs beside the local engine, on this machine, with equal workers and the same photos.

``python benchmarks/ray_overhead.py [PHOTOS]`` runs ``score --no-report`` in turns, local, Ray, local, Ray ..., over
``--few`` photos (so few that start-up weighs most) and over ``--many``, which are copies of real ones with bytes of
their own, and takes medians of

1. wall: seconds of the whole command, from its start to its end;
2. CPU: seconds of all its processes together, Ray's own (raylet, GCS, agents) among them. They are found by their
   parents and by a variable in their environment, and read from ``/proc`` four times a second, so what a process does
   in its last quarter of a second is missed, for both engines alike.

The tables of both engines are compared, byte for byte, before a figure is written. How much more each further photo
costs is Ray's price per photo; what is left of the difference without any photo is the price of its start and end.
``make reference-pages`` puts the figures into docs/how-it-works/ray.md.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import RESULTS, copy_photos, pictures_in, program, report, shared_data

MARK = "STYLEMATCH_RAY_OVERHEAD"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_seconds_of(mark: str, spent: dict[tuple[str, str], float]) -> None:
    """Take down what each living process of a command has spent, under its number and start time.

    A process that renames itself, as Ray's do, may overwrite its environment: a parent that is known, or having been
    known before, counts as well.
    """
    wanted, known = f"{MARK}={mark}".encode(), {number for number, _ in spent}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            name = (entry.name, fields[19])
            if name in spent or fields[1] in known or wanted in (entry / "environ").read_bytes().split(b"\0"):
                spent[name] = (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def measure(photos: Path, workers: int, engine: str, out: Path) -> dict[str, float]:
    """Run ``score`` once; return wall and CPU seconds."""
    options = ("--device", "cpu", "--overwrite", "--workers", workers, "--engine", engine)
    command = program("score", photos, "--out", out, "--no-report", *options)
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    spent: dict[tuple[str, str], float] = {}
    environment = {**os.environ, MARK: mark, "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)
    started = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        while process.poll() is None:
            cpu_seconds_of(mark, spent)
            time.sleep(0.25)
        wall = time.perf_counter() - started
        if process.returncode:
            sys.exit(f"{engine} failed: {process.stderr.read().decode()}")
    return {"wall_s": wall, "cpu_s": sum(spent.values())}


def tables_sha256(out: Path) -> str:
    """Return one digest of all that lies in a run's tables."""
    digest = hashlib.sha256()
    for table in ("photos", "faces", "recommendations"):
        for path in sorted((out / table).rglob("*")):
            if path.is_file():
                digest.update(f"{path.relative_to(out)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def compare(originals: list[Path], count: int, workers: int, repeats: int, scratch: Path) -> dict[str, object]:
    """Run both engines in turns over ``count`` photos."""
    photos = copy_photos(originals, count, scratch / f"photos-{count}")
    runs: dict[str, list[dict[str, float]]] = {"local": [], "ray": []}
    for repeat in range(repeats):
        for engine, taken in runs.items():
            taken.append(measure(photos, workers, engine, scratch / f"{engine}-{count}"))
            shown = ", ".join(f"{name} {value:.1f}" for name, value in taken[-1].items())
            print(f"{count} photos, {engine}, {repeat + 1} of {repeats}: {shown}", flush=True)
    digests = {tables_sha256(scratch / f"{engine}-{count}") for engine in runs}
    if len(digests) != 1:
        sys.exit("the engines wrote different tables")
    manifest = json.loads((scratch / f"ray-{count}" / "manifest.json").read_text())
    figures: dict[str, object] = {"photos": manifest["counts"]["found"], "runs": runs}
    for engine, taken in runs.items():
        for name in ("wall_s", "cpu_s"):
            figures[f"{engine}_{name}"] = round(statistics.median(run[name] for run in taken), 2)
    return figures


def table(result: dict[str, dict]) -> list[tuple[object, ...]]:
    """Return the figures in rows, the heading first."""
    few, many = result["few"], result["many"]
    photos = many["photos"] - few["photos"]
    rows: list[tuple[object, ...]] = [("what", "local", "Ray", "Ray more")]
    for name, unit in (("wall_s", "wall, s"), ("cpu_s", "CPU, s")):
        for figures in (few, many):
            local, ray = figures[f"local_{name}"], figures[f"ray_{name}"]
            rows.append((f"{figures['photos']} photos: {unit}", local, ray, f"{ray - local:.1f}"))
        each = {engine: (many[f"{engine}_{name}"] - few[f"{engine}_{name}"]) / photos for engine in ("local", "ray")}
        shown = (f"{1000 * each[engine]:.2f} ms" for engine in ("local", "ray"))
        more = f"{each['ray'] / each['local'] - 1:+.1%}" if each["local"] > 0 else "too few photos to say"
        rows.append((f"a further photo: {unit.split(',')[0]}", *shown, more))
    return rows


def main() -> None:
    """Read the arguments, measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photos", type=Path, nargs="?", help="a directory of photos; by default the wild ones")
    parser.add_argument("--few", type=int, default=600)
    parser.add_argument("--many", type=int, default=6_000)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "ray_overhead.json")
    arguments = parser.parse_args()
    result: dict[str, object] = {"workers": arguments.workers, "repeats": arguments.repeats}
    with tempfile.TemporaryDirectory(prefix="stylematch-") as scratch:
        for name in ("few", "many"):
            result[name] = compare(
                pictures_in(arguments.photos or shared_data() / "photos"),
                getattr(arguments, name),
                arguments.workers,
                arguments.repeats,
                Path(scratch),
            )
    report(result, table(result), arguments.out)


if __name__ == "__main__":
    main()
