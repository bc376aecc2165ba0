"""Lightning's trainer as a schedule asks for it: precision, devices, averaging, checkpoints, when to stop, logs.

Everything that the next epoch depends on is in the checkpoint of the last one, whenever the training was killed.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, TQDMProgressBar, WeightAveraging
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from stylematch.settings.train_method import Schedule
from stylematch.vision.checkpoints import DurableCheckpoints, best_checkpoint, last_checkpoint
from stylematch.vision.shared_training import SharedTraining
from stylematch.vision.train_log import RATE, LogEpochs, epoch_means, open_log

logger = logging.getLogger(__name__)


def training_trainer(
    schedule: Schedule, out: Path, first_step: int = 0, *, some_rest: bool = False
) -> lightning.Trainer:
    """Return what runs a whole training.

    Parameters
    ----------
    schedule : Schedule
        How long and how.
    out : pathlib.Path
        The folder of checkpoints and log.
    first_step : int
        The step that a training begins or goes on with; what is logged before it stays.
    some_rest : bool
        Some weights that may change have no part in the loss, for which several processes would wait.

    Raises
    ------
    MissingExtraError
        If the log that the schedule asks for cannot be written.
    """
    # The best first: the last checkpoint then knows of it, and a resumed training what it has to beat.
    callbacks: list[Any] = [best_checkpoint(out)] if schedule.keep == "best" else []
    callbacks.append(last_checkpoint(out))
    if schedule.patience:
        callbacks.append(_StopEarly("val_loss", patience=schedule.patience))
    on_terminal = sys.stderr.isatty()
    return _trainer(
        schedule,
        [LogEpochs(), *callbacks, TQDMProgressBar(refresh_rate=20) if on_terminal else _EpochLines()],
        max_epochs=schedule.epochs,
        logger=open_log(schedule.log, out, first_step),
        devices=schedule.devices,
        strategy="auto" if schedule.devices == 1 else SharedTraining(find_unused_parameters=some_rest),
        enable_progress_bar=on_terminal,
    )


def measuring_trainer(schedule: Schedule, watch: lightning.Callback) -> lightning.Trainer:
    """Return what runs one short epoch as a training would, with one watched batch, and writes nothing."""
    return _trainer(
        schedule,
        [watch],
        max_epochs=1,
        limit_val_batches=1,
        logger=False,
        devices=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )


def _trainer(schedule: Schedule, callbacks: Sequence[lightning.Callback], **options: Any) -> lightning.Trainer:
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # The quickest sums of a GPU end otherwise each time, and so would a training that was killed and gone on with.
    torch.backends.cudnn.deterministic = True
    averaging = [_Averaging(schedule.average)] if schedule.average else []
    return lightning.Trainer(
        precision=precision_of(schedule.precision),
        gradient_clip_val=schedule.clip_norm or None,
        callbacks=[*averaging, *callbacks],
        accelerator="auto",
        num_sanity_val_steps=0,
        enable_model_summary=False,
        use_distributed_sampler=False,
        plugins=[DurableCheckpoints(at_once=schedule.devices > 1)],
        **options,
    )


def precision_of(wanted: str) -> Any:
    """Choose bfloat16 where the hardware multiplies it natively: recent GPUs, and CPUs with AMX."""
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if torch.cpu._is_amx_tile_supported() else "32-true"


class _Averaging(WeightAveraging):
    """The moving average of the weights, kept where they are.

    Lightning's own is made before the network is brought to its device, so that every step would copy all weights to
    the CPU.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self._decay = decay

    def setup(self, trainer: lightning.Trainer, module: lightning.LightningModule, stage: str) -> None:
        if stage == "fit":
            self._average_model = _Average(module, self._decay, trainer.strategy.root_device)


class _Average(AveragedModel):
    """Torch's average, updated in one call for all weights and without asking the device how many steps there were."""

    def __init__(self, model: torch.nn.Module, decay: float, device: torch.device) -> None:
        super().__init__(model, device, use_buffers=True)
        self._moved = get_ema_multi_avg_fn(decay)
        self._begun = False

    @torch.no_grad()
    def update_parameters(self, model: torch.nn.Module) -> None:
        own, theirs = ([*part.parameters(), *part.buffers()] for part in (self.module, model))
        if not self._begun:  # asked once: a training that goes on has its count from the checkpoint
            self._begun = bool(self.n_averaged > 0)
        if self._begun:
            for real in (True, False):
                rows = [row for row, x in enumerate(own) if x.is_floating_point() == real]
                if rows:
                    self._moved([own[row] for row in rows], [theirs[row] for row in rows], self.n_averaged)
        else:
            for mine, new in zip(own, theirs, strict=True):
                mine.copy_(new)
            self._begun = True
        self.n_averaged += 1


class _StopEarly(EarlyStopping):
    """Early stopping that holds: a training that it ended is not gone on with for one epoch more."""

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:  # noqa: ARG002 (Lightning's name)
        trainer.should_stop = self.stopped_epoch > 0


class _EpochLines(lightning.Callback):
    """One plain log line an epoch, for logs that are files."""

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:  # noqa: ARG002 (Lightning's name)
        """Write the epoch's losses."""
        if not trainer.is_global_zero:
            return
        means = epoch_means(trainer)
        rate = means.pop(RATE)
        values = ", ".join([*(f"{name} {value:.4f}" for name, value in sorted(means.items())), f"{RATE} {rate:.3g}"])
        logger.info("epoch %d of %d: %s", trainer.current_epoch + 1, trainer.max_epochs or 0, values)
