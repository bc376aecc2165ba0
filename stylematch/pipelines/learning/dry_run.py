"""``train --dry-run``: the resolved job, the data after cleaning, and the time and memory that the training will take.

Time and memory are measured, not computed: a few steps of each of the job's trainings, as they will be. A job that is
far too large for a CPU's memory would have the system kill this process, or others: it is known by steps of two and of
three pictures, and nothing takes more than is free.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from stylematch.data.labels import Group
from stylematch.pipelines.learning.source import Source
from stylematch.pipelines.learning.starting import first_network, load_teachers
from stylematch.pipelines.learning.train import trainings
from stylematch.pipelines.learning.train_job import (
    begun_checkpoints,
    cache_of,
    check_train_extra,
    open_job,
    step_folders,
)
from stylematch.pipelines.learning.training_faults import told_by_their_keys, too_large
from stylematch.settings.train import TrainJob
from stylematch.tables.free_memory import free_memory, within_free_memory
from stylematch.tables.shown import shown

_STEPS = 4
_MOST_ANSWERS = 20
_GIB = 2**30


def describe_training(job: TrainJob, *, anew: bool = False) -> Iterator[str]:
    """Give the lines of a dry run.

    Parameters
    ----------
    job : TrainJob
        What would be trained.
    anew : bool
        As of ``open_job``.

    Raises
    ------
    UserError
        If the job or its data are wrong, or the train extra is missing.
    """
    check_train_extra()
    import torch

    from stylematch.vision.begun import steps_of
    from stylematch.vision.memory_need import least_memory
    from stylematch.vision.step_time import measure_training

    source = open_job(job, anew=anew)
    yield json.dumps(job.model_dump(mode="json"), indent=2)
    yield from _describe_data(source)
    if (cache := cache_of(job)).is_dir():
        size = sum(map(_size_bytes, cache.rglob("*")))
        yield f"data: pictures are cut once, for the training, too: {shown(cache)} has {size / 1e9:.1f} GB"
    # A GPU's own memory ends in an error anyway.
    limited = nullcontext if torch.cuda.is_available() else within_free_memory
    # Asked once: what a training has freed stays with this process, for the next.
    free = math.inf if torch.cuda.is_available() else free_memory()
    with told_by_their_keys(job), limited():
        network, teachers = first_network(job, source.schema), load_teachers(job, source.schema)
    yield f"network: {sum(p.numel() for p in network.parameters()):,} parameters"
    costs = []
    for number, (_, step, parts, val) in enumerate(trainings(job, source, network), start=1):
        with told_by_their_keys(step), limited():
            if free < math.inf and (least := least_memory(network, step, parts, val, teachers)) > free:
                raise too_large(step, f"at least {least / _GIB:,.1f} GiB of memory, and {free / _GIB:,.1f} are free")
            cost = measure_training(network, step, parts, val, teachers, steps=_STEPS)
        costs.append(cost)
        which = f"training {number} of {len(job.steps)}" if job.steps else "training"
        where = cost.device if step.schedule.devices == 1 else f"one of {step.schedule.devices} x {cost.device}"
        yield (
            f"{which}: {cost.step_s * 1000:,.0f} ms a step on {where}, {cost.pictures_per_s:,.0f} pictures/s"
            f"{_looked_at(step)}, memory {cost.memory_bytes / _GIB:.1f} GiB"
        )
    steps, seconds = sum(cost.steps for cost in costs), sum(cost.total_s for cost in costs)
    time = f"{seconds / 60:,.0f} minutes" if seconds >= 90 else f"{seconds:,.0f} seconds"
    yield (
        f"in all: at most {steps:,} steps, {time}, with the validation after each epoch; calibration, export and "
        "measuring come after it"
    )
    begun = [] if anew else zip(step_folders(job), begun_checkpoints(job), strict=True)
    for folder, checkpoint in begun:
        if checkpoint is not None:
            yield f"it goes on: {shown(folder)} has {steps_of(checkpoint):,} steps already"


def _size_bytes(path: Path) -> int:
    """Return the size of a file; none where another training has just put it elsewhere."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:
        return 0


def _looked_at(job: TrainJob) -> str:
    """Say how often a step looks at a picture, where that is not once."""
    share = job.loss.instance_pictures if job.loss.instance else 0
    views = f", {'each' if share == 1 else f'{share:.0%} of them'} in two views" if share else ""
    return views + (f", shown to {len(job.distill.teachers)} teachers, too" if job.distill else "")


def _describe_data(source: Source) -> Iterator[str]:
    for number, (part, times) in enumerate(source.parts, start=1):
        repeated = f", each shown {times} times an epoch" if times > 1 else ""
        yield f"data: part {number} has {len(part):,} pictures{repeated}, {part.dropped:,} left out"
    yield f"data: {len(source.val):,} pictures are watched"
    for group in source.schema.groups:
        yield f"labels: {shown(group.name)} ({group.kind}, {group.width}){_answers(source, group)}"
    for name, value in source.notes.items():
        said = f"{value:,}" if isinstance(value, int) else ", ".join(value) if isinstance(value, list) else value
        yield f"data: {shown(name)}: {shown(str(said))}"


def _answers(source: Source, group: Group) -> str:
    """Say how many pictures that are learned from have each answer, the most frequent first."""
    if group.kind == "points":
        return ""
    values = np.concatenate([part.targets[group.name] for part, _ in source.parts])
    counts = (values == 1).sum(0) if values.ndim == 2 else np.bincount(values[values >= 0], minlength=group.width)
    order = np.argsort(-counts, kind="stable")
    said = [f"{shown(group.labels[place])} {counts[place]:,}" for place in order[:_MOST_ANSWERS]]
    return f": {', '.join(said)}" + (f", and {len(order) - len(said):,} more" if len(order) > len(said) else "")
