"""What a worker is busy with, in memory that its parent reads: so it can name the photo that a worker hangs or dies on.

- A worker says ``with watched(path): ...`` around what may hang or crash. Elsewhere, inline or on another engine, that
  does nothing.
- Nothing is sent: a few bytes of shared memory are written, which takes microseconds and outlives the worker.
- There are several slots, so that the threads of one worker may be busy with a photo each.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from collections.abc import Iterator

SLOTS = 16
# A path has at most 4,096 bytes, of which each takes three where it is escaped.
_SLOT_BYTES = 16 * 1024
_TURN, _LENGTH = struct.Struct("=Q"), struct.Struct("=I")
_KEY_AT = _TURN.size + _LENGTH.size

_mine: Watch | None = None


class Watch:
    """The shared record of one worker.

    Parameters
    ----------
    descriptor : int, optional
        Of the memory, in the process that shares what its parent made; without one, memory is taken.

    Notes
    -----
    A slot is a turn (0 while it is free, else a number that no other turn of this worker has), the length of
    the key and the key. The turn is written last and cleared first, so a worker that is killed in between
    looks free.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = os.memfd_create("stylematch-watch") if descriptor is None else descriptor
        if descriptor is None:
            os.ftruncate(self.descriptor, SLOTS * _SLOT_BYTES)
        self._bytes = mmap.mmap(self.descriptor, SLOTS * _SLOT_BYTES)
        self._free = list(range(SLOTS))
        self._turn = 0

    def close(self) -> None:
        """Give the descriptor back; the memory stays as long as this is there."""
        os.close(self.descriptor)

    @contextlib.contextmanager
    def on(self, key: str) -> Iterator[None]:
        """Say in the worker that it is busy with ``key`` while the block lasts."""
        try:
            slot = self._free.pop()
        except IndexError:  # more threads than slots: the rest goes unwatched
            yield
            return
        at = slot * _SLOT_BYTES
        name = key.encode("utf-8", "surrogatepass")[: _SLOT_BYTES - _KEY_AT]
        self._bytes[at + _KEY_AT : at + _KEY_AT + len(name)] = name
        _LENGTH.pack_into(self._bytes, at + _TURN.size, len(name))
        self._turn += 1
        _TURN.pack_into(self._bytes, at, self._turn)
        try:
            yield
        finally:
            _TURN.pack_into(self._bytes, at, 0)
            self._free.append(slot)

    def turns(self) -> tuple[int, ...]:
        """Return each slot's turn, 0 where it is free; for the parent."""
        return tuple(_TURN.unpack_from(self._bytes, slot * _SLOT_BYTES)[0] for slot in range(SLOTS))

    def key(self, slot: int) -> str:
        """Return what a slot's turn is for; for the parent, once the worker has stopped."""
        at = slot * _SLOT_BYTES
        (length,) = _LENGTH.unpack_from(self._bytes, at + _TURN.size)
        return bytes(self._bytes[at + _KEY_AT : at + _KEY_AT + length]).decode("utf-8", "surrogatepass")

    def keys(self) -> frozenset[str]:
        """Return what the worker is busy with, or was when it stopped."""
        return frozenset(self.key(slot) for slot, turn in enumerate(self.turns()) if turn)


def watch_with(watch: Watch | None) -> None:
    """Make ``watched`` write to ``watch`` from now on in this process."""
    global _mine
    _mine = watch


def watched(key: str) -> contextlib.AbstractContextManager[None]:
    """Say that this process is busy with ``key`` while the ``with`` block lasts, where a parent wants to know."""
    return contextlib.nullcontext() if _mine is None else _mine.on(key)
