"""What changed between two runs, as SQL over their tables (DuckDB).

- A photo is the same by its path; its contents are equal where ``photo_id`` is. One whose path is gone is renamed, and
  so the same, where a path that was added has its contents. It goes by its path in B.
- A face is the same where it is in a photo of equal contents and the two boxes are each other's best match with an
  intersection over union of at least ``MIN_IOU``: a face's number alone may change with a setting.
- A face's lists of items are compared by item: kept, moved to another rank, gone, new. Their overlap is what both
  hold over the longer list's length.
- Shifts of attributes are summed as whole millionths, so that no order of rows changes a figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from stylematch.tables.closed_duckdb import quoted
from stylematch.tables.contract import TABLES
from stylematch.tables.views import open_table

MIN_IOU = 0.5
LIKELY = 0.5
_FACE_COLUMNS = ("path", "face", "photo_id", "x", "y", "width", "height", "style", "style_score", "rule_style")
_SHARED = ("style", "style_score", "rule_style", "x", "y", "width", "height")


def open_runs(run_a: Path, run_b: Path, spill: str) -> Any:
    """Return a connection with ``read_a_photos``, ``b_photos`` and so on for every table of the two runs.

    Raises
    ------
    UserError
        A run lacks a table, or has a damaged one or one that is a link.
    """
    import duckdb

    tables = {
        f"{side}_{table}": open_table(run, table) for side, run in (("read_a", run_a), ("b", run_b)) for table in TABLES
    }
    connection = duckdb.connect(":memory:", config={"temp_directory": spill})
    for name, table in tables.items():
        connection.register(name, table)
    return connection


def attribute_change(name: str) -> str:
    """Return the columns that say how one attribute moved, over ``a`` and ``b`` joined face by face."""
    a, b = f"a.{quoted(name)}", f"b.{quoted(name)}"
    shift = f"round(1e6 * ({b}::DOUBLE - {a}::DOUBLE))::BIGINT"
    return (
        f"sum(round(1e6 * {a}::DOUBLE)::BIGINT), sum(round(1e6 * {b}::DOUBLE)::BIGINT), sum({shift}), "
        f"sum(abs({shift})), max(abs({shift})), "
        f"count(*) FILTER ({a} < {LIKELY} AND {b} >= {LIKELY}), count(*) FILTER ({a} >= {LIKELY} AND {b} < {LIKELY})"
    )


def make_tables(connection: Any, attributes: Sequence[str]) -> None:
    """Make the tables ``photos``, ``matched``, ``faces``, ``items`` and ``lists`` of what is alike and what is not.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        From ``open_runs``.
    attributes : sequence of str
        Those that both runs have.
    """
    for statement in _statements(attributes):
        connection.execute(statement)


def _statements(attributes: Sequence[str]) -> Iterator[str]:
    yield """
        CREATE TABLE renamed AS
        WITH gone AS (SELECT photo_id, path, row_number() OVER (PARTITION BY photo_id ORDER BY path) AS number
                      FROM read_a_photos WHERE photo_id IS NOT NULL AND path NOT IN (SELECT path FROM b_photos)),
             added AS (SELECT photo_id, path, row_number() OVER (PARTITION BY photo_id ORDER BY path) AS number
                       FROM b_photos WHERE photo_id IS NOT NULL AND path NOT IN (SELECT path FROM read_a_photos))
        SELECT gone.path AS path_a, added.path FROM gone JOIN added USING (photo_id, number)"""
    for table in TABLES:
        yield f"""
            CREATE VIEW a_{table} AS SELECT r.path_a, a.* REPLACE (coalesce(r.path, a.path) AS path)
            FROM read_a_{table} a LEFT JOIN renamed r ON r.path_a = a.path"""  # noqa: S608  # tables of ours
    yield """
        CREATE TABLE photos AS
        SELECT coalesce(a.path, b.path) AS path, a.path_a,
               CASE WHEN a.path IS NULL THEN 'added' WHEN b.path IS NULL THEN 'gone'
                    WHEN a.status <> b.status OR a.reason <> b.reason THEN 'status'
                    WHEN a.photo_id IS DISTINCT FROM b.photo_id THEN 'contents'
                    WHEN a.faces <> b.faces THEN 'faces' WHEN a.path_a IS NOT NULL THEN 'renamed'
                    ELSE 'same' END AS change,
               a.status AS status_a, b.status AS status_b, a.reason AS reason_a, b.reason AS reason_b,
               a.photo_id AS photo_id_a, b.photo_id AS photo_id_b, a.faces AS faces_a, b.faces AS faces_b,
               coalesce(b.width, a.width) AS width, coalesce(b.height, a.height) AS height
        FROM a_photos a FULL JOIN b_photos b ON a.path = b.path"""
    yield f"""
        CREATE TABLE matched AS
        WITH pairs AS (
            SELECT a.path, a.face AS face_a, b.face AS face_b,
                   greatest(least(a.x + a.width, b.x + b.width) - greatest(a.x, b.x), 0)::DOUBLE
                   * greatest(least(a.y + a.height, b.y + b.height) - greatest(a.y, b.y), 0) AS shared,
                   shared / greatest(a.width::DOUBLE * a.height + b.width::DOUBLE * b.height - shared, 1e-9) AS iou
            FROM a_faces a JOIN b_faces b ON a.path = b.path AND a.photo_id = b.photo_id
        )
        SELECT path, face_a, face_b, iou FROM pairs WHERE iou >= {MIN_IOU}
        QUALIFY row_number() OVER (PARTITION BY path, face_a ORDER BY iou DESC, face_b) = 1
            AND row_number() OVER (PARTITION BY path, face_b ORDER BY iou DESC, face_a) = 1"""  # noqa: S608  # a number of ours
    yield """
        CREATE TABLE items AS
        WITH a AS (SELECT m.path, m.face_a, m.face_b, r.item_id, r.category, r.rank
                   FROM matched m JOIN a_recommendations r ON r.path = m.path AND r.face = m.face_a),
             b AS (SELECT m.path, m.face_a, m.face_b, r.item_id, r.category, r.rank
                   FROM matched m JOIN b_recommendations r ON r.path = m.path AND r.face = m.face_b)
        SELECT coalesce(a.path, b.path) AS path, coalesce(a.face_a, b.face_a) AS face_a,
               coalesce(a.face_b, b.face_b) AS face_b, coalesce(a.item_id, b.item_id) AS item_id,
               coalesce(b.category, a.category) AS category, a.rank AS rank_a, b.rank AS rank_b,
               CASE WHEN a.rank IS NULL THEN 'new' WHEN b.rank IS NULL THEN 'gone'
                    WHEN a.rank <> b.rank THEN 'moved' ELSE 'same' END AS change
        FROM a FULL JOIN b ON a.path = b.path AND a.face_a = b.face_a AND a.item_id = b.item_id"""
    yield """
        CREATE TABLE lists AS
        SELECT path, face_a, count(*) FILTER (change IN ('same', 'moved')) AS kept,
               greatest(count(rank_a), count(rank_b)) AS longest, kept / longest AS overlap,
               bool_and(change = 'same') AS same_list, bool_or(rank_a = 1 AND rank_b = 1) AS same_first,
               coalesce(sum(abs(rank_a - rank_b)), 0) AS ranks_moved
        FROM items GROUP BY path, face_a"""
    sides = ", ".join(f"{side}.{name} AS {name}_{side}" for name in _SHARED for side in "ab")
    alone = ", ".join(_FACE_COLUMNS)
    names = ", ".join("'" + name.replace("'", "''") + "'" for name in attributes)
    shifts = [f"b.{quoted(name)}::DOUBLE - a.{quoted(name)}::DOUBLE" for name in attributes]
    largest = "NULL::VARCHAR AS attribute, NULL::DOUBLE AS attribute_shift"
    if attributes:
        sizes = ", ".join(f"abs({shift})" for shift in shifts)
        place = f"list_position([{sizes}], list_max([{sizes}]))"
        largest = f"[{names}][{place}] AS attribute, [{', '.join(shifts)}][{place}] AS attribute_shift"
    yield f"""
        CREATE TABLE faces AS
        SELECT m.path, m.face_a, m.face_b, m.iou,
               CASE WHEN a.style <> b.style THEN 'style' WHEN NOT coalesce(l.same_list, true) THEN 'items'
                    ELSE 'same' END AS change,
               {sides}, l.overlap, l.kept, l.longest, l.same_list, l.same_first, l.ranks_moved, {largest}
        FROM matched m JOIN a_faces a ON a.path = m.path AND a.face = m.face_a
        JOIN b_faces b ON b.path = m.path AND b.face = m.face_b
        LEFT JOIN lists l ON l.path = m.path AND l.face_a = m.face_a"""  # noqa: S608  # columns of ours, names quoted
    for side, change, columns in (("a", "gone", "path, face AS face_a"), ("b", "added", "path, face AS face_b")):
        own = ", ".join(f"{name} AS {name}_{side}" for name in _SHARED)
        yield f"""
            INSERT INTO faces BY NAME
            SELECT {columns}, '{change}' AS change, {own}
            FROM (SELECT {alone} FROM {side}_faces) f
            WHERE NOT EXISTS (SELECT 1 FROM matched m WHERE m.path = f.path AND m.face_{side} = f.face)"""  # noqa: S608  # columns of ours
