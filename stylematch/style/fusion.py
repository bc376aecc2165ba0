"""Two opinions -> one: the rules' and the neighbours' probabilities of each style, averaged.

The linear opinion pool: p = (1 - w) * rules + w * neighbours. The result is a probability again, a style that
either holds possible stays possible, and both enter in proportion to a weight that can be explained.

Source: Stone, "The Opinion Pool", The Annals of Mathematical Statistics, 1961.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NEIGHBOUR_WEIGHT = 0.5


def fuse(
    rule_distribution: NDArray[np.float64],
    vote_distribution: NDArray[np.float64],
    *,
    neighbour_weight: float = NEIGHBOUR_WEIGHT,
) -> NDArray[np.float64]:
    """Pool the rules' and the neighbours' opinions.

    Parameters
    ----------
    rule_distribution, vote_distribution : ndarray of float64, shape (n, S)
        Probability of each style, rows summing to 1.
    neighbour_weight : float
        The neighbours' share w, 0 (rules alone) to 1 (neighbours alone).

    Returns
    -------
    ndarray of float64, shape (n, S)
        Rows sum to 1 up to rounding.

    Raises
    ------
    ValueError
        The shapes differ or the weight is not within 0 to 1.
    """
    if rule_distribution.shape != vote_distribution.shape:
        raise ValueError(f"opinions differ in shape: {rule_distribution.shape} and {vote_distribution.shape}")
    if not 0.0 <= neighbour_weight <= 1.0:
        raise ValueError(f"neighbour_weight must lie within 0 to 1, not {neighbour_weight}")
    return (1.0 - neighbour_weight) * rule_distribution + neighbour_weight * vote_distribution
