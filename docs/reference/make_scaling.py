"""Write the arithmetic for ten million photos into docs/how-it-works/ray.md, from the measured rates.

``benchmarks/score_speed.py`` and ``benchmarks/ray_overhead.py`` measure them; ``make reference-pages`` runs this, and a
test holds the page to it.
"""

from __future__ import annotations

import json
from pathlib import Path

from stylematch.data.listing import partition_sizes

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "how-it-works" / "ray.md"
RESULTS = REPOSITORY / "benchmarks" / "results"
START, END = "<!-- arithmetic: made by make reference-pages -->", "<!-- arithmetic end -->"
PHOTOS, PHOTO_BYTES, NIGHT_H = 10_000_000, 100_000, 8
CLUSTERS = ((32, "one large machine"), (64, "four nodes of 16"), (256, "sixteen nodes of 16"))


def arithmetic(results: Path = RESULTS) -> str:
    """Return the section as Markdown."""
    speed = json.loads((results / "score_speed.json").read_text())
    cores, rate = speed["host"]["cores"], speed["wild"]["photos_per_s"]
    of_a_core = rate / cores
    seconds = PHOTOS / of_a_core
    partitions = len(partition_sizes(PHOTOS))
    partition_s = seconds / partitions
    night = int(-(-seconds // (3600 * NIGHT_H)))
    rows = [(cores, "the machine that was measured"), (night, f"one machine, in a night of {NIGHT_H} hours"), *CLUSTERS]
    lines = [
        f"The rate measured for `score` (files to published tables, {speed['wild']['run']['photos']:,} wild photos, "
        f"{cores} cores of {speed['host']['processor']}, `benchmarks/results/score_speed.json`) is "
        f"{rate:.1f} photos/s, or {of_a_core:.1f} photos/s a core. So for ten million photos:",
        "",
        f"    {PHOTOS:,} photos / {of_a_core:.1f} photos/s a core = {seconds:,.0f} core seconds"
        f" = {seconds / 3600:.0f} core hours",
        "",
        "| cores | what that is | scoring takes | reads, at 100 KB a photo |",
        "| --- | --- | --- | --- |",
        *(
            f"| {count} | {what} | {_duration(-(-partitions // count) * partition_s)} "
            f"| {of_a_core * count * PHOTO_BYTES / 1e6:,.0f} MB/s |"
            for count, what in sorted(rows)
        ),
        "",
        f"A partition, here {PHOTOS // partitions:,} photos, is one core's work for {partition_s:.0f} s. The times are "
        "of whole rounds of partitions, so the wait for the last ones is in them.",
        "",
        _overhead(results / "ray_overhead.json"),
    ]
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"


def _overhead(path: Path) -> str:
    if not path.is_file():
        return (
            "How much of a core Ray itself takes, beside the local engine on equal cores, is measured by "
            "`python benchmarks/ray_overhead.py`; its figures are not in this checkout."
        )
    result = json.loads(path.read_text())
    few, many = result["few"], result["many"]
    photos = many["photos"] - few["photos"]
    each = {engine: (many[f"{engine}_wall_s"] - few[f"{engine}_wall_s"]) / photos for engine in ("local", "ray")}
    start = few["ray_wall_s"] - few["local_wall_s"] - few["photos"] * (each["ray"] - each["local"])
    return (
        f"Ray itself, beside the local engine with {result['workers']} workers each, over {few['photos']:,} and "
        f"{many['photos']:,} photos (`benchmarks/results/ray_overhead.json`): {start:.1f} s more to start and end a "
        f"run, and {1000 * each['ray']:.2f} ms of the clock for a further photo against {1000 * each['local']:.2f} ms "
        f"({each['ray'] / each['local'] - 1:+.1%})."
    )


def filled(page: str) -> str:
    """Return the page with the section between its two marks."""
    before, _, rest = page.partition(START)
    return f"{before}{START}\n\n{arithmetic()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
