"""The actors of a run on Ray as the driver knows them: how it hires, feeds, hears and replaces them."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from types import ModuleType
from typing import Any

from stylematch.engines.local import Advance
from stylematch.engines.ray_cluster import Head
from stylematch.errors import StylematchError
from stylematch.tables.shown import shown

# A partition may be on a node that dies, and on another; a third time it is the partition.
MAX_DEATHS = 3
# An autoscaler may have to start a machine first.
PATIENCE_S = 600.0
_SAY_SO_S = 30.0
_ASK_EVERY_S = 1.0

_log = logging.getLogger(__name__)


@dataclass
class Task:
    """A partition, how often it lost its worker, and how many of its photos were told of."""

    partition: Any
    deaths: int = 0
    told: int = 0


class _Worker:
    """An actor as the driver knows it: what is awaited from it, and the partition that it has in hand."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.awaited = actor.load.remote()
        self.loaded = False
        self.where = "a node"
        self.task: Task | None = None
        self.number = 0
        self.asked: Any = None
        self.asked_at = 0.0

    @property
    def idle(self) -> bool:
        return self.loaded and self.task is None

    def give(self, task: Task) -> None:
        self.task = task
        self.number += 1
        self.awaited = self.actor.work.remote(self.number, task.partition)
        self.asked_at = time.monotonic()


