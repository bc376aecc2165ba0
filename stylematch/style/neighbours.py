"""Embeddings -> style, by a vote of the nearest labelled faces.

1. The index brings the k nearest faces of the gallery with their cosine similarities.
2. The nearest face's vote weighs 1; that of a face less similar by ``gap`` weighs exp(-gap / temperature).
3. A style's share is the sum of its faces' weights and its part of the pseudo-count, over all weights and the
   pseudo-count. The pseudo-count's parts are the gallery's own frequencies of styles, so no style has probability 0,
   and a face that stands alone is told by the gallery as a whole.

Each face's weights are added in one order: its vote does not depend on its batch.

Source: the kernel vote is Nadaraya's and Watson's (1964) over the nearest neighbours; that nearer ones count more,
Dudani, "The Distance-Weighted k-Nearest-Neighbor Rule", IEEE Transactions on Systems, Man, and Cybernetics, 1976.
Smoothing: pseudo-counts, after Laplace.
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
    """What the vote needs of an index; ``stylematch.search.exact.VectorIndex`` has it."""

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


@dataclass(frozen=True)
class VoteSettings:
    """How neighbours vote.

    Attributes
    ----------
    k : int
        Neighbours asked; the whole gallery where that is smaller.
    temperature : float
        How far below the nearest face's similarity a neighbour counts 1 / e, in units of cosine similarity.
    pseudo_count : float
        How many faces, as near as the nearest, the gallery's frequency of styles counts for.
    agreement : float
        How far what the model says of a face is believed where its neighbours are weighed by it (``style/informed``):
        0 not at all, 1 as if each attribute were seen by itself.
    """

    k: int = 300
    temperature: float = 0.1
    pseudo_count: float = 1.0
    agreement: float = 0.55

    def __post_init__(self) -> None:
        if not (self.k >= 1 and 0 < self.temperature < np.inf and 0 < self.pseudo_count < np.inf):
            raise ValueError(f"k must be at least 1, temperature and pseudo_count above 0: {self}")
        if not 0 <= self.agreement < np.inf:
            raise ValueError(f"agreement must be at least 0: {self}")


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
    settings : VoteSettings, optional
        How they vote.

    Raises
    ------
    UserError
        The gallery is empty.
    ValueError
        The index has another number of rows, or a style is not one of ``style_count``.
    """

    def __init__(
        self,
        index: NeighbourIndex,
        gallery_styles: NDArray[np.int64],
        style_count: int,
        settings: VoteSettings | None = None,
    ) -> None:
        if len(gallery_styles) == 0:
            raise UserError("the face gallery is empty; build the faces index from labelled faces, or use the default")
        if len(index) != len(gallery_styles):
            raise ValueError(f"the index has {len(index)} rows, but {len(gallery_styles)} styles are given")
        if gallery_styles.min() < 0 or gallery_styles.max() >= style_count:
            raise ValueError(f"gallery styles must lie within 0 to {style_count - 1}")
        self.index = index
        self.gallery_styles = np.asarray(gallery_styles, dtype=np.int64)
        self.settings = settings or VoteSettings()
        self.k = min(self.settings.k, len(gallery_styles))
        self.prior = style_frequencies(self.gallery_styles, style_count)

    def vote(self, embeddings: NDArray[np.float32]) -> Vote:
        """Let the nearest faces vote.

        Parameters
        ----------
        embeddings : ndarray of float32, shape (n, d)
            One row a face.
        """
        found = self.index.search(embeddings, self.k)
        styles = self.gallery_styles[found.positions]
        distribution = count_votes(styles, found.scores, self.prior, self.settings)
        return Vote(distribution, found.positions, found.scores, styles)


def style_frequencies(gallery_styles: NDArray[np.int64], style_count: int) -> NDArray[np.float64]:
    """Return how frequent each style is in a gallery, one added to each count; shape (style_count,)."""
    counts = np.bincount(gallery_styles, minlength=style_count).astype(np.float64)
    return (counts + 1.0) / (len(gallery_styles) + style_count)


def count_votes(
    styles: NDArray[np.int64],
    similarities: NDArray[np.float64],
    prior: NDArray[np.float64],
    settings: VoteSettings,
) -> NDArray[np.float64]:
    """Count the votes of neighbours that were found, of which the first ``settings.k`` are asked.

    Parameters
    ----------
    styles : ndarray of int64, shape (n, k or more)
        The neighbours' styles, nearest first.
    similarities : ndarray of float64, shape (n, k or more)
        Their cosine similarities.
    prior : ndarray of float64, shape (S,)
        The gallery's frequencies of styles.
    settings : VoteSettings
        How they vote.

    Returns
    -------
    ndarray of float64, shape (n, S)
        Probability of each style; rows sum to 1 up to rounding, all values are above 0.
    """
    return tally(styles, np.exp(nearness(similarities, settings)), prior, settings.pseudo_count)


def nearness(similarities: NDArray[np.float64], settings: VoteSettings) -> NDArray[np.float64]:
    """Return the logarithm of what each neighbour that is asked counts by its similarity (n, m) alone: (n, k).

    The nearest's is 0.
    """
    asked = similarities[:, : settings.k]
    return np.asarray((asked - asked[:, :1]) / settings.temperature)


def tally(
    styles: NDArray[np.int64],
    weights: NDArray[np.float64],
    towards: NDArray[np.float64],
    pseudo_count: float,
) -> NDArray[np.float64]:
    """Return the share of each style: (n, S).

    Parameters
    ----------
    styles : ndarray of int64, shape (n, k or more)
        Of neighbours.
    weights : ndarray of float64, shape (n, k)
        What the first k of them count.
    towards : ndarray of float64, shape (S,) or (n, S)
        The distribution that ``pseudo_count`` faces of weight 1 stand for.
    pseudo_count : float
        Above 0.
    """
    count, asked = weights.shape
    width = towards.shape[-1]
    place = np.arange(count)[:, None] * width + styles[:, :asked]
    # One after the other, as they come: a face's sums do not depend on those of others.
    counted = np.bincount(place.ravel(), weights.ravel(), count * width).reshape(count, width)
    total = in_order(np.ascontiguousarray(weights.T)) + pseudo_count
    return np.asarray((counted + pseudo_count * towards) / total[:, None])


def in_order(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums of the columns of a contiguous array (k, n), each added up from its first row to its last.

    numpy adds row to row while rows have more than one value; a column that stands alone it would add up by halves,
    and round otherwise than among others.
    """
    if values.shape[1] > 1:
        return np.asarray(np.add.reduce(values, axis=0))
    return np.asarray(np.add.accumulate(values, axis=0)[-1])
