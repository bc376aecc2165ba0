"""What is said when a loss is no longer finite: where, with which pictures, and which checkpoint there is."""

from __future__ import annotations

from pathlib import Path

import lightning
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from stylematch.errors import UserError
from stylematch.tables.disk import write_durably
from stylematch.tables.shown import shown
from stylematch.vision.storable import CALMER

_FEW = 5  # pictures that a sentence names


def diverged(trainer: lightning.Trainer, what: str, total: Tensor, number: int, names: tuple[str, ...]) -> UserError:
    """Return what ends a training.

    Parameters
    ----------
    trainer : lightning.Trainer
        In the epoch in which it happened.
    what : str
        Which loss it is.
    total : Tensor
        Its value.
    number : int
        The batch of the epoch, from 0, that the weights have last learned from.
    names : tuple of str
        Its pictures; of many, all are written to a file beside the checkpoints.
    """
    rate = trainer.optimizers[0].param_groups[0]["lr"]
    return UserError(
        f"{what} became {total.item()} in epoch {trainer.current_epoch + 1}, batch {number + 1}, at a learning "
        f"rate of {rate:.3g}, with the pictures {_named(trainer, names)}. {kept_checkpoint(trainer)}: {CALMER}"
    )


def kept_checkpoint(trainer: lightning.Trainer) -> str:
    """Say which checkpoint there is."""
    if (folder := _folder(trainer)) is not None:
        trainer.strategy.checkpoint_io.teardown()  # the last epoch's may be being written
        last = folder / "last.ckpt"
        if last.is_file():
            return f"The checkpoint of epoch {trainer.current_epoch}, which model.start_from takes, is {shown(last)}"
    return "No checkpoint was written before that"


def _named(trainer: lightning.Trainer, names: tuple[str, ...]) -> str:
    folder = _folder(trainer)
    if len(names) <= _FEW or folder is None:
        return ", ".join(names)
    # Each process has its own share of the batch.
    share = f"-{trainer.global_rank}" if trainer.world_size > 1 else ""
    path = folder.parent / f"not-finite{share}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, "".join(f"{shown(name)}\n" for name in names).encode())
    return f"{', '.join(names[:_FEW])} and {len(names) - _FEW} more, all of which {shown(path)} names"


def _folder(trainer: lightning.Trainer) -> Path | None:
    """Return where checkpoints are written, if they are."""
    checkpoints = trainer.checkpoint_callback
    if isinstance(checkpoints, ModelCheckpoint) and checkpoints.dirpath is not None:
        return Path(checkpoints.dirpath)
    return None
