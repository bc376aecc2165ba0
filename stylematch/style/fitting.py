"""Fitting how neighbours vote and what each opinion counts, on people whom neither model nor gallery has seen.

- The log loss of a pool is convex in its weights: Newton steps find the one minimum.
- A ridge draws the weights to those of one opinion alone: what the other one weighs has to be earned.
- How neighbours vote is chosen from a small grid by cross-validation. Pictures of one person resemble each other, so
  they share a fold; with folds over pictures, whatever is learned by heart about a person would look like skill.

Source: Wolpert, "Stacked Generalization", Neural Networks 5, 1992; weights of a logarithmic pool: Heskes, NIPS 1997.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from stylematch.style.fits import Fit
from stylematch.style.fusion import PoolWeights, fuse, log_opinions, pool, without
from stylematch.style.informed import Known, informed_votes
from stylematch.style.neighbours import VoteSettings, count_votes

FOLDS = 10
PENALTY = 100.0
"""The ridge, in faces: a weight that is off by d costs as much as d * d / 2 of log loss on so many of them."""
GRID = tuple(
    VoteSettings(k, temperature, 1.0, agreement)
    for k, temperature, agreement in product((200, 300), (0.1, 0.3), (0.25, 0.4, 0.55, 0.7))
)
"""What the pool's vote is chosen from. With fewer faces what they add swings with single ones."""
ALONE_GRID = tuple(
    VoteSettings(k, temperature, pseudo_count)
    for k, temperature, pseudo_count in product((15, 50, 100, 200, 300), (0.05, 0.1, 0.3), (0.3, 1.0))
)
"""What the vote of the neighbours alone is chosen from."""
MOST_NEIGHBOURS = max(settings.k for settings in (*GRID, *ALONE_GRID))
_STEPS, _TOLERANCE = 50, 1e-10


@dataclass(frozen=True)
class HeldOut:
    """Opinions on n people's faces, and the truth.

    Attributes
    ----------
    rules : ndarray of float64, shape (n, S)
        What the rules say of each style.
    neighbour_styles : ndarray of int64, shape (n, k)
        The nearest faces' styles, nearest first; k at least that of the settings to try.
    similarities : ndarray of float64, shape (n, k)
        Their cosine similarities.
    prior : ndarray of float64, shape (S,)
        The gallery's frequencies of styles.
    truth : ndarray of int64, shape (n,)
        The style that the true labels give.
    people : ndarray of int64, shape (n,)
        Whose face it is.
    known : Known
        What the model says of the attributes that the rules ask for, and what the neighbours have of them.
    """

    rules: NDArray[np.float64]
    neighbour_styles: NDArray[np.int64]
    similarities: NDArray[np.float64]
    prior: NDArray[np.float64]
    truth: NDArray[np.int64]
    people: NDArray[np.int64]
    known: Known

    def pooled(self, fit: Fit) -> NDArray[np.float64]:
        """Return the pool's distribution (n, S), or that of neighbours alone where they were fitted alone."""
        neighbours = self.votes(fit.vote) if fit.is_alone else self.informed(fit.vote)
        return fuse(self.rules, neighbours, self.prior, fit.weights)

    def votes(self, settings: VoteSettings) -> NDArray[np.float64]:
        """Return the neighbours' own distribution (n, S)."""
        return count_votes(self.neighbour_styles, self.similarities, self.prior, settings)

    def informed(self, settings: VoteSettings) -> NDArray[np.float64]:
        """Return the neighbours' distribution (n, S) as what the model says weighs them."""
        return informed_votes(self.known, self.neighbour_styles, self.similarities, self.rules, settings)


def fit_pool(faces: HeldOut, grid: Sequence[VoteSettings] = GRID) -> Fit:
    """Fit votes and weights of the two opinions' pool.

    Parameters
    ----------
    faces : HeldOut
        Of at least two people.
    grid : sequence of VoteSettings
        From which the vote is chosen; the first of equals.
    """
    return _best(faces, grid, ("rules", "neighbours", "prior"))


def fit_neighbours(faces: HeldOut, grid: Sequence[VoteSettings] = ALONE_GRID) -> Fit:
    """Fit the neighbours alone, with a vote of their own: the best that they can say, and so a fair baseline."""
    return _best(faces, grid, ("neighbours", "prior"))


