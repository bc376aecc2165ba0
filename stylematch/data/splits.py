"""Random splits of rows in two, the same for equal seeds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


def split_random(count: int, fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Split ``count`` rows at random.

    Parameters
    ----------
    count : int
        How many rows there are.
    fraction : float
        Share of the second part, 0 to 1.
    seed : int
        Another seed, another choice.

    Returns
    -------
    tuple of two ndarrays of int64
        Ascending rows of the rest (train) and of the share that was asked for (test).
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"a share must lie within 0 to 1, not {fraction}")
    shuffled = np.random.default_rng(seed).permutation(count)
    held = round(count * fraction)
    return np.sort(shuffled[held:]), np.sort(shuffled[:held])


def split_stratified(labels: npt.NDArray[np.integer], fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Split rows at random so that every class is shared out alike.

    Each class gives ``fraction`` of its rows, rounded by largest remainders so that the sum fits; but never
    all of them, so a class with one row stays in the first part. Unknown labels count as a class.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
        What to stratify by.
    fraction : float
        Share of the second part, 0 to 1.
    seed : int
        Another seed, another choice.

    Returns
    -------
    tuple of two ndarrays of int64
        Ascending rows of the rest (train) and of the share that was asked for (test).
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"a share must lie within 0 to 1, not {fraction}")
    _, stratum, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    quota = sizes * fraction
    # The small number keeps 0.2 * 5 from falling short of 1.
    held = np.floor(quota + 1e-9).astype(np.int64)
    spare = round(float(quota[sizes > 1].sum())) - int(np.minimum(held, sizes - 1).sum())
    by_remainder = np.argsort(held - quota, kind="stable")
    by_remainder = by_remainder[(held < sizes - 1)[by_remainder]]
    held[by_remainder[: max(spare, 0)]] += 1
    held = np.minimum(held, sizes - 1)
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    grouped = shuffled[np.argsort(stratum[shuffled], kind="stable")]
    place_in_class = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    is_held = np.zeros(len(labels), np.bool_)
    is_held[grouped] = place_in_class < np.repeat(held, sizes)
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)
