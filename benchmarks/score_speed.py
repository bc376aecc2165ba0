"""How fast ``score`` and ``embed`` are beside their own limits: every stage alone on all cores, then the whole program.

``python benchmarks/score_speed.py`` measures, side by side in one run:

1. wild photos (``photos/`` of the real data) and 2,000 aligned CelebA pictures: each stage alone (``stages_alone.py``),
   three times, and the limit that follows, 1 / sum(1 / rate), and ``score`` itself, from files to Parquet: on these,
   of whose seconds starting the program is a large part, and on ``--many`` copies of them, of other bytes each, with
   the gallery that ``score`` writes beside the tables, and without it, against the limit without thumbnails;
2. ``embed`` of Fashion-MNIST against the garment encoder alone on pictures in memory.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from pathlib import Path
from statistics import harmonic_mean
from typing import Any

import numpy as np
from machine import RESULTS, copy_photos, linked_pictures, pictures_in, report, shared_data, stylematch
from stages_alone import stage_rates

from stylematch.pipelines.assets import resolve_assets
from stylematch.tables.cores import usable_cores
from stylematch.vision.runtime import load_runtime, run_in_batches


def measure_score(photos: Path, faces: str, workers: int, scratch: Path, repeats: int, many: int) -> dict[str, Any]:
    """Measure the whole, and before, between and after it the stages alone, as a machine's speed drifts."""
    rates = [stage_rates(photos, faces, workers)]
    best = max((_run(photos, faces, workers, scratch) for _ in range(repeats)), key=lambda run: run["photos_per_s"])
    rates.append(stage_rates(photos, faces, workers))
    runs = {}
    if many:
        copies = copy_photos(pictures_in(photos), many, scratch / f"many-{faces}")
        runs = {
            "many": _run(copies, faces, workers, scratch),
            "many_tables": _run(copies, faces, workers, scratch, "--no-report"),
        }
        rates.append(stage_rates(photos, faces, workers))
    alone = {stage: harmonic_mean([rate[stage] for rate in rates]) for stage in rates[0]}
    limit = _limit(alone)
    tables_alone = {stage: rate for stage, rate in alone.items() if stage != "thumbnails"}
    limits = {"many": limit, "many_tables": _limit(tables_alone)}
    return {
        "alone_photos_per_s": {stage: round(rate, 1) for stage, rate in alone.items()},
        "limit_photos_per_s": round(limit, 1),
        "limits_photos_per_s": [round(_limit(one), 1) for one in rates],
        "photos_per_s": best["photos_per_s"],
        "program_photos_per_s": round(best["photos"] / best["program_s"], 1),
        "limit_reached": round(best["photos_per_s"] / limit, 3),
        "run": best,
        **{
            name: {
                "photos_per_s": run["photos_per_s"],
                "limit_reached": round(run["photos_per_s"] / limits[name], 3),
                "run": run,
            }
            for name, run in runs.items()
        },
    }


def _limit(alone: dict[str, float]) -> float:
    return 1 / sum(1 / rate for rate in alone.values())


def _run(photos: Path, faces: str, workers: int, scratch: Path, *options: str) -> dict[str, Any]:
    out = scratch / f"run-{faces}"
    clock = time.perf_counter()
    chosen = ("--faces", faces, "--workers", workers, "--device", "cpu", "--overwrite", *options)
    stylematch("score", photos, "--out", out, *chosen)
    whole_s = time.perf_counter() - clock
    manifest = json.loads((out / "manifest.json").read_bytes())
    return {"program_s": round(whole_s, 3), "photos": manifest["counts"]["found"], **manifest["profile"]}


def measure_embed(limit: int, workers: int, scratch: Path) -> dict[str, Any]:
    """Measure the garment encoder alone on all cores, and ``embed`` of Fashion-MNIST's training split."""
    bundle = resolve_assets(()).garments
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pool.map(_encode, [64] * workers)  # loads the model
        clock = time.perf_counter()
        pool.map(_encode, [limit // workers] * workers, chunksize=1)
        alone = limit // workers * workers / (time.perf_counter() - clock)
    clock = time.perf_counter()
    stylematch("embed", "fashion-mnist", "--out", scratch / "embedded", "--bundle", bundle.directory)
    seconds = time.perf_counter() - clock
    count = 70_000
    return {
        "alone_pictures_per_s": round(alone, 1),
        "pictures_per_s": round(count / seconds, 1),
        "limit_reached": round(count / seconds / alone, 3),
        "seconds": round(seconds, 2),
    }


_RUNTIME: dict[str, Any] = {}


def _encode(count: int) -> int:
    if not _RUNTIME:
        _RUNTIME["encoder"] = load_runtime(resolve_assets(()).garments, "cpu", 1)
    bundle = _RUNTIME["encoder"].bundle
    shape = (count, bundle.input_px, bundle.input_px, bundle.channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return len(run_in_batches(_RUNTIME["encoder"], pixels, 256).embedding)


def main() -> None:
    """Read the arguments, measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=Path, default=shared_data() / "photos", help="wild photos")
    parser.add_argument("--celeba", type=Path, default=shared_data() / "celeba" / "img_align_celeba")
    parser.add_argument("--pictures", type=int, default=2_000, help="aligned pictures")
    parser.add_argument("--embed", type=int, default=20_000, help="pictures for the encoder alone; 0 leaves embed out")
    parser.add_argument("--workers", type=int, default=usable_cores())
    parser.add_argument("--repeats", type=int, default=2, help="runs of the whole, the best counts")
    parser.add_argument("--many", type=int, default=10_000, help="copies for a long run; 0 leaves it out")
    parser.add_argument("--out", type=Path, default=RESULTS / "score_speed.json")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="stylematch-") as folder:
        scratch = Path(folder)
        aligned = linked_pictures(sorted(arguments.celeba.glob("*.jpg"))[: arguments.pictures], scratch / "aligned")
        for name, photos, faces in (("wild", arguments.photos, "find"), ("aligned", aligned, "aligned")):
            figures[name] = measure_score(photos, faces, arguments.workers, scratch, arguments.repeats, arguments.many)
        if arguments.embed:
            figures["fashion_mnist"] = measure_embed(arguments.embed, arguments.workers, scratch)
    table: list[tuple[object, ...]] = [("what", "alone, a second", "share of the limit's time")]
    for name in ("wild", "aligned"):
        got = figures[name]
        for stage, rate in got["alone_photos_per_s"].items():
            table.append((f"{name}: {stage}", f"{rate:,.0f}", f"{got['limit_photos_per_s'] / rate:.1%}"))
        table.append((f"**{name}: limit**", f"{got['limit_photos_per_s']:,.1f}", ""))
        for part, how in ((got, ""), (got.get("many"), ""), (got.get("many_tables"), ", tables alone")):
            if part:
                what = f"**{name}: score, {part['run']['photos']:,}{how}**"
                table.append((what, f"{part['photos_per_s']:,.1f}", f"reached {part['limit_reached']:.1%}"))
    if arguments.embed:
        got = figures["fashion_mnist"]
        table.append(("fashion-mnist: encoder alone", f"{got['alone_pictures_per_s']:,.0f}", ""))
        table.append(
            ("**fashion-mnist: embed**", f"{got['pictures_per_s']:,.0f}", f"reached {got['limit_reached']:.1%}")
        )
    report(figures, table, arguments.out)


if __name__ == "__main__":
    main()
