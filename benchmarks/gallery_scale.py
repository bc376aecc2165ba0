"""How fluid the gallery is with many photos: a made-up run, its size on disk, waiting times in headless Chromium.

    python benchmarks/gallery_scale.py --photos 50000

The tables are made with the shard writer from a seed; names and numbers are random, no model and no photo is needed.
A hundred thumbnails are real JPEGs of noise that all photos share by turns, and so are eight pictures of the 3,000
items, of about 3 KB as a catalogue's are. Times are medians of ``--repeats``.
"""

import argparse
import base64
import itertools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from browser import Browser, Page, find_chromium
from machine import RESULTS, report

from stylematch.report.gallery import GalleryWriter
from stylematch.report.join import read_photos
from stylematch.report.pictures import make_thumbnail
from stylematch.tables.contract import LANDMARKS, faces_schema, photos_schema, recommendations_schema
from stylematch.tables.manifest import Stage
from stylematch.tables.writer import ShardWriter

ATTRIBUTES = tuple(f"Attribute_{number:02d}" for number in range(40))
STYLES = tuple(f"Style {number:02d}" for number in range(14))
SHARD_PHOTOS = 5000
ITEMS = 5
_STRIPS_DRAWN = """(() => {
    const seen = [...document.querySelectorAll('.strip canvas')].filter((canvas) => {
        const { top, bottom } = canvas.getBoundingClientRect();
        return bottom > 0 && top < innerHeight;
    });
    return seen.every((canvas) => canvas.width === 128);
})()"""


def write_run(run: Path, photos: int, seed: int = 0) -> None:
    """Write the three tables of a made-up run."""
    random = np.random.default_rng(seed)
    ids = [f"{number:032x}" for number in range(100)]
    for shard, first in enumerate(range(0, photos, SHARD_PHOTOS)):
        numbers = range(first, min(first + SHARD_PHOTOS, photos))
        n = len(numbers)
        keys = {
            "path": [f"2024-{1 + k // 4200:02d}/camera {k // 700 % 6}/IMG_{k:06d}.jpg" for k in numbers],
            "photo_id": [ids[k % 100] for k in numbers],
        }
        rejected = [k % 50 == 49 for k in numbers]
        seen = [row for row in range(n) if not rejected[row]]
        m = len(seen)
        with ShardWriter(run / "photos", shard, photos_schema()) as writer:
            writer.write(
                {
                    **keys,
                    "bytes": [500_000] * n,
                    "width": [1024] * n,
                    "height": [800] * n,
                    "format": ["JPEG"] * n,
                    "status": ["rejected" if bad else "scored" for bad in rejected],
                    "reason": ["truncated" if bad else "ok" for bad in rejected],
                    "message": [None] * n,
                    "faces": [0 if bad else 1 for bad in rejected],
                }
            )
        of_face = {name: [column[row] for row in seen] for name, column in keys.items()} | {"face": [0] * m}
        styles = [STYLES[k] for k in np.minimum(random.geometric(0.15, m) - 1, len(STYLES) - 1)]
        scores = random.beta(4, 3, m)
        rules = [f"rule of {style}" for style in styles]
        with ShardWriter(run / "faces", shard, faces_schema(ATTRIBUTES, 128)) as writer:
            writer.write(
                {
                    **of_face,
                    **dict(
                        zip(
                            ("x", "y", "width", "height"),
                            ([400.0] * m, [200.0] * m, [180.0] * m, [240.0] * m),
                            strict=True,
                        )
                    ),
                    "detection_score": [0.9] * m,
                    **{name: random.uniform(400, 600, m).astype(np.float32) for name in LANDMARKS},
                    **{name: random.beta(0.4, 0.8, m).astype(np.float32) for name in ATTRIBUTES},
                    "style": styles,
                    "style_score": scores,
                    "style_margin": scores / 3,
                    "rule_style": styles,
                    "rule_score": scores,
                    "neighbour_style": styles,
                    "neighbour_score": scores,
                    "rule": rules,
                    "why": [
                        f"Rules and neighbours say {style}, since it shows what that style asks for."
                        for style in styles
                    ],
                    "embedding": np.zeros((m, 128), np.float32),
                }
            )
        repeated = {name: [value for value in column for _ in range(ITEMS)] for name, column in of_face.items()}
        with ShardWriter(run / "recommendations", shard, recommendations_schema()) as writer:
            writer.write(
                {
                    "run_id": ["scale"] * (m * ITEMS),
                    **repeated,
                    "rank": list(range(1, ITEMS + 1)) * m,
                    "item_id": [f"item-{k:05d}" for k in random.integers(0, 3000, m * ITEMS)],
                    "category": ["Shirt"] * (m * ITEMS),
                    "score": random.uniform(0, 1, m * ITEMS),
                    "similarity": random.uniform(0, 1, m * ITEMS),
                    "query": ["style"] * (m * ITEMS),
                    "tag_fit": random.uniform(0, 1, m * ITEMS),
                    "style": [style for style in styles for _ in range(ITEMS)],
                    "style_score": np.repeat(scores, ITEMS),
                    "rule": [rule for rule in rules for _ in range(ITEMS)],
                    "reason": [
                        "A typical Shirt (0.98 like the average Shirt for this style), because of what the face shows."
                    ]
                    * (m * ITEMS),
                }
            )


