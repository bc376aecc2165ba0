"""How well an embedding finds what belongs together: R@1, P@10, mAP@R and nDCG@10, each query by itself.

- Similarity is the cosine, compared in steps of 2**-22: float32 products say nothing below that, and two equal items
  would otherwise stand in an order of chance. Equal ones stand in the gallery's order, so the caller sorts it by id.
- Queries go in blocks, so that 10,000 against 60,000 take some hundred megabytes and never the whole matrix; each is
  ranked by itself, in buffers that stay in the processor's cache.
- mAP@R (Musgrave, Belongie, Lim, "A Metric Learning Reality Check", ECCV 2020): R is the number of relevant items, and
  the mean over the first R ranks of the precision at each rank that holds a relevant item, zero at the others.
- nDCG@10 with binary gain (Järvelin, Kekäläinen, TOIS 2002).

A query without an embedding has NaN for a score: ``mean_figures`` leaves it out of a mean and counts it as zero in a
second one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from stylematch.evaluate.intervals import Weights, bootstrap

METRICS = ("r_at_1", "p_at_10", "map_at_r", "ndcg_at_10")
TOP = 10
_STEPS = 1 << 22
_BLOCK_VALUES = 1 << 23  # similarities at a time: 32 MB
_POSITION_BITS = 32

Floats = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


def ranked_positions(similarities: npt.NDArray[np.floating], depth: int) -> Rows:
    """Rank the gallery for each query.

    Parameters
    ----------
    similarities : ndarray of float, shape (q, g)
        Cosines, or -inf for items that are to come last.
    depth : int
        How many ranks are wanted.

    Returns
    -------
    ndarray of int64, shape (q, min(depth, g))
        Positions in the gallery, the most similar first, equal ones ascending.
    """
    count = similarities.shape[1]
    depth = min(depth, count)
    positions = np.empty((len(similarities), depth), np.int64)
    steps, keys, places = np.empty(count, similarities.dtype), np.empty(count, np.int64), np.arange(count)
    for row, found in zip(similarities, positions, strict=True):
        keys[:] = _steps(row, out=steps)
        keys <<= _POSITION_BITS
        keys |= places  # so that no two keys are equal, and any sort gives one order
        if 0 < depth < count:
            keys.partition(depth - 1)
        found[:] = np.sort(keys[:depth])
    positions &= (1 << _POSITION_BITS) - 1
    return positions


def relevance_scores(relevant: npt.NDArray[np.bool_], total: Rows) -> dict[str, Floats]:
    """Return each query's ``METRICS``.

    Parameters
    ----------
    relevant : ndarray of bool, shape (q, depth)
        Whether what stands at each rank is relevant; as deep as the largest ``total`` and 10, or the whole gallery.
    total : ndarray of int64, shape (q,)
        How many relevant items the gallery has, at least 1. A precision at 10 is over 10 ranks even where it has fewer.

    Returns
    -------
    dict of str to ndarray of float64, shape (q,)
    """
    ranks = np.arange(1, relevant.shape[1] + 1)
    precision = relevant.cumsum(axis=1) / ranks
    counted = relevant & (ranks <= total[:, None])
    gains = 1 / np.log2(np.arange(2, TOP + 2))
    ideal = gains.cumsum()[np.minimum(total, TOP) - 1]
    first = relevant[:, :TOP]
    return {
        "r_at_1": relevant[:, 0].astype(np.float64),
        "p_at_10": first.sum(axis=1) / TOP,
        "map_at_r": np.where(counted, precision, 0).sum(axis=1) / total,
        "ndcg_at_10": first @ gains[: first.shape[1]] / ideal,
    }


def count_relevant(query_labels: Rows, gallery_labels: Rows, own: Rows | None = None) -> Rows:
    """Return how many items of the gallery have each query's label, itself left out; arguments as ``find_by_label``."""
    names, counts = np.unique(gallery_labels[gallery_labels >= 0], return_counts=True)
    places = np.minimum(np.searchsorted(names, query_labels), max(0, len(names) - 1))
    known = np.isin(query_labels, names)
    total = np.where(known, counts[places], 0) if len(names) else np.zeros(len(query_labels), np.int64)
    if own is not None:
        total = total - ((own >= 0) & known & (gallery_labels[own] == query_labels))
    return total.astype(np.int64)


