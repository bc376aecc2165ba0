"""Reading and writing the files of an index: FAISS's own, whole arrays, and ``rows.parquet``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from stylematch.errors import StylematchError, UserError
from stylematch.tables.disk import durable_file, shown

INDEX_FILE = "index.faiss"
ROWS_FILE = "rows.parquet"
PICTURE_COLUMN = "picture"
"""Of ``rows.parquet``: an item's small grey picture."""


def write_faiss(index: Any, directory: Path) -> None:
    """Write ``index.faiss`` without a second copy in memory.

    Raises
    ------
    StylematchError
        The file cannot be written.
    """
    path = directory / INDEX_FILE
    with durable_file(path) as file:
        try:
            faiss.write_index(index, _name_of(file))
        except RuntimeError as error:  # FAISS's word for a full disk
            raise StylematchError(f"could not write {shown(path)}: {error}; make room and run it again") from error


def read_faiss(directory: Path, *, mapped: bool) -> Any:
    """Read ``index.faiss``; ``mapped`` leaves its arrays on disk, to be paged in as they are used.

    Raises
    ------
    UserError
        If it is missing or damaged.
    """
    path = directory / INDEX_FILE
    try:
        with path.open("rb") as file:
            return faiss.read_index(_name_of(file), faiss.IO_FLAG_MMAP_IFC if mapped else 0)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{shown(path)} cannot be read ({type(error).__name__}); build the index again.") from error


def write_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write an array as ``.npy``."""
    with durable_file(path) as file:
        np.save(file, np.ascontiguousarray(array), allow_pickle=False)


def read_array(path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike, *, mapped: bool) -> npt.NDArray[Any]:
    """Read an array of a known shape and kind.

    Raises
    ------
    UserError
        If it is missing, damaged or another one.
    """
    try:
        array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{shown(path)} cannot be read ({type(error).__name__}); build the index again.") from error
    if array.shape != shape or array.dtype != dtype:
        raise UserError(
            f"{shown(path)} holds {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}; build the index again."
        )
    return array


def write_rows(ids: pa.Array, rows: pa.Table | None, directory: Path) -> None:
    """Write ``rows.parquet``: ``id``, then the columns of ``rows`` but its own ``id``."""
    table = pa.table({"id": ids})
    if rows is not None:
        for name in rows.column_names:
            if name != "id":
                table = table.append_column(rows.schema.field(name), rows[name])
    # Ids and pictures do not repeat: dictionaries would only cost space. Pictures would be an eighth smaller by brotli,
    # and take every worker of a run eight times as long to read.
    with durable_file(directory / ROWS_FILE) as file:
        pq.write_table(table, file, compression="zstd", compression_level=15, use_dictionary=False)


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


def read_rows(directory: Path) -> pa.Table:
    """Read what an index directory knows of its vectors, by position, without their pictures.

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    return _read_columns(directory, lambda names: [name for name in names if name != PICTURE_COLUMN])


def _read_columns(directory: Path, wanted: Callable[[list[str]], list[str]]) -> pa.Table:
    path = directory / ROWS_FILE
    try:
        with pq.ParquetFile(path) as file:
            names = wanted(file.schema_arrow.names)
            table = file.read(columns=names, use_threads=len(names) > 1)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{shown(path)} cannot be read ({error}); build the index again.") from error
    return table


def _name_of(file: IO[bytes]) -> str:
    # FAISS opens UTF-8 names only; a path may be any bytes.
    return f"/dev/fd/{file.fileno()}"
