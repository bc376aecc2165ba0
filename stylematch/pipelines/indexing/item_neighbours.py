"""Which items look most like an item, among those that it may be offered.

An item's embedding is the query. Whoever is offered is searched among alone, so there are as many as are asked for
wherever so many exist; the item itself is never among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stylematch.engines.progress import Progress
from stylematch.errors import UserError
from stylematch.search.base import SearchIndex
from stylematch.search.directory import StoredIndex
from stylematch.search.names import proposed, some
from stylematch.search.rows_file import PICTURE_COLUMN
from stylematch.tables.shown import shown

_QUERIES = 1024  # between two looks at the clock, and at an interrupt

Positions = npt.NDArray[np.int64]


class Neighbourhood:
    """Whom each item may be offered: a group of equal cells, less what the condition leaves out.

    Parameters
    ----------
    rows : pyarrow.Table
        One row an item, in the index's order.
    same : sequence of str
        The columns that are equal within a group.
    allowed : ndarray of int64, optional
        The positions of the items that may be offered; None for all.

    Raises
    ------
    UserError
        If there is no such column, or its cells cannot be compared.
    """

    def __init__(self, rows: pa.Table, same: tuple[str, ...], allowed: Positions | None) -> None:
        self._offered = np.ones(rows.num_rows, np.bool_)
        if allowed is not None:
            self._offered[:] = False
            self._offered[allowed] = True
        self.group = _groups(rows, same)
        self._by_group = np.argsort(self.group, kind="stable")
        self._starts = np.searchsorted(self.group[self._by_group], np.arange(self.group.max(initial=0) + 2))
        self._is_whole = allowed is None and not same

    @property
    def offered(self) -> int:
        """How many items may be offered at all."""
        return int(self._offered.sum())

    def others(self, positions: Positions) -> Positions:
        """Return how many others each of some items (n,) may be offered."""
        of_group = np.bincount(self.group, self._offered, len(self._starts) - 1).astype(np.int64)
        found: Positions = of_group[self.group[positions]] - self._offered[positions]
        return found

    def parts(self, positions: Positions) -> Iterator[tuple[Positions, Positions | None]]:
        """Give the places in ``positions`` that are searched among the same items, and these; None is all there are."""
        groups = self.group[positions]
        for group in np.unique(groups):
            members = self._by_group[self._starts[group] : self._starts[group + 1]]
            yield np.flatnonzero(groups == group), None if self._is_whole else members[self._offered[members]]


def pairs_of(items: StoredIndex, names: Sequence[str], near: Neighbourhood, k: int) -> pa.Table:
    """Return the pairs of some items: the columns of ``similar_items`` but ``run_id``, in the order of the names.

    Parameters
    ----------
    items : StoredIndex
        The catalogue's.
    names : sequence of str
        Ids; one that is named twice counts once.
    near : Neighbourhood
        Whom they may be offered.
    k : int
        How many.

    Raises
    ------
    UserError
        The catalogue has no such item.
    """
    names = list(dict.fromkeys(names))
    positions = items.index.positions_of(names)
    if missing := [name for name, position in zip(names, positions, strict=True) if position < 0]:
        raise UserError(
            f"{len(missing):,} of {len(names):,} ids are not in this catalogue: {shown(some(missing))}; "
            "take ids from the column item_id of recommend(), or of the table that the catalogue was built from."
        )
    return pa.table(pair_columns(items.index, positions, *nearest_to(items.index, near, positions, k)))


def nearest_to(
    index: SearchIndex, near: Neighbourhood, positions: Positions, k: int, progress: Progress | None = None
) -> tuple[Positions, npt.NDArray[np.float64]]:
    """Return what is nearest to some items (n,), themselves perhaps among it: positions, -1 for none, and cosines."""
    found = np.full((len(positions), k + 1), -1, np.int64)
    cosines = np.full((len(positions), k + 1), -np.inf)
    for places, allowed in near.parts(positions):
        for start in range(0, len(places), _QUERIES):
            some_places = places[start : start + _QUERIES]
            hits = index.search(index.vectors(positions[some_places]), k + 1, allowed=allowed)
            found[some_places], cosines[some_places] = hits.positions, hits.scores
            if progress is not None:
                progress.update(len(some_places))
    return found, cosines


def pair_columns(
    index: SearchIndex, positions: Positions, found: Positions, cosines: npt.NDArray[np.float64]
) -> dict[str, Any]:
    """Return the columns of pairs but ``run_id``; an item is not like itself: its last one gives way to that."""
    other = (found >= 0) & (found != positions[:, None])
    ranks = np.cumsum(other, axis=1, dtype=np.int32)
    other &= ranks < found.shape[1]
    items = np.broadcast_to(positions[:, None], found.shape)[other]
    ids = index.id_column
    return {
        "item_id": ids.take(pa.array(items)),
        "rank": ranks[other],
        "similar_item_id": ids.take(pa.array(found[other])),
        "similarity": np.clip(cosines[other], -1, 1),  # a sum of rounded products may come out a little beyond
    }


def _groups(rows: pa.Table, same: tuple[str, ...]) -> Positions:
    """Return of each row the number of its group: rows whose cells in some columns are all equal have one."""
    known = [name for name in rows.column_names if name != PICTURE_COLUMN]
    groups = np.zeros(rows.num_rows, np.int64)
    for name in same:
        if name not in known:
            raise UserError(
                f"--same {shown(name)}: the items have no such column; they have {shown(', '.join(known))}"
                f"{shown(proposed(name, known))}."
            )
        try:
            column = rows[name].combine_chunks()
            if pa.types.is_dictionary(column.type):
                column = column.dictionary_decode()
            column = column.dictionary_encode(null_encoding="encode")
        except pa.ArrowException as error:
            raise UserError(f"--same {shown(name)}: its cells cannot be compared ({error}); leave it out.") from error
        codes = column.indices.to_numpy(zero_copy_only=False)
        groups = np.unique(np.column_stack([groups, codes]), axis=0, return_inverse=True)[1].reshape(-1)
    return groups