def fit_rules(faces: HeldOut) -> Fit:
    """Fit the rules alone, their sharpness and prior: the best that they can say, and so a fair baseline."""
    return _best(faces, (VoteSettings(),), ("rules", "prior"))


def fit_weights(
    opinions: Sequence[NDArray[np.float64]],
    truth: NDArray[np.int64],
    start: NDArray[np.float64],
    *,
    penalty: float = PENALTY,
) -> NDArray[np.float64]:
    """Return the weights of least log loss plus ridge.

    Parameters
    ----------
    opinions : sequence of m ndarrays of float64, shape (n, S)
        Logarithms of distributions.
    truth : ndarray of int64, shape (n,)
        Places in 0 to S - 1.
    start : ndarray of float64, shape (m,)
        What the ridge draws to.
    penalty : float
        How strongly; above 0.

    Returns
    -------
    ndarray of float64, shape (m,)
        Not negative: a weight that would be is 0, and the others are fitted again.
    """
    stacked, free = np.stack(opinions), np.ones(len(start), np.bool_)
    while True:
        weights = np.zeros(len(start))
        weights[free] = _newton(stacked[free], truth, start[free], penalty)
        if (weights >= 0).all():
            return weights
        free &= weights > 0


def mean_log_loss(distribution: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """Return the mean of -log of what each row (n, S) gives its true style (n,), in nats."""
    return float(-np.log(distribution[np.arange(len(truth)), truth]).mean())


def _best(faces: HeldOut, grid: Sequence[VoteSettings], asked: Sequence[str]) -> Fit:
    """Fit the pool of what is asked for each way to vote, and return the one of the least cross-validated log loss."""
    folds = _folds(faces.people)
    start = np.array([float(name == asked[0]) for name in asked])
    fits = []
    for settings in grid:
        neighbours = faces.informed(settings) if "rules" in asked else faces.votes(settings)
        by_name = dict(zip(("rules", "neighbours"), log_opinions(faces.rules, neighbours), strict=True))
        by_name["prior"] = without(faces.prior, len(faces.truth))
        opinions = [by_name[name] for name in asked]
        said = np.empty(faces.rules.shape)
        for fold in range(FOLDS):
            out = folds == fold
            weights = fit_weights([opinion[~out] for opinion in opinions], faces.truth[~out], start)
            said[out] = pool([opinion[out] for opinion in opinions], weights)
        fits.append((mean_log_loss(said, faces.truth), settings, opinions))
    log_loss, settings, opinions = min(fits, key=lambda fit: fit[0])
    fitted = dict(zip(asked, fit_weights(opinions, faces.truth, start).tolist(), strict=True))
    pooled = PoolWeights(**{"rules": 0.0, "neighbours": 0.0, **fitted})
    return Fit(settings, pooled, log_loss, is_alone="rules" not in asked)


def _folds(people: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each face's fold; all faces of one person share one."""
    names, person = np.unique(people, return_inverse=True)
    fold_of = np.random.default_rng(0).permutation(len(names)) % FOLDS
    return np.asarray(fold_of[person])


def _newton(
    opinions: NDArray[np.float64], truth: NDArray[np.int64], start: NDArray[np.float64], penalty: float
) -> NDArray[np.float64]:
    rows = np.arange(len(truth))
    of_truth = opinions[:, rows, truth]

    def cost(weights: NDArray[np.float64]) -> float:
        loss = -np.log(np.maximum(pool(list(opinions), weights)[rows, truth], np.finfo(np.float64).tiny)).sum()
        return float(loss + penalty / 2 * ((weights - start) ** 2).sum())

    weights, best = start.copy(), cost(start)
    for _ in range(_STEPS):
        shares = pool(list(opinions), weights)
        mean = (opinions * shares).sum(axis=2)
        slope = (mean - of_truth).sum(axis=1) + penalty * (weights - start)
        curvature = np.einsum("ans,bns,ns->ab", opinions, opinions, shares) - mean @ mean.T
        step = np.linalg.solve(curvature + penalty * np.eye(len(weights)), slope)
        length = 1.0
        while (tried := cost(weights - length * step)) > best and length > _TOLERANCE:
            length /= 2
        if best - tried <= _TOLERANCE * abs(best):
            return weights if tried > best else weights - length * step
        weights, best = weights - length * step, tried
    return weights
