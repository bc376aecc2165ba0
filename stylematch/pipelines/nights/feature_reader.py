"""Kept features, read back: any photos' rows out of any shards, as ``FeatureExtractor.extract`` once returned them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stylematch.pipelines.face_features import FaceFeatures, Rows
from stylematch.pipelines.nights.feature_damage import UNREADABLE, StoreReadError
from stylematch.pipelines.nights.feature_store import (
    ROW_GROUP_ROWS,
    FeatureStore,
    column_of,
    photo_features_schema,
)
from stylematch.tables.contract import BOX, LANDMARKS
from stylematch.tables.shown import shown, why


@dataclass(frozen=True)
class Taken:
    """Rows of shards: ``photos`` in the order they were asked for, ``faces`` in the order of their photos."""

    photos: pa.Table
    faces: pa.Table


class FeatureReader:
    """Reads rows of shards, row group by row group.

    Parameters
    ----------
    store : FeatureStore
        What is read.
    thumbnails : bool
        Whether thumbnails are wanted.
    """

    _OPEN_SHARDS = 8

    def __init__(self, store: FeatureStore, *, thumbnails: bool = False) -> None:
        self._store = store
        names = photo_features_schema().names
        self._columns = names if thumbnails else [name for name in names if name != "thumbnail"]
        self._open: dict[str, pq.ParquetFile] = {}

    def take(self, where: Sequence[tuple[str, int]]) -> Taken:
        """Return the photos that stand at (shard, row), with their faces; a place may be named twice."""
        rows_of: dict[str, set[int]] = defaultdict(set)
        for shard, row in where:
            rows_of[shard].add(row)
        photos, faces, faces_before = [], [], 0
        start_of: list[tuple[int, int]] = []  # of each photo taken: where its faces begin, how many
        place_of: dict[tuple[str, int], int] = {}
        for shard, wanted in sorted(rows_of.items()):
            rows = np.array(sorted(wanted))
            part = self._rows(f"photos/{shard}", rows, self._columns)
            first, count = (part.column(name).to_numpy() for name in ("first_face", "faces"))
            place_of |= {(shard, int(row)): len(start_of) + at for at, row in enumerate(rows)}
            start_of.extend(zip(faces_before + np.cumsum(count) - count, count, strict=True))
            faces_before += int(count.sum())
            photos.append(part)
            faces.append(self._rows(f"faces/{shard}", _ranges(first, count), self._store.faces_schema().names))
        order = [place_of[shard, row] for shard, row in where]
        face_order = [start + at for place in order for start, count in [start_of[place]] for at in range(count)]
        schema = photo_features_schema()
        empty = pa.schema([schema.field(name) for name in self._columns]).empty_table()
        return Taken(
            pa.concat_tables([empty, *photos]).take(pa.array(order, pa.int64())),
            pa.concat_tables([self._store.faces_schema().empty_table(), *faces]).take(pa.array(face_order, pa.int64())),
        )

    def _rows(self, name: str, rows: np.ndarray, columns: Sequence[str]) -> pa.Table:
        groups = np.unique(rows // ROW_GROUP_ROWS)
        try:
            table = self._file(name).read_row_groups([int(group) for group in groups], columns=list(columns))
        except UNREADABLE as error:
            file = f"{self._store.place}/{self._store.folder}/{shown(name)}"
            raise StoreReadError(f"could not read {file}: {why(error)}; run the same command again") from error
        at = np.searchsorted(groups, rows // ROW_GROUP_ROWS) * ROW_GROUP_ROWS + rows % ROW_GROUP_ROWS
        return table.take(pa.array(at, pa.int64()))

    def _file(self, name: str) -> pq.ParquetFile:
        if name not in self._open:
            while len(self._open) >= 2 * self._OPEN_SHARDS:
                self._open.pop(next(iter(self._open))).close()
            stream = self._store.place.open(f"{self._store.folder}/{name}")
            self._open[name] = pq.ParquetFile(stream, page_checksum_verification=True)
        return self._open[name]


def face_features(store: FeatureStore, faces: pa.Table, paths: Sequence[str]) -> FaceFeatures:
    """Return kept faces as ``FeatureExtractor.extract`` returned them, under the paths of their photos.

    Parameters
    ----------
    store : FeatureStore
        Where they are from.
    faces : pyarrow.Table
        ``Taken.faces``.
    paths : sequence of str
        The path of each face's photo.
    """
    if not len(faces):
        return FaceFeatures()
    attributes = np.stack([faces.column(name).to_numpy() for name in store.attribute_names], axis=1)
    columns: Rows = {"path": list(paths), "photo_id": faces.column("photo_id").to_pylist()}
    columns["face"] = faces.column("face").to_pylist()
    columns |= {name: list(faces.column(name).to_numpy()) for name in (*BOX, *LANDMARKS, *store.attribute_names)}
    embedding = np.stack(list(_vectors(faces, "embedding", store.embedding_dim)))
    return FaceFeatures(columns, attributes, embedding, list(_vectors(faces, "worn", store.worn_dim)))


def _vectors(table: pa.Table, name: str, dim: int) -> Iterator[Any]:
    """Yield the vectors of a column of lists of ``dim`` numbers, None for null."""
    column = column_of(table, name)
    seen = column.is_valid().to_numpy(zero_copy_only=False)
    vectors = iter(column.flatten().to_numpy().reshape(-1, dim))  # which leaves the nulls out
    for is_there in seen:
        yield next(vectors) if is_there else None


def _ranges(first: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return first[0], first[0] + 1, ... of each range, one after the other."""
    before = np.cumsum(count) - count
    return np.repeat(first - before, count) + np.arange(int(count.sum()))
