"""``rows.parquet`` of an index: one row a vector, read without them, and without FAISS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stylematch.errors import UserError
from stylematch.tables.disk import durable_file
from stylematch.tables.shown import shown

ROWS_FILE = "rows.parquet"
PICTURE_COLUMN = "picture"
"""An item's small grey picture."""
PICTURE_SIDE_PX = 28
PICTURE_TYPE = pa.binary(PICTURE_SIDE_PX * PICTURE_SIDE_PX)
"""A grey picture, row by row, one byte a pixel."""


def write_rows(ids: pa.Array, rows: pa.Table | None, directory: Path) -> None:
    """Write ``rows.parquet``: ``id``, then the columns of ``rows`` but its own ``id``."""
    table = pa.table({"id": ids})
    if rows is not None:
        for name in rows.column_names:
            if name != "id":
                table = table.append_column(rows.schema.field(name), rows[name])
    # Ids and pictures do not repeat: dictionaries would only cost space. Pictures would be an eighth smaller by brotli,
    # and take every worker of a run eight times as long to read; by level 15 a thirtieth, and take twenty times as long
    # to write whenever a price changes.
    with durable_file(directory / ROWS_FILE) as file:
        pq.write_table(table, file, compression="zstd", compression_level=3, use_dictionary=False)


def read_all(directory: Path, *, use_threads: bool = True) -> pa.Table:
    """Read all that an index directory knows of its vectors, by position, with their pictures.

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    path = directory / ROWS_FILE
    # Mapped, as the pictures of a million items would else be in memory compressed, too: half a gigabyte.
    with _readable(path), pq.ParquetFile(path, memory_map=True) as file:
        return file.read(use_threads=use_threads)


def read_ids(directory: Path) -> pa.Array:
    """Read the ids of ``rows.parquet``.

    Raises
    ------
    UserError
        If it is missing, damaged or has none.
    """
    table = _read_columns(directory, lambda _: ["id"])
    if not table.num_columns:
        raise UserError(f"{shown(directory / ROWS_FILE)} has no column id; build the index again.")
    return pa.concat_arrays(table["id"].chunks or [pa.array([], pa.string())])


def row_fields(directory: Path) -> dict[str, pa.Field]:
    """Return by name what an index directory knows of its vectors, but for the ids and the pictures.

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    path = directory / ROWS_FILE
    with _readable(path):
        schema = pq.read_schema(path)
    return {field.name: field for field in schema if field.name not in ("id", PICTURE_COLUMN)}


def read_rows(directory: Path) -> pa.Table:
    """Read what an index directory knows of its vectors, by position, without their pictures.

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    return _read_columns(directory, lambda names: [name for name in names if name != PICTURE_COLUMN])


def read_pictures(directory: Path) -> pa.ChunkedArray | None:
    """Read the items' small pictures, by position; None where the index has none.

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    table = _read_columns(directory, lambda names: [name for name in names if name == PICTURE_COLUMN])
    return table[PICTURE_COLUMN] if table.num_columns else None


def _read_columns(directory: Path, wanted: Callable[[list[str]], list[str]]) -> pa.Table:
    path = directory / ROWS_FILE
    with _readable(path), pq.ParquetFile(path) as file:
        names = wanted(file.schema_arrow.names)
        return file.read(columns=names, use_threads=len(names) > 1)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{shown(path)} cannot be read ({error}); build the index again.") from error
