"""Write the three tables and the gallery of a staged run: what ``score`` does with photos, a night with features."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from stylematch.data.listing import Listing, Partition
from stylematch.pipelines.on_engine import run_job
from stylematch.pipelines.partition_result import PartitionResult
from stylematch.pipelines.run_gallery import RunGallery
from stylematch.pipelines.run_listing import waiting_partitions
from stylematch.pipelines.score_job import ScoreJob
from stylematch.report.thumbnails import thumbnails_path
from stylematch.report.votes import votes_path
from stylematch.tables.contract import Status
from stylematch.tables.counts import Counts, count_tables
from stylematch.tables.manifest import Stage
from stylematch.tables.shards import read_sidecar, shard_path
from stylematch.tables.staging import Staging

State = TypeVar("State")


@dataclass(frozen=True)
class ScoredTables:
    """What the tables of a run hold, the time of each stage, and how many workers wrote them."""

    counts: Counts
    stages: dict[str, Stage]
    workers: int


def write_tables(
    function: Callable[[State, Partition, Callable[[int], None]], PartitionResult],
    load: Callable[[Any], State],
    job: ScoreJob,
    listing: Listing,
    staging: Staging,
    *,
    description: str,
    stages: Mapping[str, Stage],
    ignored: Mapping[str, int],
    photos: Path | None = None,
) -> ScoredTables:
    """Write the partitions that are not done yet, and a gallery beside them where the job's settings want one.

    Parameters
    ----------
    function, load, job, listing, description, photos
        As for ``run_job``.
    staging : Staging
        Where to.
    stages : mapping of str to Stage
        How long the run's other steps took.
    ignored : mapping of str to int
        Files that the search for photos passed over, by why.
    """
    done = _prepare(staging, job)
    waiting = waiting_partitions(listing, done)
    with RunGallery(job, len(listing.partitions), done) as gallery:
        ran = run_job(
            function,
            load,
            job,
            listing,
            waiting,
            choice=job.spec.settings,
            workers=job.spec.settings.workers,
            description=description,
            on_partition=gallery.scored,
            photos=photos,
            found_before=_found_in(staging, done),
        )
        counts = count_tables(staging.directory, ignored)
        drawn = gallery.finish(counts, {**stages, **ran.stages})
    return ScoredTables(counts, {**stages, **ran.stages, **drawn}, ran.workers)


def _found_in(staging: Staging, done: frozenset[int]) -> dict[str, int]:
    """Return what the partitions that an earlier try has finished hold, as progress tells it."""
    if not done:
        return {}
    import pyarrow.parquet as pq

    found = Counter[str]()
    for number in done:
        info = read_sidecar(staging.table("faces"), number)
        found["faces"] += info.rows if info else 0
        statuses = pq.read_table(shard_path(staging.table("photos"), number), columns=["status"])["status"].to_pylist()
        found["rejected"] += statuses.count(Status.REJECTED)
    return dict(found)


def _prepare(staging: Staging, job: ScoreJob) -> frozenset[int]:
    """Make the staging folder ready; return the partitions that are done, and shown where a report is wanted.

    The gallery leaves no trace in the run's name, so an interrupted run may have been scored without it.
    """
    if not job.spec.settings.report:
        done = staging.prepare()
        shutil.rmtree(staging.directory / "report", ignore_errors=True)
        return done
    return frozenset(
        number for number in staging.prepare(keep=("report/thumbs", "report/votes")) if _is_shown(job, number)
    )


def _is_shown(job: ScoreJob, partition: int) -> bool:
    """Say whether a finished partition has all that the gallery shows (it may have been scored without a report)."""
    report = job.staged / "report"
    return all(path(report, partition).is_file() for path in (votes_path, thumbnails_path))
