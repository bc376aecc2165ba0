"""The faces of many pictures, in batches and in order: read ahead of the model, by threads or by processes.

- A batch's crops lie one behind the other in one of a few slots that are used in turn. A batch is read in pieces, and
  whoever reads a piece puts its crops where they belong: nothing is sent or copied but what has no room there (photos
  with more faces than one each), and what lies behind a gap (pictures that gave no face).
- Threads are enough beside a model that runs on the same cores. Beside a GPU they would wait for Python's lock (at some
  thousand pictures a second), so processes read into slots of shared memory.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stylematch.data.memory import keep_freed_memory
from stylematch.data.photo_file import photo_id_of, read_photo
from stylematch.engines.template import main_unseen
from stylematch.engines.worker import end_with_parent
from stylematch.errors import PhotoRejectedError, StylematchError
from stylematch.tables.contract import Reason
from stylematch.vision.face_reader import FaceReader

_PIECE = 32  # pictures that are read in one go: giving out one takes as long as reading a picture
_AHEAD = 2  # batches that are read while one is used
_SLOTS = _AHEAD + 2  # and one more is still used while the next is already asked for
_WORTH_PROCESSES = 2048  # pictures; for fewer, starting processes takes longer than it saves

Crops = npt.NDArray[np.uint8]
Problem = tuple[int, str, str]
"""Which picture gave no face, its reason and its message."""


@dataclass(frozen=True)
class Reading:
    """How pictures are read.

    Attributes
    ----------
    root : pathlib.Path
        What their paths are relative to.
    mode : {"find", "aligned"}
        Search for faces, or take every picture for a face crop.
    input_px : int
        Side of the crops.
    min_face_px : int
        Smallest face that counts.
    max_bytes, max_megapixels : int
        Larger pictures are rejected.
    with_ids : bool
        Whether the photo_id of each picture is wanted.
    """

    root: Path
    mode: str
    input_px: int
    min_face_px: int
    max_bytes: int
    max_megapixels: int
    with_ids: bool


@dataclass(frozen=True)
class FaceBatch:
    """The f faces of some consecutive pictures.

    Attributes
    ----------
    pictures : int
        How many pictures.
    crops : ndarray of uint8, shape (f, input_px, input_px, 3)
        Valid until the batch after the next is asked for.
    owners : ndarray of int64, shape (f,)
        Which picture each face is of, counted over all that were wanted.
    faces : ndarray of int32, shape (f,)
        Its number in that picture.
    photo_ids : list of str
        Of each face's picture; empty if none are wanted.
    problems : list of (int, str, str)
        Pictures without a face, counted as owners are.
    """

    pictures: int
    crops: Crops
    owners: npt.NDArray[np.int64]
    faces: npt.NDArray[np.int32]
    photo_ids: list[str]
    problems: list[Problem]


class _Piece(NamedTuple):
    """What came of a piece: faces of each picture, their ids, why there are none, and the crops that had no room."""

    counts: list[int]
    photo_ids: list[str]
    problems: list[Problem]
    rest: Crops


class _Reader:
    """Reads pieces into slots, uint8 (slots, batch, side, side, 3)."""

    def __init__(self, reading: Reading, slots: Crops) -> None:
        self._reading, self._slots = reading, slots
        self._faces = FaceReader(
            reading.mode,
            reading.input_px,
            min_face_px=reading.min_face_px,
            max_megapixels=reading.max_megapixels,
        )

    def read(self, slot: int, start: int, raw_paths: Sequence[bytes]) -> _Piece:
        """Read pictures; their crops begin at place ``start`` of the slot."""
        counts: list[int] = []
        ids: list[str] = []
        problems: list[Problem] = []
        found: list[Crops] = []
        for number, raw_path in enumerate(raw_paths):
            try:
                data = read_photo(self._reading.root, raw_path, self._reading.max_bytes)
                faces = self._faces.read(data)
                if not faces.boxes:
                    reason = Reason.FACE_TOO_SMALL if faces.too_small else Reason.NO_FACE_FOUND
                    least = self._reading.min_face_px
                    raise PhotoRejectedError(reason, f"no face of {least} px or more was found")
            except PhotoRejectedError as error:
                counts.append(0)
                problems.append((number, error.reason, error.message))
                continue
            counts.append(len(faces.crops))
            if self._reading.with_ids:
                ids += [photo_id_of(data)] * len(faces.crops)
            found += list(faces.crops)
        room = min(len(found), len(raw_paths))
        for place, crop in enumerate(found[:room], start):
            self._slots[slot, place] = crop
        side = self._reading.input_px
        rest = np.stack(found[room:]) if found[room:] else np.empty((0, side, side, 3), np.uint8)
        return _Piece(counts, ids, problems, rest)


def face_batches(
    raw_paths: Sequence[bytes], reading: Reading, *, batch_size: int, workers: int, on_gpu: bool
) -> Iterator[FaceBatch]:
    """Read the faces of pictures.

    Parameters
    ----------
    raw_paths : sequence of bytes
        The pictures, as ``read_photo`` takes them.
    reading : Reading
        How.
    batch_size : int
        Pictures a batch.
    workers : int
        Threads or processes; changes no result.
    on_gpu : bool
        Whether the model that the faces are for runs elsewhere than on these cores.

    Yields
    ------
    FaceBatch

    Raises
    ------
    StylematchError
        If a process that reads was killed.
    """
    shape = (_SLOTS, min(batch_size, max(1, len(raw_paths))), reading.input_px, reading.input_px, 3)
    with _readers(reading, shape, workers, on_gpu and len(raw_paths) >= _WORTH_PROCESSES) as (slots, submit):
        starts = range(0, len(raw_paths), batch_size)
        reads: deque[list[Future[_Piece]]] = deque()
        for number, start in enumerate(starts):
            while len(reads) <= _AHEAD and number + len(reads) < len(starts):
                ahead = number + len(reads)
                wanted = raw_paths[starts[ahead] : starts[ahead] + batch_size]
                pieces = range(0, len(wanted), _PIECE)
                reads.append([submit(ahead % _SLOTS, at, wanted[at : at + _PIECE]) for at in pieces])
            try:
                done = [future.result() for future in reads.popleft()]
            except BrokenProcessPool as error:
                raise StylematchError(
                    "a process that reads pictures was killed, by the system for want of memory as it seems; embed "
                    "again, on fewer cores (taskset) or with a smaller --batch-size"
                ) from error
            yield _batch(start, slots[number % _SLOTS], done)


def _batch(first: int, slot: Crops, pieces: list[_Piece]) -> FaceBatch:
    counts = np.array([count for piece in pieces for count in piece.counts], np.int64)
    pictures, total = len(counts), int(counts.sum())
    owners = np.repeat(np.arange(pictures), counts)
    faces = (np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)).astype(np.int32)
    problems, parts, start = [], [], 0
    for piece in pieces:
        problems += [(first + start + number, reason, said) for number, reason, said in piece.problems]
        room = sum(piece.counts) - len(piece.rest)
        parts += [slot[start : start + room], piece.rest]
        start += len(piece.counts)
    gapless = all(sum(piece.counts) == len(piece.counts) for piece in pieces)  # and so each had room for all
    crops = slot[:pictures] if gapless else np.concatenate(parts)
    return FaceBatch(pictures, crops, first + owners, faces, [i for p in pieces for i in p.photo_ids], problems)


Submit = Callable[[int, int, Sequence[bytes]], "Future[_Piece]"]


@contextmanager
def _readers(
    reading: Reading, shape: tuple[int, ...], workers: int, in_processes: bool
) -> Iterator[tuple[Crops, Submit]]:
    """Give the slots and what has a piece read into them; both end with the block."""
    pool: Executor
    if not in_processes:
        slots = np.empty(shape, np.uint8)
        reader = _Reader(reading, slots)
        pool = ThreadPoolExecutor(workers)
        try:
            yield slots, lambda *piece: pool.submit(reader.read, *piece)
        finally:
            pool.shutdown(cancel_futures=True)
        return
    with _shared_memory(int(np.prod(shape))) as path:
        # Spawned, not forked: torch's threads and locks would be copied broken.
        spawned = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, spawned, initializer=_start, initargs=(reading, path, shape))

        def submit(slot: int, start: int, raw_paths: Sequence[bytes]) -> Future[_Piece]:
            with main_unseen():  # a process may be started by this
                return pool.submit(_read_here, slot, start, raw_paths)

        try:
            yield _slots_in(path, shape), submit
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _shared_memory(size_bytes: int) -> Iterator[str]:
    """Give the path of memory that other processes can map, too; it goes with the last that does."""
    memory = os.memfd_create("stylematch-faces")
    try:
        os.ftruncate(memory, size_bytes)
        yield f"/proc/{os.getpid()}/fd/{memory}"
    finally:
        os.close(memory)


def _slots_in(path: str, shape: tuple[int, ...]) -> Crops:
    return np.memmap(path, np.uint8, "r+", shape=shape)


_here: _Reader | None = None


def _start(reading: Reading, path: str, shape: tuple[int, ...]) -> None:
    """Prepare a reading process."""
    global _here  # a pool's processes have no other place for what they keep
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends them
    threading.Thread(target=end_with_parent, daemon=True).start()
    keep_freed_memory()
    _here = _Reader(reading, _slots_in(path, shape))


def _read_here(slot: int, start: int, raw_paths: Sequence[bytes]) -> _Piece:
    assert _here is not None
    return _here.read(slot, start, raw_paths)
