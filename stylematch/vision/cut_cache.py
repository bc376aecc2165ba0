"""Pictures are decoded and cut once: in several processes, into one memory-mapped array that later trainings open.

The array's name is a digest of all that decides its content, sizes and times of the files among it: a picture that was
replaced under its name is cut again. A second file, of the pictures that gave something and their squares, says that
the array is whole. Both are written under a private name and appear by a rename, so that trainings that cut the same at
once do not get into each other's way: the last to end replaces equal by equal, and a mapped array stays what it was.
A large array is brought to the disk while its first training has begun, so both have their names some seconds later.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from io import FileIO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from stylematch.data.memory import keep_freed_memory
from stylematch.errors import StylematchError
from stylematch.tables.disk import explained
from stylematch.tables.spawning import blas_on_one_core, main_unseen
from stylematch.vision.array_files import keep_array, published, sweep, take_room, wait_until_kept
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
    files: Sequence[Path],
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
    files : sequence of pathlib.Path
        The pictures that the tasks read; what has changed in size or time is another picture.
    cache : pathlib.Path
        Folder for the arrays; made where it is missing.
    name : str
        How the array's name begins.
    recipe : list
        All else that decides the content, as JSON can say it.
    workers : int
        Processes; changes no result.
    progress : callable
        Told the number of pictures done, one by one.
    """
    decides = json.dumps([*recipe, side_px, [_state(file) for file in files]])
    stem = f"{name}-{hashlib.sha256(decides.encode()).hexdigest()[:16]}"
    stored, marker = cache / f"{stem}.npy", cache / f"{stem}-squares.npy"
    wait_until_kept(marker)
    sweep(cache)
    if marker.is_file():
        progress(len(tasks))  # all of them were cut before
        return _cuts(stored, np.load(marker, allow_pickle=False))
    cache.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        part = stack.enter_context(published(stored))
        fields = np.lib.format.open_memmap(part, "w+", np.uint8, (len(tasks), side_px, side_px, 3))
        take_room(part, stored)
        placed: list[tuple[float, ...]] = []
        with _mapped(partial(_cut_row, function, part, stored), tasks, workers) as squares:
            for row, square in enumerate(squares):
                if square is not None:
                    if len(placed) < row:  # without gaps, so that what is left stays memory-mapped
                        fields[len(placed)] = fields[row]
                    placed.append((row, square.x, square.y, square.side))
                progress(1)
        found = np.array(placed, np.float64).reshape(-1, 4)
        cuts = _cuts(part, found)
        unnamed = stack.pop_all()
    keep_array(unnamed, part, marker, found)
    return cuts


def _cuts(stored: Path, found: npt.NDArray[np.float64]) -> Cuts:
    fields = np.load(stored, mmap_mode="r", allow_pickle=False)[: len(found)]
    return Cuts(fields, found[:, 0].astype(np.int64), found[:, 1:])


def _state(file: Path) -> tuple[int, int] | None:
    """Return what changes when a file is replaced; its content is not read."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


@contextmanager
def _mapped(
    cut_row: Callable[[int, Task], Square | None], tasks: Sequence[Task], workers: int
) -> Iterator[Iterator[Square | None]]:
    """Have each task's field put into its row of the array, in order, here or in processes that end with the block."""
    rows = range(len(tasks))
    if min(workers, len(tasks) // _WORTH_A_PROCESS) <= 1:
        try:
            yield map(cut_row, rows, tasks)
        finally:
            _opened.cache_clear()
        return
    # Spawned, not forked: torch's threads and locks would be copied broken.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=keep_freed_memory)
    try:
        with main_unseen(), blas_on_one_core():
            squares = pool.map(cut_row, rows, tasks, chunksize=_CHUNK)
        yield squares
    except BrokenProcessPool as error:
        raise StylematchError(
            "a process that cuts pictures was killed, for want of memory or of room on the cache's disk as it seems; "
            "train again, on fewer cores (taskset) or with more room"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _cut_row(function: Callable[[Task], Cut | None], part: Path, stored: Path, row: int, task: Task) -> Square | None:
    """Write where it is cut: one process that is sent all fields is busier with them than others with cutting."""
    cut = function(task)
    if cut is None:
        return None
    field, square = cut
    with explained("write", stored):
        # Not into mapped memory, where each of its pages is a fault, for which processes wait for each other.
        file, first = _opened(part)
        left = np.ascontiguousarray(field).reshape(-1).data
        place = first + row * len(left)
        while left:
            written = os.pwrite(file.fileno(), left, place)
            left, place = left[written:], place + written
    return square


@lru_cache(maxsize=1)
def _opened(part: Path) -> tuple[FileIO, int]:
    """Return the array's file and where its first row begins."""
    file = part.open("r+b", buffering=0)
    np.lib.format.read_magic(file)
    np.lib.format.read_array_header_1_0(file)
    return file, file.tell()
