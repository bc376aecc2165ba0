"""Run partitions on Ray: actors that each load their models once, on as many machines as the cluster has.

- The interface is that of ``engines.local``: a partition function, a set-up, callbacks in this process (the driver).
- An actor is given a partition only when it is loaded, so one that waits for its CPU holds nothing up.
- An actor that ends (killed, out of memory, its node gone) is replaced, and its partition is done again on another;
  a partition that ends several actors one after the other ends the run.
- With a guard (``attempts``) an actor keeps the time limit per photo for a process of its own, which reads them.
- An actor that Ray only lost sight of may still be writing. Partition functions must bear that: shards are written
  under names of their own and renamed, with equal bytes.
- Errors travel as values, so that what a worker raises is what is raised here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from itertools import islice

from stylematch.engines.attempts import Guard
from stylematch.engines.local import (
    Advance,
    Partition,
    PartitionFunction,
    Result,
    State,
    ignore,
    terminate_as_interrupt,
)
from stylematch.engines.ray_cluster import Head, connected, crew_shape
from stylematch.engines.ray_crew import Crew, Task
from stylematch.engines.ray_worker import StylematchWorker
from stylematch.errors import MissingExtraError
from stylematch.tables.cores import usable_cores


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
    guard: Guard[Partition] | None = None,
    address: str | None = None,
    on_gpus: bool = False,
) -> int:
    """Run ``function`` on every partition and return when all are done.

    Parameters
    ----------
    function, partitions, setup, on_done, on_progress, guard
        As for ``engines.local.run_partitions``. ``on_progress`` never hears of a photo twice, though it may be done
        twice. Without a guard an actor reads photos itself, and one that hangs is waited for.
    workers : int
        Actors, of one CPU each; 0 is one for every CPU of the cluster (with ``on_gpus``, of its nodes with a GPU).
        Never more than there are partitions.
    address : str, optional
        The cluster's head. Without, ``$RAY_ADDRESS``, or a Ray of this run's own on this machine. A Ray that this
        process is connected to is used as it is.
    on_gpus : bool
        Every actor needs a GPU, or an equal share of one where there are more actors than GPUs.

    Returns
    -------
    int
        The most workers that ran at once.

    Raises
    ------
    MissingExtraError
        Ray is not installed.
    UserError
        There is no cluster at ``address``.
    StylematchError
        A partition ended every worker that it was given to and no photo was to blame, the cluster gave no worker in
        ``PATIENCE_S``, or its head is gone. The same command resumes.
    Exception
        What ``function`` or ``setup`` raised, once the partitions that other workers had in hand are done.
    KeyboardInterrupt
        The run was interrupted, by Ctrl-C or SIGTERM; every worker has been ended.
    """
    waiting = iter(partitions)
    todo = deque(Task(partition) for partition in [*islice(waiting, 1)])
    if not todo:
        return 0
    check_ray()
    with terminate_as_interrupt(), connected(address, workers or usable_cores()) as ray:
        count, gpus = crew_shape(ray.nodes(), workers, on_gpus)
        actor_class = ray.remote(StylematchWorker).options(
            num_cpus=1,
            num_gpus=gpus,
            max_concurrency=2,  # a partition, and the question how far it is
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )
        crew = Crew(
            ray,
            lambda: actor_class.remote(function, setup, guard),
            todo,
            waiting,
            count,
            on_done or ignore,
            on_progress or ignore,
            Head(ray.get_runtime_context().gcs_address),
        )
        try:
            crew.run()
        finally:
            crew.end()
    return crew.most
