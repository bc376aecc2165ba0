"""The training loop: Lightning's trainer over examples in memory, resumable from its last epoch.

Checkpoints are the trainer's private state, beside the job that they belong to; what leaves a training is a model
bundle.
"""

from __future__ import annotations

import ctypes
import json
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from stylematch.errors import MissingExtraError, UserError
from stylematch.settings import TrainJob
from stylematch.vision.batches import Batch, Batches, EpochOrder
from stylematch.vision.examples import Examples
from stylematch.vision.learner import Learner
from stylematch.vision.losses import SchemaLoss, label_weights, point_ranges, soft_targets
from stylematch.vision.networks import Network

logger = logging.getLogger(__name__)
# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
# What may change between a training and its going on: it changes how it runs, or what is made of the network
# afterwards, and not what is learned.
_RUNNING = ("compile", "devices", "workers", "log")
_AFTERWARDS = ("instance_share",)
_WATCHED_BATCH = 128


def train_network(
    network: Network,
    job: TrainJob,
    parts: list[tuple[Examples, int]],
    val: Examples,
    out: Path,
    teachers: Sequence[Network] = (),
) -> Network:
    """Train, or go on with, a network.

    Parameters
    ----------
    network : Network
        Trained in place and returned, in evaluation mode.
    job : TrainJob
        Augmentation, loss and schedule.
    parts : list of (Examples, int)
        Training examples, and how often an epoch shows each.
    val : Examples
        Watched after each epoch, never learned from.
    out : pathlib.Path
        Checkpoints (``out/checkpoints``) and the log (``out/log``); a checkpoint found there is gone on with.
    teachers : sequence of Network
        Whose mean opinion the targets are drawn towards, as ``job.distill`` says.

    Raises
    ------
    UserError
        If the examples do not fill a batch, there are none to watch, or the checkpoint is of another job.
    StylematchError
        If the loss is no longer finite.
    """
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    schedule = job.schedule
    pictures = Batches([part for part, _ in parts])
    targets = _all_targets(network, parts)
    loss = SchemaLoss(
        network.schema,
        job.loss,
        label_weights(network.schema, targets) if job.data.balance == "weights" else {},
        point_ranges(network.schema, targets),
    )
    chances = _sampling_weights(network, targets) if job.data.balance == "sampler" else None
    last = _last_checkpoint(job, out)
    trainer = _trainer(job, out)
    order = EpochOrder(
        [(len(part), times) for part, times in parts],
        schedule.batch_size,
        schedule.seed,
        chances,
        rank=trainer.global_rank,
        processes=trainer.world_size,
    )
    if len(order) == 0 or len(val) == 0:
        raise UserError(
            f"{order.total} pictures to learn from do not fill a batch of schedule.batch_size = "
            f"{schedule.batch_size}, or none of {len(val)} is left to watch; use more pictures (data.limit)."
        )
    # As many batches for every process: Lightning refuses a process that has none.
    each = -(-len(val) // (_WATCHED_BATCH * trainer.world_size))
    rows = np.array_split(np.arange(len(val)), each * trainer.world_size)
    training = _loader(pictures, order, schedule.workers)
    watching = _loader(Batches([val]), [part.tolist() for part in rows[trainer.global_rank :: trainer.world_size]], 0)
    network = network.to(memory_format=torch.channels_last)
    learner = Learner(network, loss, job, len(order) * schedule.epochs, teachers)
    keep_memory()
    if last is not None:
        logger.info("going on from %s", last)
    trainer.fit(learner, training, watching, ckpt_path=None if last is None else str(last), weights_only=True)
    if schedule.keep == "best":
        stored = torch.load(out / "checkpoints" / "best.ckpt", weights_only=True, map_location="cpu")["state_dict"]
        learner.load_state_dict(stored)
    return network.eval().cpu()


def _loader(pictures: Batches, sampler: Any, workers: int) -> DataLoader[Batch]:
    return DataLoader(
        pictures,
        sampler=sampler,
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def _all_targets(network: Network, parts: list[tuple[Examples, int]]) -> dict[str, torch.Tensor]:
    names = [group.name for group in network.schema.groups]
    stacked = {name: torch.from_numpy(np.concatenate([part.targets[name] for part, _ in parts])) for name in names}
    return soft_targets(network.schema, stacked)


def _sampling_weights(network: Network, targets: dict[str, torch.Tensor]) -> npt.NDArray[np.float64]:
    """Return for every picture how rare its labels are: the mean of its known labels' weights, over all groups."""
    weights = label_weights(network.schema, targets)
    rarity = [
        torch.where(target.isnan(), torch.nan, target * weights[name] + (1 - target) * (1 / weights[name].clamp(0.1)))
        if network.schema.group(name).kind == "binary"
        else torch.where(target.isnan(), torch.nan, target * weights[name]).sum(1, keepdim=True)
        for name, target in targets.items()
        if name in weights
    ]
    chances = torch.cat(rarity, 1).nanmean(1).nan_to_num(1.0)
    return chances.double().numpy()


def _last_checkpoint(job: TrainJob, out: Path) -> Path | None:
    """Return the checkpoint to go on from, if there is one, and note whose checkpoints these will be."""
    hidden: Any = {"out": True, "schedule": set(_RUNNING), "model": set(_AFTERWARDS)}
    note, last = out / "job.json", out / "checkpoints" / "last.ckpt"
    if last.is_file() and note.is_file():
        try:
            # Read as a job, so that settings that were added since have their defaults.
            then = TrainJob.model_validate({**json.loads(note.read_text(encoding="utf-8")), "out": job.out})
        except ValueError:
            then = None
        if then is None or then.model_dump(exclude=hidden) != job.model_dump(exclude=hidden):
            raise UserError(
                f"{out / 'checkpoints'} is of another job than this one ({note} tells); name another out, or delete "
                f"{out}."
            )
    described = job.model_dump(mode="json", exclude=hidden)
    out.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    return last if last.is_file() else None


def _trainer(job: TrainJob, out: Path) -> lightning.Trainer:
    schedule = job.schedule
    # Not save_last with save_top_k=0: Lightning then writes nothing before the training's very end.
    callbacks: list[Any] = [ModelCheckpoint(out / "checkpoints", filename="last", enable_version_counter=False)]
    if schedule.keep == "best":
        callbacks.append(
            ModelCheckpoint(out / "checkpoints", filename="best", monitor="val_loss", enable_version_counter=False)
        )
    if schedule.average:
        callbacks.append(EMAWeightAveraging(decay=schedule.average))
    if schedule.patience:
        callbacks.append(EarlyStopping("val_loss", patience=schedule.patience))
    on_terminal = sys.stderr.isatty()
    return lightning.Trainer(
        max_epochs=schedule.epochs,
        precision=precision_of(schedule.precision),
        gradient_clip_val=schedule.clip_norm or None,
        callbacks=[*callbacks, TQDMProgressBar(refresh_rate=20) if on_terminal else _EpochLines()],
        logger=_logger(job, out),
        accelerator="auto",
        devices=schedule.devices,
        strategy="ddp" if schedule.devices > 1 else "auto",
        num_sanity_val_steps=0,
        log_every_n_steps=20,
        enable_model_summary=False,
        enable_progress_bar=on_terminal,
        use_distributed_sampler=False,
    )


def _logger(job: TrainJob, out: Path) -> Any:
    if job.schedule.log == "csv":
        return CSVLogger(out, name="log", version="")
    try:
        from lightning.pytorch.loggers import TensorBoardLogger

        return TensorBoardLogger(out, name="log", version="")
    except ImportError as error:
        raise MissingExtraError('schedule.log = "tensorboard"', "train") from error


def keep_memory() -> None:
    """Ask glibc to keep freed memory: every step frees and takes back the same large blocks.

    Measured on two cores with MobileNetV2 at 128 px: 55 pictures/s become 89, since no page is faulted in twice.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return  # another C library, which has its own ways
    for parameter, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**29)):
        mallopt(parameter, value)


def precision_of(wanted: str) -> Any:
    """Choose bfloat16 where the hardware multiplies it natively: recent GPUs, and CPUs with AMX."""
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if torch.cpu._is_amx_tile_supported() else "32-true"


class _EpochLines(lightning.Callback):
    """One plain log line an epoch, for logs that are files."""

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:  # noqa: ARG002 (Lightning's name)
        """Write the epoch's losses."""
        if not trainer.is_global_zero:
            return
        values = ", ".join(f"{name} {float(value):.4f}" for name, value in sorted(trainer.callback_metrics.items()))
        logger.info("epoch %d of %d: %s", trainer.current_epoch + 1, trainer.max_epochs or 0, values)
