"""The items of a catalogue: categories, pictures, what is typical of a category, which pictures look alike.

- A category's *prototype* is the normalised mean of its items' embeddings.
- Its typical items are those nearest to the prototype, brought by FAISS, which searches that category alone.
- Two pictures are *near-equal* when their pixels correlate (Pearson) with at least 0.98. Looked at on
  Fashion-MNIST's test pictures: from there on most pairs are one cut with the same details, the tone aside;
  below 0.975 plain and striped shirts pair up. It holds for 0.04 % of the pairs of trousers and for at most
  0.003 % of the pairs of other categories. Items without a picture are near-equal when their embeddings are.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stylematch.errors import UserError
from stylematch.search.directory import PICTURE_SIDE_PX, StoredIndex
from stylematch.search.index import Hits

NEAR_EQUAL_CORRELATION = 0.98
_PIXELS = PICTURE_SIDE_PX * PICTURE_SIDE_PX
_BLOCK_ROWS = 256


class ItemCatalog:
    """The items of an index directory of kind ``items``.

    Parameters
    ----------
    stored : StoredIndex
        As ``load_index_directory`` returns it.

    Raises
    ------
    UserError
        If it is an index of faces.
    """

    def __init__(self, stored: StoredIndex) -> None:
        if stored.infos["kind"] != "items":
            raise UserError(f"This is an index of {stored.infos['kind']}; recommendations need one of items.")
        self.index = stored.index
        self._categories: list[str] = stored.rows["category"].to_pylist()
        self._positions: dict[str, list[int]] = {}
        for position, category in enumerate(self._categories):
            self._positions.setdefault(category, []).append(position)
        self._pictures = stored.rows["picture"] if "picture" in stored.rows.column_names else None
        self._prototypes: dict[str, npt.NDArray[np.float32]] = {}
        self._nearest: dict[tuple[str, int], Hits] = {}

    def __len__(self) -> int:
        return len(self.index)

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The items' ids, by position."""
        return self.index.ids

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories that have items, by name."""
        return tuple(sorted(self._positions))

    def category(self, position: int) -> str:
        """Return the category of the item at a position."""
        return self._categories[position]

    def positions_of(self, category: str) -> npt.NDArray[np.int64]:
        """Return the positions of a category's items, ascending; none for a category without items."""
        return np.asarray(self._positions.get(category, []), np.int64)

    def prototype(self, category: str) -> npt.NDArray[np.float32]:
        """Return the normalised mean embedding (d,) of a category.

        Raises
        ------
        UserError
            If there are no such items, or their embeddings cancel out.
        """
        if category not in self._prototypes:
            if category not in self._positions:
                raise UserError(f"The catalogue has no {category!r}; it has {', '.join(self.categories)}.")
            vectors = self.index.vectors(self._positions[category])
            mean = vectors.mean(axis=0, dtype=np.float64)
            length = float(np.sqrt((mean * mean).sum()))
            if length < 1e-9:
                raise UserError(f"The embeddings of {category!r} cancel out; embed the catalogue again.")
            self._prototypes[category] = (mean / length).astype(np.float32)
        return self._prototypes[category]

    def nearest(self, category: str, n: int = 200) -> Hits:
        """Return the n items of a category nearest to its prototype, best first, as (1, n). Cached.

        Fewer items than n leave -1 and -inf at the end, as in ``VectorIndex.search``.
        """
        if (category, n) not in self._nearest:
            allowed = self.positions_of(category)
            self._nearest[category, n] = self.index.search(self.prototype(category)[None], n, allowed=allowed)
        return self._nearest[category, n]

    def picture(self, position: int) -> npt.NDArray[np.uint8] | None:
        """Return an item's picture, uint8 (28, 28) grey, or None where the catalogue has none."""
        data = None if self._pictures is None else self._pictures[position].as_py()
        if data is None:
            return None
        return np.frombuffer(data, np.uint8).reshape(PICTURE_SIDE_PX, PICTURE_SIDE_PX)

    def near_equal(self, position_a: int, position_b: int) -> bool:
        """Return whether two items look the same; see the module's description for the measure."""
        return bool(SameLook(self, np.array([position_a, position_b])).row(0)[1])


class SameLook:
    """Which of some items look the same, worked out a block of rows at a time as they are asked for.

    Parameters
    ----------
    catalog : ItemCatalog
        Where the items are.
    positions : ndarray of int64, shape (m,)
        The items to compare.
    """

    def __init__(self, catalog: ItemCatalog, positions: npt.NDArray[np.int64]) -> None:
        pictures = [catalog.picture(int(position)) for position in positions]
        blank = np.zeros((PICTURE_SIDE_PX, PICTURE_SIDE_PX), np.uint8)
        self._pixels = np.array([blank if p is None else p for p in pictures], np.float64).reshape(-1, _PIXELS)
        self._sums = self._pixels.sum(axis=1)
        # 784 times the sums of the centred pixels' squares: whole numbers, like everything until the root.
        self._squares = _PIXELS * (self._pixels * self._pixels).sum(axis=1) - self._sums**2
        self._has_picture = np.array([p is not None for p in pictures], np.bool_)
        self._vectors = catalog.index.vectors(positions)
        self._blocks: dict[int, npt.NDArray[np.bool_]] = {}

    def row(self, item: int) -> npt.NDArray[np.bool_]:
        """Return bool (m,): which items look like ``positions[item]``; itself does."""
        block, row = divmod(item, _BLOCK_ROWS)
        if block not in self._blocks:
            self._blocks[block] = self._compare(np.arange(len(self._pixels))[block * _BLOCK_ROWS :][:_BLOCK_ROWS])
        return self._blocks[block][row]

    def _compare(self, items: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        # Whole numbers below 2**53 are exact in float64, so BLAS gets the same in any order of adding.
        products = _PIXELS * (self._pixels[items] @ self._pixels.T) - np.outer(self._sums[items], self._sums)
        same = products >= NEAR_EQUAL_CORRELATION * np.sqrt(np.outer(self._squares[items], self._squares))
        for row, item in enumerate(items):
            # A picture of one tone correlates with nothing: it equals those with the same pixels only.
            flat = (self._squares == 0) | (self._squares[item] == 0)
            if flat.any():
                same[row, flat] = (self._pixels[flat] == self._pixels[item]).all(axis=1)
            compared = self._has_picture & self._has_picture[item]
            if not compared.all():
                same[row, ~compared] = (self._vectors[~compared] == self._vectors[item]).all(axis=1)
        return same
