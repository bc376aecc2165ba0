"""A lock of one run at a time: a file that is locked (``flock``), not one that merely exists.

The system frees it when its holder ends, however it ends, so a killed run leaves no stale lock. A process that the
holder forked has no part in it: else workers that outlive a killed run for a moment would keep the next one out.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stylematch.errors import UserError

_held: set[int] = set()


def _leave_to_parent() -> None:
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_leave_to_parent)


@contextmanager
def held(path: Path, busy: str) -> Iterator[None]:
    """Hold the lock at ``path`` while the block lasts; its file is removed at the end.

    Raises
    ------
    UserError
        Another process holds it: the sentence ``busy``.
    """
    descriptor = acquire_lock(path, busy)
    try:
        yield
    finally:
        release_lock(path, descriptor)


def acquire_lock(path: Path, busy: str) -> int:
    """Take the lock at ``path`` and return its descriptor.

    Raises
    ------
    UserError
        Another process holds it: the sentence ``busy``.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                _held.add(descriptor)
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise UserError(busy) from None
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def release_lock(path: Path, descriptor: int) -> None:
    """Give the lock back."""
    # Removed while it is still locked: a run that waits for it sees that its file has gone and takes a new one.
    with contextlib.suppress(OSError):
        path.unlink()
    _held.discard(descriptor)
    os.close(descriptor)
