"""Run partitions on this machine: inline, or in a few worker processes that each load their models once.

- A partition function is ``function(state, partition, advance)``: top-level and picklable; ``state`` is what
  ``setup()`` returned in that process (models, indexes), ``advance(n)`` says that n more photos are done.
- Workers are spawned, not forked: ONNX Runtime, FAISS and torch keep threads and locks that a fork would copy
  broken.
- Each worker has a pipe of its own and shares no lock, so killing one can never hang another; a worker
  whose parent is gone ends itself.
- Partitions are taken from their iterable as workers get free, so a listing of any length costs no memory.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, TypeVar

from stylematch.errors import StylematchError

State = TypeVar("State")
Partition = TypeVar("Partition")
Result = TypeVar("Result")

Advance = Callable[[int], None]
_STOP_S = 3.0


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
) -> None:
    """Run ``function`` on every partition and return when all are done.

    Parameters
    ----------
    function : callable
        ``function(state, partition, advance) -> result``; top-level, so that a worker can import it.
    partitions : iterable
        Picklable partitions, read as workers get free.
    workers : int
        1 runs everything in this process; more starts that many processes.
    setup : callable
        Makes a process's state, once, before its first partition (``functools.partial`` of a top-level
        function).
    on_done : callable, optional
        ``on_done(partition, result)`` in this process, in the order in which partitions finish.
    on_progress : callable, optional
        ``on_progress(n)`` in this process, as photos are done.

    Raises
    ------
    StylematchError
        A worker died (killed, out of memory). The same command resumes.
    Exception
        What ``function`` or ``setup`` raised, once the partitions that other workers had in hand are done.
    KeyboardInterrupt
        The run was interrupted, by Ctrl-C or SIGTERM; every worker has been ended.
    """
    on_done = on_done or ignore
    on_progress = on_progress or ignore
    with terminate_as_interrupt():
        if workers == 1:
            state: State | None = None
            for number, partition in enumerate(partitions):
                if number == 0:
                    state = setup()
                on_done(partition, function(state, partition, on_progress))  # type: ignore[arg-type]
            return
        pool: list[_Worker] = []
        try:
            _run_in_processes(pool, function, partitions, workers, setup, on_done, on_progress)
        finally:
            _stop(pool)


def ignore(*_: object) -> None:
    """Stand in for a callback that nobody gave."""


def _run_in_processes(
    pool: list[_Worker],
    function: Callable[..., Any],
    partitions: Iterable[Any],
    workers: int,
    setup: Callable[[], Any],
    on_done: Callable[[Any, Any], None],
    on_progress: Advance,
) -> None:
    waiting = iter(partitions)
    failure: Exception | None = None
    while True:
        while failure is None and sum(worker.busy for worker in pool) < workers:
            try:
                partition = next(waiting)
            except StopIteration:
                break
            idle = next((worker for worker in pool if not worker.busy), None)
            if idle is None:
                idle = _Worker(function, setup)
                pool.append(idle)
            idle.give(partition)
        busy = {worker.pipe: worker for worker in pool if worker.busy}
        if not busy:
            break
        for pipe in wait(list(busy)):
            worker = busy[pipe]  # type: ignore[index]
            try:
                kind, value = worker.pipe.recv()
            except (EOFError, OSError):
                worker.busy = False
                failure = failure or _died(worker.process)
                continue
            if kind == "advance":
                on_progress(value)
            elif kind == "done":
                worker.busy = False
                on_done(worker.partition, value)
            else:
                worker.busy = False
                failure = failure or value
    if failure is not None:
        raise failure


class _Worker:
    """A process, this end of its pipe, and the partition that it has in hand."""

    def __init__(self, function: Callable[..., Any], setup: Callable[[], Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=_work, args=(theirs, function, setup), name="stylematch-worker", daemon=True
        )
        # Ctrl-C reaches the whole terminal's group. The worker inherits the mask, so that it ends by our hand
        # only and prints no traceback of its own.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self.partition: Any = None
        self.busy = False

    def give(self, partition: Any) -> None:
        self.partition = partition
        self.busy = True
        # A worker that died while idle is noticed when its answer is awaited.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(partition)


def _work(pipe: Connection, function: Callable[..., Any], setup: Callable[[], Any]) -> None:
    """Serve partitions until the parent closes the pipe or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    state: Any = None
    ready = False
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            partition = pipe.recv()
            try:
                if not ready:
                    state, ready = setup(), True
                answer = ("done", function(state, partition, lambda count: pipe.send(("advance", count))))
            except (BrokenPipeError, ConnectionResetError):
                raise
            except Exception as error:
                answer = ("failed", portable_error(error))
            pipe.send(answer)


def _end_with_parent() -> None:
    """End this process when the parent is gone, even in the middle of a photo (the parent was killed)."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def portable_error(error: Exception) -> Exception:
    """Return ``error`` if it survives the way to the parent, else one with its sentence and exit code."""
    try:
        if str(pickle.loads(pickle.dumps(error))) == str(error):  # noqa: S301  # our own bytes
            return error
    except Exception:  # noqa: S110  # whatever is wrong with it, the sentence below is what is left
        pass
    code = getattr(error, "exit_code", None)
    plain = StylematchError(str(error) if code is not None else f"{type(error).__name__}: {error}")
    plain.exit_code = StylematchError.exit_code if code is None else code
    return plain


def _died(process: BaseProcess) -> StylematchError:
    process.join(_STOP_S)
    code = process.exitcode
    how = f"ended with exit code {code}" if code is None or code >= 0 else f"was killed by signal {-code}"
    hint = " (often the system's answer to memory running out: fewer --workers need less)" if code == -9 else ""
    return StylematchError(
        f"a worker process {how}{hint}; what is finished is kept: run the same command again and it goes on from there"
    )


def _stop(pool: list[_Worker]) -> None:
    """End every worker: idle ones by closing their pipe, busy ones at once."""
    for worker in pool:
        if worker.busy:
            worker.process.terminate()
        worker.pipe.close()
    for worker in pool:
        worker.process.join(_STOP_S)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.process.close()


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
