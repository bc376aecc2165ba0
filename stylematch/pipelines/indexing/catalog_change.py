"""``catalog add``, ``catalog remove``: change a collection that ``catalog build`` wrote, without building it again.

The changed collection is written beside the old one and takes its place by one rename: index, pictures, rejected rows
and ``catalog.json`` change together or not at all. New items are embedded by the collection's own model. An exact index
then answers as one that was built of all items would.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from stylematch.pipelines.indexing.catalog import rows_told
from stylematch.pipelines.indexing.catalog_files import (
    CATALOG,
    GARMENTS,
    ITEMS,
    check_is_catalog,
    given_columns,
    read_catalog,
    read_rejected,
    rejected_table,
    remembered_mapping,
    write_catalog,
)
from stylematch.pipelines.indexing.catalog_items import EmbeddedItems, ItemSource, embed_items
from stylematch.pipelines.indexing.index_change import IndexChange, add_to_index, remove_from_index
from stylematch.report.item_pictures import ItemPictures, write_pictures_of
from stylematch.search.infos import PICTURES_FILE
from stylematch.search.rows_file import read_ids
from stylematch.vision.bundle import Bundle


@dataclass(frozen=True)
class CatalogChange:
    """What ``catalog add`` did.

    Attributes
    ----------
    directory : pathlib.Path
        The collection.
    embedded : EmbeddedItems
        What became of the table's rows.
    change : IndexChange
        What became of the index.
    """

    directory: Path
    embedded: EmbeddedItems
    change: IndexChange

    def lines(self) -> list[str]:
        """Return what a person is told at the end."""
        return [*rows_told(self.embedded, self.directory), *self.change.lines()]


def add_to_catalog(directory: Path, source: ItemSource) -> CatalogChange:
    """Add items to a collection; an item whose id is there is updated.

    Parameters
    ----------
    directory : pathlib.Path
        What ``catalog build`` wrote; it is replaced at the end.
    source : ItemSource
        The items. A row that gives none leaves the item of its id, if there is one, as it is.

    Raises
    ------
    UserError
        If the collection or the table is wrong, or no row gives an item.
    StylematchError
        If more rows give none than may.
    """
    check_is_catalog(directory)
    with (
        CATALOG.replaced(directory) as staged,
        tempfile.TemporaryDirectory(prefix="stylematch-") as scratch,
    ):
        content, rejected, bundle = read_catalog(directory), read_rejected(directory), Bundle.open(directory / GARMENTS)
        remembered = remembered_mapping(directory, content)
        embedded = embed_items(source, bundle, Path(scratch), remembered)
        sources = list(dict.fromkeys((*content["sources"], embedded.name)))
        change = add_to_index(
            directory / ITEMS,
            Path(scratch),
            update=True,
            new_columns=True,
            source=", ".join(sources),
            out=staged / ITEMS,
        )
        _copy_rest(directory, staged, ItemPictures(Path(scratch) / PICTURES_FILE))
        others = rejected.filter(pc.not_equal(rejected["source"], embedded.name))
        write_catalog(
            staged,
            sources=sources,
            given=given_columns(content["given"], embedded.given),
            rejected=pa.concat_tables([others, rejected_table(embedded.name, embedded.rejected)]),
            mapping=remembered,
        )
    return CatalogChange(directory, embedded, change)


def remove_from_catalog(directory: Path, ids_file: Path, *, missing_ok: bool = False) -> IndexChange:
    """Remove items from a collection, with their pictures; parameters and errors as of ``remove_from_index``."""
    check_is_catalog(directory)
    with CATALOG.replaced(directory) as staged:
        content, rejected = read_catalog(directory), read_rejected(directory)
        change = remove_from_index(directory / ITEMS, ids_file, missing_ok=missing_ok, out=staged / ITEMS)
        _copy_rest(directory, staged)
        mapping = remembered_mapping(directory, content)
        write_catalog(staged, sources=content["sources"], given=content["given"], rejected=rejected, mapping=mapping)
    return change


def _copy_rest(directory: Path, staged: Path, new: ItemPictures | None = None) -> None:
    """Copy the model, and the pictures of the items that are in the index now."""
    shutil.copytree(directory / GARMENTS, staged / GARMENTS)
    ids = read_ids(staged / ITEMS).to_pylist()
    write_pictures_of(ids, [*([new] if new else []), ItemPictures(directory / PICTURES_FILE)], staged / PICTURES_FILE)
