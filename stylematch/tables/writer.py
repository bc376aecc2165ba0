"""One partition's shard of one table: Parquet whose bytes follow from its rows alone.

- Rows are buffered and cut into blocks of a fixed size, so the caller's batches leave no trace in the file. A block
  is a row group; or, in the tables that the contract clusters (faces by style, recommendations by style and category),
  it is sorted by these columns, rows of one kind in the order in which they came, and cut into smaller row groups:
  then a row group holds few styles, its statistics say which, and a reader that asks for one skips most others.
- The file is written under a temporary name of this writer's own, fsynced and renamed; a reader never sees half a
  shard, and two writers of one shard (a worker that was given up lives on) leave what either would have left.
- Then its sidecar appears, by which it is done (``tables/shards``).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from stylematch.tables.contract import CLUSTERED
from stylematch.tables.disk import explained, file_sha256, sync_directory, temporary_path
from stylematch.tables.shards import ShardInfo, shard_path, sidecar_path, write_sidecar

# A face row is about 1 KB, so a row group is at most 8 MB in memory and a few MB on disk; a reader that asks
# for a few rows decodes no more than that.
ROW_GROUP_ROWS = 8192
# Of a dozen styles each has some hundred rows of a block; in smaller groups columns compress worse.
CLUSTERED_GROUP_ROWS = 1024

Column = Sequence[Any] | np.ndarray  # or a pyarrow.Array, which mypy knows nothing of


class ShardWriter:
    """Write one shard, batch by batch; the shard exists only if the ``with`` block ends without an error.

    Parameters
    ----------
    directory : Path
        The table's folder (made if absent).
    number : int
        The partition's number, from 0.
    schema : pyarrow.Schema
        Columns, types and nullability, in the file's order.
    row_group_rows : int
        Rows in a block, which is sorted by the columns that the contract names for a table of the folder's name; at
        most this many rows plus one batch are held in memory.

    Attributes
    ----------
    path : Path
        The shard.
    rows : int
        How many were written so far.

    Raises
    ------
    StylematchError
        The file cannot be written (disk full, no permission); nothing of it is left.
    """

    def __init__(
        self,
        directory: Path,
        number: int,
        schema: pa.Schema,
        *,
        row_group_rows: int = ROW_GROUP_ROWS,
    ) -> None:
        self.path = shard_path(directory, number)
        self._directory, self._number = directory, number
        self._temporary = temporary_path(self.path)
        self._schema = schema
        self._is_finished = False
        self.row_group_rows = row_group_rows
        self._cluster_by = [name for name in CLUSTERED.get(directory.name, ()) if name in schema.names]
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = 0
        self.rows = 0

    def __enter__(self) -> ShardWriter:
        import pyarrow.parquet as pq

        with explained("write", self.path):
            sidecar_path(self._directory, self._number).parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = self._temporary.open("wb")
        self._writer = pq.ParquetWriter(
            self._file,
            self._schema,
            version="2.6",
            compression="zstd",
            compression_level=3,
            write_page_checksum=True,  # 0.05 %, and a flipped bit is no vector that nobody ever measured
            # A dictionary of a column whose values hardly repeat costs about 1 % of it; names that repeat
            # shrink tenfold.
            use_dictionary=[field.name for field in self._schema if pa.types.is_string(field.type)],
        )
        return self

    def write(self, columns: Mapping[str, Column]) -> None:
        """Append rows.

        Parameters
        ----------
        columns : mapping of str to list or ndarray
            Every column of the schema, all of one length n. A fixed-size list column takes an (n, size)
            array.

        Raises
        ------
        ValueError
            A column is missing, unknown, of another length, or null where the schema allows none (our own
            mistake).
        """
        if set(columns) != set(self._schema.names):
            differing = sorted(set(columns) ^ set(self._schema.names))
            raise ValueError(f"{self.path.name}: columns differ from the schema: {', '.join(differing)}")
        arrays = [to_arrow(columns[field.name], field) for field in self._schema]
        batch = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        self._pending.append(batch)
        self._pending_rows += batch.num_rows
        self.rows += batch.num_rows
        if self._pending_rows >= self.row_group_rows:
            self._flush(self._pending_rows - self._pending_rows % self.row_group_rows)

    def _flush(self, rows: int) -> None:
        """Write the first ``rows`` pending rows as row groups and keep the rest."""
        table = pa.Table.from_batches(self._pending, self._schema).combine_chunks()
        self._pending = []
        with explained("write", self.path):
            for start in range(0, rows, self.row_group_rows):
                block = table.slice(start, min(self.row_group_rows, rows - start))
                if not self._cluster_by:
                    self._writer.write_table(block, row_group_size=self.row_group_rows)
                    continue
                order = clustered_order(block, self._cluster_by)
                group_rows = min(CLUSTERED_GROUP_ROWS, self.row_group_rows)
                for first in range(0, len(order), group_rows):  # group by group: no sorted copy of the whole block
                    self._writer.write_table(block.take(order[first : first + group_rows]))
        rest = table.slice(rows)
        self._pending = rest.to_batches()
        self._pending_rows = rest.num_rows

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.finish()
        finally:
            # Closing twice is harmless; after a failed write closing fails again and says nothing new.
            with contextlib.suppress(Exception):
                self._writer.close()
            with contextlib.suppress(OSError):
                self._file.close()
            with contextlib.suppress(OSError):
                self._temporary.unlink(missing_ok=True)

    def finish(self) -> None:
        """Write what is left and make the shard appear; the ``with`` block does it at its end, if nobody has."""
        if self._is_finished:
            return
        self._is_finished = True
        if self._pending_rows:
            self._flush(self._pending_rows)
        with explained("write", self.path):
            self._writer.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            info = ShardInfo(self.rows, self._temporary.stat().st_size, file_sha256(self._temporary))
            self._temporary.replace(self.path)
            sync_directory(self.path.parent)
        write_sidecar(self._directory, self._number, info)


def finish_together(writers: Sequence[ShardWriter], files: Sequence[Callable[[], None]] = ()) -> None:
    """Finish some shards at once, so that they wait for the disk together, and the last when the others are there.

    A disk does in one go what several ask of it. The last is by itself so that, when all of them are seen, only its own
    name may not have reached the disk yet.

    Parameters
    ----------
    writers : sequence of ShardWriter
        The shards.
    files : sequence of callable
        What writes other files that are to be there before the last shard.

    Raises
    ------
    StylematchError
        One cannot be written.
    """
    *others, last = writers
    with ThreadPoolExecutor(len(writers) + len(files)) as threads:
        for finished in [threads.submit(finish) for finish in (*files, *(writer.finish for writer in others))]:
            finished.result()
    last.finish()


def clustered_order(rows: pa.Table, columns: Sequence[str]) -> pa.Array:
    """Return the numbers of rows, sorted by some columns; equal ones stay in their order."""
    import pyarrow.compute as pc

    place = "\0place"  # a name that no column has
    keys = rows.select(list(columns)).append_column(place, pa.array(np.arange(len(rows))))
    return pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in (*columns, place)])


def to_arrow(values: Column, field: pa.Field) -> pa.Array:
    """Return a column's values as the field has them; raises ValueError where they do not fit it."""
    if isinstance(values, np.ndarray) and values.ndim == 2:
        if not pa.types.is_fixed_size_list(field.type) or values.shape[1] != field.type.list_size:
            raise ValueError(f"column {field.name} is {field.type}, not an array of shape {values.shape}")
        flat = pa.array(values.reshape(-1), type=field.type.value_type)
        array = pa.FixedSizeListArray.from_arrays(flat, type=field.type)
    elif isinstance(values, pa.Array):
        array = values
    else:
        array = pa.array(values, type=field.type)
    if array.null_count and not field.nullable:
        raise ValueError(f"column {field.name} holds {array.null_count} nulls and allows none")
    return array
