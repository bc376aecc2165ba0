"""Which of the candidates: slots go round the categories, each by maximal marginal relevance.

A slot takes the item of its category with the highest ``lambda * score - (1 - lambda) * similarity to the most similar
item chosen so far`` that looks like none of them. Where that leaves slots free, items that look like a chosen one fill
them, so that there are k items wherever k exist.

Source: Carbonell, Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and Producing
Summaries", SIGIR 1998.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from stylematch.recommend.candidates import Candidates
from stylematch.search.catalog import ItemCatalog


class Choice:
    """The items chosen so far for one face.

    Parameters
    ----------
    catalog : ItemCatalog
        Where the items are.
    count : int
        How many are asked for.
    mmr_lambda : float
        1: the best scores alone; 0: variety alone.
    """

    def __init__(self, catalog: ItemCatalog, count: int, mmr_lambda: float) -> None:
        self._catalog, self._count, self._lambda = catalog, count, mmr_lambda
        self.positions: list[int] = []
        self._vectors: list[npt.NDArray[np.float64]] = []

    @property
    def is_full(self) -> bool:
        """Whether as many as asked for are chosen."""
        return len(self.positions) == self._count

    def fill(
        self,
        candidates: Candidates,
        scores: npt.NDArray[np.float64],
        eligible: npt.NDArray[np.bool_],
        *,
        looks_alike: bool = False,
    ) -> None:
        """Take eligible candidates as long as items are missing.

        Parameters
        ----------
        candidates : Candidates
            m items.
        scores : ndarray of float64, shape (m,)
            Theirs.
        eligible : ndarray of bool, shape (m,)
            Which of them may be taken.
        looks_alike : bool
            Also take what looks like a chosen item.
        """
        if self.is_full:
            return
        free = eligible & ~np.isin(candidates.positions, self.positions)
        slots = np.bincount(candidates.place[np.isin(candidates.positions, self.positions)])
        kept = np.flatnonzero(free)
        candidates, scores, free = candidates.only(kept), scores[kept], free[kept]
        nearest = np.full(len(scores), -np.inf)
        for vector in self._vectors:
            np.maximum(nearest, _cosines(candidates.vectors, vector), out=nearest)
        members = self._turns(candidates, slots)
        while members and not self.is_full:
            left = []
            for group in members:
                item = None if self.is_full else self._best(candidates, scores, nearest, free, group, looks_alike)
                if item is None:
                    continue
                left.append(group)
                free[item] = False
                self.positions.append(int(candidates.positions[item]))
                self._vectors.append(candidates.vectors[item])
                np.maximum(nearest, _cosines(candidates.vectors, candidates.vectors[item]), out=nearest)
            members = left

    def _turns(self, candidates: Candidates, slots: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
        """Return the categories' candidates in the order of their turns: who has fewest slots so far is first."""
        places = np.unique(candidates.place).tolist()
        order = sorted(places, key=lambda place: (int(slots[place]) if place < len(slots) else 0, place))
        return [np.flatnonzero(candidates.place == place) for place in order]

    def _best(
        self,
        candidates: Candidates,
        scores: npt.NDArray[np.float64],
        nearest: npt.NDArray[np.float64],
        free: npt.NDArray[np.bool_],
        group: npt.NDArray[np.int64],
        looks_alike: bool,
    ) -> int | None:
        """Return the best free item of a group; what looks like a chosen one is not free any more."""
        relevance = self._lambda * scores[group]
        if self.positions:
            relevance = relevance - (1.0 - self._lambda) * nearest[group]
        relevance[~free[group]] = -np.inf
        while np.isfinite(best := relevance.max(initial=-np.inf)):
            place = int(np.argmax(relevance == best))  # the first is the least id
            item = int(group[place])
            if looks_alike or not self._is_seen(int(candidates.positions[item]), self.positions):
                return item
            relevance[place] = -np.inf
            free[item] = False
        return None

    def _is_seen(self, position: int, chosen: Sequence[int]) -> bool:
        return any(self._catalog.near_equal(position, other) for other in chosen)


def _cosines(vectors: npt.NDArray[np.float64], vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return inner products, each summed in an order that its own row alone decides."""
    return (vectors * vector).sum(axis=-1)
