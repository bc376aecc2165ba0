"""The three tables of a run, read side by side, photo by photo.

Shards of one name hold the same photos. ``photos`` is in the listing's order; within a shard the other tables stand
together by style, so each of their shards is brought back into its photos' order. Then one pass over each is enough:
every photo takes the rows of ``faces`` that carry its path, and every face the rows of ``recommendations`` that carry
its key. Of each table one shard at most is in memory. Paths are compared for equality alone: their order is that of
the files' raw bytes, which an escaped path does not show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stylematch.errors import StylematchError
from stylematch.tables.contract import CLUSTERED, KEYS, LANDMARKS
from stylematch.tables.shards import shard_path, shard_paths

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
_BOX = ["x", "y", "width", "height"]
_FACE_COLUMNS = [
    "path",
    "face",
    *_BOX,
    "detection_score",
    *LANDMARKS,
    "style",
    "style_score",
    "style_margin",
    "rule_style",
    "rule_score",
    "neighbour_style",
    "neighbour_score",
    "rule",
    "why",
]
# Of the columns that pages show rounded; all of a column at once takes a fraction of the time.
_DIGITS = dict.fromkeys((*_BOX, *LANDMARKS), 1) | dict.fromkeys(
    (
        "detection_score",
        "style_score",
        "style_margin",
        "rule_score",
        "neighbour_score",
        "score",
        "similarity",
        "tag_fit",
    ),
    4,
)

Row = dict[str, Any]
Key = tuple[Any, ...]
Found = TypeVar("Found")


class JoinedItem(NamedTuple):
    """What a page says of one row of ``recommendations``; figures are rounded, None where not finite."""

    item_id: str
    category: str
    score: float | None
    similarity: float | None
    tag_fit: float | None
    query: str
    reason: str


@dataclass(frozen=True, eq=False)
class JoinedFace:
    """One row of ``faces`` and its recommended items.

    Attributes
    ----------
    row : dict
        The row, without attributes and embedding; figures are rounded as a page shows them, None where not finite.
    probabilities : ndarray of float32, shape (a,)
        Of the attributes, in the table's order (``attribute_names``).
    items : list of JoinedItem
        The best first.
    """

    row: Row
    probabilities: NDArray[np.float32]
    items: list[JoinedItem]


@dataclass(frozen=True, eq=False)
class JoinedPhoto:
    """One row of ``photos`` and its faces, the largest first."""

    row: Row
    faces: list[JoinedFace]


def read_photos(run: Path, partition: int | None = None) -> Iterator[JoinedPhoto]:
    """Yield every photo of a run with what belongs to it, in the tables' order.

    Parameters
    ----------
    run : Path
        A directory with ``photos/``, ``faces/`` and ``recommendations/``, as the contract describes them.
    partition : int, optional
        The only one whose photos are wanted.

    Raises
    ------
    StylematchError
        If the tables do not belong together: a photo or a face is missing, a false count.
    """
    faces = _Follower(run, "faces", _face_groups(run, partition))
    items = _Follower(run, "recommendations", _item_groups(run, partition))
    for batch in _batches(_shards(run, "photos", partition), lambda _: _PHOTO_COLUMNS):
        for photo in batch.to_pylist():
            joined = [
                JoinedFace(face, probabilities, items.take((face["path"], face["face"])))
                for face, probabilities in faces.take((photo["path"],))
            ]
            yield _checked(run, photo, joined)
    faces.finish()
    items.finish()


def _checked(run: Path, photo: Row, faces: list[JoinedFace]) -> JoinedPhoto:
    if len(faces) != photo["faces"]:
        raise StylematchError(
            f"{run}: photos says {photo['faces']} faces for {photo['path']!r}, faces has {len(faces)} "
            f"in its place; remove the directory and score again"
        )
    return JoinedPhoto(photo, faces)


class _Follower(Generic[Found]):
    """Hands out what belongs to the keys that come by, in the order in which both were written."""

    def __init__(self, run: Path, table: str, groups: Iterator[tuple[Key, list[Found]]]) -> None:
        self._run, self._table, self._groups = run, table, groups
        self._next = next(groups, None)

    def take(self, key: Key) -> list[Found]:
        """Return what comes next, as long as it is of ``key``."""
        taken: list[Found] = []
        while self._next is not None and self._next[0] == key:
            taken += self._next[1]  # more than once where a batch ends among them
            self._next = next(self._groups, None)
        return taken

    def finish(self) -> None:
        """Raise if something is left that no key asked for."""
        if self._next is not None:
            key = dict(zip(KEYS[self._table], self._next[0], strict=False))
            raise StylematchError(
                f"{self._run}: {self._table} has a row whose owner is missing or out of order: {key}; "
                f"remove the directory and score again"
            )


def attribute_names(run: Path) -> tuple[str, ...]:
    """Return the attribute columns of ``faces``: the contract puts them between the last landmark and ``style``."""
    shards = _shards(run, "faces")
    if not shards:
        return ()
    return _attributes_among(pq.read_schema(shards[0]).names)


def _attributes_among(names: list[str]) -> tuple[str, ...]:
    return tuple(names[names.index(LANDMARKS[-1]) + 1 : names.index("style")])


def _face_groups(run: Path, partition: int | None) -> Iterator[tuple[Key, list[tuple[Row, NDArray[np.float32]]]]]:
    """Yield the rows of ``faces``, and the attributes' probabilities, photo by photo."""
    known = frozenset(_FACE_COLUMNS)
    for batch in _batches(_shards(run, "faces", partition), lambda names: (*_FACE_COLUMNS, *_attributes_among(names))):
        names = [name for name in batch.schema.names if name not in known]
        rows = _rounded(batch.select(_FACE_COLUMNS)).to_pylist()
        probabilities = np.empty((batch.num_rows, len(names)), np.float32)
        for column, name in enumerate(names):
            probabilities[:, column] = batch.column(name).to_numpy(zero_copy_only=False)
        found = list(zip(rows, probabilities, strict=True))
        for key, start, end in _cuts(batch, "path"):
            yield key, found[start:end]


