"""The training loop: Lightning's trainer over examples in memory, resumable from its last epoch.

Order of the pictures and every augmentation depend only on (seed, epoch, step), so a run that was killed and
started again ends with the weights of one that was not. Checkpoints are the trainer's private state; what
leaves a training is a model bundle.
"""

from __future__ import annotations

import ctypes
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from stylematch.data.labels import LabelSchema
from stylematch.errors import UserError
from stylematch.settings import TrainJob
from stylematch.vision.augment import augment_batch, mix_batch
from stylematch.vision.examples import Examples
from stylematch.vision.losses import mix_targets, schema_accuracy, schema_loss, soft_targets, teach_targets
from stylematch.vision.networks import Network

logger = logging.getLogger(__name__)
# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4

Batch = tuple[Tensor, dict[str, Tensor]]


class _Batches(Dataset[Batch]):
    """Whole batches by row numbers, over the concatenation of several example sets."""

    def __init__(self, parts: list[Examples]) -> None:
        self.parts = parts
        self.starts = np.cumsum([0] + [len(part) for part in parts])

    def __getitem__(self, rows: Any) -> Batch:
        fields, targets = [], []
        for row in rows:
            part = int(np.searchsorted(self.starts, row, side="right")) - 1
            local = row - self.starts[part]
            fields.append(self.parts[part].fields[local])
            targets.append({name: values[local] for name, values in self.parts[part].targets.items()})
        stacked = {name: torch.from_numpy(np.stack([t[name] for t in targets])) for name in targets[0]}
        return torch.from_numpy(np.stack(fields)), stacked


class _EpochOrder(Sampler[list[int]]):
    """Batches of shuffled rows; the order is a function of (seed, epoch) alone."""

    def __init__(self, repeats: list[tuple[int, int]], batch_size: int, seed: int) -> None:
        self.repeats, self.batch_size, self.seed, self.epoch = repeats, batch_size, seed, 0
        self.total = sum(count * times for count, times in repeats)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.total // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        rows, start = [], 0
        for count, times in self.repeats:
            rows += [np.tile(np.arange(start, start + count), times)]
            start += count
        order = np.random.default_rng((self.seed, self.epoch)).permutation(np.concatenate(rows))
        for batch in range(len(self)):
            yield order[batch * self.batch_size : (batch + 1) * self.batch_size].tolist()


class _Module(lightning.LightningModule):
    """What Lightning needs to know: the step, the optimiser and the validation."""

    def __init__(
        self, network: Network, schema: LabelSchema, job: TrainJob, steps: int, teacher: Network | None
    ) -> None:
        super().__init__()
        self.network, self.schema, self.job, self.steps = network, schema, job, steps
        # In a list, since a teacher is no part of what is trained and stored.
        self.teachers = [] if teacher is None else [teacher.eval().requires_grad_(False)]

    def training_step(self, batch: Batch) -> Tensor:
        """Return the loss of one augmented batch."""
        fields, labels = batch
        targets = soft_targets(self.schema, labels)
        pictures = fields.permute(0, 3, 1, 2).float() / 255.0
        generator = torch.Generator().manual_seed(self.job.schedule.seed * 1_000_003 + self.global_step)
        point_group = next((g.name for g in self.schema.groups if g.kind == "points"), None)
        points = targets[point_group] if point_group else None
        with torch.autocast(pictures.device.type, enabled=False):
            pictures, points = augment_batch(pictures, points, self.job.model.input_px, self.job.augment, generator)
        if point_group and points is not None:
            targets = {**targets, point_group: points}
        if self.job.augment.mixup > 0:
            pictures, partner, share = mix_batch(pictures, self.job.augment, generator)
            targets = mix_targets(self.schema, targets, partner, share)
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        for teacher in self.teachers:
            assert self.job.distill is not None
            with torch.no_grad():
                _, opinion = teacher.to(self.device).outputs(pictures)
            targets = teach_targets(self.schema, targets, opinion, self.job.distill.weight)
        # Dropout draws from the global generator: seeded by the step too, so that a resumed run repeats it.
        torch.manual_seed(self.job.schedule.seed * 1_000_003 + self.global_step)
        return self._loss(pictures, targets, "train")

    def validation_step(self, batch: Batch) -> None:
        """Log loss and accuracy of one batch without augmentation."""
        fields, labels = batch
        start = (fields.shape[1] - self.job.model.input_px) // 2
        end = start + self.job.model.input_px
        pictures = fields[:, start:end, start:end].permute(0, 3, 1, 2).float() / 255.0
        self._loss(pictures, soft_targets(self.schema, labels), "val")

    def _loss(self, pictures: Tensor, targets: dict[str, Tensor], stage: str) -> Tensor:
        _, outputs = self.network.outputs(pictures)
        losses = schema_loss(
            self.schema,
            outputs,
            targets,
            label_smoothing=self.job.schedule.label_smoothing if stage == "train" else 0.0,
        )
        total = torch.stack(list(losses.values())).sum()
        self.log_dict({f"{stage}_{name}": loss for name, loss in losses.items()}, batch_size=len(pictures))
        self.log(f"{stage}_loss", total, batch_size=len(pictures), prog_bar=True)
        if stage == "val":
            for name, (met, known) in schema_accuracy(self.schema, outputs, targets).items():
                self.log(f"val_{name}_accuracy", met / known.clamp(min=1), batch_size=int(known))
        return total

    def configure_optimizers(self) -> Any:
        """Return AdamW (Loshchilov, Hutter, 2019) at a one-cycle rate; norms and biases are not decayed."""
        schedule = self.job.schedule
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        free = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": schedule.weight_decay},
            {"params": free, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=schedule.learning_rate)
        rate = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=schedule.learning_rate, total_steps=self.steps + 1, pct_start=schedule.warmup
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}


