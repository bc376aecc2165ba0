"""The cells of somebody's table of items, under the names that we have for them and as what they mean here.

``item_table`` makes items with pictures of them, ``item_updates`` new cells of items that are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from stylematch.data.item_columns import name_columns
from stylematch.data.item_mapping import KNOWN, ItemMapping
from stylematch.data.item_numbers import prices, typed
from stylematch.data.item_remarks import remark, strange_words
from stylematch.data.item_words import TAGS
from stylematch.data.table_rows import TableRows, read_table
from stylematch.tables.shown import shown

NO_MAPPING = ItemMapping()


@dataclass(frozen=True)
class ItemReading:
    """How a table of items is read.

    Attributes
    ----------
    mapping : ItemMapping
        What its columns are called and its words mean, as options say.
    remembered : ItemMapping
        The same of the table that the catalogue was built of: it holds where this table has such columns and nothing
        else is said.
    reserved : tuple of str
        Names of columns that the index fills itself.
    encoding : str, optional
        Of a CSV; see ``read_csv``.
    """

    mapping: ItemMapping = NO_MAPPING
    remembered: ItemMapping = NO_MAPPING
    reserved: tuple[str, ...] = ()
    encoding: str | None = None


@dataclass(frozen=True)
class ItemCells:
    """A table's rows, all of them.

    Attributes
    ----------
    read : TableRows
        Where they stood.
    columns : pyarrow.Table
        n rows: the columns of ``KNOWN`` that there are, then the others. A price may be text.
    left_out : tuple of str
        Columns that an index cannot keep, each with why.
    remarks : tuple of str
        Columns whose commas were read as decimal ones, with an example.
    """

    read: TableRows
    columns: pa.Table
    left_out: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def read_cells(source: Path, reading: ItemReading) -> ItemCells:
    """Read a table.

    Raises
    ------
    UserError
        If it cannot be read, has no column of ids or names one twice, or the mapping is wrong.
    """
    reading.mapping.check()
    read = read_table(source, reading.encoding)
    mapping = reading.remembered.behind(reading.mapping, read.table.column_names)
    table, left_out = name_columns(read.table, source, mapping.columns, reading.reserved)
    columns = {name: table[name] for name in table.column_names}
    remarks = []
    for name, column in columns.items():
        if name in TAGS:
            columns[name] = mapping.named(name, column)
        elif read.counted == "line" and name not in KNOWN:  # a CSV's cells are all text
            columns[name] = typed(column, decimal_comma=read.decimal_comma)
            if pa.types.is_floating(columns[name].type) and (cell := _with_comma(column)):
                remarks.append(f"{name}: numbers with decimal commas, such as '{shown(cell)}'")
    return ItemCells(read, pa.table(columns), tuple(left_out), tuple(remarks))


def _with_comma(column: pa.ChunkedArray) -> str | None:
    found = column.filter(pc.match_substring(column, ","))
    return found[0].as_py() if len(found) else None


def with_prices(columns: pa.Table, numbers: Sequence[int], read: TableRows) -> tuple[pa.Table, tuple[str, ...]]:
    """Return some rows with their prices as numbers, and what is to be said of cells that mean nothing.

    Parameters
    ----------
    columns : pyarrow.Table
        n rows of ``ItemCells.columns``.
    numbers : sequence of int
        n of them: where each stood.
    read : TableRows
        The table that they are of.
    """
    remarks = strange_words(columns, numbers, read.counted)
    if "price" in columns.column_names and pa.types.is_string(columns.schema.field("price").type):
        price, unread = prices(columns["price"], decimal_comma=read.decimal_comma)
        if unread:
            first = f"{read.counted} {numbers[unread[0]]:,}"
            remarks = (remark("price", columns["price"], unread, first, "number"), *remarks)
        columns = columns.set_column(columns.column_names.index("price"), "price", price)
    return columns, remarks
