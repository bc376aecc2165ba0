"""What a training step takes: time and memory of forward, backward and optimiser on one batch that is there already."""

from __future__ import annotations

import resource
import time

import numpy as np
import torch

from stylematch.settings import TrainJob
from stylematch.vision.examples import Examples
from stylematch.vision.losses import SchemaLoss, soft_targets
from stylematch.vision.networks import Network
from stylematch.vision.training import keep_memory, precision_of


def measure_steps(network: Network, job: TrainJob, part: Examples, steps: int) -> tuple[float, int, str]:
    """Run a few steps that change next to nothing.

    Parameters
    ----------
    network : Network
        Moved to the GPU where there is one.
    job : TrainJob
        Batch size, input and precision.
    part : Examples
        The first pictures are the batch; they are repeated where there are too few.
    steps : int
        How many are timed, after one that is not.

    Returns
    -------
    seconds : float
        Of a step, in the mean.
    memory_bytes : int
        Peak of the GPU, or of the process.
    device : str
        ``cuda`` or ``cpu``.
    """
    keep_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = network.to(device).to(memory_format=torch.channels_last).train()
    batch = part.subset(np.arange(job.schedule.batch_size) % len(part)).in_channels(network.channels)
    pictures = torch.from_numpy(batch.crops(job.model.input_px).copy()).to(device).permute(0, 3, 1, 2).float() / 255.0
    loss = SchemaLoss(network.schema)
    targets = {name: torch.from_numpy(batch.targets[name]).to(device) for name in network.heads}
    soft = soft_targets(network.schema, targets)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-9)
    narrow = precision_of(job.schedule.precision) == "bf16-mixed"
    started = 0.0
    for step in range(steps + 1):
        if step == 1:
            _wait(device)
            started = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=narrow):
            _, outputs = network.outputs(pictures)
            total = torch.stack(list(loss(outputs, soft).values())).sum()
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
    _wait(device)
    seconds = (time.perf_counter() - started) / steps
    if device.type == "cuda":
        return seconds, torch.cuda.max_memory_allocated(), device.type
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, device.type


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
