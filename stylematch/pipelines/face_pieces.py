"""Pieces of a batch: some pictures whose faces are read into a slot of shared crops, by threads or by processes.

Whoever reads a piece puts its crops where they belong: nothing is sent or copied but what has no room there (photos
with more faces than one each). Processes map the slots as shared memory.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stylematch.data.memory import keep_freed_memory
from stylematch.data.photo_file import escape_path, photo_id_of, read_photo
from stylematch.engines.worker import end_with_parent
from stylematch.errors import PhotoRejectedError
from stylematch.pipelines.listed_photos import reading
from stylematch.tables.contract import Reason
from stylematch.tables.spawning import blas_on_one_core, main_unseen
from stylematch.vision.face_reader import FaceReader

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


class Piece(NamedTuple):
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

    def read(self, slot: int, start: int, raw_paths: Sequence[bytes]) -> Piece:
        """Read pictures; their crops begin at place ``start`` of the slot."""
        counts: list[int] = []
        ids: list[str] = []
        problems: list[Problem] = []
        found: list[Crops] = []
        for number, raw_path in enumerate(raw_paths):
            try:
                with reading(escape_path(raw_path)):
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
        return Piece(counts, ids, problems, rest)


Submit = Callable[[int, int, Sequence[bytes]], "Future[Piece]"]


@contextmanager
def piece_readers(
    reading: Reading, shape: tuple[int, ...], workers: int, in_processes: bool
) -> Iterator[tuple[Crops, Submit]]:
    """Give the slots, and what has a piece read into them; both end with the block.

    Parameters
    ----------
    reading : Reading
        How.
    shape : tuple of int
        Of the slots: (slots, pictures, input_px, input_px, 3).
    workers : int
        Threads or processes.
    in_processes : bool
        Which of the two.
    """
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

        def submit(slot: int, start: int, raw_paths: Sequence[bytes]) -> Future[Piece]:
            with main_unseen(), blas_on_one_core():  # a process may be started by this
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


def _read_here(slot: int, start: int, raw_paths: Sequence[bytes]) -> Piece:
    assert _here is not None
    return _here.read(slot, start, raw_paths)
