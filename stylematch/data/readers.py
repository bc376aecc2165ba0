"""Child processes that read files, so that no file can hold up this one: what takes too long is lost with its reader.

A read on a file system that does not answer cannot be broken off, and a process in it may not even be killed; it is
left behind then, with nothing open that anybody waits for. Readers are forked, which takes milliseconds: unlike
the engine's workers they use none of the libraries whose threads and locks a fork copies broken.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, NoReturn, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# To await an answer for each file would take this process half as long as the reading itself takes.
_GROUP = 16
_MAX_TICK_S = 1.0
_END_S = 0.2


class LateError(OSError):
    """The answer about a file that took too long."""


class Readers(Generic[Item, Result]):
    """A ``with`` block in which children do the reading; they start when there is something to do.

    Parameters
    ----------
    function : callable
        What is done with each file, in a child: reads it, and returns something small.
    count : int
        How many children there are at most.
    limit_s : float, optional
        How long one file may take; None for ever.
    """

    def __init__(self, function: Callable[[Item], Result], count: int, limit_s: float | None) -> None:
        self._function, self._count, self._limit_s = function, count, limit_s
        self._idle: list[_Reader] = []
        self._busy: dict[Any, _Reader] = {}

    def __enter__(self) -> Readers[Item, Result]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for reader in (*self._idle, *self._busy.values()):
            reader.end()
        self._idle, self._busy = [], {}

    def read(self, items: Sequence[Item]) -> list[Result | OSError]:
        """Return what the function returned for each item.

        Where it took too long that is a ``LateError``, where it raised or the child died of it another ``OSError``.
        """
        answers: dict[int, Result | OSError] = {}
        waiting = deque(range(first, min(first + _GROUP, len(items))) for first in range(0, len(items), _GROUP))
        limit_s = self._limit_s
        tick_s = None if limit_s is None else min(_MAX_TICK_S, limit_s / 4)
        looked = time.monotonic()
        while waiting or self._busy:
            while waiting and len(self._busy) < self._count:
                reader = self._idle.pop() if self._idle else _Reader(self._function)
                places = waiting.popleft()
                reader.give(places, [items[place] for place in places])
                self._busy[reader.pipe] = reader
            for pipe in wait(list(self._busy), tick_s):
                reader = self._busy.pop(pipe)
                try:
                    answers |= zip(reader.places, reader.pipe.recv(), strict=True)
                    self._idle.append(reader)
                except (EOFError, OSError):
                    reader.end()
                    self._again(reader.places, waiting, answers, ChildProcessError())
            if tick_s is None or limit_s is None:
                continue
            # More than two ticks is time in which this process was stopped itself, and its children most likely too.
            passed_s, looked = min(time.monotonic() - looked, 2 * tick_s), time.monotonic()
            for reader in list(self._busy.values()):
                reader.busy_s += passed_s
                if reader.busy_s > limit_s:
                    del self._busy[reader.pipe]
                    reader.end()
                    self._again(reader.places, waiting, answers, LateError())
        return [answers[place] for place in range(len(items))]

    def _again(
        self, places: range, waiting: deque[range], answers: dict[int, Result | OSError], problem: OSError
    ) -> None:
        """Have files read once more, one by one, after some of them ended a reader; one alone is the culprit."""
        if len(places) == 1:
            answers[places[0]] = problem
        else:
            waiting.extendleft(range(place, place + 1) for place in reversed(places))


class _Reader:
    """One child, and what it is busy with."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.pipe, theirs = Pipe()
        self.places, self.busy_s = range(0), 0.0
        # Python runs callbacks around a fork, in which an interrupt would be printed and forgotten.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self._pid = os.fork()
            if not self._pid:
                _serve(theirs, function)
        finally:  # also where there is no room for another process: an interrupt must not stay blocked
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()

    def give(self, places: range, items: list[Any]) -> None:
        self.places, self.busy_s = places, 0.0
        with contextlib.suppress(OSError):  # one that has died is noticed when its answer is awaited
            self.pipe.send(items)

    def end(self) -> None:
        """Kill it; one that the kernel holds is left behind, for whoever inherits it to bury."""
        self.pipe.close()
        with contextlib.suppress(OSError):
            os.kill(self._pid, signal.SIGKILL)
            deadline = time.monotonic() + _END_S
            while not os.waitpid(self._pid, os.WNOHANG)[0] and time.monotonic() < deadline:
                time.sleep(0.001)


def _serve(pipe: Connection, function: Callable[[Any], Any]) -> NoReturn:
    """Answer until the parent closes the pipe or is gone; nothing that the parent began goes on here."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
        _close_all_but(pipe.fileno())
        while True:
            pipe.send([_answer(function, item) for item in pipe.recv()])
    finally:
        os._exit(0)


def _answer(function: Callable[[Any], Any], item: Any) -> Any:
    try:
        return function(item)
    except Exception as error:
        return OSError(str(error))  # which survives the way to the parent


def _close_all_but(kept: int) -> None:
    """Close what the parent has open: whoever reads its output must not wait for a reader that never ends."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nowhere, standard)
    for descriptor in {int(path.name) for path in Path("/dev/fd").iterdir()} - {0, 1, 2, kept}:
        with contextlib.suppress(OSError):  # the one of this look
            os.close(descriptor)
