"""The items that a run recommends: each numbered when it is first met, with what pages say of it and who has it.

An item that is recommended under two categories has two numbers and one picture. Memory grows with the number of
different items.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stylematch.report.join import JoinedItem, Row
from stylematch.report.packed import ItemPictureChunks

ItemPicture = Callable[[str], NDArray[np.uint8] | bytes | None]
ItemFacts = Callable[[str], Mapping[str, str]]
_FACTS = ("title", "price", "url")
_CHUNK_ITEMS = 5000
_MOST = 48


class RecommendedItems:
    """Numbers items in the order in which they are met, and hands on their pictures.

    Parameters
    ----------
    pictures : ItemPictureChunks
        Takes the pictures.
    item_picture, item_facts : callable
        As ``GalleryWriter`` takes them; asked once for every number.
    """

    def __init__(
        self, pictures: ItemPictureChunks, item_picture: ItemPicture, item_facts: ItemFacts | None = None
    ) -> None:
        self._pictures, self._item_picture, self._item_facts = pictures, item_picture, item_facts
        self._numbers: dict[tuple[str, str], int] = {}
        self._rows: list[Row] = []
        self._faces: list[int] = []
        self._faces_of_category: Counter[str] = Counter()

    def number(self, item: JoinedItem) -> int:
        """Return an item's number, the next one where it is new."""
        key = (item.item_id, item.category)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._rows)
            self._rows.append(self._row(*key))
            self._faces.append(0)
        return number

    def count(self, items: Sequence[JoinedItem]) -> list[int]:
        """Return the numbers of a face's items, once a face: it counts among those that have them."""
        numbers = [self.number(item) for item in items]
        for number in numbers:
            self._faces[number] += 1
        self._faces_of_category.update({item.category for item in items})
        return numbers

    def row(self, number: int) -> Row:
        """Return what pages say of an item: ``id``, ``category``, ``picture``, and what its catalogue knows."""
        return self._rows[number]

    def short(self, number: int) -> list[Any]:
        """Return what a list says of an item: its number, its name, and where its picture is, if it has one."""
        row = self._rows[number]
        name = row["title"] if "title" in row else f"{row['category']} {row['id']}"
        return [number, name, *(row["picture"] or ())]

    def categories(self) -> list[Row]:
        """Return the categories in the order of their numbers, each with how many faces have an item of it."""
        return [{"name": name, "faces": self._faces_of_category[name]} for name in self._category_numbers()]

    def most(self) -> list[Row]:
        """Return the items that most faces have, each once, whatever its categories; the earlier met before others."""
        faces: Counter[str] = Counter()
        first: dict[str, int] = {}
        for number, (row, count) in enumerate(zip(self._rows, self._faces, strict=True)):
            faces[row["id"]] += count
            first.setdefault(row["id"], number)
        best = heapq.nsmallest(_MOST, first.items(), key=lambda known: (-faces[known[0]], known[1]))
        return [{**self._rows[number], "faces": faces[item_id]} for item_id, number in best]

    def different(self) -> int:
        """Return how many different items there are."""
        return len({item_id for item_id, _ in self._numbers})

    def chunks(self) -> list[Row]:
        """Return what search needs of the items, by their numbers: columns, cut into parts."""
        numbers = self._category_numbers()
        parts = (self._rows[start : start + _CHUNK_ITEMS] for start in range(0, len(self._rows), _CHUNK_ITEMS))
        return [
            {
                "ids": [row["id"] for row in rows],
                "titles": [row.get("title") for row in rows],
                "categories": [numbers[row["category"]] for row in rows],
            }
            for rows in parts
        ]

    def _category_numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(dict.fromkeys(category for _, category in self._numbers))}

    def _row(self, item_id: str, category: str) -> Row:
        facts = self._item_facts(item_id) if self._item_facts else {}
        picture = self._item_picture(item_id)
        return {
            "id": item_id,
            "category": category,
            "picture": None if picture is None else self._pictures.add(item_id, picture),
            **{name: facts[name] for name in _FACTS if facts.get(name)},
        }
