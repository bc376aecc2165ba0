"""Run partitions on Ray: actors that each load their models once, on as many machines as the cluster has.

- The interface is that of ``engines.local``: a partition function, a set-up, callbacks in this process (the driver).
- An actor is given a partition only when it is loaded, so one that waits for its CPU holds nothing up.
- An actor that ends (killed, out of memory, its node gone) is replaced, and its partition is done again on another;
  a partition that ends several actors one after the other ends the run.
- An actor that Ray only lost sight of may still be writing. Partition functions must bear that: shards are written
  under names of their own and renamed, with equal bytes.
- Errors travel as values, so that what a worker raises is what is raised here.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from stylematch.engines.local import (
    Advance,
    Partition,
    PartitionFunction,
    Result,
    State,
    ignore,
    terminate_as_interrupt,
)
from stylematch.engines.worker import portable_error
from stylematch.errors import MissingExtraError, StylematchError, UserError
from stylematch.tables.disk import shown
from stylematch.tables.manifest import usable_cores

# A partition may be on a node that dies, and on another; a third time it is the partition.
MAX_DEATHS = 3
# An autoscaler may have to start a machine first.
PATIENCE_S = 600.0
_SAY_SO_S = 30.0
_ASK_EVERY_S = 1.0
_KNOCK_S = 20.0
# Nothing but photo counts goes through Ray's object store; it takes no less.
_OBJECT_STORE_BYTES = 100 * 2**20
# Ray's sockets lie up to this much deeper than its folder, and a socket's path may have 107 bytes.
_LONGEST_FOLDER = 40

_log = logging.getLogger(__name__)


def check_ray() -> None:
    """Refuse early what cannot run.

    Raises
    ------
    MissingExtraError
        Ray is not installed.
    """
    if find_spec("ray") is None:
        raise MissingExtraError("--engine ray", "ray")


def run_partitions(
    function: PartitionFunction[State, Partition, Result],
    partitions: Iterable[Partition],
    *,
    workers: int,
    setup: Callable[[], State],
    on_done: Callable[[Partition, Result], None] | None = None,
    on_progress: Advance | None = None,
    address: str | None = None,
    on_gpus: bool = False,
) -> None:
    """Run ``function`` on every partition and return when all are done.

    Parameters
    ----------
    function, partitions, setup, on_done, on_progress
        As for ``engines.local.run_partitions``. ``on_progress`` never hears of a photo twice, though it may be done
        twice.
    workers : int
        Actors, of one CPU each; 0 is one for every CPU of the cluster (with ``on_gpus``, of its nodes with a GPU).
        Never more than there are partitions.
    address : str, optional
        The cluster's head. Without, ``$RAY_ADDRESS``, or a Ray of this run's own on this machine. A Ray that this
        process is connected to is used as it is.
    on_gpus : bool
        Every actor needs a GPU, or an equal share of one where there are more actors than GPUs.

    Raises
    ------
    MissingExtraError
        Ray is not installed.
    UserError
        There is no cluster at ``address``.
    StylematchError
        A partition ended every worker that it was given to, or the cluster gave no worker in ``PATIENCE_S``. The same
        command resumes.
    Exception
        What ``function`` or ``setup`` raised, once the partitions that other workers had in hand are done.
    KeyboardInterrupt
        The run was interrupted, by Ctrl-C or SIGTERM; every worker has been ended.
    """
    waiting = iter(partitions)
    todo = deque(_Task(partition) for partition in [*_take(waiting)])
    if not todo:
        return
    check_ray()
    with terminate_as_interrupt(), _connected(address, workers or usable_cores()) as ray:
        count, gpus = _shape(ray.nodes(), workers, on_gpus)
        actor_class = ray.remote(StylematchWorker).options(
            num_cpus=1,
            num_gpus=gpus,
            max_concurrency=2,  # a partition, and the question how far it is
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )
        crew = _Crew(
            ray,
            lambda: actor_class.remote(function, setup),
            todo,
            waiting,
            count,
            on_done or ignore,
            on_progress or ignore,
        )
        try:
            crew.run()
        finally:
            crew.end()


def _take(waiting: Iterator[Partition]) -> Iterator[Partition]:
    """Yield the next partition, if there is one."""
    with contextlib.suppress(StopIteration):
        yield next(waiting)


def _shape(nodes: list[dict[str, Any]], workers: int, on_gpus: bool) -> tuple[int, float]:
    """Return how many actors run, and the GPUs of each."""
    have = [node["Resources"] for node in nodes if node["Alive"]]
    if on_gpus:
        have = [resources for resources in have if resources.get("GPU")]
    workers = workers or max(1, int(sum(resources.get("CPU", 0) for resources in have)))
    if not on_gpus:
        return workers, 0
    sharing = math.ceil(workers / (sum(resources["GPU"] for resources in have) or workers))
    return workers, math.floor(10_000 / sharing) / 10_000  # Ray knows four digits of a GPU


@contextlib.contextmanager
def _connected(address: str | None, cpus: int) -> Iterator[ModuleType]:
    """Connect to a cluster, or start one on this machine, for as long as the block lasts; nothing is sent outside."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or it warns of its own future
    import ray

    if ray.is_initialized():
        yield ray
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    with contextlib.ExitStack() as stack:
        options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        if address == "local":
            options |= {
                "num_cpus": cpus,
                "object_store_memory": _OBJECT_STORE_BYTES,
                "include_dashboard": False,
                "_temp_dir": stack.enter_context(_own_folder()),
            }
        handler = signal.getsignal(signal.SIGTERM)
        stack.callback(ray.shutdown)
        try:
            _knock(address)
            ray.init(address=address, **options)
        except Exception as error:  # Ray raises all kinds, Exception itself among them
            if address == "local":
                raise StylematchError(f"Ray could not be started here: {_first_line(error)}") from error
            raise UserError(
                f"no Ray cluster answers at {shown(address)} ({_first_line(error)}): start one with 'ray start --head' "
                "and run this command on a machine of it, with the same Ray and Python, and its head's HOST:PORT"
            ) from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray puts one in its place that exits at once
        yield ray


