"""Two opinions -> one: the logarithmic opinion pool of the rules' and the neighbours' distributions over styles.

p(style) is proportional to rules(style) ** a * neighbours(style) ** b / prior(style) ** c, with the gallery's own
frequency of styles as the prior. The neighbours are heard as what the model says of the face weighs them
(``style/informed``). Both opinions read the same picture, so they are not independent: a and b, fitted
on people whom neither has seen (``style/fitting``), say how much each still adds once the other is known. Both have
the prior in them, so some of it is divided out again. An opinion has a floor, so that neither can forbid what the
other thinks certain.

Source: Genest and Zidek, "Combining Probability Distributions", Statistical Science 1, 1986; weights by likelihood:
Heskes, "Selecting Weighting Factors in Logarithmic Opinion Pools", NIPS 1997.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FLOOR = 1e-6
"""A style's least probability in either opinion, before they are pooled."""


@dataclass(frozen=True)
class PoolWeights:
    """The exponents of the two opinions, and that by which their common prior is divided out.

    Attributes
    ----------
    rules, neighbours, prior : float
        Not negative; one of the first two is above 0. (1, 0, 0) are the rules alone.
    """

    rules: float = 0.8
    neighbours: float = 0.2
    prior: float = 0.1

    def __post_init__(self) -> None:
        values = (self.rules, self.neighbours, self.prior)
        if not all(0.0 <= value < np.inf for value in values) or not any(values[:2]):
            raise ValueError(f"the weights of opinions must be finite, not negative and not all 0, not {values}")


def fuse(
    rule_distribution: NDArray[np.float64],
    vote_distribution: NDArray[np.float64],
    prior: NDArray[np.float64],
    weights: PoolWeights | None = None,
) -> NDArray[np.float64]:
    """Pool the rules' and the neighbours' opinions.

    Parameters
    ----------
    rule_distribution, vote_distribution : ndarray of float64, shape (n, S)
        Probability of each style, rows summing to 1.
    prior : ndarray of float64, shape (S,)
        The gallery's frequency of styles, none 0.
    weights : PoolWeights, optional
        By default those for rules that nothing was fitted to.

    Returns
    -------
    ndarray of float64, shape (n, S)
        Rows sum to 1 up to rounding; a row does not depend on the others.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    if rule_distribution.shape != vote_distribution.shape:
        raise ValueError(f"opinions differ in shape: {rule_distribution.shape} and {vote_distribution.shape}")
    chosen = weights or PoolWeights()
    opinions = [*log_opinions(rule_distribution, vote_distribution), without(prior, len(rule_distribution))]
    return pool(opinions, (chosen.rules, chosen.neighbours, chosen.prior))


def log_opinions(*distributions: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return the logarithms of distributions (n, S), with their floor."""
    return [np.log(np.maximum(distribution, FLOOR)) for distribution in distributions]


def without(prior: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return what divides a prior (S,) out when it is pooled: -log of it, once for each face, (count, S)."""
    return np.tile(-np.log(prior), (count, 1))


def pool(
    opinions: Sequence[NDArray[np.float64]], weights: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the pooled distribution (n, S) of logarithms of opinions (n, S), of which each has a weight."""
    logits = np.zeros(opinions[0].shape)
    for weight, opinion in zip(weights, opinions, strict=True):
        logits += weight * opinion
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    total = np.zeros(len(shares))
    for column in range(shares.shape[1]):  # numpy's sum of a row may group otherwise for another batch
        total += shares[:, column]
    return np.asarray(shares / total[:, None])
