"""``catalog build``: somebody's items with their pictures -> a collection that ``score --index`` takes.

The items are embedded (``catalog_items``), and ``index build`` runs over them. The collection holds ``items/`` (the
index), ``garments/`` (the model that made it), ``pictures.parquet`` (small JPEGs for the gallery), ``rejected.parquet``
(every row that gave no item, and why) and ``catalog.json``. ``catalog_change`` adds to it and removes from it.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from stylematch.pipelines.assets import default_index
from stylematch.pipelines.indexing.catalog_files import (
    CATALOG,
    GARMENTS,
    ITEMS,
    REJECTED_FILE,
    rejected_table,
    write_catalog,
)
from stylematch.pipelines.indexing.catalog_items import EmbeddedItems, ItemSource, embed_items
from stylematch.pipelines.indexing.index import build_index
from stylematch.pipelines.indexing.item_tags import ARTICLE_TYPE, CATEGORY
from stylematch.search.infos import PICTURES_FILE
from stylematch.search.plan import EXACT_UP_TO
from stylematch.settings.index import IndexSettings
from stylematch.tables.shown import shown
from stylematch.vision.bundle import Bundle


@dataclass(frozen=True)
class CatalogSummary:
    """What ``catalog build`` wrote.

    Attributes
    ----------
    out : pathlib.Path
        The collection.
    embedded : EmbeddedItems
        What became of the table's rows.
    """

    out: Path
    embedded: EmbeddedItems

    def lines(self) -> list[str]:
        """Return what a person is told at the end."""
        return [
            *rows_told(self.embedded, self.out),
            f"to recommend from them: score PHOTOS --index {shown(self.out)}",
        ]


def rows_told(embedded: EmbeddedItems, out: Path) -> list[str]:
    """Return what a person is told of a table's rows."""
    count = len(embedded.rejected)
    lines = [f"{embedded.items + count:,} rows: {embedded.items:,} items, {count:,} rejected"]
    if embedded.reasons:
        reasons = ", ".join(f"{why} {count:,}" for why, count in embedded.reasons.items())
        lines.append(f"rejected: {reasons}; {shown(out / REJECTED_FILE)} lists them")
    if embedded.torsos:
        lines.append(f"shown by a person: {embedded.torsos:,}")
    lines += _predicted_told(embedded)
    if embedded.left_out:
        lines.append(f"columns not kept: {shown(', '.join(embedded.left_out))}")
    return [*lines, *embedded.remarks]


def _predicted_told(embedded: EmbeddedItems) -> list[str]:
    """Return which categories and tags are the table's and which the encoder's, which stand in columns side by side."""
    guessed = embedded.predicted.get(CATEGORY, 0)
    given = embedded.items - guessed
    parts = [f"{who} for {count:,}" for who, count in (("given", given), ("predicted", guessed)) if count]
    lines = [f"category: {', '.join(parts)}"]
    tags = {name: f"{name} {count:,}" for name, count in embedded.predicted.items() if name != CATEGORY}
    if ARTICLE_TYPE in tags and given:  # its column may have been given as the category, and then looks predicted anew
        tags[ARTICLE_TYPE] += " (the encoder's word for what it sees; the categories that were given stand)"
    return [*lines, *([f"tags predicted where none was given: {', '.join(tags.values())}"] if tags else [])]


def build_catalog(source: ItemSource, out: Path, *, bundle_dir: Path | None = None) -> CatalogSummary:
    """Build a collection from a catalogue.

    Parameters
    ----------
    source : ItemSource
        The items.
    out : pathlib.Path
        The collection; one that is there is replaced.
    bundle_dir : pathlib.Path, optional
        The garment encoder; by default the shipped one.

    Raises
    ------
    UserError
        If the table, the bundle or OUT is wrong, or no row gives an item.
    StylematchError
        If more rows give none than may.
    """
    CATALOG.check(out)
    bundle = Bundle.open(bundle_dir or default_index() / GARMENTS)
    with (
        CATALOG.replaced(out) as staged,
        tempfile.TemporaryDirectory(prefix="stylematch-") as scratch,
    ):
        embedded = embed_items(source, bundle, Path(scratch))
        build_index(Path(scratch), staged / ITEMS, None if embedded.items <= EXACT_UP_TO else IndexSettings())
        shutil.copytree(bundle.directory, staged / GARMENTS)
        shutil.copyfile(Path(scratch) / PICTURES_FILE, staged / PICTURES_FILE)
        write_catalog(
            staged,
            sources=[embedded.name],
            given=["image", *embedded.given],
            rejected=rejected_table(embedded.name, embedded.rejected),
            mapping=source.mapping,
        )
    return CatalogSummary(out, embedded)
