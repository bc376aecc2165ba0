"""Measure the tables: how large they are, and how long questions take that a person would ask.

    python benchmarks/query_times.py                       # a made run of 200,000 photos, in a temporary folder
    python benchmarks/query_times.py --photos 1000000
    python benchmarks/query_times.py --run my-run          # a run of yours

The made run has the real schema and the real writer; styles are as frequent as CelebA's people have them, items and
categories as the rules ask for them, embeddings are random unit vectors (which compress as badly as real ones). Each
query is asked once to warm up and then so many times; the median is told. The row groups that a condition leaves are
counted from the statistics in the files, as any reader that skips row groups would.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.dataset as ds
from machine import RESULTS, report

from stylematch.data.celeba import ATTRIBUTES
from stylematch.style.rules import load_rules
from stylematch.tables.contract import LANDMARKS, TABLES, faces_schema, photos_schema, recommendations_schema
from stylematch.tables.counts import count_tables
from stylematch.tables.manifest import Manifest, write_manifest
from stylematch.tables.query import run_query
from stylematch.tables.views import open_views
from stylematch.tables.writer import ShardWriter

SHARD_PHOTOS, TOP_K, DIM = 4096, 5, 128
QUERIES = {
    "count the styles": "SELECT style, count(*) FROM faces GROUP BY style",
    "one style's items of one category": (
        "SELECT item_id, count(*) FROM recommendations WHERE style = '{style}' AND category = '{category}' "
        "GROUP BY item_id ORDER BY 2 DESC LIMIT 10"
    ),
    "the most recommended items": (
        "SELECT item_id, count(*) FROM recommendations GROUP BY item_id ORDER BY 2 DESC LIMIT 10"
    ),
    "everything about one photo": (
        "SELECT * EXCLUDE (embedding) FROM faces JOIN recommendations USING (path, face) WHERE path = '{path}'"
    ),
    "one style's mean embedding": (
        "SELECT avg(embedding[1]), avg(embedding[128]), count(*) FROM faces WHERE style = '{style}'"
    ),
    "the ten faces most like one": (
        "SELECT b.path, array_inner_product(a.embedding, b.embedding) AS s FROM faces a, faces b "
        "WHERE a.path = '{path}' AND a.face = 0 ORDER BY s DESC LIMIT 10"
    ),
}


def make_run(out: Path, photos: int) -> None:
    """Write a made run of so many photos with one face each."""
    rules = load_rules("wardrobe", attribute_names=ATTRIBUTES)
    rng = np.random.default_rng(0)
    for shard, first in enumerate(range(0, photos, SHARD_PHOTOS)):
        count = min(SHARD_PHOTOS, photos - first)
        paths = [f"{number // 1000:05d}/{number:09d}.jpg" for number in range(first, first + count)]
        photo_ids = [f"{number:032x}" for number in range(first, first + count)]
        probabilities = rng.beta(0.3, 0.9, (count, len(ATTRIBUTES))).astype(np.float32)
        soft = rules.soft(probabilities)
        best = soft.argmax(axis=1)
        styles = [rules.styles[index] for index in best]
        vectors = rng.normal(size=(count, DIM)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        with ShardWriter(out / "photos", shard, photos_schema()) as writer:
            same = {"width": 1024, "height": 768, "format": "JPEG", "status": "scored", "reason": "ok", "faces": 1}
            rows = {name: [value] * count for name, value in same.items()}
            sizes = rng.integers(50_000, 3_000_000, count)
            writer.write({**rows, "path": paths, "photo_id": photo_ids, "bytes": sizes, "message": [None] * count})
        score = soft[np.arange(count), best]
        texts = [rules.rule_text(style) for style in styles]
        with ShardWriter(out / "faces", shard, faces_schema(ATTRIBUTES, DIM)) as writer:
            box = {name: rng.uniform(0, 700, count).astype(np.float32) for name in ("x", "y", "width", "height")}
            points = {name: rng.uniform(0, 700, count).astype(np.float32) for name in LANDMARKS}
            said = zip(styles, score, strict=True)
            why = [f"Rules say {style} ({value:.2f}); so it is {style}." for style, value in said]
            writer.write(
                {"path": paths, "photo_id": photo_ids, "face": [0] * count, **box, **points, "rule": texts, "why": why}
                | {name: probabilities[:, column] for column, name in enumerate(ATTRIBUTES)}
                | {"style": styles, "rule_style": styles, "neighbour_style": styles, "embedding": vectors}
                | dict.fromkeys(("style_score", "style_margin", "rule_score", "neighbour_score"), score)
                | {"detection_score": rng.uniform(0.6, 1, count).astype(np.float32)}
            )
        rank = np.tile(np.arange(1, TOP_K + 1), count)
        each = {"path": paths, "photo_id": photo_ids, "style": styles, "rule": texts, "style_score": score}
        with ShardWriter(out / "recommendations", shard, recommendations_schema()) as writer:
            items = rng.zipf(1.3, count * TOP_K) % 10_000
            categories = [c for style in styles for c in (rules.items(style) * TOP_K)[:TOP_K]]
            reasons = [f"{c} number {i} fits the style" for c, i in zip(categories, items, strict=True)]
            writer.write(
                {name: [value for value in values for _ in range(TOP_K)] for name, values in each.items()}
                | {"run_id": ["0" * 32] * len(rank), "face": [0] * len(rank), "rank": rank, "category": categories}
                | {"item_id": [f"item-{i:05d}" for i in items], "reason": reasons, "query": ["style"] * len(rank)}
                | {name: rng.uniform(0, 1, len(rank)) for name in ("score", "similarity", "tag_fit")}
            )
    now = datetime.now(UTC)
    write_manifest(out, Manifest("0" * 32, count_tables(out, {}), {}, "0", {}, {}, "cpu", now, now))


def row_groups(run: Path, table: str, condition: pc.Expression) -> tuple[int, int]:
    """Return how many row groups a condition leaves, and how many there are."""
    fragments = list(ds.dataset(sorted((run / table).glob("*.parquet"))).get_fragments())
    kept = sum(len(fragment.split_by_row_group(filter=condition)) for fragment in fragments)
    return kept, sum(len(fragment.split_by_row_group()) for fragment in fragments)


def measure(run: Path, repeats: int) -> dict[str, Any]:
    """Return sizes, row groups left and times."""
    views = open_views(run)
    first = views.tables["recommendations"].head(1, columns=["path", "style", "category"]).to_pylist()[0]
    tables = {}
    for name in TABLES:
        size = sum(path.stat().st_size for path in (run / name).glob("*.parquet"))
        tables[name] = {"rows": views.tables[name].count_rows(), "bytes": size}
    style, category = pc.field("style") == first["style"], pc.field("category") == first["category"]
    conditions = (
        ("faces", "one style", style),
        ("recommendations", "one style", style),
        ("recommendations", "one style and one category", style & category),
    )
    return {
        "tables": tables,
        "row_groups": {f"{table}, {what}": row_groups(run, table, asked) for table, what, asked in conditions},
        "median_ms": {
            name: round(1000 * timed(views, sql.format(**first), repeats), 1) for name, sql in QUERIES.items()
        },
    }


def rows_of(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the page's table: times are of whole queries, from opened tables to written CSV."""
    rows = [("what", "measured")]
    for name, table in figures["tables"].items():
        each = table["bytes"] / max(1, table["rows"])
        rows.append((f"`{name}`", f"{table['rows']:,} rows, {table['bytes'] / 1e6:,.1f} MB, {each:,.0f} bytes a row"))
    rows += [
        (f"row groups that statistics leave of {what}", f"{kept:,} of {total:,}")
        for what, (kept, total) in figures["row_groups"].items()
    ]
    return [*rows, *((f"query: {name}", f"{median:,.0f} ms") for name, median in figures["median_ms"].items())]


def timed(views: object, sql: str, repeats: int) -> float:
    """Return the median time of a query in seconds."""
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        run_query(views, sql, output_format="csv", stream=io.StringIO(newline=""))
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def main() -> None:
    """Make or take a run, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=200_000, help="of the made run")
    parser.add_argument("--run", type=Path, help="a run that is there, in place of a made one")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "query_times.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stylematch-query-times-") as scratch:
        run = options.run or Path(scratch) / "run"
        if options.run is None:
            make_run(run, options.photos)
        figures = measure(run, options.repeats)
    report(figures, rows_of(figures), options.out)


if __name__ == "__main__":
    main()
