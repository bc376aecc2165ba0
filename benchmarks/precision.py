"""What ``--device cpu-bf16`` gains beside ``--device cpu``, and what it changes.

``python benchmarks/precision.py`` runs, with each of the two devices in turn:

1. ``score`` over ``--many`` copies of wild photos and of aligned pictures, of other bytes each;
2. ``evaluate`` of the shipped attribute model on CelebA's local test split, on its aligned pictures with official
   labels, and on the wild photos through the face finder;

and counts the faces whose style, and whose five items, are the same in both runs over the wild photos themselves.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from machine import RESULTS, copy_photos, pictures_in, report, shared_data, stylematch

from stylematch.pipelines.assets import resolve_assets
from stylematch.tables.cores import usable_cores

DEVICES = ("cpu", "cpu-bf16")
_FIGURES = (
    ("attributes", "accuracy"),
    ("attributes", "macro_f1"),
    ("attributes", "balanced_accuracy_at_thresholds"),
    ("landmarks", "normalised_mean_error"),
)


def measure_score(photos: Path, faces: str, device: str, workers: int, out: Path) -> dict[str, Any]:
    """Score; return photos/s, and faces/s of the attribute model in one worker."""
    chosen = ("--faces", faces, "--workers", workers, "--device", device, "--overwrite")
    stylematch("score", photos, "--out", out, *chosen)
    profile = json.loads((out / "manifest.json").read_bytes())["profile"]
    attributes = next(stage for stage in profile["rows"] if stage["stage"] == "attributes")
    return {"photos_per_s": profile["photos_per_s"], "attributes_per_s": attributes["items_per_s"]}


def measure_quality(data: Path, device: str, scratch: Path) -> dict[str, dict[str, float]]:
    """Evaluate the shipped attribute model; return by set of pictures the figures."""
    bundle, found = resolve_assets(()).attributes.directory, {}
    for name, options in (
        ("celeba", ("--split", "test")),
        ("celeba_aligned_sample", ("--split", "all")),
        ("photos", ("--split", "all", "--faces", "find")),
    ):
        out = scratch / f"{name}-{device}"
        stylematch("evaluate", bundle, data / name, "--out", out, "--device", device, *options)
        for title, groups in json.loads((out / "figures.json").read_bytes())["measured"].items():
            values = {(group, figure): groups.get(group, {}).get(figure) for group, figure in _FIGURES}
            found[title] = {" ".join(name): round(value, 5) for name, value in values.items() if value is not None}
    return found


def same_answers(one: Path, other: Path) -> dict[str, float]:
    """Return the shares of the faces of two runs that have the same style, and the same items in the same order."""
    faces, items = (
        [_by_face(run / table, column) for run in (one, other)]
        for table, column in (("faces", "style"), ("recommendations", "item_id"))
    )
    shared = faces[0].keys() & faces[1].keys()
    return {
        "faces": len(faces[0].keys() | faces[1].keys()),
        "same_style": round(sum(faces[0][face] == faces[1][face] for face in shared) / len(shared), 4),
        "same_items": round(sum(items[0][face] == items[1][face] for face in shared) / len(shared), 4),
    }


def _by_face(table: Path, column: str) -> dict[tuple[str, int], list[str]]:
    rows: pa.Table = pq.read_table(table)
    if "rank" in rows.column_names:
        rows = rows.sort_by("rank")
    found: dict[tuple[str, int], list[str]] = {}
    for path, face, value in zip(*(rows[name].to_pylist() for name in ("path", "face", column)), strict=True):
        found.setdefault((path, face), []).append(value)
    return found


def main() -> None:
    """Read the arguments, measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=shared_data(), help="the folder of real data")
    parser.add_argument("--many", type=int, default=10_000, help="copies that are scored")
    parser.add_argument("--workers", type=int, default=usable_cores())
    parser.add_argument("--out", type=Path, default=RESULTS / "precision.json")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"score": {}, "quality": {}}
    table: list[tuple[object, ...]] = [("what", *(f"`--device {device}`" for device in DEVICES))]
    with tempfile.TemporaryDirectory(prefix="stylematch-") as folder:
        scratch = Path(folder)
        sources = {"find": arguments.data / "photos", "aligned": arguments.data / "celeba" / "img_align_celeba"}
        for faces, source in sources.items():
            copies = copy_photos(pictures_in(source)[: arguments.many], arguments.many, scratch / faces)
            for device in DEVICES:
                got = measure_score(copies, faces, device, arguments.workers, scratch / "run")
                figures["score"].setdefault(faces, {})[device] = got
            for name, unit in (
                ("photos_per_s", "photos/s"),
                ("attributes_per_s", "attribute model, one worker, faces/s"),
            ):
                rates = (f"{figures['score'][faces][device][name]:,.0f}" for device in DEVICES)
                table.append((f"`--faces {faces}`, {arguments.many:,}: {unit}", *rates))
        runs = [scratch / f"run-{device}" for device in DEVICES]
        for device, run in zip(DEVICES, runs, strict=True):
            figures["quality"][device] = measure_quality(arguments.data, device, scratch)
            measure_score(sources["find"], "find", device, arguments.workers, run)
        figures["same"] = same_answers(*runs)
    for title, known in figures["quality"][DEVICES[0]].items():
        for name in known:
            said = (f"{figures['quality'][device][title][name]:.2%}" for device in DEVICES)
            table.append((f"{title}: {name.replace('_', ' ')}", *said))
    table.append(("wild photos: faces with the same style as in 32 bits", "", f"{figures['same']['same_style']:.1%}"))
    table.append(("wild photos: faces with the same five items", "", f"{figures['same']['same_items']:.1%}"))
    report(figures, table, arguments.out)


if __name__ == "__main__":
    main()