def train_network(
    network: Network,
    schema: LabelSchema,
    job: TrainJob,
    parts: list[tuple[Examples, int]],
    val: Examples,
    out: Path,
    teacher: Network | None = None,
) -> Network:
    """Train, or go on with, a network.

    Parameters
    ----------
    network : Network
        Trained in place and returned, in evaluation mode.
    schema : LabelSchema
        Its label groups.
    job : TrainJob
        Augmentation and schedule.
    parts : list of (Examples, int)
        Training examples, and how often an epoch shows each.
    val : Examples
        Watched after each epoch, never learned from.
    out : pathlib.Path
        Checkpoints (``out/checkpoints``) and the log (``out/log``); a checkpoint found there is gone on with.
    teacher : Network, optional
        Whose opinion the targets are drawn towards, as ``job.distill`` says.

    Raises
    ------
    UserError
        If the examples do not fill a batch, or there are none to watch.
    """
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    schedule = job.schedule
    order = _EpochOrder([(len(p), times) for p, times in parts], schedule.batch_size, schedule.seed)
    if len(order) == 0 or len(val) == 0:
        raise UserError(
            f"{order.total} pictures to learn from do not fill a batch of schedule.batch_size = "
            f"{schedule.batch_size}, or none of {len(val)} is left to watch; use more pictures (data.limit)."
        )
    training = DataLoader(_Batches([p for p, _ in parts]), sampler=order, batch_size=None)
    rows = np.arange(len(val))
    watching = DataLoader(
        _Batches([val]),
        sampler=[part.tolist() for part in np.array_split(rows, -(-len(rows) // 128))],
        batch_size=None,
    )
    steps = len(order) * schedule.epochs
    network = network.to(memory_format=torch.channels_last)
    module = _Module(network, schema, job, steps, teacher)
    _keep_memory()
    # Not save_last with save_top_k=0: Lightning then writes nothing before the training's very end.
    checkpoints = ModelCheckpoint(out / "checkpoints", filename="last", enable_version_counter=False)
    trainer = lightning.Trainer(
        max_epochs=schedule.epochs,
        precision=_precision(schedule.precision),
        gradient_clip_val=schedule.clip_norm or None,
        callbacks=[checkpoints, *_progress()],
        logger=CSVLogger(out, name="log", version=""),
        accelerator="auto",
        devices=1,
        num_sanity_val_steps=0,
        log_every_n_steps=20,
        enable_model_summary=False,
        enable_progress_bar=sys.stderr.isatty(),
        use_distributed_sampler=False,
    )
    last = out / "checkpoints" / "last.ckpt"
    if last.is_file():
        logger.info("going on from %s", last)
    trainer.fit(module, training, watching, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
    return network.eval().cpu()


def _keep_memory() -> None:
    """Ask glibc to keep freed memory: every step frees and takes back the same large blocks.

    Measured on two cores with MobileNetV2 at 128 px: 55 pictures/s become 89, since no page is faulted in twice.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return  # another C library, which has its own ways
    for parameter, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**29)):
        mallopt(parameter, value)


def _precision(wanted: str) -> Any:
    """Choose bfloat16 where the hardware multiplies it natively: recent GPUs, and CPUs with AMX."""
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if torch.cpu._is_amx_tile_supported() else "32-true"


def _progress() -> list[Any]:
    return [TQDMProgressBar(refresh_rate=20)] if sys.stderr.isatty() else [_EpochLines()]


class _EpochLines(lightning.Callback):
    """One plain log line an epoch, for logs that are files."""

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:  # noqa: ARG002 (Lightning's name)
        """Write the epoch's losses."""
        values = ", ".join(f"{name} {float(value):.4f}" for name, value in sorted(trainer.callback_metrics.items()))
        logger.info("epoch %d of %d: %s", trainer.current_epoch + 1, trainer.max_epochs or 0, values)
