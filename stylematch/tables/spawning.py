"""What a spawned process must not bring along (this one's main module, BLAS threads for all cores); when it ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

_BLAS_THREADS = "OPENBLAS_NUM_THREADS"
_PR_SET_PDEATHSIG = 1  # of prctl(2)


@contextlib.contextmanager
def main_unseen() -> Iterator[None]:
    """Keep a process that is spawned from running this one's main module once more.

    What a worker runs is imported by its name; the command line's module would bring all commands along, and a script
    without a guard would begin again.
    """
    main = sys.modules["__main__"]
    kept: dict[str, Any] = {name: vars(main)[name] for name in ("__spec__", "__file__") if name in vars(main)}
    main.__spec__ = None
    vars(main).pop("__file__", None)
    try:
        yield
    finally:
        vars(main).update(kept)


@contextlib.contextmanager
def blas_on_one_core() -> Iterator[None]:
    """Have processes that are started in the block load BLAS (numpy's, FAISS's) with one thread, or as the user says.

    Later than at its loading it could be told, too, but not before its threads had waited for work on all cores.
    """
    is_ours = not any(name in os.environ for name in (_BLAS_THREADS, "OMP_NUM_THREADS"))
    if is_ours:
        os.environ[_BLAS_THREADS] = "1"
    try:
        yield
    finally:
        if is_ours:
            del os.environ[_BLAS_THREADS]


def die_with_parent() -> None:
    """Have the system kill this process when the one that started it is gone, where it can (Linux).

    A thread that waits for that may be kept from running, by a decoder that hangs without letting go of Python's lock.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
