"""Score one partition: photos in, one shard of each table out. Runs in any process, on any engine.

Photos go through in batches: features first (``face_features``), then style and items (``advice``), of several batches
together, as what is known of a face is small and a search of many costs less for each. Nothing of a result depends on
which photos share a batch, and the shard writer does not keep batches apart, so the tables are the same for every batch
size and number of workers.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from stylematch.data.listing import Partition, read_listing
from stylematch.data.photos import FoundPhoto
from stylematch.pipelines.advice import Adviser
from stylematch.pipelines.face_features import FaceFeatures, FeatureExtractor, Rows, joined_features, joined_rows
from stylematch.pipelines.listed_photos import reader_of_listed
from stylematch.pipelines.partition_result import PartitionResult, batch_done
from stylematch.pipelines.score_job import ScoreJob
from stylematch.report.pictures import make_thumbnail
from stylematch.report.thumbnails import ThumbnailKeeper
from stylematch.report.votes import VoteKeeper
from stylematch.tables.contract import (
    TABLES,
    faces_schema,
    photos_schema,
    recommendations_schema,
)
from stylematch.tables.writer import ShardWriter, finish_together

_ADVISED_TOGETHER = 512  # photos and faces; more make no face cheaper


@dataclass
class ScoreState:
    """What a process loads once."""

    job: ScoreJob
    extractor: FeatureExtractor
    adviser: Adviser
    load_s: float = 0.0  # how long loading took; counted with the first partition


def load_state(job: ScoreJob) -> ScoreState:
    """Load models, indexes and rules for one process.

    Raises
    ------
    UserError
        If they are damaged or do not belong together.
    """
    clock = time.perf_counter()
    extractor = FeatureExtractor(job.spec, job.threads)
    adviser = Adviser(job.spec, job.threads)
    return ScoreState(job, extractor, adviser, time.perf_counter() - clock)


def score_partition(state: ScoreState, partition: Partition, advance: Callable[[int], None]) -> PartitionResult:
    """Write one partition's shards.

    Parameters
    ----------
    state : ScoreState
        From ``load_state``.
    partition : Partition
        Which photos.
    advance : callable
        Told how many more photos are done.
    """
    job, result = state.job, PartitionResult()
    if state.load_s:
        result.seconds["load"], result.items["load"], result.units["load"] = state.load_s, 1, "workers"
        state.load_s = 0.0
    schemas = {
        "photos": photos_schema(),
        "faces": faces_schema(state.adviser.attribute_names, state.extractor.embedding_dim),
        "recommendations": recommendations_schema(job.spec.item_fields),
    }
    votes = votes_of(job, partition, state.adviser)
    photos = read_listing(job.listing, partition)
    read = reader_of_listed(job.root, partition, job.spec.settings.max_file_mb, follow_links=job.follow_links)
    with thumbnails_of(job, partition) as thumbnails, ExitStack() as stack:
        with result.timed("write", 0, "rows"):
            writers = {
                table: stack.enter_context(ShardWriter(job.staged / table, partition.number, schemas[table]))
                for table in TABLES
            }
        waiting: list[tuple[Rows, FaceFeatures]] = []
        while batch := list(islice(photos, 1 if partition.alone else job.spec.settings.batch_size)):
            rows, features = _read_batch(state, batch, read, thumbnails, result)
            waiting.append((rows, features))
            if sum(len(rows["path"]) + len(features) for rows, features in waiting) >= _ADVISED_TOGETHER:
                _advise_and_write(state, waiting, writers, votes, result)
                waiting = []
            advance(batch_done(rows, len(features), result))
        _advise_and_write(state, waiting, writers, votes, result)
        with result.timed("write", 0, "rows"):
            kept = [keeper.write for keeper in (thumbnails, votes) if keeper is not None]
            # Photos last: its shard says that all else is there.
            finish_together([*reversed(writers.values())], kept)
    return result


def votes_of(job: ScoreJob, partition: Partition, adviser: Adviser) -> VoteKeeper | None:
    """Return what keeps a partition's votes for the gallery, None where none is wanted."""
    if not job.spec.settings.report:
        return None
    return VoteKeeper(job.staged / "report", partition.number, adviser.judge.rules.styles)


def thumbnails_of(job: ScoreJob, partition: Partition) -> AbstractContextManager[ThumbnailKeeper | None]:
    """Return a ``with`` block that keeps a partition's thumbnails for the gallery, of None where none is wanted."""
    return ThumbnailKeeper(job.staged / "report", partition.number) if job.spec.settings.report else nullcontext()


def _read_batch(
    state: ScoreState,
    batch: list[FoundPhoto],
    read: Callable[[FoundPhoto], bytes],
    thumbnails: ThumbnailKeeper | None,
    result: PartitionResult,
) -> tuple[Rows, FaceFeatures]:
    keep = None if thumbnails is None else functools.partial(_keep_thumbnail, thumbnails)
    return state.extractor.extract(batch, read, result, keep)


def _advise_and_write(
    state: ScoreState,
    waiting: list[tuple[Rows, FaceFeatures]],
    writers: dict[str, ShardWriter],
    votes: VoteKeeper | None,
    result: PartitionResult,
) -> None:
    """Say styles and items of the faces of some batches, and write the rows of their photos."""
    photos = joined_rows([rows for rows, _ in waiting])
    features = joined_features([features for _, features in waiting])
    faces, recommendations = state.adviser.advise(features, state.job.run_id, result, votes)
    for table, rows in (("photos", photos), ("faces", faces), ("recommendations", recommendations)):
        if rows and rows["path"]:
            with result.timed("write", len(rows["path"]), "rows"):
                writers[table].write(rows)


def _keep_thumbnail(thumbnails: ThumbnailKeeper, photo: FoundPhoto, pixels: npt.NDArray[np.uint8]) -> None:
    thumbnails.keep(photo.path, make_thumbnail(pixels))
