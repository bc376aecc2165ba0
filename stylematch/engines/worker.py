"""One worker process of a pool: how it is started, fed, watched and ended.

- Workers are spawned, not forked: ONNX Runtime, FAISS and torch keep threads and locks that a fork would copy
  broken.
- Each worker has a pipe of its own and shares no lock, so killing one can never hang another; a worker
  whose parent is gone ends itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from stylematch.data.memory import keep_freed_memory
from stylematch.engines.attempts import Attempts
from stylematch.engines.watch import Watch, watch_with
from stylematch.errors import StylematchError
from stylematch.tables.arrow import without_pandas

_STOP_S = 3.0
_PR_SET_PDEATHSIG = 1  # of prctl(2)


class Worker:
    """A process, this end of its pipe, and the partition that it has in hand.

    Parameters
    ----------
    module : str, optional
        What it is to import before it is employed.

    Attributes
    ----------
    task : Attempts or None
        What it is busy with.
    """

    def __init__(self, module: str | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.watch = Watch(context)
        self.process: BaseProcess = context.Process(
            target=_work, args=(theirs, self.watch, module), name="stylematch-worker", daemon=True
        )
        resource_tracker.ensure_running()  # starting it would take both signals off the mask again
        # Ctrl-C reaches the whole terminal's group. The worker inherits the mask, so that it ends by our hand
        # only and prints no traceback of its own; nor may an interrupt by either signal leave it half started.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            with main_unseen():
                self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self.task: Attempts[Any] | None = None
        self._seen: tuple[int, ...] = ()
        self._stays_s: list[float] = []

    def employ(self, function: Callable[..., Any], setup: Callable[[], Any]) -> None:
        """Tell it once what it is to do with partitions; parameters as in ``run_partitions``."""
        # One that has died already is noticed when its answer is awaited.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send((function, setup))

    def give(self, task: Attempts[Any]) -> None:
        """Hand over a partition."""
        self.task = task
        self._seen = ()
        # A worker that died while idle is noticed when its answer is awaited.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(task.current)

    def stays_too_long(self, passed_s: float, limit_s: float) -> bool:
        """Say whether it is on one photo for longer than ``limit_s``; ``passed_s`` is the time since last asked."""
        turns = self.watch.turns()
        if not self._seen:
            self._stays_s = [0.0] * len(turns)
        else:
            self._stays_s = [
                stay_s + passed_s if turn and turn == seen else 0.0
                for stay_s, turn, seen in zip(self._stays_s, turns, self._seen, strict=True)
            ]
        self._seen = turns
        return max(self._stays_s) > limit_s

    def end_overdue(self, limit_s: float) -> str | None:
        """Kill it; return the photo that it stayed on, None if that was done at the last moment."""
        self.kill()
        for slot, turn in enumerate(self.watch.turns()):
            if turn and turn == self._seen[slot] and self._stays_s[slot] > limit_s:
                return self.watch.key(slot)
        return None

    def kill(self) -> None:
        """End it at once. One that hangs in the kernel is left behind: it never runs again."""
        self.process.kill()
        self.process.join(_STOP_S)
        if self.process.is_alive():
            # Python would wait for it at its own end, and knows no other way not to.
            multiprocessing.process._children.discard(self.process)  # type: ignore[attr-defined]
        self.pipe.close()

    def how_it_died(self) -> str:
        """Say how it ended, to follow "a worker process"."""
        self.process.join(_STOP_S)
        self.pipe.close()
        code = self.process.exitcode
        how = f"ended with exit code {code}" if code is None or code >= 0 else f"was killed by signal {-code}"
        hint = " (often the system's answer to memory running out: fewer --workers need less)" if code == -9 else ""
        return how + hint


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


def stop(pool: list[Worker]) -> None:
    """End workers: idle ones by closing their pipe, busy ones at once."""
    for worker in pool:
        if worker.task is not None:
            worker.process.terminate()
        worker.pipe.close()
    for worker in pool:
        worker.process.join(_STOP_S)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.process.close()


def _work(pipe: Connection, watch: Watch, module: str | None) -> None:
    """Serve partitions until the parent closes the pipe or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # it came blocked
    threading.Thread(target=end_with_parent, daemon=True).start()
    without_pandas()
    keep_freed_memory()
    watch_with(watch)
    if module is not None:
        with contextlib.suppress(Exception):  # what is wrong with it is said when it is needed
            importlib.import_module(module)
    state: Any = None
    ready = False
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        function, setup = pipe.recv()
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


def end_with_parent() -> None:
    """End this process when the parent is gone, even in the middle of a photo (the parent was killed).

    A thread waits for that, which a decoder that hangs without letting go of Python's lock would keep from running; so
    where the system can (Linux), it sends the kill itself.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
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
