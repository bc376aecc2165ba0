"""A table of items with their pictures -> embedding shards: what ``catalog build`` and ``catalog add`` share.

Pictures are read in processes, embedded here as they come, and written as embedding shards, tags that the table leaves
empty predicted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stylematch.data.item_cells import NO_MAPPING, ItemReading
from stylematch.data.item_mapping import ItemMapping
from stylematch.data.item_table import ItemTable, RejectedItem, read_items
from stylematch.data.item_words import TAGS
from stylematch.pipelines.indexing.catalog_pictures import ReadItems, read_in_order
from stylematch.pipelines.indexing.catalog_rejected import MAX_REJECT_SHARE, check_rejected, counted
from stylematch.pipelines.indexing.item_tags import (
    CATEGORY,
    category_columns,
    category_fields,
    probability_of,
    reserved_names,
    tag_columns,
    tag_fields,
    tag_names,
)
from stylematch.pipelines.indexing.shards import EMBEDDINGS_FILE
from stylematch.report.item_pictures import ItemPicturesWriter
from stylematch.search.infos import PICTURES_FILE
from stylematch.search.rows_file import PICTURE_TYPE
from stylematch.tables.cores import usable_cores
from stylematch.tables.disk import write_durably
from stylematch.tables.shown import shown
from stylematch.tables.writer import ShardWriter
from stylematch.vision.bundle import Bundle
from stylematch.vision.runtime import Runtime, load_runtime, resolve_device, run_in_batches

_LICENCE = "that of the catalogue"


@dataclass(frozen=True)
class ItemSource:
    """Somebody's items, and how they are read.

    Attributes
    ----------
    path : pathlib.Path
        A ``.csv`` or ``.parquet`` table, or a directory of pictures; see ``stylematch.data.item_table.read_items``.
    images, allow_outside
        As ``read_items`` takes them.
    mapping : ItemMapping
        What the table calls its columns and says in its cells.
    encoding : str, optional
        Of a CSV; see ``read_csv``.
    max_reject_share : float
        Which share of the rows may give no item.
    device : {"auto", "cpu", "cpu-bf16", "cuda"}
        Where the model runs.
    batch_size, workers : int
        Pictures a call of the model, and processes that read pictures (0: one per core); they change no byte.
    photo_timeout_s : float
        How long reading one picture may take; it is rejected then. 0 waits for ever.
    """

    path: Path
    images: Path | None = None
    mapping: ItemMapping = NO_MAPPING
    encoding: str | None = None
    max_reject_share: float = MAX_REJECT_SHARE
    allow_outside: bool = False
    device: str = "auto"
    batch_size: int = 256
    workers: int = 0
    photo_timeout_s: float = 60.0


@dataclass(frozen=True)
class EmbeddedItems:
    """What ``embed_items`` made of a source.

    Attributes
    ----------
    name : str
        Of the source, safe to print, without where it lies.
    items : int
        Rows that are items now.
    rejected : tuple of RejectedItem
        The others, in their order.
    reasons : dict of str to int
        These, by reason.
    torsos : int
        Items of which the clothes below a face were looked at.
    given : tuple of str
        Columns that the source has, besides ids and pictures.
    predicted : dict of str to int
        By tag, for how many items it was predicted.
    left_out : tuple of str
        Columns that were not kept, and why.
    remarks : tuple of str
        Of columns that were, what could not be read in them.
    """

    name: str
    items: int
    rejected: tuple[RejectedItem, ...]
    reasons: dict[str, int]
    torsos: int
    given: tuple[str, ...]
    predicted: dict[str, int]
    left_out: tuple[str, ...]
    remarks: tuple[str, ...]


def embed_items(
    source: ItemSource, bundle: Bundle, directory: Path, remembered: ItemMapping = NO_MAPPING
) -> EmbeddedItems:
    """Write embedding shards and ``pictures.parquet`` of a source.

    Parameters
    ----------
    source : ItemSource
        The items.
    bundle : Bundle
        The garment encoder.
    directory : pathlib.Path
        An empty directory.
    remembered : ItemMapping
        What the catalogue was built with, where it is there.

    Raises
    ------
    UserError
        If the table or the bundle is wrong, or no row gives an item.
    StylematchError
        If more rows give none than may.
    """
    bundle.schema.group(CATEGORY)
    tags = tuple(dict.fromkeys((*tag_names(bundle), *TAGS)))
    reading = ItemReading(source.mapping, remembered, reserved_names(bundle), source.encoding)
    table = read_items(source.path, images=source.images, reading=reading, allow_outside=source.allow_outside)
    if len(table):  # pictures that are not there cost no hour of looking at the others
        check_rejected(source.path, table.rejected, len(table), source.max_reject_share)
    given = [name for name in tags if name in table.columns.column_names]
    tags = tuple(name for name in tags if name in given or name in tag_names(bundle))
    runtime = load_runtime(bundle, resolve_device(source.device), threads=usable_cores())
    writer = _ItemWriter(table, runtime, tags, source.batch_size)
    with ShardWriter(directory, 0, writer.schema) as shard, ItemPicturesWriter(directory / PICTURES_FILE) as pictures:
        read_in_order(
            table, bundle, source.workers, source.photo_timeout_s, lambda read: writer.add(read, shard, pictures)
        )
        items = shard.rows
    rejected = tuple(sorted((*table.rejected, *writer.rejected), key=lambda row: row.row))
    check_rejected(source.path, rejected, items, source.max_reject_share)
    name = shown(table.name)
    description = {
        "kind": "items",
        "dim": bundle.embedding_dim,
        "count": items,
        "bundle": bundle.name,
        "bundle_sha256": bundle.sha256,
        "source": name,
        "licence": _LICENCE,
        "categories": sorted({*writer.categories, *bundle.schema.group(CATEGORY).labels}),
    }
    write_durably(directory / EMBEDDINGS_FILE, json.dumps(description).encode())
    return EmbeddedItems(
        name,
        items,
        rejected,
        counted(rejected),
        writer.torsos,
        tuple(column for column in table.columns.column_names if column not in ("item_id", "image")),
        {tag: count for tag, count in writer.predicted.items() if count},
        table.left_out,
        table.remarks,
    )


class _ItemWriter:
    """Embeds what was read, and writes it as embedding shards."""

    def __init__(self, table: ItemTable, runtime: Runtime, tags: tuple[str, ...], batch_size: int) -> None:
        self._table, self._runtime, self._tags, self._batch_size = table, runtime, tags, batch_size
        columns = table.columns
        self._extra = [name for name in columns.column_names if name not in ("item_id", CATEGORY, *tags)]
        self.torsos = 0
        self.rejected: list[RejectedItem] = []
        self.categories: set[str] = set()
        self.predicted: dict[str, int] = dict.fromkeys((CATEGORY, *tags), 0)

    @property
    def schema(self) -> pa.Schema:
        """The shard's columns."""
        types = self._table.columns.schema
        return pa.schema(
            [
                pa.field("id", pa.string(), nullable=False),
                pa.field("embedding", pa.list_(pa.float16(), self._runtime.bundle.embedding_dim), nullable=False),
                *category_fields(),
                *tag_fields(self._tags),
                *(pa.field(name, types.field(name).type) for name in self._extra),
                pa.field("picture", PICTURE_TYPE, nullable=False),
            ]
        )

    def add(self, read: ReadItems, shard: ShardWriter, pictures: ItemPicturesWriter) -> None:
        """Write what became of the next rows."""
        columns = self._table.columns
        self.torsos += read.torsos
        for place, reason, message in read.rejected:
            item_id, image = columns["item_id"][place].as_py(), columns["image"][place].as_py()
            self.rejected.append(RejectedItem(self._table.numbers[place], item_id, image, reason, message))
        if read.kept:
            rows = self._rows(read)
            shard.write(rows)
            pictures.write(rows["id"], read.thumbnails)

    def _rows(self, part: ReadItems) -> dict[str, Any]:
        bundle = self._runtime.bundle
        rows = self._table.columns.take(pa.array(part.kept))
        crops = np.stack(part.crops)
        predictions = run_in_batches(self._runtime, crops, self._batch_size)
        given = {name: rows[name].to_pylist() for name in (CATEGORY, *self._tags) if name in rows.column_names}
        categories = given.pop(CATEGORY, None) or [None] * len(part.kept)
        labels = category_columns(bundle, predictions, categories)
        tags = tag_columns(bundle, predictions, crops, given)
        self.categories.update(labels[CATEGORY])
        self.predicted[CATEGORY] += categories.count(None)
        for name in self._tags:
            self.predicted[name] += sum(chance is not None for chance in tags[probability_of(name)])
        return {
            "id": rows["item_id"].to_pylist(),
            "embedding": predictions.embedding.astype(np.float16),
            **labels,
            **tags,
            **{name: rows[name].to_pylist() for name in self._extra},
            "picture": part.pictures,
        }
