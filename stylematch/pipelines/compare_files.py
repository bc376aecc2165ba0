"""The files of a comparison: every photo, face and item that changed as Parquet, a page, and the figures.

What DuckDB answers is written as it comes, so that memory holds no more than a batch of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stylematch.pipelines.compare_figures import STYLES
from stylematch.report.compare_page import write_compare_page
from stylematch.tables.disk import explained, write_durably
from stylematch.tables.replace import DirectoryKind
from stylematch.tables.shown import shown

MARKER = "changes.json"
ORDER = {
    "photos": "path",
    "faces": "path, coalesce(face_b, face_a), face_a",
    "items": "path, face_b, coalesce(rank_b, 1000000 + rank_a), item_id",
}
_BATCH_ROWS = 8192
_PARTS = ("photos.parquet", "faces.parquet", "items.parquet", "styles.parquet", "attributes.parquet", "report")
COMPARISON = DirectoryKind("a comparison", MARKER, lambda _, name: name in _PARTS)
_CHANGED = "SELECT * FROM {} WHERE change <> 'same' ORDER BY {}"
_PAGE_FACES = """
    SELECT f.*, coalesce(p.photo_id_b, p.photo_id_a) AS photo_id, p.width AS photo_width, p.height AS photo_height,
           i.items
    FROM (SELECT * FROM faces WHERE change <> 'same') f JOIN photos p ON p.path = f.path
    LEFT JOIN (
        SELECT path, face_b, list({'item_id': item_id, 'category': category, 'rank_a': rank_a, 'rank_b': rank_b,
                                  'change': change} ORDER BY coalesce(rank_b, 1000000 + rank_a), item_id) AS items
        FROM items GROUP BY path, face_b
    ) i ON i.path = f.path AND i.face_b = f.face_b
    ORDER BY f.path, coalesce(f.face_b, f.face_a), f.face_a"""


def write_comparison(runs: Any, out: Path, figures: dict[str, Any], run_a: Path, run_b: Path) -> None:
    """Write OUT, in place of an earlier comparison: all that changed as Parquet, a page, and the figures.

    Parameters
    ----------
    runs : duckdb.DuckDBPyConnection
        With the tables that ``make_tables`` made.
    out : pathlib.Path
        Absent, empty, or an earlier comparison.
    figures : dict
        What ``changes.json`` shall hold.
    run_a, run_b : pathlib.Path
        The two runs, whose galleries the page shows pictures of.

    Raises
    ------
    UserError
        OUT cannot be replaced.
    StylematchError
        OUT cannot be written.
    """
    with COMPARISON.replaced(out) as staged:
        _write(runs, staged, figures, run_a, run_b)


def written(out: Path) -> str:
    """Return what a person is told of the files in OUT."""
    return (
        f"photos, faces, items, styles and attributes.parquet; to see them, open {shown(out / 'report' / 'index.html')}"
    )


def _write(runs: Any, staged: Path, figures: dict[str, Any], run_a: Path, run_b: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for table, order in ORDER.items():
        _write_parquet(runs, _CHANGED.format(table, order), staged / f"{table}.parquet")
    _write_parquet(runs, STYLES, staged / "styles.parquet")
    schema = pa.schema(
        [
            ("attribute", pa.string()),
            *[(name, pa.float64()) for name in ("mean_a", "mean_b", "mean_shift", "mean_size", "largest")],
            ("became_likely", pa.int64()),
            ("became_unlikely", pa.int64()),
        ]
    )
    with explained("write", staged):
        pq.write_table(pa.Table.from_pylist(figures["attributes"], schema), staged / "attributes.parquet")
        galleries = (run_a / "report", run_b / "report")
        # Each in a cursor of its own: a connection forgets one answer when it is asked the next question.
        photos, faces = (
            _dicts(runs.cursor(), sql) for sql in (_CHANGED.format("photos", ORDER["photos"]), _PAGE_FACES)
        )
        write_compare_page(staged, figures, galleries, photos, faces)
    write_durably(staged / MARKER, (json.dumps(figures, indent=2, sort_keys=True) + "\n").encode())


def _write_parquet(runs: Any, sql: str, path: Path) -> None:
    import pyarrow.parquet as pq

    with explained("write", path):
        reader = _reader(runs, sql)
        with pq.ParquetWriter(path, reader.schema, compression="zstd") as writer:
            for batch in reader:
                writer.write_batch(batch, row_group_size=_BATCH_ROWS)


def _reader(runs: Any, sql: str) -> Any:
    relation = runs.sql(sql)
    # DuckDB 2 has another name for what 1.3 calls fetch_arrow_reader.
    return (getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader)(_BATCH_ROWS)


def _dicts(runs: Any, sql: str) -> Iterator[dict[str, Any]]:
    for batch in _reader(runs, sql):
        yield from batch.to_pylist()
