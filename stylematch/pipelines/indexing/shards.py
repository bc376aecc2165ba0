"""Reading what ``embed`` wrote: ``embeddings.json`` and ``part-NNNNN.parquet`` beside it, in the order of their names.

A shard's vectors are copied out as soon as it is read, so that no two forms of all of them lie in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from stylematch.errors import UserError
from stylematch.search.infos import LABELS_KEY
from stylematch.tables.description import DescriptionFile
from stylematch.tables.shown import shown

EMBEDDINGS_FILE = "embeddings.json"
_DESCRIPTION = DescriptionFile(
    EMBEDDINGS_FILE,
    "a directory of embeddings",
    "embed",
    "embed the data again",
    {"dim": int, "count": int, "bundle_sha256": str, "source": str, "licence": str},
    LABELS_KEY,
)


@dataclass(frozen=True)
class Embeddings:
    """Embeddings with what is known of each.

    Attributes
    ----------
    description : dict
        The contents of ``embeddings.json``.
    rows : pyarrow.Table
        ``id`` and the columns that an index keeps.
    vectors : ndarray of float16 or float32, shape (n, d)
        As they were written.
    """

    description: dict[str, Any]
    rows: pa.Table
    vectors: npt.NDArray[Any]

    @property
    def ids(self) -> pa.Array:
        """The ids, as one array of strings."""
        return pa.concat_arrays(self.rows["id"].cast(pa.string()).chunks)


def read_embeddings(directory: Path) -> Embeddings:
    """Read a directory of embedding shards.

    Parameters
    ----------
    directory : pathlib.Path
        ``embeddings.json`` (``kind``, ``dim``, ``count``, ``bundle_sha256``, ``source``, ``licence``,
        ``attribute_names`` or ``categories``) and shards with columns ``id``, ``embedding`` (fixed-size list of
        float or half float) and those that the index's rows keep.

    Raises
    ------
    UserError
        If something is missing, damaged or does not fit ``embeddings.json``.
    """
    description = read_description(directory)
    return Embeddings(description, *_read_shards(directory, description))


def read_description(directory: Path) -> dict[str, Any]:
    """Read ``embeddings.json`` alone; raises as ``read_embeddings``."""
    return _DESCRIPTION.read(directory)


def _read_shards(directory: Path, description: dict[str, Any]) -> tuple[pa.Table, npt.NDArray[Any]]:
    tables: list[pa.Table] = []
    vectors: npt.NDArray[Any] | None = None
    schema, rows, count = None, 0, description["count"]
    for path in sorted(directory.glob("part-*.parquet")):
        try:
            with pq.ParquetFile(path) as file:
                table = file.read()
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{shown(path)} cannot be read ({error}); embed the data again.") from error
        schema = table.schema if schema is None else schema
        if table.schema != schema:
            raise UserError(f"{shown(path)} has other columns than the first shard; embed the data again.")
        for name in ("id", "embedding"):
            if name not in table.column_names or table[name].null_count:
                raise UserError(f"{shown(directory)}: column {name!r} is missing or has empty cells; embed again.")
        if rows + table.num_rows <= count:
            block = _vectors(table, directory, description["dim"])
            if vectors is None:
                vectors = np.empty((count, description["dim"]), block.dtype)
            vectors[rows : rows + len(block)] = block
            del block
        rows += table.num_rows
        tables.append(table.drop_columns(["embedding"]))
        del table
        pa.default_memory_pool().release_unused()  # else what reading took and gave back stays with the process
    if rows != count or vectors is None or not rows:
        raise UserError(
            f"{shown(directory)} holds {rows} embeddings in {len(tables)} shards, {EMBEDDINGS_FILE} says "
            f"{count}; embed the data again."
        )
    return pa.concat_tables(tables), vectors


def _vectors(table: pa.Table, directory: Path, dim: int) -> npt.NDArray[Any]:
    column = table["embedding"]
    if not pa.types.is_fixed_size_list(column.type) or column.type.list_size != dim:
        raise UserError(f"{shown(directory)}: column 'embedding' is {column.type}, not a list of {dim} numbers.")
    numbers = column.combine_chunks().flatten()
    if not pa.types.is_floating(numbers.type) or numbers.null_count:
        raise UserError(
            f"{shown(directory)}: column 'embedding' is {column.type} with {numbers.null_count} empty cells, not a "
            f"list of {dim} numbers; embed the data again."
        )
    # from_dlpack, since Arrow's own to_numpy imports pandas.
    return np.from_dlpack(numbers).reshape(-1, dim)
