"""The items of a catalogue: categories, tags, pictures, what is typical of a style, which items look alike.

- An item is of a category if that is its own (``category``) or the one that it looks like (``category_predicted``).
- How well an item's tags *fit* is the mean, over the tags that are asked for, of: 1 where the item's value, or what it
  means (``data/item_words``: "Female" is Women), is among the wanted, else 0; the model's probability in place of the 1
  where it predicted the value; 0.5 where nothing is known, or a value that means nothing that a rule can ask for; 0.75
  where something is for everybody and a rule also names whom it is for: backpacks are no typical bag of women.
- An item is *for others* where its catalogue gives a gender, and not one of those it is chosen for: no other tag is so
  plain.
- A *prototype* is the normalised mean of the embeddings of those of some items whose tags fit best.
- Two pictures are *near-equal* when their pixels correlate (Pearson) with at least 0.98. Looked at on
  Fashion-MNIST's test pictures: from there on most pairs are one cut with the same details, the tone aside;
  below 0.975 plain and striped shirts pair up. It holds for 0.04 % of the pairs of trousers and for at most
  0.003 % of the pairs of other categories. Items without a picture are near-equal when their embeddings are.

Sums run in the order of the items' ids, so the order of a catalogue's rows changes nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stylematch.data.item_words import names_of
from stylematch.errors import UserError
from stylematch.search.base import Hits
from stylematch.search.directory import StoredIndex
from stylematch.search.item_rows import ItemRows
from stylematch.search.rows_file import PICTURE_SIDE_PX

GENDER = "gender"
"""The tag that says whom an item is made for."""
EVERYBODY = "Unisex"
NEAR_EQUAL_CORRELATION = 0.98
TYPICAL_ITEMS = 20
"""Of how many items at least a prototype is the mean, where there are so many."""
_PIXELS = PICTURE_SIDE_PX * PICTURE_SIDE_PX
_UNKNOWN_FIT, _FOR_EVERYBODY_FIT = 0.5, 0.75
_KEPT_LOOKS = 2000  # 6 MB

Positions = npt.NDArray[np.int64]
Tags = Mapping[str, Sequence[str]]
_Look = tuple[npt.NDArray[np.int32], int, int]


class ItemCatalog(ItemRows):
    """The items of an index directory of kind ``items``.

    Parameters
    ----------
    stored : StoredIndex
        As ``load_index_directory`` returns it.
    allowed : ndarray of int64, optional
        The positions of the items that may be recommended (``search/where``); by default all.

    Raises
    ------
    UserError
        If it is an index of faces.
    """

    def __init__(self, stored: StoredIndex, allowed: npt.NDArray[np.int64] | None = None) -> None:
        if stored.infos["kind"] != "items":
            raise UserError(f"This is an index of {stored.infos['kind']}; recommendations need one of items.")
        super().__init__(stored.rows)
        self.index = stored.index
        self._allowed = np.ones(len(stored.index), np.bool_)
        if allowed is not None:
            self._allowed[:] = False
            self._allowed[allowed] = True
        self._looks: dict[int, _Look | None] = {}
        self._names: dict[str, npt.NDArray[np.bool_]] = {}
        self._groups: dict[bytes, Positions] = {}
        # A tag's values, and which of them each item has: every style asks anew.
        self._coded: dict[str, tuple[list[str], npt.NDArray[np.int32]]] = {}

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def id_ranks(self) -> Positions:
        """Numbers that order positions as the ids do, shape (n,)."""
        ranks = np.empty(len(self), np.int64)
        ranks[pc.sort_indices(self.index.id_column).to_numpy()] = np.arange(len(self))
        return ranks

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """The categories that have items that may be recommended, by name."""
        kept = self._rows.select(self._category_columns).filter(pa.array(self._allowed))
        names = {name for column in kept.columns for name in column.unique().to_pylist()}
        return tuple(sorted(name for name in names if name is not None))

    def category(self, position: int) -> str:
        """Return an item's own category."""
        return self._categories[int(position)]

    @cached_property
    def _categories(self) -> list[str]:
        return [str(name) for name in self._rows["category"].to_pylist()]

    def positions_of(self, category: str) -> Positions:
        """Return the positions of a category's items that may be recommended, ascending; none for an unknown one."""
        return np.flatnonzero(self._is_of(category) & self._allowed)

    def groups(self, categories: Sequence[str], genders: Sequence[str] = ()) -> list[Positions]:
        """Return each category's items, an item that is of two in the first alone.

        Those that are made for others than ``genders`` are left out, unless nothing else is there. Equal groups are
        one array, whoever asks, so that they can be told to be equal.
        """
        left = self._allowed & ~self.for_others(genders)
        if not any((self._is_of(category) & left).any() for category in categories):
            left = self._allowed.copy()
        groups = []
        for category in categories:
            found = np.flatnonzero(self._is_of(category) & left)
            left[found] = False
            groups.append(self._groups.setdefault(hashlib.blake2b(found.data).digest(), found))
        return groups

    def others(self, groups: Sequence[Positions]) -> Positions:
        """Return the items that may be recommended and are in none of the groups."""
        left = self._allowed.copy()
        for found in groups:
            left[found] = False
        return np.flatnonzero(left)

    def fit(self, tags: Tags) -> npt.NDArray[np.float64]:
        """Return how well every item's tags fit, float64 (n,), 0 to 1; 1 where none is asked for."""
        if not tags:
            return np.ones(len(self))
        return np.add.reduce([self.tag_fit(tag, tags[tag]) for tag in sorted(tags)]) / len(tags)

    def tag_fit(self, tag: str, wanted: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return how well one tag of every item fits, float64 (n,)."""
        if tag not in self._rows.column_names or not pa.types.is_string(self._rows.schema.field(tag).type):
            return np.full(len(self), _UNKNOWN_FIT)
        if tag not in self._coded:
            coded = self._rows[tag].combine_chunks().dictionary_encode()
            values = coded.dictionary.to_pylist()
            self._coded[tag] = values, pc.fill_null(coded.indices, len(values)).to_numpy()
        values, codes = self._coded[tag]
        fits = np.array([*(self._fit_of(tag, value, wanted) for value in values), _UNKNOWN_FIT])[codes]
        if f"{tag}_probability" in self._rows.column_names:
            chances = pc.fill_null(self._rows[f"{tag}_probability"].cast(pa.float64()), 1.0).to_numpy()
            fits = np.where(fits > _UNKNOWN_FIT, fits * chances, fits)
        return fits

    def for_others(self, genders: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Return which items are made for others than some genders, bool (n,): their catalogue gives another one.

        A gender that was predicted or that is not known denies nothing, and no ``genders`` are all.
        """
        if not genders or GENDER not in self._rows.column_names:
            return np.zeros(len(self), np.bool_)
        is_given = np.ones(len(self), np.bool_)
        if f"{GENDER}_probability" in self._rows.column_names:
            is_given = self._rows[f"{GENDER}_probability"].is_null().to_numpy()
        if not is_given.any():
            return is_given
        return np.asarray(is_given & (self.tag_fit(GENDER, genders) == 0.0))

    def fitting(self, tag: str, position: int, wanted: Sequence[str]) -> str | None:
        """Return the value of an item's tag, as its catalogue spells it, where it fits."""
        value = self.value(tag, position)
        return value if value is not None and self._fit_of(tag, value, wanted) > _UNKNOWN_FIT else None

    def is_predicted(self, tag: str, position: int) -> bool:
        """Return whether the value of an item's tag is a model's and not the catalogue's."""
        return self.value(f"{tag}_probability", position) is not None

    @staticmethod
    def _fit_of(tag: str, value: str, wanted: Sequence[str]) -> float:
        names = names_of(tag, value)
        meant = {value, *names}.intersection(wanted)
        if meant:
            is_for_all = tag == GENDER and (meant == {EVERYBODY} or names >= {"Men", "Women"})
            return _FOR_EVERYBODY_FIT if is_for_all and set(wanted) != {EVERYBODY} else 1.0
        return 0.0 if names else _UNKNOWN_FIT

    def prototype(
        self, positions: npt.ArrayLike, fit: npt.NDArray[np.float64] | None = None
    ) -> npt.NDArray[np.float32]:
        """Return the normalised mean embedding (d,) of the items among some that fit best.

        Parameters
        ----------
        positions : array_like of int64, shape (m,)
            The items, at least one.
        fit : ndarray of float64, shape (n,), optional
            Of every item of the catalogue, from ``fit``. The mean is over those that fit no worse than the
            ``TYPICAL_ITEMS``-th best does; by default over all of them.

        Raises
        ------
        UserError
            If their embeddings cancel out.
        """
        chosen = np.asarray(positions, np.int64)
        if fit is not None and len(chosen) > TYPICAL_ITEMS:
            best = np.sort(fit[chosen])[::-1]
            chosen = chosen[fit[chosen] >= best[TYPICAL_ITEMS - 1]]
        vectors = self.index.vectors(chosen[np.argsort(self.id_ranks[chosen])])
        mean = vectors.mean(axis=0, dtype=np.float64)
        length = float(np.sqrt((mean * mean).sum()))
        if length < 1e-9:
            raise UserError(
                "The embeddings of a category's items are opposite, none is typical: give the style another category."
            )
        return (mean / length).astype(np.float32)

    def nearest(self, queries: npt.ArrayLike, n: int, among: Positions) -> Hits:
        """Return the n items among some (m,) that are nearest to each query (q, d), as ``VectorIndex.search`` does."""
        return self.index.search(queries, n, allowed=among)

    def near_equal(self, position_a: int, position_b: int) -> bool:
        """Return whether two items look the same; see the module's description for the measure."""
        first, second = self._look(position_a), self._look(position_b)
        if first is None or second is None:
            vectors = self.index.vectors(np.array([position_a, position_b], np.int64))
            return bool((vectors[0] == vectors[1]).all())
        (a, sum_a, square_a), (b, sum_b, square_b) = first, second
        if not (square_a and square_b):  # a picture of one tone correlates with nothing
            return bool((a == b).all())
        product = _PIXELS * int(a @ b) - sum_a * sum_b
        return product >= NEAR_EQUAL_CORRELATION * math.sqrt(square_a * square_b)

    def _look(self, position: int) -> _Look | None:
        """Return an item's pixels, their sum, and 784 times the sum of the squares of the centred ones."""
        if position not in self._looks:
            if len(self._looks) == _KEPT_LOOKS:
                self._looks.clear()
            self._looks[position] = None
            if (picture := self.picture(position)) is not None:
                # Whole numbers until the root. The largest, 784 times 255 squared, fits 32 bits.
                pixels = picture.ravel().astype(np.int32)
                total = int(pixels.sum())
                self._looks[position] = pixels, total, _PIXELS * int(pixels @ pixels) - total**2
        return self._looks[position]

    @property
    def _category_columns(self) -> list[str]:
        return [name for name in ("category", "category_predicted") if name in self._rows.column_names]

    def _is_of(self, category: str) -> npt.NDArray[np.bool_]:
        if category not in self._names:
            is_of = np.zeros(len(self), np.bool_)
            for name in self._category_columns:
                is_of |= pc.fill_null(pc.equal(self._rows[name], category), False).to_numpy()
            self._names[category] = is_of
        return self._names[category]
