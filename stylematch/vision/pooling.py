"""Means of maps over a grid, as products with matrices, which every runtime knows.

Source: spatial pooling, He, Zhang, Ren and Sun, ECCV 2014.
"""

from __future__ import annotations

import torch
from torch import Tensor


def grid_means(maps: Tensor, parts: int) -> Tensor:
    """Return the means of maps (n, c, h, w) over equal windows: (n, c, parts, parts)."""
    rows, columns = (windows(side, parts).to(maps) for side in maps.shape[2:])
    return rows @ maps @ columns.T


def windows(side: int, parts: int) -> Tensor:
    """Return the matrix (parts, side) that averages over equal windows, which overlap where they do not fit."""
    averaging = torch.zeros(parts, side)
    for number in range(parts):
        start, end = number * side // parts, -(-(number + 1) * side // parts)
        averaging[number, start:end] = 1 / (end - start)
    return averaging
