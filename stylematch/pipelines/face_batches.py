"""The faces of many pictures, in batches and in order: read ahead of the model, by threads or by processes.

- A batch's crops lie one behind the other in one of a few slots that are used in turn, each read in pieces
  (``face_pieces``). Copied is only what had no room there, and what lies behind a gap (pictures that gave no face).
- Threads are enough beside a model that runs on the same cores. Beside a GPU they would wait for Python's lock (at some
  thousand pictures a second), so processes read into slots of shared memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stylematch.errors import StylematchError
from stylematch.pipelines.face_pieces import Crops, Piece, Problem, Reading, piece_readers

_PIECE = 32  # pictures that are read in one go: giving out one takes as long as reading a picture
_AHEAD = 2  # batches that are read while one is used
_SLOTS = _AHEAD + 2  # and one more is still used while the next is already asked for
_WORTH_PROCESSES = 2048  # pictures; for fewer, starting processes takes longer than it saves


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
        Pictures a batch; processes are given more, where so few would not keep all of them busy.
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
    in_processes = on_gpu and len(raw_paths) >= _WORTH_PROCESSES
    if in_processes:
        batch_size = max(batch_size, _PIECE * workers)
    shape = (_SLOTS, min(batch_size, max(1, len(raw_paths))), reading.input_px, reading.input_px, 3)
    with piece_readers(reading, shape, workers, in_processes) as (slots, submit):
        starts = range(0, len(raw_paths), batch_size)
        reads: deque[list[Future[Piece]]] = deque()
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


def _batch(first: int, slot: Crops, pieces: list[Piece]) -> FaceBatch:
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
