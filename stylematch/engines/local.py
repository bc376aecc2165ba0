"""Run partitions on this machine: inline, or in a few worker processes that each load their models once.

- A partition function is ``function(state, partition, advance)``: top-level and picklable; ``state`` is what
  ``setup()`` returned in that process (models, indexes), ``advance(n)`` says that n more photos are done.
- Partitions are taken from their iterable as workers get free, so a listing of any length costs no memory.
- With a guard (``attempts``) the parent keeps a time limit per photo, and a partition whose worker hung or died
  is tried again in a fresh one. Only a process can be ended from outside whatever it does, so with a guard even
  one worker is a process of its own; it costs the start of a Python, about half a second.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from stylematch.engines.attempts import Guard
from stylematch.engines.pool import WorkerPool

State = TypeVar("State")
Partition = TypeVar("Partition")
Result = TypeVar("Result")

Advance = Callable[[int], None]


class PartitionFunction(Protocol[State, Partition, Result]):  # type: ignore[misc]  # variance adds nothing here
    """What runs on one partition, in any process."""

    def __call__(self, state: State, partition: Partition, advance: Advance, /) -> Result:
        """Work on ``partition`` and return what ``on_done`` is to hear."""


def run_partitions(
    function: PartitionFunction[State, Partition, Result],
    partitions: Iterable[Partition],
    *,
    workers: int,
    setup: Callable[[], State],
    on_done: Callable[[Partition, Result], None] | None = None,
    on_progress: Advance | None = None,
    guard: Guard[Partition] | None = None,
) -> int:
    """Run ``function`` on every partition and return when all are done.

    Parameters
    ----------
    function : callable
        ``function(state, partition, advance) -> result``; top-level, so that a worker can import it.
    partitions : iterable
        Picklable partitions, read as workers get free.
    workers : int
        1 runs everything in this process, unless there is a guard; more starts that many processes.
    setup : callable
        Makes a process's state, once, before its first partition (``functools.partial`` of a top-level
        function).
    on_done : callable, optional
        ``on_done(partition, result)`` in this process, in the order in which partitions finish.
    on_progress : callable, optional
        ``on_progress(n)`` in this process, as photos are done.
    guard : Guard, optional
        What becomes of partitions whose worker hangs or dies. Without one a worker that hangs is waited for,
        and one that dies stops the run.

    Returns
    -------
    int
        The most workers that ran at once.

    Raises
    ------
    StylematchError
        A worker died (killed, out of memory) and no second try could help. The same command resumes.
    Exception
        What ``function`` or ``setup`` raised, once the partitions that other workers had in hand are done.
    KeyboardInterrupt
        The run was interrupted, by Ctrl-C or SIGTERM; every worker has been ended.
    """
    on_done = on_done or ignore
    on_progress = on_progress or ignore
    with terminate_as_interrupt():
        if workers == 1 and guard is None:
            state: State | None = None
            for number, partition in enumerate(partitions):
                if number == 0:
                    state = setup()
                on_done(partition, function(state, partition, on_progress))  # type: ignore[arg-type]
            return workers
        pool = WorkerPool(function, setup, workers, guard)
        try:
            pool.run(partitions, on_done, on_progress)
        finally:
            pool.stop()
    return workers


def ignore(*_: object) -> None:
    """Stand in for a callback that nobody gave."""


@contextlib.contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM stop a run as Ctrl-C does: by ``KeyboardInterrupt``, so that the workers are ended."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield  # signals are the caller's
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
