"""``train --dry-run``: the resolved job, the data after cleaning, and the time and memory that the training will take.

Time and memory are measured, not computed: a few steps of the real network on pictures of the real size.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from stylematch.errors import MissingExtraError
from stylematch.pipelines.sources import Source, open_source
from stylematch.pipelines.train import first_network
from stylematch.settings import TrainJob

_STEPS = 2
_GIB = 2**30


def describe_training(job: TrainJob) -> Iterator[str]:
    """Give the lines of a dry run.

    Parameters
    ----------
    job : TrainJob
        What would be trained.

    Raises
    ------
    UserError
        If the job or its data are wrong, or the train extra is missing.
    """
    yield json.dumps(job.model_dump(mode="json"), indent=2)
    source = open_source(job.data, job.model.input_px, Path(job.out).parent / "cache")
    yield from _describe_data(source)
    try:
        from stylematch.vision.step_time import measure_steps

        network = first_network(job, source.schema)
    except ImportError as error:
        raise MissingExtraError("Training a model", "train") from error
    network.freeze(job.in_steps()[-1].model.frozen)
    seconds, memory_bytes, device = measure_steps(network, job, source.parts[0][0], _STEPS)
    steps = sum(
        sum(len(part) * times for part, times in source.parts) // step.schedule.batch_size * step.schedule.epochs
        for step in job.in_steps()
    )
    yield f"network: {sum(p.numel() for p in network.parameters()):,} parameters"
    rate = job.schedule.batch_size / seconds
    memory_gib = memory_bytes / _GIB
    yield f"one step: {seconds * 1000:,.0f} ms on {device}, {rate:,.0f} pictures/s, memory {memory_gib:.1f} GiB"
    yield f"training: at most {steps:,} steps, {steps * seconds / 60:,.0f} minutes, and the validation after each epoch"


def _describe_data(source: Source) -> Iterator[str]:
    for number, (part, times) in enumerate(source.parts, start=1):
        shown = f", each shown {times} times an epoch" if times > 1 else ""
        yield f"data: part {number} has {len(part):,} pictures{shown}, {part.dropped:,} left out"
    yield f"data: {len(source.val):,} pictures are watched"
    for group in source.schema.groups:
        yield f"labels: {group.name} ({group.kind}, {group.width})"
    for name, value in source.notes.items():
        yield f"data: {name}: {value}"
