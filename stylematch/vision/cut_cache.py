"""Pictures are decoded and cut once: in several processes, into one memory-mapped array that later trainings open.

The array's name is a digest of all that decides its content. A second file, of the pictures that gave something and
their squares, says that it is whole; it appears by one rename.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from stylematch.vision.crops import Square

_CHUNK = 32
_WORTH_A_PROCESS = 512  # pictures; for fewer, starting one takes longer than it saves
Task = TypeVar("Task")
Cut = tuple[npt.NDArray[np.uint8], Square]


@dataclass(frozen=True)
class Cuts:
    """The pictures that gave a field.

    Attributes
    ----------
    fields : ndarray of uint8, shape (n, side, side, 3)
        Memory-mapped.
    rows : ndarray of int64, shape (n,)
        Which of the tasks each comes from, ascending.
    squares : ndarray of float64, shape (n, 3)
        x, y and side, in pixels of the picture, of the crop that the field surrounds.
    """

    fields: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.int64]
    squares: npt.NDArray[np.float64]


def cut_once(
    function: Callable[[Task], Cut | None],
    tasks: Sequence[Task],
    side_px: int,
    *,
    cache: Path,
    name: str,
    recipe: list[Any],
    workers: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> Cuts:
    """Cut every picture, or open what an earlier call has cut.

    Parameters
    ----------
    function : callable
        Gives a field and its crop's square for a task, or None; picklable.
    tasks : sequence
        One a picture; picklable.
    side_px : int
        Side of the fields.
    cache : pathlib.Path
        Folder for the array; made where it is missing.
    name : str
        How the array's name begins.
    recipe : list
        All that decides the content, as JSON can say it.
    workers : int
        Processes; changes no result.
    progress : callable
        Told the number of pictures done, one by one.
    """
    digest = hashlib.sha256(json.dumps([*recipe, side_px]).encode()).hexdigest()[:16]
    stored, marker = cache / f"{name}-{digest}.npy", cache / f"{name}-{digest}-squares.npy"
    if not marker.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        fields = np.lib.format.open_memmap(stored, "w+", np.uint8, (len(tasks), side_px, side_px, 3))
        placed: list[tuple[float, ...]] = []
        with _mapped(function, tasks, workers) as cuts:
            for row, cut in enumerate(cuts):
                if cut is not None:
                    # Without gaps, so that what is left stays memory-mapped.
                    fields[len(placed)], square = cut
                    placed.append((row, square.x, square.y, square.side))
                progress(1)
        fields.flush()
        found = np.array(placed, np.float64).reshape(-1, 4)
        np.save(unfinished := marker.with_suffix(".part.npy"), found, allow_pickle=False)
        unfinished.replace(marker)
    found = np.load(marker, allow_pickle=False)
    fields = np.load(stored, mmap_mode="r", allow_pickle=False)[: len(found)]
    return Cuts(fields, found[:, 0].astype(np.int64), found[:, 1:])


@contextmanager
def _mapped(
    function: Callable[[Task], Cut | None], tasks: Sequence[Task], workers: int
) -> Iterator[Iterator[Cut | None]]:
    """Apply ``function`` to every task, in order, here or in processes that end with the block."""
    if min(workers, len(tasks) // _WORTH_A_PROCESS) <= 1:
        yield map(function, tasks)
        return
    # Spawned, not forked: torch's threads and locks would be copied broken.
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield pool.map(function, tasks, chunksize=_CHUNK)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
