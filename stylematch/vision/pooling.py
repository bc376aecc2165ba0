"""Means of maps: over all of each, and over a grid as products with matrices, which every runtime knows.

Source: spatial pooling, He, Zhang, Ren and Sun, ECCV 2014.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def mean_features(maps: Tensor, norm: nn.Module | None) -> Tensor:
    """Return the means of maps (n, c, h, w), put through what normalises maps if there is such: (n, c)."""
    return maps.mean(dim=(2, 3)) if norm is None else norm(maps.mean(dim=(2, 3), keepdim=True)).flatten(1)


def grid_means(maps: Tensor, parts: int) -> Tensor:
    """Return the means of maps (n, c, h, w) over equal windows: (n, c, parts, parts)."""
    # Made where they are used: a copy from the CPU would wait for all that a GPU has to do before.
    rows, columns = (windows(side, parts, maps.device).to(maps.dtype) for side in maps.shape[2:])
    return rows @ maps @ columns.T


def windows(side: int, parts: int, device: torch.device | None = None) -> Tensor:
    """Return the matrix (parts, side) that averages over equal windows, which overlap where they do not fit."""
    averaging = torch.zeros(parts, side, device=device)
    for number in range(parts):
        start, end = number * side // parts, -(-(number + 1) * side // parts)
        averaging[number, start:end] = 1 / (end - start)
    return averaging
