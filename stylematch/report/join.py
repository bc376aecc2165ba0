"""The three tables of a run, read side by side, photo by photo.

The tables are sorted by the same paths, shard after shard, so one pass over each is enough: every photo takes
the rows of ``faces`` that carry its path, and every face the rows of ``recommendations`` that carry its key.
Only one batch of each table is in memory. Paths are compared for equality alone: their order is that of the
files' raw bytes, which an escaped path does not show.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stylematch.errors import StylematchError
from stylematch.tables.contract import KEYS, LANDMARKS

_BATCH_ROWS = 1024
_PHOTO_COLUMNS = [
    "path",
    "photo_id",
    "bytes",
    "width",
    "height",
    "format",
    "status",
    "reason",
    "message",
    "faces",
]
_FACE_COLUMNS = ["path", "face", "x", "y", "width", "height", "style", "style_score", "why"]
_ITEM_COLUMNS = ["path", "face", "rank", "item_id", "category", "similarity", "reason"]

Row = dict[str, Any]


@dataclass(frozen=True)
class JoinedFace:
    """One row of ``faces``, its most probable attributes (name, probability) and its recommended items."""

    row: Row
    attributes: list[tuple[str, float]]
    items: list[Row]


@dataclass(frozen=True)
class JoinedPhoto:
    """One row of ``photos`` and its faces, the largest first."""

    row: Row
    faces: list[JoinedFace]


def read_photos(run: Path, *, attribute_count: int) -> Iterator[JoinedPhoto]:
    """Yield every photo of a run with what belongs to it, in the tables' order.

    Parameters
    ----------
    run : Path
        A directory with ``photos/``, ``faces/`` and ``recommendations/``, as the contract describes them.
    attribute_count : int
        How many attributes of a face to keep, the most probable first; ties in the table's order.

    Raises
    ------
    StylematchError
        If the tables do not belong together: a photo or a face is missing, a false count.
    """
    faces = _Follower(run, "faces", _face_rows(run, attribute_count))
    items = _Follower(run, "recommendations", _rows(run, "recommendations", _ITEM_COLUMNS))
    for photo in _rows(run, "photos", _PHOTO_COLUMNS):
        joined = [
            JoinedFace(face, face.pop("attributes"), items.take(face["path"], face["face"]))
            for face in faces.take(photo["path"])
        ]
        if len(joined) != photo["faces"]:
            raise StylematchError(
                f"{run}: photos says {photo['faces']} faces for {photo['path']!r}, faces has {len(joined)} "
                f"in its place; remove the directory and score again"
            )
        yield JoinedPhoto(photo, joined)
    faces.finish()
    items.finish()


class _Follower:
    """Hands out a table's rows to the keys that come by, in the order in which both were written."""

    def __init__(self, run: Path, table: str, rows: Iterator[Row]) -> None:
        self._run, self._table, self._rows = run, table, rows
        self._next = next(rows, None)

    def take(self, *key: object) -> list[Row]:
        """Return the next rows as long as their key begins with ``key``."""
        names = KEYS[self._table][: len(key)]
        taken = []
        while self._next is not None and all(self._next[n] == value for n, value in zip(names, key, strict=True)):
            taken.append(self._next)
            self._next = next(self._rows, None)
        return taken

    def finish(self) -> None:
        """Raise if rows are left that no key asked for."""
        if self._next is not None:
            key = {name: self._next[name] for name in KEYS[self._table]}
            raise StylematchError(
                f"{self._run}: {self._table} has a row whose owner is missing or out of order: {key}; "
                f"remove the directory and score again"
            )


def _face_rows(run: Path, attribute_count: int) -> Iterator[Row]:
    """Yield the rows of ``faces`` with an added ``attributes``, chosen for a whole batch at once."""
    shards = _shards(run, "faces")
    if not shards:
        return
    names = _attribute_names(pq.read_schema(shards[0]))
    for batch in _batches(shards, [*_FACE_COLUMNS, *names]):
        rows = batch.select(_FACE_COLUMNS).to_pylist()
        probabilities = np.empty((batch.num_rows, len(names)), np.float32)
        for column, name in enumerate(names):
            probabilities[:, column] = batch.column(name).to_numpy(zero_copy_only=False)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :attribute_count]
        for row, best, values in zip(rows, order, probabilities, strict=True):
            row["attributes"] = [(names[i], float(values[i])) for i in best]
            yield row


def _attribute_names(schema: pa.Schema) -> list[str]:
    """Return the attribute columns: the contract puts them between the last landmark and ``style``."""
    return list(schema.names[schema.names.index(LANDMARKS[-1]) + 1 : schema.names.index("style")])


def _rows(run: Path, table: str, columns: Sequence[str]) -> Iterator[Row]:
    for batch in _batches(_shards(run, table), columns):
        yield from batch.to_pylist()


def _shards(run: Path, table: str) -> list[Path]:
    """Return the table's shards by name, which is the order of their paths."""
    if not (run / table).is_dir():
        raise StylematchError(f"{run} has no table {table!r}; score again to make one")
    return sorted((run / table).glob("*.parquet"))


def _batches(shards: Sequence[Path], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    for shard in shards:
        with pq.ParquetFile(shard) as file:
            yield from file.iter_batches(batch_size=_BATCH_ROWS, columns=list(columns))
