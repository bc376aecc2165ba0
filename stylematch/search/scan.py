"""An exact search of rows that are not held widened in memory: read a block, multiply, keep the best, go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

Propose = Callable[[npt.NDArray[np.float32], int], tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]
"""``propose(unit queries (q, d), n)`` -> scores, descending, and positions (q, n)."""
_BLOCK_ROWS = 2**15


def scan(rows_of: Callable[[npt.NDArray[np.int64]], npt.NDArray[Any]], positions: npt.NDArray[np.int64]) -> Propose:
    """Return what searches the rows at some positions, by float32 products.

    Parameters
    ----------
    rows_of : callable
        Positions (n,) -> stored rows (n, d).
    positions : ndarray of int64
        Where to search, ascending.
    """

    def propose(unit: npt.NDArray[np.float32], proposals: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        scores = np.empty((len(unit), 0), np.float32)
        places = np.empty((len(unit), 0), np.int64)
        for start in range(0, len(positions), _BLOCK_ROWS):
            block = positions[start : start + _BLOCK_ROWS]
            rows = np.ascontiguousarray(rows_of(block), np.float32)
            block_scores, found = faiss.knn(unit, rows, min(proposals, len(block)), metric=faiss.METRIC_INNER_PRODUCT)
            scores = np.concatenate([scores, block_scores], axis=1)
            places = np.concatenate([places, block[found]], axis=1)
            best = np.argsort(-scores, axis=1, kind="stable")[:, :proposals]
            scores, places = np.take_along_axis(scores, best, axis=1), np.take_along_axis(places, best, axis=1)
        return scores, places

    return propose
