"""What an actor of a run on Ray does, in a process of its own on some node.

With a guard it reads no photo itself. It keeps one process that does, and watches that as the local engine watches its
workers: only a parent on the same node can see which photo a process is on while that holds Python's lock, and end it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from stylematch.engines.attempts import Guard
from stylematch.engines.pool import WorkerPool
from stylematch.engines.worker import portable_error


class StylematchWorker:
    """The actor.

    Parameters
    ----------
    function, setup, guard
        As for ``engines.local.run_partitions``.
    """

    def __init__(self, function: Callable[..., Any], setup: Callable[[], Any], guard: Guard[Any] | None) -> None:
        self._function = function
        self._setup = setup
        self._pool: WorkerPool | None = None
        if guard is not None:
            self._pool = WorkerPool(function, setup, 1, guard)
        self._state: Any = None
        self._task = self._photos = 0

    def load(self) -> tuple[str, Any, int]:
        """Load the state, or start the process that does so with its first partition; return where."""
        try:
            if self._pool is None:
                self._state = self._setup()
            else:
                self._pool.start_one()
        except Exception as error:
            return "failed", portable_error(error), 0
        return "loaded", f"{socket.gethostname()} (process {os.getpid()})", 0

    def work(self, task: int, partition: Any) -> tuple[str, Any, int]:
        """Do a partition; return its result, or the error, and how many photos it spoke of."""
        self._task, self._photos = task, 0
        try:
            result = self._run(partition)
        except Exception as error:
            return "failed", portable_error(error), self._photos
        return "done", result, self._photos

    def photos(self) -> tuple[int, int]:
        """Return which task is in hand, and how many of its photos are done."""
        return self._task, self._photos

    def _run(self, partition: Any) -> Any:
        if self._pool is None:
            return self._function(self._state, partition, self._advance)
        results: list[Any] = []
        self._pool.run([partition], lambda _, result: results.append(result), self._advance)
        return results[0]

    def _advance(self, count: int) -> None:
        self._photos += count
