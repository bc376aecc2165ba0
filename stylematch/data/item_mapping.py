"""What somebody's table calls its columns and says in its cells; ``catalog.json`` remembers it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stylematch.data.item_numbers import SAYS_NOTHING
from stylematch.data.item_words import TAGS, names_of
from stylematch.errors import UserError
from stylematch.tables.shown import shown

KNOWN = ("item_id", "image", "category", "title", "price", "url", "gender", "season", "usage", "baseColour")
"""Columns that mean something here, whatever the case of their letters; all others are kept as they are."""


@dataclass(frozen=True)
class ItemMapping:
    """Names and words of a shop for ours.

    Attributes
    ----------
    columns : mapping of str to str
        By a name of ``KNOWN`` the table's name for that column.
    values : mapping of str to mapping of str to str
        By tag, by a cell of the table, what to write in its place; neither case nor spaces around the cell count.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.columns or self.values)

    def check(self) -> None:
        """Say what of it can be nothing.

        Raises
        ------
        UserError
            If a column or a tag is not known, or a word means nothing here.
        """
        if unknown := [name for name in self.columns if name not in KNOWN]:
            raise UserError(
                f"--column {shown(unknown[0])}=...: the columns that can be named are {', '.join(KNOWN)}; all others "
                "are kept by the table's own names."
            )
        for tag, words in self.values.items():
            if tag not in TAGS:
                raise UserError(f"--value {shown(tag)}:...: the columns whose words are known are {', '.join(TAGS)}.")
            for cell, name in words.items():
                if cell.strip().lower() in SAYS_NOTHING:
                    raise UserError(f"--value {tag}:{shown(cell)}=...: such a cell says nothing; name a word.")
                if not names_of(tag, name):
                    raise UserError(
                        f"--value {tag}:{shown(cell)}={shown(name)}: '{shown(name)}' means no name that rules use; "
                        f"they are {', '.join(TAGS[tag])}."
                    )

    def behind(self, given: ItemMapping, names: Sequence[str]) -> ItemMapping:
        """Return what holds of a table of these columns where this is remembered, and what is given goes first.

        A column that is remembered but not there, or given another meaning, is forgotten: a table of ids and prices
        lacks most of them.
        """
        meant = set(given.columns.values())
        columns = {known: name for known, name in self.columns.items() if name in names and name not in meant}
        values = {tag: {**self.values.get(tag, {}), **given.values.get(tag, {})} for tag in TAGS}
        return ItemMapping({**columns, **given.columns}, values)

    def named(self, tag: str, cells: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return a tag's cells with the words that are mapped in our words."""
        words = {cell.strip().casefold(): name for cell, name in self.values.get(tag, {}).items()}
        if not words:
            return cells
        coded = cells.combine_chunks().dictionary_encode()
        said = [words.get(cell.strip().casefold(), cell) for cell in coded.dictionary.to_pylist()]
        return pa.chunked_array([pc.take(pa.array(said, pa.string()), coded.indices)])

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Return it as ``catalog.json`` holds it: in one order, however it was said."""
        values = {tag: dict(sorted(self.values[tag].items())) for tag in TAGS if self.values.get(tag)}
        return {"columns": {known: self.columns[known] for known in KNOWN if known in self.columns}, "values": values}