class Crew:
    """The actors of one run, and what is still to be done.

    Parameters
    ----------
    ray : module
        Connected.
    start : callable
        Starts one more actor and returns its handle.
    todo : deque of Task
        What is to be done, taken from the left.
    waiting : iterator
        More of it, of which as much is taken as there are hands.
    size : int
        How many actors at most.
    on_done : callable
        Given a partition and its result, in this process.
    on_progress : callable
        Told how many more photos are done.
    head : Head
        Of the cluster; without it no actor can be started, and the run ends at once when it is gone.

    Attributes
    ----------
    most : int
        How many actors there were at once, at most.
    """

    def __init__(
        self,
        ray: ModuleType,
        start: Callable[[], Any],
        todo: deque[Task],
        waiting: Iterator[Any],
        size: int,
        on_done: Callable[[Any, Any], None],
        on_progress: Advance,
        head: Head,
    ) -> None:
        self._ray = ray
        self._start = start
        self._todo = todo
        self._waiting = waiting
        self._size = size
        self._on_done = on_done
        self._on_progress = on_progress
        self._head = head
        self._workers: list[_Worker] = []
        self.most = 0
        self._failure: Exception | None = None
        self._failed_starts = 0
        self._halted_at: float | None = None
        self._said = False

    def run(self) -> None:
        """Do all partitions."""
        while True:
            if self._failure is None:
                self._hire()
                for worker in [worker for worker in self._workers if worker.idle]:
                    if self._at_hand(1):
                        worker.give(self._todo.popleft())
            busy = any(worker.task for worker in self._workers)
            if not busy and (self._failure or not self._at_hand(1)):
                break
            self._watch_over(busy)
            self._listen()
            self._head.check()
        if self._failure is not None:
            raise self._failure

    def end(self) -> None:
        """End every actor, whatever it does."""
        for worker in self._workers:
            self._kill(worker)

    def _at_hand(self, wanted: int) -> int:
        """Return how many partitions are at hand, of ``wanted``."""
        while len(self._todo) < wanted:
            following = [*islice(self._waiting, 1)]
            if not following:
                break
            self._todo.append(Task(following[0]))
        return min(wanted, len(self._todo))

    def _hire(self) -> None:
        """Start actors while there are partitions that no other is free for."""
        free = sum(worker.task is None for worker in self._workers)
        while len(self._workers) < self._size and self._at_hand(free + 1) > free:
            if not self._head.answers():  # Ray would wait for it, and hear of nothing else meanwhile
                break
            self._workers.append(_Worker(self._start()))
            self.most = max(self.most, len(self._workers))
            free += 1

    def _watch_over(self, busy: bool) -> None:
        """Say that the cluster gives no worker, and at last give up."""
        if busy:
            self._halted_at = None
            return
        now = time.monotonic()
        self._halted_at = self._halted_at or now
        if now - self._halted_at > PATIENCE_S:
            self._failure = StylematchError(
                f"Ray gave no worker in {PATIENCE_S / 60:.0f} minutes ('ray status' says what the cluster has and what "
                "is asked of it); what is finished is kept: run the same command again and it goes on from there"
            )
        elif now - self._halted_at > _SAY_SO_S and not self._said:
            self._said = True
            _log.warning("waiting for Ray to give a worker; 'ray status' says what the cluster has")

    def _listen(self) -> None:
        """Wait for answers, a second at most, and ask those that have been busy for a while how far they are."""
        for worker in self._workers:
            if worker.task and worker.asked is None and time.monotonic() - worker.asked_at > _ASK_EVERY_S:
                worker.asked, worker.asked_at = worker.actor.photos.remote(), time.monotonic()
        answers = {worker.awaited: worker for worker in self._workers if worker.awaited is not None}
        asked = {worker.asked: worker for worker in self._workers if worker.asked is not None}
        if not answers:
            time.sleep(_ASK_EVERY_S)
            return
        references = [*answers, *asked]
        if self._ray.wait(references, num_returns=1, timeout=_ASK_EVERY_S)[0]:
            for reference in self._ray.wait(references, num_returns=len(references), timeout=0)[0]:
                if reference in asked:
                    self._hear_progress(asked[reference])
                else:
                    self._hear(answers[reference])

    def _hear_progress(self, worker: _Worker) -> None:
        asked, worker.asked = worker.asked, None
        with contextlib.suppress(self._ray.exceptions.RayError):  # the partition's own answer says it, too
            number, photos = self._ray.get(asked)
            if worker.task and worker.number == number:
                self._tell(worker.task, photos)

    def _tell(self, task: Task, photos: int) -> None:
        if photos > task.told:
            self._on_progress(photos - task.told)
            task.told = photos

    def _hear(self, worker: _Worker) -> None:
        try:
            kind, value, photos = self._ray.get(worker.awaited)
        except self._ray.exceptions.RayError as error:
            if isinstance(error, self._ray.exceptions.RayTaskError) or getattr(error, "actor_init_failed", False):
                self._dismiss(worker)  # it never came to our code
                self._failure = self._failure or StylematchError(
                    f"a Ray worker could not begin ({_last_line(error)}): install the same stylematch on every node"
                )
            else:
                self._lose(worker, error)
            return
        worker.awaited = None
        task, worker.task = worker.task, None
        if kind == "loaded":
            worker.loaded, worker.where = True, value
            self._failed_starts = 0
        elif kind == "done":
            assert task is not None  # only a task ends so
            self._tell(task, photos)
            self._on_done(task.partition, value)
        else:
            self._failure = self._failure or value
            if not worker.loaded:
                self._dismiss(worker)

    def _lose(self, worker: _Worker, error: Exception) -> None:
        """Put a lost worker's partition first in the line again, or give up where that has been tried often."""
        self._dismiss(worker)
        task = worker.task
        if task is not None:
            task.deaths += 1
            self._todo.appendleft(task)
            deaths, doing = task.deaths, f"partition {getattr(task.partition, 'number', task.partition)}"
        else:
            self._failed_starts += 1
            deaths, doing = self._failed_starts, "loading"
        why = _why(error)
        if deaths < MAX_DEATHS:
            _log.warning("a Ray worker on %s ended while at %s (%s): another does it again", worker.where, doing, why)
            return
        self._failure = self._failure or StylematchError(
            f"{deaths} Ray workers one after the other ended while at {doing} ({why}; often the system's answer to "
            "memory running out); what is finished is kept: run the same command again and it goes on from there"
        )

    def _dismiss(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        self._kill(worker)

    def _kill(self, worker: _Worker) -> None:
        with contextlib.suppress(Exception):  # it may be gone, and so may the cluster
            self._ray.kill(worker.actor, no_restart=True)


def _why(error: Exception) -> str:
    """Return the sentence that says why, of the many that Ray says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("\t")]
    return shown(lines[1 if len(lines) > 1 else 0].partition(". ")[0].rstrip(".")) if lines else type(error).__name__


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return shown(lines[-1].strip()) if lines else type(error).__name__