def _item_groups(run: Path, partition: int | None) -> Iterator[tuple[Key, list[JoinedItem]]]:
    """Yield the rows of ``recommendations``, face by face."""
    wanted = ("path", "face", "rank", *JoinedItem._fields)
    for batch in _batches(_shards(run, "recommendations", partition), lambda _: wanted):
        columns = _rounded(batch.select(JoinedItem._fields)).columns
        found = list(map(JoinedItem, *(column.to_pylist() for column in columns)))
        for key, start, end in _cuts(batch, "path", "face"):
            yield key, found[start:end]


def _cuts(batch: pa.RecordBatch, *names: str) -> Iterator[tuple[Key, int, int]]:
    """Yield each key, by its columns, with the places between which its rows lie."""
    count = batch.num_rows
    columns = [batch.column(name) for name in names]
    is_first = np.ones(count, np.bool_)
    is_first[1:] = False
    for column in columns:
        is_first[1:] |= pc.not_equal(column.slice(1), column.slice(0, max(count - 1, 0))).to_numpy(zero_copy_only=False)
    starts = np.flatnonzero(is_first)
    keys = zip(*(column.take(pa.array(starts)).to_pylist() for column in columns), strict=True)
    for key, (start, end) in zip(keys, pairwise([*starts.tolist(), count]), strict=True):
        yield key, start, end


def _rounded(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if name in _DIGITS and pa.types.is_floating(column.type):
            figures = pc.round(column.cast(pa.float64()), _DIGITS[name])
            column = pc.if_else(pc.is_finite(figures), figures, pa.scalar(None, pa.float64()))
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)


def _shards(run: Path, table: str, partition: int | None = None) -> list[Path]:
    if not (run / table).is_dir():
        raise StylematchError(f"{run} has no table {table!r}; score again to make one")
    return shard_paths(run / table) if partition is None else [shard_path(run / table, partition)]


def _batches(shards: Sequence[Path], columns_among: Callable[[list[str]], Sequence[str]]) -> Iterator[pa.RecordBatch]:
    # By one thread: the columns of a shard are so small that to share them out would take longer.
    for shard in shards:
        photos = shard.parent.with_name("photos") / shard.name
        with pq.ParquetFile(shard) as file:
            columns = list(columns_among(file.schema_arrow.names))
            if shard.parent.name in CLUSTERED and photos.is_file():
                rows = _in_order_of(photos, file.read(columns=columns, use_threads=False))
                yield from rows.combine_chunks().to_batches(max_chunksize=_BATCH_ROWS)
            else:
                yield from file.iter_batches(batch_size=_BATCH_ROWS, columns=columns, use_threads=False)


def _in_order_of(photos: Path, rows: pa.Table) -> pa.Table:
    """Return rows in the order of their photos, and within one by face and rank; as they are if one is of no photo."""
    with pq.ParquetFile(photos) as file:
        paths = file.read(columns=["path"], use_threads=False)["path"].combine_chunks()
    keys = {"photo": pc.index_in(rows["path"], value_set=paths)}
    if keys["photo"].null_count:  # not the shard of these photos; what does not belong together is found later
        return rows
    keys |= {name: rows[name] for name in ("face", "rank") if name in rows.column_names}
    return rows.take(pc.sort_indices(pa.table(keys), sort_keys=[(name, "ascending") for name in keys]))
