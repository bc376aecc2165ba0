"""What the recommender keeps of one style: its categories' items, how well they fit it, and its prototypes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from stylematch.recommend.candidates import Candidates, gather
from stylematch.search.base import Hits
from stylematch.search.catalog import ItemCatalog, Tags


class StyleItems:
    """The items of one style, searched by category.

    Parameters
    ----------
    catalog : ItemCatalog
        All items.
    categories : tuple of str
        The style's, in the order in which they get slots.
    tags : mapping of str to sequence of str
        By tag, what the style's items should be.
    for_anybody : bool
        Items that are made for others than the tags ask for are the style's, too.
    """

    def __init__(
        self, catalog: ItemCatalog, categories: tuple[str, ...], tags: Tags, *, for_anybody: bool = False
    ) -> None:
        self.categories, self.tags = categories, dict(tags)
        self._catalog = catalog
        self._groups = catalog.groups(categories, {} if for_anybody else tags)
        self.sizes = [len(group) for group in self._groups]
        self.fit = catalog.fit(self.tags)
        count = len(categories)
        self.priors = [*(1.0 - place / count for place in range(count)), 0.0]  # the last: other categories
        self.other_items = catalog.others(self._groups)
        self._typical: dict[int, Candidates] = {}
        self._fitting: dict[int, list[tuple[str, str, bool]]] = {}
        self._prototypes: list[npt.NDArray[np.float32]] | None = None
        self._other_prototype: npt.NDArray[np.float32] | None = None

    def search(self, queries: npt.NDArray[np.float32], size: int) -> list[Hits | None]:
        """Search every category for some queries (q, d)."""
        return [
            self._catalog.nearest(queries, min(size, len(group)), group) if len(group) else None
            for group in self._groups
        ]

    def candidates(self, hits: Sequence[Hits | None], row: int) -> Candidates:
        """Return what a search brought for one of its queries."""
        return gather(self._catalog, self._groups, hits, row, self.fit)

    def typical(self, size: int) -> Candidates:
        """Return the items that are nearest to the style's prototype of each category."""
        if size not in self._typical:
            if self._prototypes is None:
                self._prototypes = [
                    self._catalog.prototype(group, self.fit if self.tags else None)
                    for group in self._groups
                    if len(group)
                ]
            prototypes = iter(self._prototypes)
            hits = [
                self._catalog.nearest(next(prototypes)[None], min(size, len(group)), group) if len(group) else None
                for group in self._groups
            ]
            self._typical[size] = self.candidates(hits, 0)
        return self._typical[size]

    @property
    def other_prototype(self) -> npt.NDArray[np.float32]:
        """The prototype of the items of other categories."""
        if self._other_prototype is None:
            self._other_prototype = self._catalog.prototype(self.other_items, self.fit if self.tags else None)
        return self._other_prototype

    def other_candidates(self, query: npt.NDArray[np.float32]) -> Candidates:
        """Return all items of other categories, by their nearness to a query (d,)."""
        hits = self._catalog.nearest(query[None], len(self.other_items), self.other_items)
        return gather(self._catalog, [self.other_items], [hits], 0, self.fit, first_place=len(self.categories))

    def fitting(self, catalog: ItemCatalog, position: int) -> list[tuple[str, str, bool]]:
        """Return the tags of an item that the style asks for, with their values and whether a model guessed these."""
        if position not in self._fitting:
            found = ((tag, catalog.fitting(tag, position, self.tags[tag])) for tag in sorted(self.tags))
            self._fitting[position] = [
                (tag, value, catalog.is_predicted(tag, position)) for tag, value in found if value is not None
            ]
        return self._fitting[position]
