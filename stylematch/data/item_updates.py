"""New cells for items that a catalogue has, such as prices and stock: a table of ids, of which no picture is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stylematch.data.item_cells import ItemReading, read_cells, with_prices
from stylematch.data.table_rows import RowReason
from stylematch.errors import UserError
from stylematch.tables.shown import shown


@dataclass(frozen=True)
class ItemUpdates:
    """The rows of a table that have an id of their own.

    Attributes
    ----------
    name : str
        Of the file, without where it lies.
    ids : pyarrow.ChunkedArray
        n strings, no two the same.
    columns : pyarrow.Table
        n rows: the table's columns but for ids and pictures; null where a cell says nothing.
    rows : int
        Of the table, with those that are left out.
    reasons : dict of str to int
        How many rows were left out, by reason.
    left_out : tuple of str
        Columns that are, each with why.
    remarks : tuple of str
        Of the others, what could not be read in them.
    """

    name: str
    ids: pa.ChunkedArray
    columns: pa.Table
    rows: int
    reasons: dict[str, int]
    left_out: tuple[str, ...]
    remarks: tuple[str, ...]


def read_updates(source: Path, reading: ItemReading) -> ItemUpdates:
    """Read a table of ids and new cells; of two rows with one id the first counts.

    Raises
    ------
    UserError
        If it cannot be read, has no column of ids or no other, or no row with an id.
    """
    if not source.is_file():
        raise UserError(f"There is no table at {shown(source)}; name a .csv or .parquet file of ids and new values.")
    cells = read_cells(source, reading)
    names = [name for name in cells.columns.column_names if name not in ("item_id", "image")]
    if not names:
        raise UserError(f"{shown(source)} has ids, but no column of new values; there is nothing to update.")
    ids = cells.columns["item_id"].combine_chunks()
    has_id = np.flatnonzero(pc.fill_null(pc.not_equal(ids, ""), False).to_numpy(zero_copy_only=False))
    coded = ids.take(pa.array(has_id)).dictionary_encode().indices.to_numpy()
    kept = has_id[np.sort(np.unique(coded, return_index=True)[1])]
    counts = {
        RowReason.MALFORMED_ROW: len(cells.read.damaged),
        RowReason.NO_ID: len(ids) - len(has_id),
        RowReason.DUPLICATE_ID: len(has_id) - len(kept),
    }
    if not len(kept):
        raise UserError(f"{shown(source)} has no row with an id; there is nothing to update.")
    rows = cells.columns.take(pa.array(kept))
    numbers = [cells.read.numbers[place] for place in kept.tolist()]
    columns, remarks = with_prices(rows.select(names), numbers, cells.read)
    image = ("image (catalog add reads pictures)",) if "image" in cells.columns.column_names else ()
    return ItemUpdates(
        source.name,
        rows["item_id"],
        columns,
        len(ids) + len(cells.read.damaged),
        {str(reason): count for reason, count in counts.items() if count},
        (*image, *cells.left_out),
        (*cells.remarks, *remarks),
    )
