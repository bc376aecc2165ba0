"""Run the partitions of a listing that are not done yet, and measure their stages: the same for every pipeline."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from stylematch.data.listing import Listing, Partition
from stylematch.engines.local import ignore, run_partitions
from stylematch.engines.progress import Progress
from stylematch.pipelines.partition_result import PartitionResult
from stylematch.tables.manifest import Stage

State = TypeVar("State")


@dataclass(frozen=True)
class Ran:
    """What became of some partitions: the time of each stage, and how many workers ran at once."""

    stages: dict[str, Stage]
    workers: int


def waiting_partitions(listing: Listing, done: frozenset[int]) -> list[Partition]:
    """Return the partitions whose numbers are not among ``done``."""
    return [partition for partition in listing.partitions if partition.number not in done]


def shared_cores(wanted_workers: int, partitions: int, cores: int) -> tuple[int, int]:
    """Return how many processes run, and how many threads each has: one process uses all cores.

    Parameters
    ----------
    wanted_workers : int
        0 is one per core.
    partitions, cores : int
        There are never more processes than partitions.
    """
    workers = max(1, min(wanted_workers or cores, partitions))
    return workers, cores if workers == 1 else 1


def run_listing(
    function: Callable[[State, Partition, Callable[[int], None]], PartitionResult],
    setup: Callable[[], State],
    listing: Listing,
    waiting: list[Partition],
    *,
    workers: int,
    description: str,
    run: Callable[..., int] = run_partitions,
    on_partition: Callable[[int], None] = ignore,
    found_before: Mapping[str, int] | None = None,
) -> Ran:
    """Run partitions; return the time of each stage, first that of all together under ``description``.

    Parameters
    ----------
    function, setup : callable
        As in ``run_partitions``: top-level and picklable.
    listing : Listing
        All photos.
    waiting : list of Partition
        Those to be run.
    workers : int
        Processes.
    description : str
        What is being done ("score").
    run : callable, optional
        An engine's ``run_partitions``; that of this machine by default.
    on_partition : callable, optional
        Told the number of each partition that is done.
    found_before : mapping of str to int, optional
        What the partitions that are done already hold ("faces", "rejected").
    """
    total = PartitionResult()
    total.found.update(found_before or {})

    def on_done(partition: Partition, result: PartitionResult) -> None:
        on_partition(partition.number)
        for stage, spent in result.seconds.items():
            total.seconds[stage] += spent
        total.items.update(result.items)
        total.units.update(result.units)
        total.found.update(result.found)
        progress.found_at_least(**total.found)

    todo = sum(partition.photos for partition in waiting)
    clock = time.perf_counter()
    done = listing.photos - todo
    with Progress(listing.photos, "photos", description, initial=done, found=found_before or {}) as progress:
        ran = run(function, waiting, workers=workers, setup=setup, on_done=on_done, on_progress=progress.update)
    stages = {description: Stage(time.perf_counter() - clock, todo, "photos", whole=True)}
    for name, spent in total.seconds.items():
        stages[name] = Stage(spent, total.items[name], total.units[name], per_worker=True)
    return Ran(stages, ran)
