"""Run a job's partitions on the engine that was asked for.

On one machine a job is handed to processes as it is. On several its paths are made absolute, the listing is put into
the staging folder, which all nodes share, and every worker first sees whether it runs the same code and has before it
what the driver has: a node without the photos' mount would otherwise reject them all.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from stylematch.data.listing import Listing, LostPhoto, Partition, read_listing
from stylematch.engines import local, ray
from stylematch.engines.attempts import Guard
from stylematch.errors import UserError
from stylematch.pipelines.partition_result import PartitionResult
from stylematch.pipelines.run_listing import Ran, run_listing, shared_cores
from stylematch.settings.engine import EngineChoice
from stylematch.tables.cores import usable_cores
from stylematch.tables.disk import explained, temporary_path
from stylematch.tables.environment import code_version
from stylematch.tables.shown import shown

State = TypeVar("State")


def check_engine(choice: EngineChoice) -> None:
    """Refuse an engine that is not installed, before anything is read; raises ``MissingExtraError``."""
    if choice.engine == "ray":
        ray.check_ray()


def run_job(
    function: Callable[[State, Partition, Callable[[int], None]], PartitionResult],
    load: Callable[[Any], State],
    job: Any,
    listing: Listing,
    waiting: list[Partition],
    *,
    choice: EngineChoice,
    workers: int,
    description: str,
    on_partition: Callable[[int], None] = local.ignore,
    photos: Path | None = None,
    lost_before: Callable[[Path, Partition], frozenset[str]] | None = None,
    found_before: Mapping[str, int] | None = None,
) -> Ran:
    """Run partitions; return the time of each stage, and how many workers ran.

    Parameters
    ----------
    function, load : callable
        The partition function, and what makes a worker's state of the job: top-level and picklable.
    job : ScoreJob, PredictJob, KeepJob or SnapshotJob
        All that a worker needs to know: ``listing`` (a file) and ``staged`` (a folder) among it, and
        ``threads``, which are set here.
    listing, waiting, description, on_partition, found_before
        As for ``run_listing``.
    choice : EngineChoice
        Which engine.
    workers : int
        0 is one per core, of this machine or of the cluster.
    photos : pathlib.Path, optional
        The folder of photos that the listing's paths are relative to, which every node must see; None where no photo
        is read, or where they lie in a bucket.
    lost_before : callable, optional
        Given the listing's file and a partition, the photos of it that were lost in an earlier run, too; top-level.
    """
    common: dict[str, Any] = {
        "description": description,
        "on_partition": on_partition,
        "found_before": found_before,
    }

    def guard(listing_file: Path) -> Guard[Partition] | None:
        known = {} if lost_before is None else {"known": functools.partial(lost_before, listing_file)}
        return Guard(_again, choice.photo_timeout_s, **known) if choice.photo_timeout_s else None

    if choice.engine == "local":
        workers, threads = shared_cores(workers, len(waiting), usable_cores())
        setup = functools.partial(load, replace(job, threads=threads))
        run = functools.partial(local.run_partitions, guard=guard(job.listing))
        return run_listing(function, setup, listing, waiting, workers=workers, run=run, **common)
    with _shared(job, waiting, photos) as (shared_job, seen):
        setup = functools.partial(_load_where_all_is_seen, load, replace(shared_job, threads=1), seen, code_version())
        on_gpus = job.device == "cuda"
        run = functools.partial(
            ray.run_partitions, guard=guard(shared_job.listing), address=choice.address, on_gpus=on_gpus
        )
        return run_listing(function, setup, listing, waiting, workers=workers, run=run, **common)


def _again(partition: Partition, lost: tuple[LostPhoto, ...], alone: bool) -> Partition:
    return replace(partition, lost=partition.lost + lost, alone=alone)


@dataclass(frozen=True)
class _Seen:
    """Something that the driver sees, and a worker must see, too: what it is, where, and a file's size."""

    what: str
    path: bytes
    bytes: int | None

    def missing(self) -> bool:
        try:
            size = os.stat(self.path).st_size  # noqa: PTH116  # a photo's name may be no UTF-8
        except OSError:
            return True
        return self.bytes is not None and size != self.bytes


@contextlib.contextmanager
def _shared(job: Any, waiting: list[Partition], photos: Path | None) -> Iterator[tuple[Any, tuple[_Seen, ...]]]:
    """Yield the job as any node can read it, and what a node must see for that."""
    copy = temporary_path(job.staged / job.listing.name)
    try:
        with explained("write", copy):
            shutil.copyfile(job.listing, copy)
        job = _absolute(replace(job, listing=copy))
        yield job, tuple(_to_be_seen(job, waiting, photos and _absolute(photos)))
    finally:
        copy.unlink(missing_ok=True)


def _absolute(value: Any) -> Any:
    """Return a path absolute, or a dataclass with its paths, and those of dataclasses in it, so."""
    if isinstance(value, Path):
        return Path(os.path.abspath(value))  # noqa: PTH100  # links stay links
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _absolute(getattr(value, field.name)) for field in fields(value)})
    return value


def _to_be_seen(job: Any, waiting: list[Partition], photos: Path | None) -> Iterator[_Seen]:
    yield _Seen("the run's staging folder", os.fsencode(job.listing), job.listing.stat().st_size)
    if photos is not None:
        yield _Seen("the photos' folder", os.fsencode(photos), None)
        for photo in read_listing(job.listing, waiting[0]) if waiting else ():
            path = os.path.join(os.fsencode(photos), photo.raw_path)  # noqa: PTH118  # bytes
            with contextlib.suppress(OSError):
                yield _Seen("the photo", path, os.stat(path).st_size)  # noqa: PTH116
                break
    for needed in _paths(job):
        yield _Seen("the model, index or folder", os.fsencode(needed), None)


def _paths(job: Any) -> Iterator[Path]:
    """Yield the paths of models, indexes, and what else a job names."""
    for field in fields(job):
        value = getattr(job, field.name)
        if is_dataclass(value):
            yield from _paths(value)
        elif isinstance(value, Path) and field.name not in ("root", "listing", "staged"):
            yield value


def _load_where_all_is_seen(load: Callable[[Any], State], job: Any, seen: tuple[_Seen, ...], code: str) -> State:
    """Load a worker's state on whatever node it runs.

    Raises
    ------
    UserError
        The node has other code, or not all that the driver has.
    """
    host = socket.gethostname()
    if (here := code_version()) != code:
        raise UserError(f"the Ray worker on {host} has stylematch {here}, not {code}: install the same on every node")
    for one in seen:
        if one.missing():
            raise UserError(
                f"the Ray worker on {host} does not see {one.what} {shown(os.fsdecode(one.path))} as it is here: "
                "photos, OUT, models and indexes must lie on a file system that all nodes share, under the same paths"
            )
    return load(job)
