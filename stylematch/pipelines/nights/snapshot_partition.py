"""Write a snapshot's tables from kept features: what a night's workers do last. No photo is read, no model asked.

A partition function as ``score_partition`` is, with the same listing, partitions, advice and tables; ``snapshot_date``
alone is added. Where an earlier night's snapshot is this very run, its rows are taken over with tonight's date, and
rules and indexes are loaded only for the votes that a gallery shows; a shard that is not what its sidecar says is made
again.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stylematch.data.listing import Partition
from stylematch.data.photo_file import too_large
from stylematch.errors import PhotoRejectedError
from stylematch.pipelines.advice import Adviser
from stylematch.pipelines.face_features import Rows
from stylematch.pipelines.listed_photos import rejected_row
from stylematch.pipelines.nights.feature_reader import FeatureReader, face_features
from stylematch.pipelines.nights.feature_store import PHOTO_COLUMNS, ROW_GROUP_ROWS, FeatureStore, column_of
from stylematch.pipelines.nights.night_lists import Planned, read_plan
from stylematch.pipelines.partition_result import PartitionResult
from stylematch.pipelines.score_job import ScoreJob
from stylematch.pipelines.score_partition import thumbnails_of, votes_of
from stylematch.report.thumbnails import ThumbnailKeeper
from stylematch.report.votes import VoteKeeper
from stylematch.tables.contract import (
    TABLES,
    Reason,
    dated,
    faces_schema,
    photos_schema,
    recommendations_schema,
)
from stylematch.tables.night_names import SNAPSHOTS
from stylematch.tables.shards import parse_sidecar, shard_path, sidecar_path
from stylematch.tables.writer import ShardWriter


@dataclass(frozen=True, kw_only=True)
class SnapshotJob(ScoreJob):
    """All that a worker needs to know to write a snapshot's tables; its listing is ``FeaturePlan.write_plan``'s.

    Attributes
    ----------
    store : FeatureStore
        Where features are.
    snapshot_date : datetime.date
        The night.
    as_before : str, optional
        A snapshot in the store's place whose tables differ by their date alone.
    """

    store: FeatureStore
    snapshot_date: date
    as_before: str | None = None


class SnapshotState:
    """What a process loads once; rules and indexes only when advice is asked for, and never a model."""

    def __init__(self, job: SnapshotJob) -> None:
        self.job = job
        self.reader = FeatureReader(job.store, thumbnails=job.spec.settings.report)
        without = job.spec.settings.without
        names = [name for name in job.store.attribute_names if name not in without]
        self.schemas = {
            "photos": dated(photos_schema()),
            "faces": dated(faces_schema(names, job.store.embedding_dim)),
            "recommendations": dated(recommendations_schema(job.spec.item_fields)),
        }

    @functools.cached_property
    def adviser(self) -> Adviser:
        """Rules, gallery and items."""
        return Adviser(self.job.spec, self.job.threads)


def snapshot_partition(state: SnapshotState, partition: Partition, advance: Callable[[int], None]) -> PartitionResult:
    """Write one partition's shards of the three tables, from those of an equal run or from kept features."""
    job, result = state.job, PartitionResult()
    planned = read_plan(job.listing, partition)
    # Not asked without a gallery, since asking for the adviser loads rules and indexes.
    votes = votes_of(job, partition, state.adviser) if job.spec.settings.report else None
    with thumbnails_of(job, partition) as thumbnails, ExitStack() as stack:
        writers = {
            table: stack.enter_context(ShardWriter(job.staged / table, partition.number, state.schemas[table]))
            for table in TABLES
        }
        with result.timed("take over", partition.photos, "photos"):
            before = _shards_before(state, partition)
        for table, rows in before.items():
            with result.timed("write", len(rows), "rows"):
                _write_dated(writers[table], rows, job.snapshot_date)
        if before and votes is None:  # all is written; reading the plan would take longer than that did
            advance(partition.photos)
            planned = iter(())
        while chunk := list(islice(planned, ROW_GROUP_ROWS)):
            for table, columns in _tables(state, chunk, not before, thumbnails, votes, result).items():
                if columns and (count := len(columns["path"])):
                    with result.timed("write", count, "rows"):
                        writers[table].write({**columns, "snapshot_date": [job.snapshot_date] * count})
            advance(len(chunk))
        for written in (thumbnails, votes):
            if written is not None:  # before the shards, which make the partition done
                written.write()
    return result


