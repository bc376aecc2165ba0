"""The items of a catalogue as they are shown, by position: what is known of them, their pictures, not their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stylematch.search.rows_file import PICTURE_COLUMN, PICTURE_SIDE_PX, read_pictures, read_rows


class ItemRows:
    """Rows of an index of items.

    Parameters
    ----------
    rows : pyarrow.Table
        One row an item, with their pictures where they have any.
    """

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows
        self._columns: dict[str, Any] = {}

    @cached_property
    def item_ids(self) -> tuple[str, ...]:
        """The items' ids, by position."""
        return tuple(self._rows["id"].to_pylist())

    @cached_property
    def position_of(self) -> dict[str, int]:
        """The items' positions, by id."""
        return {item_id: position for position, item_id in enumerate(self.item_ids)}

    def value(self, column: str, position: int) -> str | None:
        """Return an item's cell of a column of text, None where it is empty or there is no such column."""
        if column not in self._columns:
            self._columns[column] = self._rows[column] if column in self._rows.column_names else None
        cells = self._columns[column]
        cell = None if cells is None else cells[int(position)].as_py()
        return None if cell is None else str(cell)

    def cells(self, column: str, positions: Sequence[int]) -> list[Any]:
        """Return some items' cells of a column, as they are."""
        return list(self._rows[column].take(pa.array(positions, pa.int64())).to_pylist())

    def picture(self, position: int) -> npt.NDArray[np.uint8] | None:
        """Return an item's picture, uint8 (28, 28) grey, or None where the catalogue has none."""
        data = None if self._pictures is None else self._pictures[int(position)].as_py()
        if data is None:
            return None
        return np.frombuffer(data, np.uint8).reshape(PICTURE_SIDE_PX, PICTURE_SIDE_PX)

    @cached_property
    def _pictures(self) -> Any:
        return self._rows[PICTURE_COLUMN] if PICTURE_COLUMN in self._rows.column_names else None


class StoredItemRows(ItemRows):
    """Rows of an index of items on disk, whose pictures are read when the first is asked for.

    Parameters
    ----------
    directory : pathlib.Path
        The index.

    Raises
    ------
    UserError
        If they are missing or damaged.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(read_rows(directory))
        self._directory = directory

    @cached_property
    def _pictures(self) -> Any:
        return read_pictures(self._directory)
