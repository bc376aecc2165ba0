"""Embeddings -> style, by a vote of the nearest labelled faces.

1. The index brings the k nearest faces of the gallery with their cosine similarities.
2. The nearest face's vote weighs 1; that of a face less similar by ``gap`` weighs g / (g + gap), half at g.
3. A style's share is the sum of its faces' weights over all weights.
4. A small part of the result is the gallery's own frequency of styles, so that no style has probability zero.

Only additions, products and divisions in a fixed order are used: a face's vote does not depend on its batch.

Source: weights that fall with distance, Dudani, "The Distance-Weighted k-Nearest-Neighbor Rule", IEEE
Transactions on Systems, Man, and Cybernetics, 1976. His weights fall linearly to zero at the k-th neighbour,
which gives near-equal neighbours very unequal votes; here they fall as a reciprocal, softened by g, so that a
tiny difference stays tiny and a face that is itself in the gallery does not outvote all others. Smoothing:
add-one, after Laplace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stylematch.errors import UserError


class FoundNeighbours(Protocol):
    """What a search returns: the nearest first, ties by id."""

    @property
    def positions(self) -> NDArray[np.int64]:
        """Rows of the gallery, shape (n, k)."""

    @property
    def scores(self) -> NDArray[np.float64]:
        """Cosine similarities, shape (n, k)."""


class NeighbourIndex(Protocol):
    """What the vote needs of an index; ``stylematch.search.index.VectorIndex`` has it."""

    def __len__(self) -> int:
        """Return the number of faces in the gallery."""

    def search(self, queries: NDArray[np.float32], k: int) -> FoundNeighbours:
        """Return the k nearest of each query (n, d)."""


@dataclass(frozen=True)
class Vote:
    """The neighbours' opinion of n faces.

    Attributes
    ----------
    distribution : ndarray of float64, shape (n, S)
        Probability of each style; rows sum to 1 up to rounding, all values are above 0.
    positions : ndarray of int64, shape (n, k)
        The neighbours' rows in the gallery, nearest first.
    similarities : ndarray of float64, shape (n, k)
        Their cosine similarities.
    styles : ndarray of int64, shape (n, k)
        Their styles.
    """

    distribution: NDArray[np.float64]
    positions: NDArray[np.int64]
    similarities: NDArray[np.float64]
    styles: NDArray[np.int64]


class StyleVote:
    """Votes on styles by the nearest faces of a gallery whose styles are known from their true labels.

    Parameters
    ----------
    index : NeighbourIndex
        The gallery's embeddings.
    gallery_styles : ndarray of int64, shape (m,)
        The style of each row of the index, 0 to ``style_count`` - 1.
    style_count : int
        Number of styles, S.
    k : int
        Neighbours asked; all m where the gallery has fewer.
    half_weight_gap : float
        How far below the nearest face's similarity a neighbour counts half (g above), in units of cosine
        similarity.
    prior_weight : float
        Share of the result, between 0 and 1, that is the gallery's add-one-smoothed frequency of styles.

    Raises
    ------
    UserError
        The gallery is empty.
    ValueError
        The index has another number of rows, a style is not one of ``style_count``, or a parameter is out of
        range.
    """

    def __init__(
        self,
        index: NeighbourIndex,
        gallery_styles: NDArray[np.int64],
        style_count: int,
        k: int = 15,
        *,
        half_weight_gap: float = 0.1,
        prior_weight: float = 0.02,
    ) -> None:
        if len(gallery_styles) == 0:
            raise UserError("the face gallery is empty; build the faces index from labelled faces, or use the default")
        if len(index) != len(gallery_styles):
            raise ValueError(f"the index has {len(index)} rows, but {len(gallery_styles)} styles are given")
        if gallery_styles.min() < 0 or gallery_styles.max() >= style_count:
            raise ValueError(f"gallery styles must lie within 0 to {style_count - 1}")
        if k < 1 or not half_weight_gap > 0 or not 0 < prior_weight < 1:
            raise ValueError("k must be at least 1, half_weight_gap above 0, prior_weight between 0 and 1")
        self.index = index
        self.gallery_styles = np.asarray(gallery_styles, dtype=np.int64)
        self.k = min(k, len(gallery_styles))
        self.half_weight_gap = half_weight_gap
        self.prior_weight = prior_weight
        counts = np.bincount(self.gallery_styles, minlength=style_count).astype(np.float64)
        self.prior = (counts + 1.0) / (len(gallery_styles) + style_count)

    def vote(self, embeddings: NDArray[np.float32]) -> Vote:
        """Let the nearest faces vote.

        Parameters
        ----------
        embeddings : ndarray of float32, shape (n, d)
            One row a face.
        """
        found = self.index.search(embeddings, self.k)
        styles = self.gallery_styles[found.positions]
        gaps = found.scores[:, :1] - found.scores
        weights = self.half_weight_gap / (self.half_weight_gap + gaps)
        rows = np.arange(len(styles))
        sums = np.zeros((len(styles), len(self.prior)), dtype=np.float64)
        total = np.zeros(len(styles), dtype=np.float64)
        # One neighbour rank after the other: each row's additions then have one order, whatever the batch.
        for rank in range(self.k):
            sums[rows, styles[:, rank]] += weights[:, rank]
            total += weights[:, rank]
        distribution = (1.0 - self.prior_weight) * (sums / total[:, None]) + self.prior_weight * self.prior
        return Vote(distribution, found.positions, found.scores, styles)
