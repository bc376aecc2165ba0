"""Batches of training pictures: which rows, in which order, from which part.

The order is a function of (seed, epoch) alone; with several processes each takes its share of every batch. With a
sampler for rare labels, rows are drawn with replacement in proportion to their weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from stylematch.vision.examples import Examples, middle


@dataclass(frozen=True)
class Batch:
    """Pictures with their labels, their names and the side of their crops, as ``Examples`` have it."""

    fields: Tensor
    targets: dict[str, Tensor]
    ids: tuple[str, ...]
    crop_px: int

    def first(self, count: int) -> Batch:
        """Return the first so many pictures; the order of a batch is random, so any are as good."""
        targets = {name: values[:count] for name, values in self.targets.items()}
        return replace(self, fields=self.fields[:count], targets=targets, ids=self.ids[:count])

    def crops(self) -> Tensor:
        """Return the middles of the fields, as ``Examples.crops`` does."""
        return self.fields[middle(self.fields.shape[1], self.crop_px)]

    def pin_memory(self) -> Batch:
        """Return the batch in memory that a GPU can copy from while it computes."""
        pinned = {name: values.pin_memory() for name, values in self.targets.items()}
        return replace(self, fields=self.fields.pin_memory(), targets=pinned)

    def to(self, device: torch.device, non_blocking: bool = True) -> Batch:
        """Return the batch on a device; unasked without waiting, which Lightning asks of nothing but tensors."""
        moved = {name: values.to(device, non_blocking=non_blocking) for name, values in self.targets.items()}
        return replace(self, fields=self.fields.to(device, non_blocking=non_blocking), targets=moved)


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Return values of the CPU on a device without waiting for what that computes, as any other copy would."""
    return values if device.type == "cpu" else values.pin_memory().to(device, non_blocking=True)


class Batches(Dataset[Batch]):
    """Whole batches by row numbers, over the concatenation of several example sets."""

    def __init__(self, parts: list[Examples]) -> None:
        self.parts = parts
        self.starts = np.cumsum([0] + [len(part) for part in parts])

    def __getitem__(self, rows: Any) -> Batch:
        """Return the batch of the given rows."""
        places = np.asarray(rows, np.int64)
        owners = np.searchsorted(self.starts, places, side="right") - 1
        within = places - self.starts[owners]
        first = self.parts[0]
        fields = np.empty((len(places), *first.fields.shape[1:]), first.fields.dtype)
        for row, (owner, place) in enumerate(zip(owners.tolist(), within.tolist(), strict=True)):
            fields[row] = self.parts[owner].fields[place]
        # Labels a part at a time: to gather them row by row takes longer than a GPU's step.
        targets = {n: np.empty((len(places), *t.shape[1:]), t.dtype) for n, t in first.targets.items()}
        for owner in np.unique(owners).tolist():
            here = owners == owner
            for name, values in self.parts[owner].targets.items():
                targets[name][here] = values[within[here]]
        ids = tuple(self.parts[o].ids[i] for o, i in zip(owners.tolist(), within.tolist(), strict=True))
        return Batch(torch.from_numpy(fields), {n: torch.from_numpy(t) for n, t in targets.items()}, ids, first.crop_px)


class EpochOrder(Sampler[list[int]]):
    """Batches of shuffled rows; the order is a function of (seed, epoch) alone.

    Parameters
    ----------
    repeats : list of (int, int)
        Rows of each part, and how often an epoch shows each.
    batch_size : int
        Rows of a batch, over all processes together.
    seed : int
        Another seed, another order.
    weights : ndarray of float, shape (rows,), optional
        Draw with replacement, in proportion to these.
    rank, processes : int
        Which of how many processes this is: it takes every ``processes``-th row of a batch.
    """

    def __init__(
        self,
        repeats: list[tuple[int, int]],
        batch_size: int,
        seed: int,
        weights: npt.NDArray[np.floating] | None = None,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.batch_size, self.seed, self.epoch = batch_size, seed, 0
        self.rank, self.processes = rank, processes
        rows, start = [], 0
        for count, times in repeats:
            rows += [np.tile(np.arange(start, start + count), times)]
            start += count
        self.rows = np.concatenate(rows)
        self.chances = None if weights is None else weights[self.rows] / weights[self.rows].sum()

    @property
    def total(self) -> int:
        """Rows of an epoch."""
        return len(self.rows)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches."""
        return self.total // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the rows of each batch."""
        rng = np.random.default_rng((self.seed, self.epoch))
        if self.chances is None:
            order = rng.permutation(self.rows)
        else:
            order = rng.choice(self.rows, size=self.total, p=self.chances)
        for batch in range(len(self)):
            whole = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield whole[self.rank :: self.processes].tolist()