def _knock(address: str) -> None:
    """Raise ``OSError`` where nobody listens; Ray would try for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()


@contextlib.contextmanager
def _own_folder() -> Iterator[str]:
    """Make a folder for what Ray writes of its own, short enough for its sockets, and remove it at the end."""
    parent = tempfile.gettempdir()
    parent = parent if len(os.fsencode(parent)) + len("/stylematch-12345678") <= _LONGEST_FOLDER else "/tmp"  # noqa: S108
    with tempfile.TemporaryDirectory(prefix="stylematch-", dir=parent, ignore_cleanup_errors=True) as folder:
        yield str(Path(folder).resolve())


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return shown(lines[0]) if lines else type(error).__name__


class StylematchWorker:
    """What an actor does, in a process of its own on some node."""

    def __init__(self, function: Callable[..., Any], setup: Callable[[], Any]) -> None:
        self._function = function
        self._setup = setup
        self._state: Any = None
        self._task = self._photos = 0

    def load(self) -> tuple[str, Any, int]:
        """Load the state; return where."""
        try:
            self._state = self._setup()
        except Exception as error:
            return "failed", portable_error(error), 0
        return "loaded", f"{socket.gethostname()} (process {os.getpid()})", 0

    def work(self, task: int, partition: Any) -> tuple[str, Any, int]:
        """Do a partition; return its result, or the error, and how many photos it spoke of."""
        self._task, self._photos = task, 0
        try:
            result = self._function(self._state, partition, self._advance)
        except Exception as error:
            return "failed", portable_error(error), self._photos
        return "done", result, self._photos

    def photos(self) -> tuple[int, int]:
        """Return which task is in hand, and how many of its photos are done."""
        return self._task, self._photos

    def _advance(self, count: int) -> None:
        self._photos += count


@dataclass
class _Task:
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
        self.task: _Task | None = None
        self.number = 0
        self.asked: Any = None
        self.asked_at = 0.0

    @property
    def idle(self) -> bool:
        return self.loaded and self.task is None

    def give(self, task: _Task) -> None:
        self.task = task
        self.number += 1
        self.awaited = self.actor.work.remote(self.number, task.partition)
        self.asked_at = time.monotonic()


class _Crew:
    """The actors of one run, and what is still to be done."""

    def __init__(
        self,
        ray: ModuleType,
        start: Callable[[], Any],
        todo: deque[_Task],
        waiting: Iterator[Any],
        size: int,
        on_done: Callable[[Any, Any], None],
        on_progress: Advance,
    ) -> None:
        self._ray = ray
        self._start = start
        self._todo = todo
        self._waiting = waiting
        self._size = size
        self._on_done = on_done
        self._on_progress = on_progress
        self._workers: list[_Worker] = []
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
        if self._failure is not None:
            raise self._failure

    def end(self) -> None:
        """End every actor, whatever it does."""
        for worker in self._workers:
            self._kill(worker)

    def _at_hand(self, wanted: int) -> int:
        """Return how many partitions are at hand, of ``wanted``."""
        while len(self._todo) < wanted:
            following = [*_take(self._waiting)]
            if not following:
                break
            self._todo.append(_Task(following[0]))
        return min(wanted, len(self._todo))

    def _hire(self) -> None:
        """Start actors while there are partitions that no other is free for."""
        free = sum(worker.task is None for worker in self._workers)
        while len(self._workers) < self._size and self._at_hand(free + 1) > free:
            self._workers.append(_Worker(self._start()))
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

    def _tell(self, task: _Task, photos: int) -> None:
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
