"""Which files are pictures by their first bytes, as their names do not say: what was seen earlier need not be opened.

A walk meets files in the order of their paths' bytes, on every night alike. So what is known is read beside it, line
by line, and takes no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Look:
    """What one look into a file found.

    Attributes
    ----------
    raw_path : bytes
        As the folder knows it.
    bytes : int
        The file's size then.
    stamp : str
        As in ``FoundPhoto``, taken before the look.
    is_picture : bool
        Its first bytes are a picture's.
    """

    raw_path: bytes
    bytes: int
    stamp: str
    is_picture: bool

    def holds(self, size: int, stamp: str) -> bool:
        """Say whether the file is the same by its size and stamp."""
        return (self.bytes, self.stamp) == (size, stamp)


class Looks:
    """The looks of one walk beside those of an earlier one.

    Parameters
    ----------
    before : iterable of Look
        What is known, in the order of the paths' bytes.
    keep : callable, optional
        Given every look that holds now, whether it was known or is new; without it they are forgotten.
    """

    def __init__(self, before: Iterable[Look] = (), keep: Callable[[Look], None] | None = None) -> None:
        self._before = iter(before)
        self._next = next(self._before, None)
        self.keep = keep if keep is not None else lambda _: None

    def find(self, raw_path: bytes) -> Look | None:
        """Return the earlier look into a file, if there was one; files come in the order of their paths' bytes."""
        while self._next is not None and self._next.raw_path < raw_path:
            self._next = next(self._before, None)
        return self._next if self._next is not None and self._next.raw_path == raw_path else None
