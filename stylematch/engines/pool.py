"""Worker processes that are fed partitions, watched, and replaced where a photo hangs or crashes one.

The local engine runs all partitions of a run in one pool; an actor of the Ray engine keeps a pool of one process for
the partitions that it is given. So a photo is given up by the same rules on every engine.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import wait
from typing import Any

from stylematch.engines.attempts import Attempts, Guard, Losses
from stylematch.engines.early import take_template
from stylematch.engines.template import Template
from stylematch.engines.worker import Worker, stop

_MAX_TICK_S = 1.0


class WorkerPool:
    """Processes that each load their models once and stay from one ``run`` to the next.

    Parameters
    ----------
    function, setup : callable
        As in ``engines.local.run_partitions``.
    workers : int
        The most processes.
    guard : Guard, optional
        What becomes of partitions whose worker hangs or dies. Without one a worker that hangs is waited for, and one
        that dies stops the run.
    """

    def __init__(
        self, function: Callable[..., Any], setup: Callable[[], Any], workers: int, guard: Guard[Any] | None
    ) -> None:
        self._function = function
        self._setup = setup
        self._size = workers
        self._guard = guard
        self._limit_s = None if guard is None else guard.timeout_s
        self._tick_s = None if self._limit_s is None else min(_MAX_TICK_S, self._limit_s / 4)
        self._template: Template | None = None
        self._workers: list[Worker] = []
        self._again: deque[Attempts[Any]] = deque()
        self._losses = Losses()
        self._failure: Exception | None = None

    def start_one(self) -> Worker:
        """Start a process, so that it has imported what it needs when its first partition comes."""
        if self._template is None:
            self._template = take_template()
        worker = Worker(self._template, self._function, self._setup)
        self._workers.append(worker)
        return worker

    def run(
        self, partitions: Iterable[Any], on_done: Callable[[Any, Any], None], on_progress: Callable[[int], None]
    ) -> None:
        """Run partitions and return when all are done; parameters, and what is raised, as in ``run_partitions``."""
        self._failure = None
        self._again.clear()
        waiting = iter(partitions)
        looked = time.monotonic()
        while True:
            self._feed(waiting)
            busy = [worker for worker in self._workers if worker.task is not None]
            if not busy:
                break
            by_pipe = {worker.pipe: worker for worker in busy}
            for pipe in wait(list(by_pipe), self._tick_s):
                self._hear(by_pipe[pipe], on_done, on_progress)  # type: ignore[index]
            if self._tick_s is not None and (passed_s := time.monotonic() - looked) >= self._tick_s:
                looked += passed_s
                # More than two ticks is time in which this process was stopped itself, and the workers most likely
                # with it.
                self._end_overdue(busy, min(passed_s, 2 * self._tick_s))
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End all processes, whatever they do."""
        stop(self._workers)
        if self._template is not None:
            self._template.end(at_once=False)
            self._template = None

    def _feed(self, waiting: Iterator[Any]) -> None:
        """Give partitions to free workers, those that are tried again first."""
        while self._failure is None and sum(worker.task is not None for worker in self._workers) < self._size:
            if self._again:
                task = self._again.popleft()
            else:
                try:
                    task = Attempts(next(waiting), self._guard, self._losses)
                except StopIteration:
                    break
            idle = next((worker for worker in self._workers if worker.task is None), None)
            (idle or self.start_one()).give(task)

    def _hear(self, worker: Worker, on_done: Callable[[Any, Any], None], on_progress: Callable[[int], None]) -> None:
        task = worker.task
        assert task is not None  # only busy workers are heard
        try:
            kind, value = worker.pipe.recv()
        except (EOFError, OSError):
            self._replace(worker, task.died(worker.how_it_died(), worker.watch.keys()))
            return
        if kind == "advance":
            on_progress(task.advance(value))
            return
        worker.task = None
        if kind == "done":
            on_done(task.partition, value)
        else:
            self._failure = self._failure or value

    def _end_overdue(self, busy: list[Worker], passed_s: float) -> None:
        """End workers that stay on one photo for too long; ``passed_s`` is the time since they were last looked at."""
        assert self._limit_s is not None  # or nobody would ask
        for worker in busy:
            # A worker that has been heard since may be done, or gone.
            if worker.task is None or worker not in self._workers:
                continue
            if worker.stays_too_long(passed_s, self._limit_s):
                self._replace(worker, worker.task.timed_out(worker.end_overdue(self._limit_s)))

    def _replace(self, worker: Worker, problem: Exception | None) -> None:
        """Have another worker try again what this one leaves behind, unless that is of no use."""
        self._workers.remove(worker)
        if problem is None:
            assert worker.task is not None  # it ended on one
            self._again.append(worker.task)
        self._failure = self._failure or problem
