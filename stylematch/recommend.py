"""A face's style -> k items of the style's categories, ranked, each with a reason.

- FAISS brings the 200 items of each category that are nearest to the category's prototype ("typical" ones).
- A hash of (photo_id, face, item_id, seed) orders them: people of one style get different items, and equal
  inputs equal ones.
- Slots go round the style's categories in their order; each takes its category's first item that looks like
  none chosen before. Where 200 do not suffice for k items, the nearest 400, 800, ... are taken instead.
- The chosen are ranked by score = style_score * similarity to the prototype, then by item_id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from stylematch.errors import UserError
from stylematch.search.catalog import ItemCatalog, SameLook

NEAREST = 200
"""How many typical items of a category a list is drawn from, where that suffices."""


@dataclass(frozen=True)
class Recommendation:
    """One item for one face.

    Attributes
    ----------
    rank : int
        1 is best.
    item_id, category : str
        The item and what it is.
    score : float
        ``style_score * similarity``: what the list is ranked by.
    similarity : float
        Cosine of the item with its category's prototype.
    reason : str
        One sentence a person can read.
    """

    rank: int
    item_id: str
    category: str
    score: float
    similarity: float
    reason: str


class Recommender:
    """Recommends items of a catalogue for faces of known style.

    Parameters
    ----------
    catalog : ItemCatalog
        The items.
    categories_of_style : mapping of str to sequence of str
        For every style the categories to recommend, in the order in which they get slots. A category that the
        catalogue lacks leaves its slots to the others.
    top_k : int
        Items per face, at least 1. Fewer come only where every other item of the style's categories looks
        like a chosen one.
    seed : int
        Another seed, another choice among the typical items.

    Raises
    ------
    UserError
        If ``top_k`` is below 1, or the catalogue has none of a style's categories.
    """

    def __init__(
        self,
        catalog: ItemCatalog,
        categories_of_style: Mapping[str, Sequence[str]],
        *,
        top_k: int = 5,
        seed: int = 0,
    ) -> None:
        if top_k < 1:
            raise UserError(f"top_k is {top_k}; ask for at least 1 item per face.")
        self.top_k = top_k
        self.seed = seed
        self._catalog = catalog
        self._categories: dict[str, tuple[str, ...]] = {}
        for style, wanted in categories_of_style.items():
            present = tuple(name for name in dict.fromkeys(wanted) if name in catalog.categories)
            if not present:
                raise UserError(
                    f"The catalogue has no items for {style!r} ({', '.join(wanted) or 'no categories'}); "
                    f"it has {', '.join(catalog.categories)}. Use another catalogue or rule set."
                )
            self._categories[style] = present
        self._pools: dict[tuple[tuple[str, ...], int], _Pool] = {}

    def recommend(self, photo_id: str, face: int, style: str, style_score: float, rule: str) -> list[Recommendation]:
        """Choose and rank the items for one face.

        Parameters
        ----------
        photo_id : str
            The photo's key.
        face : int
            The face's number in the photo.
        style : str
            One of the styles given at the start.
        style_score : float
            How sure the style is, 0 to 1.
        rule : str
            The style's rule in words ("Young"), for the reason.

        Returns
        -------
        list of Recommendation
            By rank: ``top_k`` of them, every category of the style among them where ``top_k`` allows, no two
            that look the same.
        """
        categories = self._categories.get(style)
        if categories is None:
            raise UserError(f"Unknown style {style!r}; the recommender knows {', '.join(self._categories)}.")
        # A tuple's repr says where it ends, so nothing of it can run into the item's id.
        key = hashlib.blake2b(repr((photo_id, face, self.seed)).encode(), digest_size=8)
        size = NEAREST
        while True:
            pool = self._pool(categories, size)
            chosen = pool.choose(key, self.top_k)
            if pool.is_whole or (len(chosen) == self.top_k and pool.covers(chosen)):
                break
            size *= 2
        scored = sorted((-float(style_score) * pool.similarities[item], pool.item_ids[item], item) for item in chosen)
        return [
            Recommendation(
                rank=rank,
                item_id=item_id,
                category=pool.categories[item],
                score=-negative,
                similarity=pool.similarities[item],
                reason=f"{pool.leads[item]} for {style}, because {rule}.",
            )
            for rank, (negative, item_id, item) in enumerate(scored, start=1)
        ]

    def _pool(self, categories: tuple[str, ...], size: int) -> _Pool:
        if (categories, size) not in self._pools:
            self._pools[categories, size] = _Pool(self._catalog, categories, size)
        return self._pools[categories, size]


class _Pool:
    """The typical items of some categories, side by side: what one style's lists are drawn from."""

    def __init__(self, catalog: ItemCatalog, categories: tuple[str, ...], size: int) -> None:
        hits = [catalog.nearest(name, min(size, len(catalog.positions_of(name)))) for name in categories]
        positions = np.concatenate([h.positions[0] for h in hits])
        bounds = np.cumsum([0, *(h.positions.shape[1] for h in hits)])
        self.slices = [slice(int(a), int(b)) for a, b in pairwise(bounds)]
        self.is_whole = all(len(catalog.positions_of(name)) <= size for name in categories)
        self.item_ids = [catalog.item_ids[position] for position in positions]
        self.categories = [catalog.category(position) for position in positions]
        self.similarities: list[float] = np.concatenate([h.scores[0] for h in hits]).tolist()
        self.leads = [
            f"A typical {category} ({similarity:.2f} like the average {category})"
            for category, similarity in zip(self.categories, self.similarities, strict=True)
        ]
        self._id_bytes = [item_id.encode() for item_id in self.item_ids]
        self._same = SameLook(catalog, positions)

    def covers(self, chosen: Sequence[int]) -> bool:
        """Whether the chosen items reach all categories, or as many as there are items."""
        reached = {self.categories[item] for item in chosen}
        return len(reached) == min(len(self.slices), len(chosen))

    def choose(self, key: hashlib.blake2b, count: int) -> list[int]:
        """Return up to ``count`` items, going round the categories, by the hashes that ``key`` gives."""
        orders = self._orders(key)
        free = np.ones(len(self.item_ids), np.bool_)
        chosen: list[int] = []
        while len(chosen) < count and free.any():
            first_round = not chosen
            for place, order in enumerate(orders):
                # In the first round a choice must leave something to the categories that come after it.
                after = self.slices[place + 1 : place + count - len(chosen)] if first_round else []
                item = self._first(order, free, [part for part in after if free[part].any()])
                if item is not None and len(chosen) < count:
                    chosen.append(item)
                    free &= ~self._same.row(item)
        return chosen

    def _first(self, order: list[int], free: npt.NDArray[np.bool_], after: list[slice]) -> int | None:
        """Return the first free item that leaves a free one in each part of ``after``, else the first."""
        candidates = (item for item in order if free[item])
        first = None
        for item in candidates:
            first = item if first is None else first
            if not after:
                break
            left = free & ~self._same.row(item)
            if all(left[part].any() for part in after):
                return item
        return first

    def _orders(self, key: hashlib.blake2b) -> list[list[int]]:
        """Return each category's items by their hashes."""
        digests = []
        for item_id in self._id_bytes:
            item_key = key.copy()
            item_key.update(item_id)
            digests.append(item_key.digest())
        hashes = np.frombuffer(b"".join(digests), ">u8")
        return [(np.argsort(hashes[part], kind="stable") + part.start).tolist() for part in self.slices]
