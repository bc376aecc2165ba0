"""Whether ``score`` needs more memory, or more time a photo, for many photos than for few.

``python benchmarks/memory.py --scratch DIR`` copies real photos to DIR, each with bytes of its own behind the picture
(so that none is hashed or cached as another), scores ``--few`` and then ``--many`` of them, and compares the peak of
resident memory over all processes of a run (sampled ten times a second, ``--workers`` each) and the time a photo.
Needs psutil.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import time
from pathlib import Path

import psutil
from machine import RESULTS, copy_photos, pictures_in, program, report, shared_data


def peak_of(command: list[str]) -> tuple[float, float]:
    """Return the peak of resident memory in MB over a program and its children, and its seconds."""
    clock, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as program:
        watched = psutil.Process(program.pid)
        while program.poll() is None:
            peak = max(peak, _resident(watched))
            time.sleep(0.1)
    if program.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {program.returncode}")
    return peak / 1e6, time.perf_counter() - clock


def _resident(process: psutil.Process) -> int:
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    except psutil.NoSuchProcess:
        pass  # it has just ended
    return total


def main() -> None:
    """Read the arguments, measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scratch", type=Path, required=True, help="a folder that is made and removed")
    parser.add_argument("--photos", type=Path, default=shared_data() / "photos")
    parser.add_argument("--few", type=int, default=2_000)
    parser.add_argument("--many", type=int, default=50_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS / "memory.json")
    arguments = parser.parse_args()
    originals = pictures_in(arguments.photos)
    figures: dict[str, dict[str, float]] = {}
    arguments.scratch.mkdir(parents=True)
    try:
        for name, count in (("few", arguments.few), ("many", arguments.many)):
            folder = copy_photos(originals, count, arguments.scratch / name)
            out = arguments.scratch / f"out-{name}"
            command = program("score", folder, "--out", out, "--device", "cpu", "--workers", arguments.workers)
            peak_mb, seconds = peak_of(command)
            scored = json.loads((out / "manifest.json").read_bytes())["stages"]["score"]
            figures[name] = {
                "photos": count,
                "peak_mb": round(peak_mb, 1),
                "seconds": round(seconds, 2),
                "ms_per_photo": round(1000 * seconds / count, 3),
                "scoring_ms_per_photo": round(1000 * scored["seconds"] / count, 3),
            }
            shutil.rmtree(folder)
            shutil.rmtree(out)
    finally:
        shutil.rmtree(arguments.scratch, ignore_errors=True)
    few, many = figures["few"], figures["many"]
    ratios = {
        "peak_ratio": round(many["peak_mb"] / few["peak_mb"], 3),
        "time_ratio": round(many["ms_per_photo"] / few["ms_per_photo"], 3),
    }
    table: list[tuple[object, ...]] = [("photos", "peak MB", "ms a photo")]
    table += [(f"{got['photos']:,}", f"{got['peak_mb']:,.0f}", f"{got['ms_per_photo']:.2f}") for got in (few, many)]
    table.append(("ratio", ratios["peak_ratio"], ratios["time_ratio"]))
    report({**figures, **ratios}, table, arguments.out)


if __name__ == "__main__":
    main()
