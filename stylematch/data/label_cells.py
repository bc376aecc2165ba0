"""What the cells of a table of labels mean: text, or one of a few words, whatever type a column has."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from stylematch.data.table_rows import TableRows
from stylematch.errors import UserError
from stylematch.tables.shown import shown

UNKNOWN = -1
MAX_LABEL_CHARACTERS = 1000
_WHOLE = re.compile(r"(-?\d+)(\.0+)?")
YES_NO = {"1": 1, "true": 1, "t": 1, "yes": 1, "y": 1, "0": 0, "false": 0, "f": 0, "no": 0, "n": 0}
PART_WORDS = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}


class LabelCells:
    """A table's columns: as text, and as what their cells mean."""

    def __init__(self, source: Path, rows: TableRows) -> None:
        self.source, self.rows, self.names = source, rows, rows.table.column_names

    def has(self) -> str:
        """Say which columns there are."""
        return f"its columns are {shown(', '.join(self.names))}."

    def cells(self, name: str) -> list[str | None]:
        """Return a column as text, None where it says nothing."""
        if name not in self.names:
            raise UserError(f"{shown(self.source)} has no column {shown(name)}; {self.has()}")
        column = self.rows.table[name]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_floating(column.type):
            values = [None if value is None or value != value else value for value in column.to_pylist()]
            if all(value is None or value == value // 1 for value in values):  # Arrow would write large ones as 1e+15
                return [None if value is None else f"{value:.0f}" for value in values]
            column = pa.chunked_array([pa.array(values)])
        try:
            texts = column.cast(pa.string()).to_pylist()
        except pa.ArrowException as error:
            raise UserError(
                f"{shown(self.source)}: column {shown(name)} is {column.type}, which is no text."
            ) from error
        return _whole([text.strip() or None if text is not None else None for text in texts])

    def meant(
        self, name: str, places: Sequence[int], known: Mapping[str, int], said: str, *, empty: bool = True
    ) -> list[int]:
        """Return what a column's cells mean at some places; a ``UserError`` names the first that means nothing."""
        cells, values = self.cells(name), []
        for place in places:
            cell = cells[place]
            value = UNKNOWN if cell is None and empty else known.get((cell or "").casefold())
            if value is None:
                raise UserError(f"{self._at(name, place)}: '{shown(cell or '')}' is none of {said}.")
            values.append(value)
        return values

    def check_short(self, name: str, cells: Sequence[str | None], places: Sequence[int]) -> None:
        """Refuse a label that is no name any more, with a ``UserError``: it would stand in every table and card."""
        for cell, place in zip(cells, places, strict=True):
            if cell is not None and len(cell) > MAX_LABEL_CHARACTERS:
                raise UserError(
                    f"{self._at(name, place)}: a label of {len(cell):,} characters; the longest has "
                    f"{MAX_LABEL_CHARACTERS:,}: is it a column of classes?"
                )

    def _at(self, name: str, place: int) -> str:
        return f"{shown(self.source)}, {self.rows.counted} {self.rows.numbers[place]:,}, column {shown(name)}"


def _whole(cells: list[str | None]) -> list[str | None]:
    """Return whole numbers as such: those of a column with gaps are written as 1.0 by much that writes tables."""
    numbers = [cell and _WHOLE.fullmatch(cell) for cell in cells]
    if not all(number or not cell for number, cell in zip(numbers, cells, strict=True)):
        return cells
    return [number[1] if number else None for number in numbers]