def measure(index: Path, photos: int, repeats: int) -> dict[str, float]:
    """Return median waiting times in milliseconds, each until the new page is in the document."""
    times: dict[str, list[float]] = {}

    def took(what: str, page: Page, act: str, ready: str) -> None:
        script = f"""new Promise((resolve) => {{
            delete document.documentElement.dataset.ready;
            const start = performance.now();
            new MutationObserver((_, observer) => {{
                if (!document.documentElement.dataset.ready?.startsWith({json.dumps(ready)})) return;
                observer.disconnect();
                requestAnimationFrame(() => resolve(performance.now() - start));
            }}).observe(document.documentElement, {{ attributes: true }});
            {act};
        }})"""
        times.setdefault(what, []).append(page.evaluate(script))

    last = f"IMG_{photos - 2:06d}"
    with tempfile.TemporaryDirectory() as profile, Browser(str(find_chromium()), Path(profile)) as browser:
        for _ in range(repeats):
            started = time.perf_counter()
            page = browser.open(index.as_uri())
            page.ready("list")
            times.setdefault("open to first cards", []).append(1000 * (time.perf_counter() - started))
            took("first search, index to load", page, f"location.hash = 'q={last}'", "list")
            took("search all paths", page, "location.hash = 'q=camera 3/img'", "list")
            took("search one path", page, f"location.hash = 'q={last.lower()}'", "list")
            took(
                "filter style, attribute, score",
                page,
                "location.hash = 'style=Style 03&attribute=Attribute_07&score=40-70'",
                "list",
            )
            took("search an item", page, "location.hash = 'item=item-01'", "list")
            took("who has one item", page, "location.hash = 'item=item-00123'", "list")
            took("the 200th page", page, "location.hash = 'page=200'", "list")
            started = time.perf_counter()
            page.wait(_STRIPS_DRAWN)
            times.setdefault("then its items' pictures", []).append(1000 * (time.perf_counter() - started))
            took("a person", page, f"location.hash = 'page=1&photo={photos - 1}&face=0'", "person")
            assert not page.errors, page.errors
    return {what: round(statistics.median(values), 1) for what, values in times.items()}


def main() -> None:
    """Make the run where it is not there yet, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=50_000)
    parser.add_argument("--run", type=Path, help="keep the made run there, or measure the one that is there")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "gallery_scale.json")
    options = parser.parse_args()
    if not find_chromium():
        sys.exit("no Chromium was found: the waiting times are measured in one")
    with tempfile.TemporaryDirectory(prefix="stylematch-gallery-") as scratch:
        figures = measured(options.run or Path(scratch) / "run", options.photos, options.repeats)
    report(figures, [("what", "measured"), *figures.items()], options.out)


def measured(run: Path, photos: int, repeats: int) -> dict[str, object]:
    """Return how long the gallery takes to write, how large it is, and how long a person waits in it."""
    if not (run / "photos").is_dir():
        write_run(run, photos)
    started = time.perf_counter()
    stages = {"score": Stage(3600.0, photos, "photos")}
    random = np.random.default_rng(0)
    noise = (random.integers(0, 255, (200, 256, 3)).astype(np.uint8) for _ in range(100))
    thumbnails = itertools.cycle([base64.b64encode(make_thumbnail(pixels)).decode() for pixels in noise])
    blocks = (np.kron(random.integers(0, 255, (16, 16, 3)), np.ones((8, 8, 1))).astype(np.uint8) for _ in range(8))
    pictures = [make_thumbnail(pixels) for pixels in blocks]
    writer = GalleryWriter(
        run,
        item_picture=lambda item_id: pictures[int(item_id[-5:]) % len(pictures)],
        thumbnails=lambda _: next(thumbnails),
    )
    for photo in read_photos(run):
        writer.add(photo)
    index = writer.finish("Scale", {}, stages)
    figures: dict[str, object] = {
        "photos": photos,
        "write the gallery, s": round(time.perf_counter() - started, 1),
    }
    for kind in ("index", "items", "tiles", "page", "thumbs", "pictures"):
        files = sorted((index.parent / "data").glob(f"{kind}-*.js"))
        figures[f"{kind} files"] = f"{len(files)}, {sum(file.stat().st_size for file in files) / 1e6:.1f} MB"
    return figures | {f"{what}, ms": value for what, value in measure(index, photos, repeats).items()}


if __name__ == "__main__":
    main()
