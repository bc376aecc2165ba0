"""``catalog update``: new prices, stock and other cells for items that a catalogue has, by id; no picture is read.

Vectors, pictures and the cells of columns that the table lacks stay as they are. The changed catalogue takes the place
of the old one by one rename, as of ``catalog add``.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from stylematch.data.item_cells import ItemReading
from stylematch.data.item_mapping import ItemMapping
from stylematch.data.item_updates import ItemUpdates, read_updates
from stylematch.errors import UserError
from stylematch.pipelines.indexing.catalog_files import (
    CATALOG,
    GARMENTS,
    ITEMS,
    check_is_catalog,
    given_columns,
    read_catalog,
    read_rejected,
    remembered_mapping,
    write_catalog,
)
from stylematch.pipelines.indexing.ids_file import told_missing
from stylematch.pipelines.indexing.index_rows import check_rows_file, readable, with_new_cells, write_with_rows
from stylematch.pipelines.indexing.item_tags import CATEGORY, reserved_names
from stylematch.search.infos import PICTURES_FILE
from stylematch.search.names import some
from stylematch.search.rows_file import read_all
from stylematch.tables.disk import link_or_copy
from stylematch.tables.shown import shown
from stylematch.vision.bundle import Bundle


@dataclass(frozen=True)
class CatalogUpdate:
    """What ``catalog update`` did.

    Attributes
    ----------
    updates : ItemUpdates
        The table.
    items : int
        Of the catalogue.
    updated : int
        Items that the table has a row of.
    missing : tuple of str
        Its ids that the catalogue does not have.
    changed : tuple of str
        The columns that have new cells.
    """

    updates: ItemUpdates
    items: int
    updated: int
    missing: tuple[str, ...]
    changed: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return what a person is told at the end."""
        rows = f"{self.updates.rows:,} rows: {self.updated:,} of {self.items:,} items updated"
        missing = f", {len(self.missing):,} not there: {shown(some(self.missing))}" if self.missing else ""
        lines = [rows + missing]
        if self.changed:
            lines.append(f"new values in: {shown(', '.join(self.changed))}; all other columns stay")
        else:
            lines.append("nothing to change: no new value for an item that is there")
        if self.updates.reasons:
            lines.append(f"rows left out: {', '.join(f'{why} {n:,}' for why, n in self.updates.reasons.items())}")
        if self.updates.left_out:
            lines.append(f"columns not taken: {shown(', '.join(self.updates.left_out))}")
        return [*lines, *self.updates.remarks]


def update_catalog(
    directory: Path, table: Path, mapping: ItemMapping, *, encoding: str | None = None, missing_ok: bool = False
) -> CatalogUpdate:
    """Replace cells of a collection's items, by id.

    Parameters
    ----------
    directory : pathlib.Path
        What ``catalog build`` wrote; it is replaced at the end.
    table : pathlib.Path
        A ``.csv`` or ``.parquet`` file of ids and new values. An empty cell leaves the old one.
    mapping : ItemMapping
        What it calls its columns and says in its cells, where the table that the collection was built of does not.
    encoding : str, optional
        Of a CSV; see ``read_csv``.
    missing_ok : bool
        Count ids that are not there instead of refusing them.

    Raises
    ------
    UserError
        If the collection or the table is wrong, or an id is not there.
    """
    check_is_catalog(directory)
    with CATALOG.locked(directory):
        content, rejected, bundle = read_catalog(directory), read_rejected(directory), Bundle.open(directory / GARMENTS)
        remembered = remembered_mapping(directory, content)
        updates = read_updates(table, ItemReading(mapping, remembered, reserved_names(bundle), encoding))
        check_rows_file(directory / ITEMS)
        rows = read_all(directory / ITEMS)
        found = pc.index_in(updates.ids, value_set=rows["id"].combine_chunks())
        missing = updates.ids.filter(found.is_null()).to_pylist()
        if missing and not missing_ok:
            raise UserError(
                f"{told_missing(table, updates.ids.to_pylist(), missing, directory)}. Add these items by catalog add, "
                "mend the table, or pass over them with --missing-ok."
            )
        positions = found.drop_null().to_numpy().astype(np.int64)
        own = bundle.schema.group(CATEGORY).labels
        rows, changed = with_new_cells(rows, positions, updates.columns.filter(found.is_valid()), own)
        if changed:
            with CATALOG.staged(directory) as staged:
                write_with_rows(directory / ITEMS, rows, own, staged / ITEMS)
                shutil.copytree(directory / GARMENTS, staged / GARMENTS, copy_function=link_or_copy)
                with readable(directory / PICTURES_FILE):
                    link_or_copy(directory / PICTURES_FILE, staged / PICTURES_FILE)
                write_catalog(
                    staged,
                    sources=content["sources"],
                    given=given_columns(content["given"], changed),
                    rejected=rejected,
                    mapping=remembered,
                )
    return CatalogUpdate(updates, len(rows), len(positions), tuple(missing), tuple(changed))
