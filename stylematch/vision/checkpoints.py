"""Checkpoints of the best and of the last epoch, which replace each other in one step.

One that is both is written once, under two names. A large one is written while the next epoch has begun: VGG16's has
1.6 GB, which take four seconds beside the one in which they are collected.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import TorchCheckpointIO

from stylematch.tables.disk import give_second_name, write_durably

_WORTH_A_THREAD_BYTES = 64 * 2**20  # smaller ones are written at once


def best_checkpoint(out: Path) -> ModelCheckpoint:
    """Return what keeps the epoch with the least loss on watched pictures, as ``out/checkpoints/best.ckpt``."""
    return _Best(out / "checkpoints", filename="best", enable_version_counter=False, monitor="val_loss")


def last_checkpoint(out: Path) -> ModelCheckpoint:
    """Return what keeps every epoch until the next, as ``out/checkpoints/last.ckpt``; it comes after the best."""
    # Not save_last with save_top_k=0: Lightning then writes nothing before the training's very end.
    return _Last(out / "checkpoints", filename="last", enable_version_counter=False)


class _Best(ModelCheckpoint):
    """Lightning's, which knows the best so far also where the training's folder was moved since."""

    __qualname__ = ModelCheckpoint.__qualname__  # under which a checkpoint holds what it knows

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        before, now = state_dict["dirpath"], self.dirpath

        def moved(path: str) -> str:
            return str(now) + path.removeprefix(str(before)) if path.startswith(str(before)) else path

        super().load_state_dict(
            {
                **state_dict,
                "dirpath": now,
                **{
                    key: moved(state_dict[key]) for key in ("best_model_path", "kth_best_model_path", "last_model_path")
                },
                "best_k_models": {moved(path): score for path, score in state_dict["best_k_models"].items()},
            }
        )


class _Last(ModelCheckpoint):
    """It remembers nothing, so that what it would write is what was written of the best epoch just before.

    What an earlier release's has left in a checkpoint, under ``ModelCheckpoint``, is passed over.
    """

    def state_dict(self) -> dict[str, Any]:
        return {}


class DurableCheckpoints(TorchCheckpointIO):
    """How a trainer writes checkpoints: beside the old one, not in /tmp as Lightning does, which may be another disk.

    Parameters
    ----------
    at_once : bool
        Write large ones, too, before the training goes on: other processes read them.
    """

    def __init__(self, *, at_once: bool) -> None:
        self._at_once = at_once
        self._pool = ThreadPoolExecutor(1)
        self._begun: Future[None] | None = None
        self._written: tuple[Path, int] | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:  # noqa: ARG002 (Lightning's name)
        """Write a checkpoint, or begin to; an error of one before it is raised now.

        Raises
        ------
        StylematchError
            The disk is full, read-only or broken; what was there before still is.
        """
        path, step = Path(path), checkpoint["global_step"]
        if self._written is not None and self._written[0] != path and self._written[1] == step:
            self._begin(partial(give_second_name, self._written[0], path), at_once=self._begun is None)
            return
        self.teardown()
        path.parent.mkdir(parents=True, exist_ok=True)
        stored = io.BytesIO()
        torch.save(checkpoint, stored)
        small = stored.tell() < _WORTH_A_THREAD_BYTES
        self._begin(partial(_write, path, stored), at_once=small or self._at_once)
        self._written = path, step

    def _begin(self, write: Callable[[], None], *, at_once: bool) -> None:
        if at_once:
            write()
        else:
            self._begun = self._pool.submit(_follow, self._begun, write)

    def teardown(self) -> None:
        """Wait until all that was begun is written; Lightning asks for it at the end, whatever ends the training.

        Raises
        ------
        StylematchError
            As of ``save_checkpoint``.
        """
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.result()


def _write(path: Path, stored: io.BytesIO) -> None:
    # Let go before an error is passed on: Python 3.12.1 crashed where it collected a view with an error's frames, and
    # others complain (CPython's issues 77894, 111049 and 111331 are of such).
    with stored.getbuffer() as data:
        write_durably(path, data)


def _follow(before: Future[None] | None, write: Callable[[], None]) -> None:
    """Write what follows from something else if that was written: else an old best epoch would become the last."""
    if before is not None:
        before.result()
    write()
