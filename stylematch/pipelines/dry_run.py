"""``train --dry-run``: the resolved job, the data after cleaning, and the time and memory that the training will take.

Time and memory are measured, not computed: three steps of the real network on pictures of the real size, forward and
backward, of which the faster two count.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stylematch.errors import MissingExtraError
from stylematch.pipelines.sources import Source, open_source
from stylematch.pipelines.train import first_network
from stylematch.settings import TrainJob

_STEPS = 3
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
        seconds, memory_bytes, device, parameters = _measure_step(job, source)
    except ImportError as error:
        raise MissingExtraError("Training a model", "train") from error
    steps = sum(
        sum(len(part) * times for part, times in source.parts) // step.schedule.batch_size * step.schedule.epochs
        for step in job.in_steps()
    )
    yield f"network: {parameters:,} parameters"
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


def _measure_step(job: TrainJob, source: Source) -> tuple[float, int, str, int]:
    """Return seconds of a step, peak memory in bytes, the device and the number of parameters."""
    import torch

    from stylematch.vision.losses import SchemaLoss, soft_targets
    from stylematch.vision.training import keep_memory, precision_of

    keep_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = first_network(job, source.schema).to(device).to(memory_format=torch.channels_last).train()
    network.freeze(job.in_steps()[-1].model.frozen)
    part = source.parts[0][0]
    rows = [row % len(part) for row in range(job.schedule.batch_size)]
    batch = part.subset(np.array(rows))
    pictures = torch.from_numpy(batch.crops(job.model.input_px).copy()).to(device).permute(0, 3, 1, 2).float() / 255.0
    targets = {name: torch.from_numpy(batch.targets[name]).to(device) for name in network.heads}
    loss = SchemaLoss(source.schema)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-9)
    narrow = precision_of(job.schedule.precision) == "bf16-mixed"
    seconds = []
    for _ in range(_STEPS):
        started = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=narrow):
            _, outputs = network.outputs(pictures)
            total = torch.stack(list(loss(outputs, soft_targets(source.schema, targets)).values())).sum()
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    if device.type == "cuda":
        memory_bytes = torch.cuda.max_memory_allocated()
    else:
        memory_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    parameters = sum(p.numel() for p in network.parameters())
    return sum(sorted(seconds)[: _STEPS - 1]) / (_STEPS - 1), memory_bytes, device.type, parameters
