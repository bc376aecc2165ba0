"""The log of a training that can be gone on with: what earlier runs wrote stays, and every epoch is in it once.

A run that goes on begins at the last checkpoint, so what was logged after that is logged again. The log is written
before each checkpoint: whatever a checkpoint has learned from is in it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from stylematch.errors import MissingExtraError
from stylematch.tables.disk import write_durably

LOG = "log"
METRICS = "metrics.csv"
RATE = "learning_rate"
_LOGGED = ("train_", "val_")  # what names of an epoch's means begin with


class CsvLog(Logger):
    """Rows of metrics in a CSV file that is always whole; Lightning's own deletes what an earlier run has logged.

    Parameters
    ----------
    folder : pathlib.Path
        Where ``metrics.csv`` lies or will lie.
    first_step : int
        The step that this run begins with: earlier rows of the file stay, later ones are logged again.
    """

    def __init__(self, folder: Path, first_step: int = 0) -> None:
        super().__init__()
        self.path = folder / METRICS
        self._rows: list[dict[str, Any]] = _rows_before(self.path, first_step)
        self._written = len(self._rows)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.parent.name

    @property
    def version(self) -> str:
        """None: runs of one training share a log."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Write nothing: the job beside the checkpoints says them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add a row."""
        step = len(self._rows) if step is None else step
        self._rows.append({**{name: float(value) for name, value in metrics.items()}, "step": step})

    @rank_zero_only
    def save(self) -> None:
        """Replace the file by one with all rows, if there are new ones."""
        if len(self._rows) == self._written:
            return
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, sorted({name for row in self._rows for name in row}), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(self.path, text.getvalue().encode())
        self._written = len(self._rows)

    @rank_zero_only
    def finalize(self, status: str) -> None:  # noqa: ARG002 (Lightning's name)
        """Write what is left, however the training ended."""
        self.save()


class LogEpochs(lightning.Callback):
    """Logs each epoch as one row, before its checkpoint: a kill after that loses no row of what it has learned from."""

    def on_train_epoch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,  # noqa: ARG002 (Lightning's name)
    ) -> None:
        """Log the epoch's means and its last learning rate at its last step."""
        row = {**epoch_means(trainer), "epoch": float(trainer.current_epoch)}
        for logger in trainer.loggers:
            logger.log_metrics(row, step=trainer.global_step - 1)
            logger.save()


def epoch_means(trainer: lightning.Trainer) -> dict[str, float]:
    """Return what an epoch that ends is told by: the means of its losses, what was watched, and the learning rate."""
    means = {name: float(x) for name, x in trainer.callback_metrics.items() if name.startswith(_LOGGED)}
    return {**means, RATE: float(trainer.optimizers[0].param_groups[0]["lr"])}


def open_log(kind: str, out: Path, first_step: int) -> Logger:
    """Return the log of a training, ``csv`` or ``tensorboard``, in ``out/log``.

    Parameters
    ----------
    kind : str
        As ``Schedule.log`` names it.
    out : pathlib.Path
        The training's folder.
    first_step : int
        The step that this run begins with; 0 begins anew.

    Raises
    ------
    MissingExtraError
        If TensorBoard is asked for and not installed.
    """
    if kind == "csv":
        return CsvLog(out / LOG, first_step)
    try:
        from lightning.pytorch.loggers import TensorBoardLogger

        # TensorBoard hides what the files of earlier runs have from this step on.
        purge: dict[str, Any] = {"purge_step": first_step} if first_step else {}
        return TensorBoardLogger(out, name=LOG, version="", **purge)
    except ImportError as error:
        raise MissingExtraError('schedule.log = "tensorboard"', "train") from error


def _rows_before(path: Path, step: int) -> list[dict[str, Any]]:
    """Return the rows of a log before a step, as they are written; none of what is no log."""
    if not step or not path.is_file():
        return []
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        return [
            {name: value for name, value in row.items() if name and value}
            for row in csv.DictReader(file)
            if (row.get("step") or "").isdigit() and int(row["step"]) < step
        ]
