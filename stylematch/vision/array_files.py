"""The files of cut pictures: written under a private name, and named when they lie on the disk.

One that is large is brought there by a thread while its first training has begun. If that fails, the system may forget
what was written, and the mapped array then has other pictures; so nothing that was learned from it is kept.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from stylematch.errors import StylematchError
from stylematch.tables.disk import TEMPORARY_SUFFIX, durable_file, explained, sync_file, temporary_path

_WORTH_A_THREAD_BYTES = 64 * 2**20  # smaller arrays are on the disk at once
_SURELY_LOCKED_S = 60.0  # older than a file that was made just now and is not locked yet
_being_kept: dict[Path, threading.Thread] = {}  # by the second file, which they are about to write
_not_kept: list[StylematchError] = []


def keep_array(unnamed: ExitStack, part: Path, marker: Path, found: npt.NDArray[np.float64]) -> None:
    """Bring an array to the disk, give it its name, and say then that it is whole; of a large one, begin to.

    Parameters
    ----------
    unnamed : ExitStack
        Holds the array's ``published`` block, which is ended.
    part : pathlib.Path
        What that block gave.
    marker : pathlib.Path
        The second file, which says that the array is whole.
    found : ndarray
        What it holds.

    Raises
    ------
    StylematchError
        The disk is full, read-only or broken. Of a large array ``check_kept`` raises it.
    """
    keep = partial(_keep, unnamed, part, marker, found)
    if part.stat().st_size < _WORTH_A_THREAD_BYTES:
        keep()
        check_kept()
        return
    thread = threading.Thread(target=keep)
    thread.start()
    _being_kept[marker] = thread


def check_kept() -> None:
    """Raise where an array could not be brought to the disk since the last time that this was asked.

    Raises
    ------
    StylematchError
        As of ``keep_array``.
    """
    if _not_kept:
        raise _not_kept.pop()


def wait_until_kept(marker: Path | None = None) -> None:
    """Wait for an array, or for all: this process or another is about to open it, or its folder is to go.

    Raises
    ------
    StylematchError
        As of ``keep_array``.
    """
    for one in [marker] if marker is not None else [*_being_kept]:
        if (thread := _being_kept.pop(one, None)) is not None:
            thread.join()
    check_kept()


@contextmanager
def passing_folder() -> Iterator[Path]:
    """Give a folder for arrays that go with the block."""
    with TemporaryDirectory(prefix="stylematch-") as folder:
        try:
            yield Path(folder)
        finally:
            wait_until_kept()  # a folder that is written to cannot be removed


def _keep(unnamed: ExitStack, part: Path, marker: Path, found: npt.NDArray[Any]) -> None:
    try:
        with explained("keep the cut pictures in", marker.parent), unnamed:
            sync_file(part)  # not the array's own flush, for which all threads of Python wait
        with durable_file(marker) as file:  # power may fail in between
            np.save(file, found, allow_pickle=False)
    except StylematchError as error:
        _not_kept.append(error)


@contextmanager
def published(path: Path) -> Iterator[Path]:
    """Give a private, locked file to write over; it becomes ``path`` when the block ends well and is removed else."""
    part = temporary_path(path)
    try:
        with part.open("wb") as own:
            fcntl.flock(own, fcntl.LOCK_EX)  # goes with this process, whatever ends it
            yield part
            part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def take_room(part: Path, stored: Path) -> None:
    """Have the disk hold all of a file now: writing to one that is mapped and has no room ends the process (SIGBUS)."""
    with explained("make room for", stored), part.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)


def sweep(cache: Path) -> None:
    """Remove what killed trainings have left: such files are as large as whole ones, and nobody holds their lock."""
    for left in cache.glob(f".*.npy.*{TEMPORARY_SUFFIX}"):
        try:
            if time.time() - left.stat().st_mtime < _SURELY_LOCKED_S:
                continue
            with left.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()
        except OSError:  # it is being written, or another training was faster
            continue
