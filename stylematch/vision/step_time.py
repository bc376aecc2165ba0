"""What a training takes: time and memory of the training itself, run for a few steps and one watched batch.

Nothing is a copy: the learner, the loaders and the trainer are those of ``stylematch.vision.training``, so that
fetching, augmentation, two views of a batch, teachers, frozen layers, averaging and clipping are in the figures as they
are in a training. Checkpoints and logs are left out.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import lightning
import numpy as np
import torch

from stylematch.settings.train import TrainJob
from stylematch.vision.batches import Batches
from stylematch.vision.examples import Examples
from stylematch.vision.networks import Network
from stylematch.vision.trainer import measuring_trainer
from stylematch.vision.training import batch_loader, prepare


@dataclass(frozen=True)
class TrainingCost:
    """What a training takes.

    Attributes
    ----------
    step_s : float
        Seconds of one optimiser step, the median of those that were timed.
    watching_s : float
        Seconds of the validation after an epoch.
    steps, epochs : int
        At most so many steps in all, and epochs.
    pictures : int
        Of the data that a step learns from, over all devices.
    memory_bytes : int
        Peak of the GPU, or of the process.
    device : str
        ``cuda`` or ``cpu``.
    """

    step_s: float
    watching_s: float
    steps: int
    epochs: int
    pictures: int
    memory_bytes: int
    device: str

    @property
    def pictures_per_s(self) -> float:
        """Pictures of the data that are learned from in a second, however often a step looks at each."""
        return self.pictures / self.step_s

    @property
    def total_s(self) -> float:
        """Seconds of all steps and validations."""
        return self.steps * self.step_s + self.epochs * self.watching_s


def measure_training(
    network: Network,
    job: TrainJob,
    parts: list[tuple[Examples, int]],
    val: Examples,
    teachers: Sequence[Network] = (),
    *,
    steps: int,
) -> TrainingCost:
    """Train for a few steps, which change the network, and time them.

    Parameters
    ----------
    network, job, parts, val, teachers
        As ``train_network`` takes them. Of several devices, one is measured with its share of every batch.
    steps : int
        How many are timed, after one that is not.

    Raises
    ------
    UserError
        If the examples do not fill a batch, or there are none to watch.
    """
    fit = prepare(network, job, parts, val, teachers, processes=job.schedule.devices)
    steps = min(steps, len(fit.order) * job.schedule.epochs)  # a rate over time ends with the training
    few = list(islice(cycle(fit.order), steps + 1))
    watch = _Watch()
    trainer = measuring_trainer(job.schedule, watch)
    trainer.fit(
        fit.learner, batch_loader(Batches([part for part, _ in parts]), few, job.schedule.workers), fit.watching
    )
    on_gpu = trainer.strategy.root_device.type == "cuda"
    return TrainingCost(
        step_s=float(np.median(np.diff(watch.steps_s))),
        watching_s=watch.watched_s * len(fit.watching),
        steps=len(fit.order) * job.schedule.epochs,
        epochs=job.schedule.epochs,
        pictures=job.schedule.batch_size,
        memory_bytes=torch.cuda.max_memory_allocated()
        if on_gpu
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        device=trainer.strategy.root_device.type,
    )


class _Watch(lightning.Callback):
    """When each step ended, and how long the watched batch took."""

    def __init__(self) -> None:
        self.steps_s: list[float] = []
        self.watched_s = 0.0

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        self.steps_s.append(_now_s(trainer))

    def on_validation_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        self.watched_s -= _now_s(trainer)

    def on_validation_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        self.watched_s += _now_s(trainer)


def _now_s(trainer: lightning.Trainer) -> float:
    if trainer.strategy.root_device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