def _shards_before(state: SnapshotState, partition: Partition) -> dict[str, pa.Table]:
    """Return the partition's rows in a snapshot that is this very run; none where there is none, or it is damaged."""
    job, found = state.job, {}
    if job.as_before is None:
        return {}
    for table in TABLES:
        folder = Path(SNAPSHOTS) / job.as_before / table
        shard, sidecar = (path(folder, partition.number).as_posix() for path in (shard_path, sidecar_path))
        data, info = job.store.place.read(shard), parse_sidecar(job.store.place.read(sidecar))
        if data is None or info is None or hashlib.sha256(data).hexdigest() != info.sha256:
            return {}
        found[table] = pq.read_table(pa.BufferReader(data), schema=state.schemas[table])
    return found if len(found["photos"]) == partition.photos else {}


def _write_dated(writer: ShardWriter, rows: pa.Table, night: date) -> None:
    for start in range(0, len(rows), writer.row_group_rows):
        part = rows.slice(start, writer.row_group_rows)
        columns = {name: column_of(part, name) for name in part.column_names}
        writer.write({**columns, "snapshot_date": np.full(len(part), np.datetime64(night))})


def _kept(chunk: list[Planned]) -> list[tuple[str, int]]:
    """Return where features stand, of the photos that have some."""
    return [(entry.shard, entry.row) for entry in chunk if entry.shard is not None]


def _tables(
    state: SnapshotState,
    chunk: list[Planned],
    is_new: bool,
    thumbnails: ThumbnailKeeper | None,
    votes: VoteKeeper | None,
    result: PartitionResult,
) -> dict[str, Rows]:
    """Return the rows that are not taken over; where there is a gallery, write what it needs of all."""
    kept = [entry for entry in chunk if entry.shard is not None]
    with result.timed("read features", len(chunk), "photos"):
        taken = state.reader.take(_kept(chunk))
        counts = taken.photos.column("faces").to_pylist()
        paths = [entry.photo.path for entry, count in zip(kept, counts, strict=True) for _ in range(count)]
        features = face_features(state.job.store, taken.faces, paths)
    if thumbnails is not None:
        for entry, picture in zip(kept, taken.photos.column("thumbnail"), strict=True):
            if picture.is_valid:
                thumbnails.keep(entry.photo.path, picture.as_py())
    if votes is not None and not is_new:
        state.adviser.vote(features, result, votes)
        return {}
    faces, recommendations = state.adviser.advise(features, state.job.run_id, result, votes)
    photos = _photo_rows(chunk, taken.photos, int(state.job.spec.settings.max_file_mb * 1e6))
    return {"photos": photos, "faces": faces, "recommendations": recommendations}


def _photo_rows(chunk: list[Planned], taken: pa.Table, max_bytes: int) -> Rows:
    kept = iter(taken.select(list(PHOTO_COLUMNS)).to_pylist())
    rows: list[dict[str, Any]] = []
    for entry in chunk:
        photo = entry.photo
        if entry.shard is None:
            unread = PhotoRejectedError(entry.reason or Reason.UNREADABLE_FILE, entry.message or "")
            error = too_large(photo.bytes, max_bytes) if photo.bytes > max_bytes else unread
            rows.append({**rejected_row(photo, error), "faces": 0})
        else:
            rows.append({"path": photo.path, "photo_id": photo.photo_id, "bytes": photo.bytes, **next(kept)})
    return {name: [row[name] for row in rows] for name in photos_schema().names}
