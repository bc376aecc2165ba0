"""What the recommender keeps of one style: its categories' items, how well they fit it, and its prototypes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from stylematch.data.article_types import may_be_worn_on_torso
from stylematch.recommend.candidates import Answer, Candidates, gather
from stylematch.search.catalog import GENDER, ItemCatalog, Tags


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
    genders : sequence of str
        Items that their catalogue gives another gender are none of the style's own; without any, all are.

    Attributes
    ----------
    torso_groups : list of ndarray of int64
        The items of each category that a torso can show and that has any.
    """

    def __init__(
        self, catalog: ItemCatalog, categories: tuple[str, ...], tags: Tags, genders: Sequence[str] = ()
    ) -> None:
        self.categories, self.tags = categories, dict(tags)
        self._catalog = catalog
        self._groups = catalog.groups(categories, genders)
        self._is_for_others = catalog.for_others(genders)
        self.sizes = [len(group) for group in self._groups]
        self.fit = catalog.fit(self.tags)
        count = len(categories)
        self.priors = [*(1.0 - place / count for place in range(count)), 0.0]  # the last: other categories
        self.other_items = catalog.others(self._groups)
        self._on_torso = [may_be_worn_on_torso(category) for category in categories]
        self.torso_groups = [group for on, group in zip(self._on_torso, self._groups, strict=True) if on and len(group)]
        self._typical: dict[int, Candidates] = {}
        self._answers: dict[int, list[Answer | None]] = {}
        self._fitting: dict[int, list[tuple[str, str, bool]]] = {}
        self._prototypes: list[npt.NDArray[np.float32] | None] | None = None
        self._other_prototype: npt.NDArray[np.float32] | None = None

    @property
    def sees_clothes(self) -> bool:
        """Whether any category with items is of clothes that a torso can show, so that worn ones are a query."""
        return bool(self.torso_groups)

    def with_typical(self, found: Mapping[int, Answer], size: int) -> list[Answer | None]:
        """Return by category what was found for a face in ``torso_groups``, by ``id``.

        Of other categories, such as shoes, what the style's prototype finds.
        """
        typical = zip(self._groups, self._typical_answers(size), strict=True)
        return [found.get(id(group), answer) for group, answer in typical]

    def worn_candidates(self, answers: Sequence[Answer | None]) -> Candidates:
        """Return what ``search_by_clothes`` brought for one face."""
        found = gather(self._catalog, self._groups, answers, self.fit)
        return found if all(self._on_torso) else replace(found, seen=np.array(self._on_torso, np.bool_)[found.place])

    def typical(self, size: int) -> Candidates:
        """Return the items that are nearest to the style's prototype of each category."""
        if size not in self._typical:
            self._typical[size] = gather(self._catalog, self._groups, self._typical_answers(size), self.fit)
        return self._typical[size]

    def _typical_answers(self, size: int) -> list[Answer | None]:
        if size not in self._answers:
            if self._prototypes is None:
                self._prototypes = [
                    self._catalog.prototype(group, self.fit if self.tags else None) if len(group) else None
                    for group in self._groups
                ]
            answers: list[Answer | None] = []
            for prototype, group in zip(self._prototypes, self._groups, strict=True):
                if prototype is None:
                    answers.append(None)
                    continue
                hits = self._catalog.nearest(prototype[None], min(size, len(group)), group)
                answers.append((hits.positions[0], hits.scores[0]))
            self._answers[size] = answers
        return self._answers[size]

    @property
    def other_prototype(self) -> npt.NDArray[np.float32]:
        """The prototype of the items of other categories."""
        if self._other_prototype is None:
            self._other_prototype = self._catalog.prototype(self.other_items, self.fit if self.tags else None)
        return self._other_prototype

    def other_candidates(self, query: npt.NDArray[np.float32], *, is_worn: bool) -> Candidates:
        """Return all items of other categories, by their nearness to a query (d,): clothes, or a prototype."""
        hits = self._catalog.nearest(query[None], len(self.other_items), self.other_items)
        answer = hits.positions[0], hits.scores[0]
        found = gather(self._catalog, [self.other_items], [answer], self.fit, first_place=len(self.categories))
        if not is_worn:
            return found
        names = [self._catalog.category(int(position)) for position in found.positions]
        on_torso = {name: may_be_worn_on_torso(name) for name in set(names)}
        return replace(found, seen=np.array([on_torso[name] for name in names], np.bool_))

    def fitting(self, catalog: ItemCatalog, position: int) -> list[tuple[str, str, bool]]:
        """Return the tags of an item that the style asks for, with their values and whether a model guessed these."""
        if position not in self._fitting:
            found = ((tag, catalog.fitting(tag, position, self.tags[tag])) for tag in sorted(self.tags))
            self._fitting[position] = [
                (tag, value, catalog.is_predicted(tag, position)) for tag, value in found if value is not None
            ]
        return self._fitting[position]

    def made_for(self, position: int) -> str | None:
        """Return the gender that its catalogue gives an item that is made for others, None of any other item."""
        return self._catalog.value(GENDER, position) if self._is_for_others[position] else None


def search_by_clothes(
    catalog: ItemCatalog, styles: Sequence[StyleItems], worn: npt.NDArray[np.float32], size: int
) -> list[list[Answer | None]]:
    """Search by what faces wear; what styles share is searched once for the faces of all of them.

    Parameters
    ----------
    catalog : ItemCatalog
        All items.
    styles : sequence of StyleItems
        Each face's.
    worn : ndarray of float32, shape (faces, d)
        The embeddings of their clothes.
    size : int
        How many items of each category are wanted.

    Returns
    -------
    list of list of (positions, scores) or None
        For each face by its style's category what was found; None where that has no items.
    """
    asked: dict[int, tuple[npt.NDArray[np.int64], list[int]]] = {}
    for face, style in enumerate(styles):
        for group in style.torso_groups:
            asked.setdefault(id(group), (group, []))[1].append(face)
    found: list[dict[int, Answer]] = [{} for _ in styles]
    for key, (group, faces) in asked.items():
        hits = catalog.nearest(worn[faces], min(size, len(group)), group)
        for row, face in enumerate(faces):
            found[face][key] = hits.positions[row], hits.scores[row]
    return [style.with_typical(answers, size) for style, answers in zip(styles, found, strict=True)]
