"""What earlier walks learned of files by opening them: whether they are pictures, and the ETags of a bucket's objects.

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
        Its first bytes are a picture's, or its name says so.
    settled_ns : int, optional
        When an object was written, in nanoseconds since 1970 as its bucket lists it, if the look was so much later that
        nothing written after the look can have that time.
    """

    raw_path: bytes
    bytes: int
    stamp: str
    is_picture: bool
    settled_ns: int | None = None

    def holds(self, size: int, stamp: str) -> bool:
        """Say whether the file is the same by its size and stamp."""
        return (self.bytes, self.stamp) == (size, stamp)

    def still_holds(self, size: int, written_ns: int | None) -> bool:
        """Say whether an object is the same by what the listing of its bucket says alone."""
        return written_ns is not None and (self.bytes, self.settled_ns) == (size, written_ns)


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
