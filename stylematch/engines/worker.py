"""One worker process of a pool: how it is started, fed, watched and ended.

- Workers are forked from a template (``template``) that has imported what they need and has no threads of ONNX
  Runtime, FAISS or torch, whose locks a fork would copy broken.
- Each worker has a pipe of its own and shares no lock, so killing one can never hang another; a worker
  whose parent is gone ends itself.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from stylematch.engines.attempts import Attempts
from stylematch.engines.template import STOP_S, Template
from stylematch.engines.watch import Watch, watch_with
from stylematch.errors import StylematchError
from stylematch.tables.spawning import die_with_parent


class Worker:
    """A process, this end of its pipe, and the partition that it has in hand.

    Parameters
    ----------
    template : Template
        What it is forked from.
    function, setup : callable
        What it is to do with partitions, as in ``run_partitions``.

    Attributes
    ----------
    task : Attempts or None
        What it is busy with.
    """

    def __init__(self, template: Template, function: Callable[..., Any], setup: Callable[[], Any]) -> None:
        self.pipe, theirs = multiprocessing.Pipe()
        self.watch = Watch()
        with theirs, contextlib.closing(self.watch):
            descriptors = (theirs.fileno(), self.watch.descriptor)
            self.process = template.fork(_work, descriptors, getattr(function, "__module__", __name__))
        self.task: Attempts[Any] | None = None
        self._seen: tuple[int, ...] = ()
        self._stays_s: list[float] = []
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
        self.process.signal(signal.SIGKILL)
        self.process.join(STOP_S)
        self.pipe.close()

    def how_it_died(self) -> str:
        """Say how it ended, to follow "a worker process"."""
        self.process.join(STOP_S)
        self.pipe.close()
        code = self.process.exit_code()
        if code is None:
            return "was killed"
        how = f"ended with exit code {code}" if code >= 0 else f"was killed by signal {-code}"
        hint = " (often the system's answer to memory running out: fewer --workers need less)" if code == -9 else ""
        return how + hint


def stop(pool: list[Worker]) -> None:
    """End workers: idle ones by closing their pipe, busy ones at once."""
    for worker in pool:
        if worker.task is not None:
            worker.process.signal(signal.SIGTERM)
        worker.pipe.close()
    for worker in pool:
        if not worker.process.join(STOP_S):
            worker.kill()
        worker.process.close()


def _work(pipe_descriptor: int, watch_descriptor: int) -> None:
    """Serve partitions until the parent closes the pipe or is gone."""
    pipe = Connection(pipe_descriptor)
    threading.Thread(target=end_with_parent, daemon=True).start()
    watch_with(Watch(watch_descriptor))
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

    A thread waits for that; where the system can, it kills the process itself (``die_with_parent``).
    """
    die_with_parent()
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
