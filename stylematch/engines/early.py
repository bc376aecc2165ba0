"""Worker processes that start before it is known what they are to do, and import meanwhile what they will need.

Starting a worker takes half a second of imports. A command that will run partitions begins with that, so that it passes
while this process imports its own half and lists the photos.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from stylematch.data.directories import check_answers
from stylematch.engines.worker import Worker

_MOST_EARLY = 4
# Fewer photos make one partition, whatever the number of cores.
_FEW_ENTRIES = 64
_waiting: list[Worker] = []


@contextlib.contextmanager
def started_early(module: str, photos: Path, workers: int, limit_s: float | None = None) -> Iterator[None]:
    """Let workers start while the ``with`` block goes on; those that nobody hired by its end are ended.

    Parameters
    ----------
    module : str
        What they import: the partition function's.
    photos : pathlib.Path
        What is going to be listed: a single picture or a small folder needs one worker.
    workers : int
        How many are going to be asked for; 0 is one per core.
    limit_s : float, optional
        How long the photos' folder may take to answer.

    Raises
    ------
    StylematchError
        If it does not in time.
    """
    check_answers(photos, limit_s)
    if _has_few_entries(photos):
        count = 1
    else:
        from stylematch.tables.manifest import usable_cores

        count = min(workers or usable_cores(), _MOST_EARLY)
    _waiting.extend(Worker(module) for _ in range(count))
    try:
        yield
    finally:
        dismiss()


def hire(function: Callable[..., Any], setup: Callable[[], Any]) -> Worker:
    """Return a worker for partitions, one that was started early where there is one.

    Parameters
    ----------
    function, setup : callable
        As in ``run_partitions``.
    """
    worker = _waiting.pop(0) if _waiting else Worker()
    worker.employ(function, setup)
    return worker


def dismiss() -> None:
    """End the workers that nobody hired."""
    while _waiting:
        _waiting.pop().kill()


def _has_few_entries(photos: Path) -> bool:
    try:
        with os.scandir(photos) as entries:
            return sum(1 for _ in islice(entries, _FEW_ENTRIES)) < _FEW_ENTRIES
    except OSError:  # a picture, or a mistake that is going to be told
        return True
