"""Which of the candidates: slots go round the categories, each by maximal marginal relevance.

A slot takes the item of its category with the highest ``lambda * score - (1 - lambda) * similarity to the most similar
item chosen so far`` that looks like none of them. Where that leaves slots free, items that look like a chosen one fill
them, so that there are k items wherever k exist.

Source: Carbonell, Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and Producing
Summaries", SIGIR 1998.
"""

from __future__ import annotations

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
    ) -> list[int]:
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

        Returns
        -------
        list of int
            The candidates that were taken, in turn.
        """
        if self.is_full:
            return []
        slots = np.zeros(0, np.int64)
        if self.positions:
            chosen = np.isin(candidates.positions, self.positions)
            slots, eligible = np.bincount(candidates.place[chosen]), eligible & ~chosen
        kept = np.flatnonzero(eligible)
        candidates, relevance = candidates.only(kept), self._lambda * scores[kept]
        nearest = np.full(len(kept), -np.inf)
        for vector in self._vectors:
            np.maximum(nearest, _cosines(candidates.vectors, vector), out=nearest)
        taken: list[int] = []
        members = self._turns(candidates, slots)
        while members and not self.is_full:
            left = []
            for group in members:
                item = None if self.is_full else self._best(candidates, relevance, nearest, group, looks_alike)
                if item is None:
                    continue
                left.append(group)
                relevance[item] = -np.inf
                taken.append(int(kept[item]))
                self.positions.append(int(candidates.positions[item]))
                self._vectors.append(candidates.vectors[item])
                if not self.is_full:
                    np.maximum(nearest, _cosines(candidates.vectors, candidates.vectors[item]), out=nearest)
            members = left
        return taken

    def _turns(self, candidates: Candidates, slots: npt.NDArray[np.int64]) -> list[slice]:
        """Return the categories' candidates in the order of their turns: who has fewest slots so far is first."""
        order = sorted(candidates.groups, key=lambda group: int(slots[group[0]]) if group[0] < len(slots) else 0)
        return [members for _, members in order]

    def _best(
        self,
        candidates: Candidates,
        relevance: npt.NDArray[np.float64],
        nearest: npt.NDArray[np.float64],
        group: slice,
        looks_alike: bool,
    ) -> int | None:
        """Return the best item of a group, -inf being none; what looks like a chosen one is none any more."""
        value = relevance[group]
        if self.positions:
            value = value - (1.0 - self._lambda) * nearest[group]
        while value[place := int(value.argmax())] > -np.inf:  # the first of equals is the least id
            item = group.start + place
            if looks_alike or not self._is_seen(int(candidates.positions[item])):
                return item
            value[place] = relevance[item] = -np.inf
        return None

    def _is_seen(self, position: int) -> bool:
        return any(self._catalog.near_equal(position, other) for other in self.positions)


def _cosines(vectors: npt.NDArray[np.float64], vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return inner products, each summed in an order that its own row alone decides."""
    return (vectors * vector).sum(axis=-1)
