"""Which items a list is drawn from: those of each of the style's categories that are nearest to a query, with scores.

Without a query of its own every face of a style has the same candidates. So that not everybody gets the same items,
a face then prefers a few of the near-equal best, chosen by a hash of the photo, the face and the item.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from stylematch.search.catalog import ItemCatalog
from stylematch.settings.score import Ranking

Answer = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]
"""Positions and scores (n,) of one query."""
NEAREST = 200
"""How many items of a category are brought by similarity alone, where that suffices."""
_NEAR_EQUAL_SHARE, _PREFERRED_SHARE = 0.1, 0.1


@dataclass(frozen=True)
class Candidates:
    """Items of some categories, side by side; m of them, by category and then by id.

    Attributes
    ----------
    positions : ndarray of int64, shape (m,)
        In the catalogue.
    place : ndarray of int64, shape (m,)
        Which category: its place among the style's; that of ``others`` is one more than the last.
    similarity, fit : ndarray of float64, shape (m,)
        Cosine with what their category was searched by; how well the tags fit the style.
    vectors : ndarray of float64, shape (m, d)
        The embeddings.
    is_whole : bool
        Whether these are all items of the categories.
    seen : ndarray of bool, shape (m,), optional
        Of which items the face's own clothes can say something: of shoes nothing. The similarity of the others, which
        is with their style's prototype, is no part of their score. None: of all, or there are no clothes.
    """

    positions: npt.NDArray[np.int64]
    place: npt.NDArray[np.int64]
    similarity: npt.NDArray[np.float64]
    fit: npt.NDArray[np.float64]
    vectors: npt.NDArray[np.float64]
    is_whole: bool
    seen: npt.NDArray[np.bool_] | None = None

    @cached_property
    def groups(self) -> list[tuple[int, slice]]:
        """Each category's place, and where its items lie here; categories without any are left out."""
        if not len(self.place):
            return []
        bounds = [0, *(np.flatnonzero(np.diff(self.place)) + 1).tolist(), len(self.place)]
        return [(int(self.place[start]), slice(start, end)) for start, end in pairwise(bounds)]

    def only(self, kept: npt.NDArray[np.int64]) -> Candidates:
        """Return some of them, by their places here: int64 (kept,)."""
        return Candidates(
            self.positions[kept],
            self.place[kept],
            self.similarity[kept],
            self.fit[kept],
            self.vectors[kept],
            self.is_whole and len(kept) == len(self.positions),
            None if self.seen is None else self.seen[kept],
        )

    def scores(
        self, style_score: float, priors: Sequence[float], ranking: Ranking, *, typical: bool = False
    ) -> npt.NDArray[np.float64]:
        """Return the weighted mean of similarity, tag fit times style score, and category prior, float64 (m,).

        With ``typical`` the similarity with a prototype counts, too, of items of which the clothes say nothing.
        """
        total = ranking.weight_similarity + ranking.weight_tags + ranking.weight_category
        prior = np.asarray(priors, np.float64)[self.place]
        similarity = self.similarity if self.seen is None or typical else np.where(self.seen, self.similarity, 0.0)
        weighted = ranking.weight_similarity * similarity + ranking.weight_tags * (self.fit * style_score)
        return (weighted + ranking.weight_category * prior) / total


def gather(
    catalog: ItemCatalog,
    groups: Sequence[npt.NDArray[np.int64]],
    answers: Sequence[Answer | None],
    fit: npt.NDArray[np.float64],
    first_place: int = 0,
) -> Candidates:
    """Put together what searches among each group brought, each for one query.

    Parameters
    ----------
    catalog : ItemCatalog
        Where the items are.
    groups : sequence of ndarray of int64
        Each category's items.
    answers : sequence of (positions, scores) or None
        What was found among each group, -1 where there was no more; None for an empty one.
    fit : ndarray of float64, shape (n,)
        Of every item of the catalogue.
    first_place : int
        The place of the first group.
    """
    found = [np.empty(0, np.int64) if answer is None else answer[0] for answer in answers]
    scores = [np.empty(0) if answer is None else answer[1] for answer in answers]
    positions, similarity = np.concatenate(found), np.concatenate(scores)
    place = np.repeat(np.arange(len(groups)) + first_place, [len(part) for part in found])
    there = positions >= 0
    positions, similarity, place = positions[there], similarity[there], place[there]
    order = np.lexsort((catalog.id_ranks[positions], place))
    positions = positions[order]
    return Candidates(
        positions,
        place[order],
        similarity[order],
        fit[positions],
        catalog.index.vectors(positions).astype(np.float64),
        len(positions) == sum(len(group) for group in groups),
    )


def preferred(
    candidates: Candidates,
    scores: npt.NDArray[np.float64],
    sizes: Sequence[int],
    item_keys: npt.NDArray[np.uint64],
    face_key: int,
    top_k: int,
) -> npt.NDArray[np.bool_]:
    """Return which candidates a face without a query of its own prefers, bool (m,).

    Of each category the best tenth, at most ``NEAREST`` and at least ``2 * top_k`` items, are near-equal; the tenth of
    them (at least ``top_k``) whose hashes are smallest are preferred.

    Parameters
    ----------
    candidates : Candidates
        The items.
    scores : ndarray of float64, shape (m,)
        Theirs.
    sizes : sequence of int
        How many items each category has in all, by place.
    item_keys : ndarray of uint64, shape (n,)
        The catalogue's, by position, from ``key_of``.
    face_key : int
        What the face brings into the hash, from ``key_of``.
    top_k : int
        Items that are asked for.
    """
    chosen = np.zeros(len(scores), np.bool_)
    hashes = _mixed(item_keys[candidates.positions] ^ np.uint64(face_key))
    for place, members in candidates.groups:
        near_equal = max(2 * top_k, min(NEAREST, int(_NEAR_EQUAL_SHARE * sizes[place])))
        best = members.start + np.argsort(-scores[members], kind="stable")[:near_equal]
        count = max(top_k, int(_PREFERRED_SHARE * len(best)))
        chosen[best[np.argsort(hashes[best], kind="stable")[:count]]] = True
    return chosen


def key_of(text: str) -> int:
    """Return the 64 bits that a text brings into a hash."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Spread every bit over all 64 (the finaliser of SplitMix64, Steele, Lea and Flood, 2014)."""
    mixed = values.copy()
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), np.uint64)
