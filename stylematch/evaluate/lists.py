"""What lists of recommendations are like as a whole: how much of the catalogue they show, how varied and rare it is.

- Catalogue coverage: the share of the items that anybody is recommended (Ge, Delgado-Battenfeld, Jannach, "Beyond
  Accuracy", RecSys 2010).
- Distributional coverage: the entropy, in bits, of what a recommended item is; log2 of the number of items at most
  (Shani, Gunawardana, "Evaluating Recommendation Systems", 2011).
- Intra-list diversity: the mean distance (1 - cosine) of two items of one list (Ziegler et al., WWW 2005).
- Novelty: the mean of -log2 of the share of people who get the item (Zhou et al., PNAS 2010). There is no interaction
  log to take popularity from, so it is the lists' own: what everybody gets is no news.

Lists are one array, a row a person, -1 where a list is shorter. People of one photo are drawn together in intervals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from stylematch.evaluate.retrieval import mean_figures

LIST_MEANS = ("intra_list_diversity", "novelty_bits", "short_lists")
TOTALS = ("catalogue_coverage", "distributional_coverage_bits")
_BLOCK_ROWS = 4096

Lists = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
VectorsOf = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float32]]


def list_figures(
    lists: Lists, item_count: int, vectors_of: VectorsOf, *, wanted: int, photo: npt.NDArray[np.int64] | None = None
) -> dict[str, Any]:
    """Measure lists.

    Parameters
    ----------
    lists : ndarray of int64, shape (people, k)
        Positions in the catalogue by rank, no item twice in a list; -1 at the end of a shorter one.
    item_count : int
        Items of the catalogue.
    vectors_of : callable
        Unit embeddings (m, d) of the items at positions (m,).
    wanted : int
        Items that a list should have.
    photo : ndarray of int64, shape (people,), optional
        The number of each person's photo, from 0 without gaps.

    Returns
    -------
    dict
        ``TOTALS`` as numbers (None without any item), and ``LIST_MEANS`` as ``mean_figures`` gives them: lists of fewer
        than two items have no diversity, empty ones no novelty, and count as zero in the second mean.
    """
    there = lists >= 0
    counts = np.bincount(lists[there], minlength=item_count)
    recommended = counts[counts > 0]
    shares = recommended / max(1, recommended.sum())
    scores = {
        "intra_list_diversity": intra_list_diversity(lists, vectors_of),
        "novelty_bits": _novelty(lists, counts),
        "short_lists": (there.sum(axis=1) < wanted).astype(np.float64),
    }
    return {
        "catalogue_coverage": round(len(recommended) / item_count, 6) if item_count else None,
        # abs(): the entropy of one item alone is 0, not -0.
        "distributional_coverage_bits": round(abs(float(-(shares * np.log2(shares)).sum())), 6)
        if len(recommended)
        else None,
        **mean_figures(scores, photo),
    }


def intra_list_diversity(lists: Lists, vectors_of: VectorsOf) -> Floats:
    """Return the mean of 1 - cosine over the pairs of each list, shape (people,); NaN where it has no pair."""
    diversity = np.full(len(lists), np.nan)
    for start in range(0, len(lists), _BLOCK_ROWS):
        block = lists[start : start + _BLOCK_ROWS]
        positions, places = np.unique(block, return_inverse=True)
        known = positions >= 0
        if not known.any():
            continue
        some = np.asarray(vectors_of(positions[known]), np.float64)
        vectors = np.zeros((len(positions), some.shape[1]))
        vectors[known] = some
        listed = vectors[places.reshape(block.shape)]
        size = (block >= 0).sum(axis=1)
        # The sum over all pairs, out of the square of the sum: what is with itself is taken off again.
        pairs = (listed.sum(axis=1) ** 2).sum(axis=1) - (listed**2).sum(axis=(1, 2))
        has_pair = size > 1
        diversity[start : start + len(block)][has_pair] = 1 - pairs[has_pair] / (size * (size - 1))[has_pair]
    return diversity


def random_lists(people: int, length: int, item_count: int, seed: int) -> Lists:
    """Return lists drawn from the whole catalogue, each item as likely as any, no item twice in a list."""
    rng = np.random.default_rng(seed)
    length = min(length, item_count)
    drawn = [rng.choice(item_count, length, replace=False) for _ in range(people)]
    return np.array(drawn, np.int64).reshape(people, length)


def most_popular_lists(lists: Lists, length: int, item_count: int) -> Lists:
    """Return the same list for everybody: the items that most people get, equally frequent ones by position."""
    counts = np.bincount(lists[lists >= 0], minlength=item_count)
    best = np.argsort(-counts, kind="stable")[: min(length, item_count)].astype(np.int64)
    return np.broadcast_to(best, (len(lists), len(best)))


def _novelty(lists: Lists, counts: npt.NDArray[np.int64]) -> Floats:
    there = lists >= 0
    information = np.zeros(len(counts))
    information[counts > 0] = -np.log2(counts[counts > 0] / len(lists))
    size = there.sum(axis=1)
    total = np.where(there, information[np.where(there, lists, 0)], 0).sum(axis=1) if len(counts) else size * 0.0
    return np.divide(total, size, out=np.full(len(lists), np.nan), where=size > 0)