def find_by_label(
    queries: Vectors,
    gallery: Vectors,
    query_labels: Rows,
    gallery_labels: Rows,
    *,
    own: Rows | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> dict[str, Floats]:
    """Search the gallery for each query and score what comes, relevance being an equal label.

    Parameters
    ----------
    queries, gallery : ndarray of float32, shapes (q, d) and (g, d)
        Unit vectors; a row of NaN is a picture without an embedding: such a query fails, such an item is never
        found.
    query_labels, gallery_labels : ndarray of int64, shapes (q,) and (g,)
        -1 is unknown, and relevant to nothing.
    own : ndarray of int64, shape (q,), optional
        The position of the query's own item, which is taken out of its gallery; -1 where it is not there.
    advance : callable
        Told how many more queries are done.

    Returns
    -------
    dict of str to ndarray of float64, shape (q,)
        By ``METRICS``; NaN where the query failed.

    Raises
    ------
    ValueError
        If nothing in the gallery is relevant to a query: leave it out (``count_relevant``).
    """
    total = count_relevant(query_labels, gallery_labels, own)
    if (total < 1).any():
        raise ValueError("a query has nothing relevant in the gallery")
    scores = {name: np.full(len(queries), np.nan) for name in METRICS}
    reachable = _embedded(gallery)
    for rows, similarities in _blocks(queries, gallery, advance):
        if own is not None:
            there = np.flatnonzero(own[rows] >= 0)
            similarities[there, own[rows][there]] = -np.inf
        positions = ranked_positions(similarities, max(TOP, int(total[rows].max())))
        relevant = (gallery_labels[positions] == query_labels[rows][:, None]) & reachable[positions]
        if own is not None:
            relevant &= positions != own[rows][:, None]
        for name, values in relevance_scores(relevant, total[rows]).items():
            scores[name][rows] = values
    return scores


def find_own(
    queries: Vectors, gallery: Vectors, own: Rows, *, advance: Callable[[int], None] = lambda _: None
) -> dict[str, Floats]:
    """Search for the item that each query is another view of.

    Parameters
    ----------
    queries, gallery, advance
        As in ``find_by_label``.
    own : ndarray of int64, shape (q,)
        Its position in the gallery.

    Returns
    -------
    dict of str to ndarray of float64, shape (q,)
        ``r_at_1`` and ``r_at_10``: whether it stands among so many; NaN where the query failed.
    """
    ranks: Floats = np.full(len(queries), np.nan)
    reachable = _embedded(gallery)
    for rows, similarities in _blocks(queries, gallery, advance):
        steps = _steps(similarities, out=similarities)
        for row, line in zip(rows, steps, strict=True):
            place = own[row]
            if reachable[place]:
                before = np.count_nonzero(line < line[place]) + np.count_nonzero(line[:place] == line[place])
                ranks[row] = before
            else:
                ranks[row] = np.inf
    return {f"r_at_{k}": np.where(np.isnan(ranks), np.nan, ranks < k) for k in (1, TOP)}


def mean_figures(scores: Mapping[str, Floats], groups: Rows | None = None) -> dict[str, dict[str, Any]]:
    """Return the mean of each score, with its bootstrap interval, and the same with failed queries counted as zero.

    Parameters
    ----------
    scores : mapping of str to ndarray of float64, shape (n,)
        NaN where a query failed.
    groups : ndarray of int64, shape (n,), optional
        0 to the number of groups less 1: queries that are drawn together, since they are not independent.

    Returns
    -------
    dict
        By score: ``mean`` and ``interval`` (None where all failed), and the same in ``failed_as_zero``.
    """
    parts: dict[str, tuple[Floats, Floats]] = {}
    for name, values in scores.items():
        places = np.arange(len(values)) if groups is None else groups
        count = int(places.max()) + 1 if len(places) else 0
        there = np.isfinite(values)
        sums = np.bincount(places, np.where(there, values, 0), count).astype(np.float64)
        parts[name] = sums, np.bincount(places, there, count).astype(np.float64)
        parts[f"{name}, all"] = sums, np.bincount(places, minlength=count).astype(np.float64)

    def means(weights: Weights) -> dict[str, Floats]:
        return {name: _divided(weights @ sums, weights @ counts) for name, (sums, counts) in parts.items()}

    units = len(next(iter(parts.values()))[0]) if parts else 0
    intervals = bootstrap(means, units)
    figures: dict[str, dict[str, Any]] = {}
    for name, (sums, counts) in parts.items():
        mean = _divided(np.array([sums.sum()]), np.array([counts.sum()]))[0]
        figures[name] = {"mean": round(float(mean), 6) if np.isfinite(mean) else None, "interval": intervals[name]}
    return {name: {**figures[name], "failed_as_zero": figures[f"{name}, all"]} for name in scores}


def _blocks(
    queries: Vectors, gallery: Vectors, advance: Callable[[int], None]
) -> Iterator[tuple[Rows, npt.NDArray[np.float32]]]:
    """Yield rows of queries that have an embedding and their similarities, which the caller may change."""
    answered = np.flatnonzero(_embedded(queries))
    lost = np.flatnonzero(~_embedded(gallery))
    advance(len(queries) - len(answered))
    size = max(1, _BLOCK_VALUES // max(1, len(gallery)))
    for start in range(0, len(answered), size):
        rows = answered[start : start + size]
        similarities = queries[rows] @ gallery.T
        similarities[:, lost] = -np.inf
        yield rows, similarities
        advance(len(rows))


def _embedded(vectors: Vectors) -> npt.NDArray[np.bool_]:
    return np.asarray(np.isfinite(vectors).all(axis=1))


def _steps(similarities: npt.NDArray[Any], *, out: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Write whole numbers that are the smaller, the more similar, between -2**23 and 2**23: float32 holds them all."""
    np.maximum(similarities, -2.0, out=out)
    out *= -_STEPS
    return np.rint(out, out=out)


def _divided(values: Floats, by: Floats) -> Floats:
    return np.divide(values, by, out=np.full(len(values), np.nan), where=by > 0)
