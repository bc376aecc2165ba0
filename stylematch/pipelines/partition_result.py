"""What working on a partition took and found, counted by the worker: the same for every pipeline."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from stylematch.engines.progress import Tally
from stylematch.tables.contract import Status


@dataclass
class PartitionResult:
    """What a partition took: busy seconds and items by stage, and what the items are; what was found in it."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    items: Counter[str] = field(default_factory=Counter)
    units: dict[str, str] = field(default_factory=dict)
    found: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def timed(self, stage: str, items: int, unit: str) -> Iterator[None]:
        """Count the block as one more piece of ``stage``."""
        started = time.perf_counter()
        try:
            yield
        finally:  # what is rejected took its time, too
            self.seconds[stage] += time.perf_counter() - started
            self.items[stage] += items
            self.units[stage] = unit


def batch_done(photos: Mapping[str, Sequence[Any]], faces: int | None, result: PartitionResult) -> Tally:
    """Count a batch in a partition's result, and return what ``advance`` is to be told of it.

    Parameters
    ----------
    photos : mapping of str to sequence
        The batch's rows of ``photos``; of interest is ``status``.
    faces : int or None
        How many faces they have; None where none are looked for.
    result : PartitionResult
        Of the batch's partition.
    """
    statuses = photos["status"]
    found = {} if faces is None else {"faces": faces}
    tally = Tally(len(statuses), **found, rejected=sum(status == Status.REJECTED for status in statuses))
    result.found.update(tally.found)
    return tally
