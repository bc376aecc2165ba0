"""Write a snapshot's tables from kept features: what a night's workers do last. No photo is read, no model asked.

A partition function as ``score_partition`` is, with the same listing, partitions, advice and tables; ``snapshot_date``
alone is added.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from stylematch.data.listing import Partition
from stylematch.errors import PhotoRejectedError
from stylematch.pipelines.advice import Adviser
from stylematch.pipelines.face_features import Rows
from stylematch.pipelines.feature_plan import Planned, read_plan
from stylematch.pipelines.feature_reader import FeatureReader, face_features
from stylematch.pipelines.feature_store import PHOTO_COLUMNS, ROW_GROUP_ROWS, FeatureStore
from stylematch.pipelines.inputs import rejected_row
from stylematch.pipelines.partitions import PartitionResult
from stylematch.pipelines.score_partition import ScoreJob, votes_of
from stylematch.report.pictures import thumbnail_path
from stylematch.report.votes import VoteKeeper
from stylematch.tables.contract import (
    TABLES,
    Reason,
    dated,
    faces_schema,
    photos_schema,
    recommendations_schema,
)
from stylematch.tables.disk import explained
from stylematch.tables.writer import ShardWriter


@dataclass(frozen=True)
class SnapshotJob:
    """All that a worker needs to know to write a snapshot's tables.

    Attributes
    ----------
    score : ScoreJob
        As for ``score``; its listing is what ``FeaturePlan.write_plan`` wrote.
    store : FeatureStore
        Where features are.
    snapshot_date : datetime.date
        The night.
    """

    score: ScoreJob
    store: FeatureStore
    snapshot_date: date


@dataclass
class SnapshotState:
    """What a process loads once."""

    job: SnapshotJob
    adviser: Adviser
    reader: FeatureReader


def load_snapshot_state(job: SnapshotJob) -> SnapshotState:
    """Load rules and indexes for one process; no model and no face finder."""
    score = job.score
    adviser = Adviser(score.settings, score.assets, score.device, score.threads, score.allowed_items)
    return SnapshotState(job, adviser, FeatureReader(job.store, thumbnails=score.settings.report))


def snapshot_partition(state: SnapshotState, partition: Partition, advance: Callable[[int], None]) -> PartitionResult:
    """Write one partition's shards of the three tables from kept features."""
    job, result = state.job, PartitionResult()
    schemas = {
        "photos": photos_schema(),
        "faces": faces_schema(state.adviser.attribute_names, job.store.embedding_dim),
        "recommendations": recommendations_schema(),
    }
    votes = votes_of(job.score, partition, state.adviser)
    planned = read_plan(job.score.listing, partition)
    with ExitStack() as stack:
        writers = {
            table: stack.enter_context(ShardWriter(job.score.staged / table, partition.number, dated(schemas[table])))
            for table in TABLES
        }
        while chunk := list(islice(planned, ROW_GROUP_ROWS)):
            for table, rows in _tables(state, chunk, votes, result).items():
                if rows and (count := len(rows["path"])):
                    with result.timed("write", count, "rows"):
                        writers[table].write({**rows, "snapshot_date": [job.snapshot_date] * count})
            advance(len(chunk))
        if votes is not None:  # before the shards, which make the partition done
            votes.write()
    return result


def _tables(
    state: SnapshotState, chunk: list[Planned], votes: VoteKeeper | None, result: PartitionResult
) -> dict[str, Rows]:
    kept = [entry for entry in chunk if entry.shard is not None]
    with result.timed("read features", len(chunk), "photos"):
        taken = state.reader.take([(str(entry.shard), entry.row) for entry in kept])
        counts = taken.photos.column("faces").to_pylist()
        paths = [entry.photo.path for entry, count in zip(kept, counts, strict=True) for _ in range(count)]
        features = face_features(state.job.store, taken.faces, paths)
    if state.job.score.settings.report:
        _write_thumbnails(state.job.score.staged, taken.photos)
    faces, recommendations = state.adviser.advise(features, state.job.score.run_id, result, votes)
    return {"photos": _photo_rows(chunk, taken.photos), "faces": faces, "recommendations": recommendations}


def _photo_rows(chunk: list[Planned], taken: pa.Table) -> Rows:
    kept = iter(taken.select(list(PHOTO_COLUMNS)).to_pylist())
    rows: list[dict[str, Any]] = []
    for entry in chunk:
        photo = entry.photo
        if entry.shard is None:
            error = PhotoRejectedError(Reason.UNREADABLE_FILE, entry.message or "")
            rows.append({**rejected_row(photo, error), "faces": 0})
        else:
            rows.append({"path": photo.path, "photo_id": photo.photo_id, "bytes": photo.bytes, **next(kept)})
    return {name: [row[name] for row in rows] for name in photos_schema().names}


def _write_thumbnails(staged: Path, photos: pa.Table) -> None:
    for photo_id, picture in zip(*(photos.column(n).to_pylist() for n in ("photo_id", "thumbnail")), strict=True):
        path = thumbnail_path(staged / "report", photo_id)
        if picture is not None and not path.is_file():
            unfinished = staged / f".{path.name}.{os.getpid()}"  # as score does: a kill leaves no half of one
            with explained("write", path):
                path.parent.mkdir(parents=True, exist_ok=True)
                unfinished.write_bytes(picture)
                unfinished.replace(path)
