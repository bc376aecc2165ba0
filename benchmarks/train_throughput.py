"""How fast a training job sees pictures: from JPEG files, and on synthetic tensors that already lie on the device.

``python benchmarks/train_throughput.py jobs/celeba-vgg16.toml`` takes the first ``--pictures`` of the job's data and

1. ``synthetic``: steps of the job's network and loss, with AdamW, on one resident batch, in one view and without
   teachers;
2. ``jpeg``: one epoch of the real training from a cold cache: decode and cut every JPEG file, then augment, learn and
   watch. On a GPU ``nvidia-smi``, which comes with the driver, says ten times a second how busy it is:
   ``gpu_busy_share`` is the mean over all of that, ``gpu_busy_share_cached`` without the cutting, as in later epochs.
   Both are null where there is no GPU, no ``nvidia-smi``, or a slice of a GPU (MIG), of which it does not tell.

Writes ``train_throughput.json``: both rates, their ratio, what a step takes (``step_ms``, the median from one step's
begin to the next's) and what the epoch takes beside its steps (``beside_steps_s``: starting, watching, writing a
checkpoint), and the hours that an epoch over all 162,770 training pictures of CelebA takes at the rate from JPEG files
(later epochs read the cut pictures, so this is an upper bound).
The network begins with random weights, which take as long and need no download.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from machine import RESULTS, report

from stylematch.data.memory import keep_freed_memory
from stylematch.errors import StylematchError
from stylematch.pipelines.learning.sources import open_source
from stylematch.pipelines.learning.starting import first_network
from stylematch.pipelines.learning.train_job import read_train_job
from stylematch.settings.train import TrainJob
from stylematch.vision.examples import Examples
from stylematch.vision.learner import Learner
from stylematch.vision.losses import SchemaLoss, point_ranges, soft_targets
from stylematch.vision.networks import Network
from stylematch.vision.resizing import as_input
from stylematch.vision.trainer import precision_of
from stylematch.vision.training import train_network

CELEBA_TRAIN, CELEBA_WATCHED = 162_770, 19_867
SEED_HOURS = 35.0  # one epoch that the seed's author gave up on


class BusyShare:
    """How busy the GPU was while the blocks ran: percentages that a command writes, one a line, until it is ended."""

    def __init__(self, command: list[str] | None) -> None:
        self.command = command
        self.samples: list[float] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Take samples while the block runs."""
        if self.command is None:
            yield
            return
        # Into a file: a pipe that nobody reads is full after some minutes.
        with tempfile.TemporaryFile("w+") as said:
            watcher = subprocess.Popen(self.command, stdout=said)
            try:
                yield
            finally:
                watcher.terminate()
                watcher.wait()
            said.seek(0)
            self.samples += [float(line) for line in said if line.strip().isdigit()]

    @property
    def share(self) -> float | None:
        """Between 0 and 1; None where nothing was said."""
        return round(float(np.mean(self.samples)) / 100, 3) if self.samples else None


def busy_command() -> list[str] | None:
    """Return what writes how busy the GPU that trains is, None where there is none or the driver's tool is missing."""
    tool = shutil.which("nvidia-smi")
    if tool is None or not torch.cuda.is_available():
        return None
    # By its name of its own: numbers follow CUDA_VISIBLE_DEVICES here and not there.
    device = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
    return [tool, "-i", device, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "100"]


def plain_step_s(network: Network, job: TrainJob, part: Examples, steps: int) -> float:
    """Return the seconds of a step that only computes: forward, backward and optimiser on one resident batch."""
    keep_freed_memory(of_any_size=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = network.to(device).to(memory_format=torch.channels_last).train()
    batch = part.subset(np.arange(job.schedule.batch_size) % len(part)).in_channels(network.channels)
    crops = torch.from_numpy(batch.crops().copy()).to(device)
    pictures = as_input(crops, job.model.input_px).contiguous(memory_format=torch.channels_last)
    names = [group.name for group in network.schema.groups]
    targets = {name: torch.from_numpy(batch.targets[name]).to(device) for name in names}
    soft = soft_targets(network.schema, targets)
    loss = SchemaLoss(network.schema, job.loss, ranges=point_ranges(network.schema, soft))
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
    return (time.perf_counter() - started) / steps


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def run(job: TrainJob, steps: int) -> dict[str, object]:
    """Measure one job."""
    with tempfile.TemporaryDirectory(prefix="stylematch-") as scratch:
        cutting, learning = BusyShare(busy_command()), BusyShare(busy_command())
        started = time.perf_counter()
        with cutting.watched():
            source = open_source(job.data, job.model.input_px, Path(scratch) / "cache", margin=job.augment.moves)
        cut_s = time.perf_counter() - started
        network = first_network(job, source.schema)
        step_s = plain_step_s(network, job, source.parts[0][0], steps)
        shown = sum(len(part) * times for part, times in source.parts)
        count = shown // job.schedule.batch_size * job.schedule.batch_size
        # As many as an epoch of all of CelebA watches for so many that it learns from.
        few = min(len(source.val), max(1, count * CELEBA_WATCHED // CELEBA_TRAIN))
        watched = source.val.subset(np.arange(few))
        begun: list[float] = []

        def note(*_: object) -> None:
            begun.append(time.perf_counter())

        started = time.perf_counter()
        with learning.watched(), mock.patch.object(Learner, "on_train_batch_start", note, create=True):
            train_network(network, job, source.parts, watched, Path(scratch) / "run")
        epoch_s = time.perf_counter() - started
        between_s = float(np.median(np.diff(begun))) if len(begun) > 1 else epoch_s
    whole = BusyShare(None)
    whole.samples = cutting.samples + learning.samples
    # The validation split is cut, too; its share of that is taken off.
    cut_s *= source.pictures / (source.pictures + len(source.val))
    rate = count / (cut_s + epoch_s)
    synthetic = job.schedule.batch_size / step_s
    return {
        "job": job.name,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "pictures": count,
        "watched": few,
        "cut_s": round(cut_s, 2),
        "epoch_s": round(epoch_s, 2),
        "step_ms": round(1000 * between_s, 2),
        "beside_steps_s": round(epoch_s - len(begun) * between_s, 2),
        "jpeg_pictures_per_s": round(rate, 1),
        "cached_pictures_per_s": round(count / epoch_s, 1),
        "synthetic_pictures_per_s": round(synthetic, 1),
        "ratio": round(rate / synthetic, 3),
        "gpu_busy_share": whole.share,
        "gpu_busy_share_cached": learning.share,
        "celeba_epoch_hours": round(CELEBA_TRAIN / rate / 3600, 3),
        "seed_epoch_hours": f"more than {SEED_HOURS:.0f}",
    }


def main() -> None:
    """Read the arguments, measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("job", type=Path)
    parser.add_argument("--pictures", type=int, default=12_000, help="of every part of the data")
    parser.add_argument("--steps", type=int, default=30, help="synthetic steps that are timed")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=RESULTS / "train_throughput.json")
    arguments = parser.parse_args()
    changes = [f"data.limit={arguments.pictures}", "schedule.epochs=1", "schedule.keep='last'", "model.weights='none'"]
    try:
        figures = run(read_train_job(arguments.job, [*changes, *arguments.overrides]), arguments.steps)
    except StylematchError as error:
        raise SystemExit(str(error)) from error
    report(figures, [("what", "measured"), *figures.items()], arguments.out)


if __name__ == "__main__":
    main()
