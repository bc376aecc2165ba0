"""The files of a catalogue beside its index and its model: ``rejected.parquet`` and ``catalog.json``.

``catalog.json`` is counted anew from the index whenever that changes, so it is never behind it, and equal catalogues
have equal ones, however they came to be.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stylematch.data.item_mapping import KNOWN, ItemMapping
from stylematch.data.item_table import RejectedItem
from stylematch.data.item_words import TAGS
from stylematch.errors import UserError
from stylematch.pipelines.indexing.item_tags import CATEGORY, CATEGORY_PREDICTED, probability_of
from stylematch.search.infos import INFOS_FILE, PICTURES_FILE, index_info
from stylematch.search.rows_file import read_rows
from stylematch.tables.description import DescriptionFile
from stylematch.tables.disk import write_durably
from stylematch.tables.replace import DirectoryKind
from stylematch.tables.shown import shown

CATALOG_FILE, REJECTED_FILE = "catalog.json", "rejected.parquet"
ITEMS, GARMENTS = "items", "garments"
_CATALOG = DescriptionFile(
    CATALOG_FILE, "a catalogue", "catalog build", "build the catalogue again", {"sources": list, "given": list}
)
_PARTS = frozenset({ITEMS, GARMENTS, PICTURES_FILE, REJECTED_FILE})
CATALOG = DirectoryKind("a catalogue", CATALOG_FILE, lambda _, name: name in _PARTS)
REJECTED_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("item_id", pa.string()),
        pa.field("image", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
    ]
)
"""Of ``rejected.parquet``."""


def rejected_table(source: str, rejected: Sequence[RejectedItem]) -> pa.Table:
    """Return the rows of a source that gave no item, as ``rejected.parquet`` lists them."""
    return pa.Table.from_pylist([{"source": source, **asdict(row)} for row in rejected], REJECTED_SCHEMA)


def read_rejected(directory: Path) -> pa.Table:
    """Read a catalogue's ``rejected.parquet``.

    Raises
    ------
    UserError
        If it is missing, damaged or of an older catalogue.
    """
    path = directory / REJECTED_FILE
    try:
        return pq.read_table(path, schema=REJECTED_SCHEMA)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{shown(path)} cannot be read ({error}); build the catalogue again.") from error


def read_catalog(directory: Path) -> dict[str, Any]:
    """Read a catalogue's ``catalog.json``.

    Raises
    ------
    UserError
        If there is none, or it is damaged or of an older catalogue.
    """
    return _CATALOG.read(directory)


def check_is_catalog(directory: Path) -> None:
    """Say of what is no catalogue that it is none, before anything is written beside it."""
    if not CATALOG.is_half_replaced(directory):
        read_catalog(directory)


def remembered_mapping(directory: Path, content: Mapping[str, Any]) -> ItemMapping:
    """Return what the table that a catalogue was built of calls its columns and says in its cells.

    Parameters
    ----------
    directory : pathlib.Path
        The catalogue.
    content : mapping
        Its ``catalog.json``; one of an older version remembers nothing.

    Raises
    ------
    UserError
        If it is damaged there.
    """
    columns, values = content.get("columns", {}), content.get("values", {})
    whole = _are_texts(columns, KNOWN) and isinstance(values, dict) and all(tag in TAGS for tag in values)
    if not whole or not all(_are_texts(words) for words in values.values()):
        raise UserError(
            f"{shown(directory / CATALOG_FILE)}: 'columns' or 'values' is no mapping of names; {_CATALOG.remedy}."
        )
    return ItemMapping(columns, values)


def given_columns(first: Sequence[str], more: Sequence[str]) -> list[str]:
    """Return the columns of both; those that differ in case alone are one of the index, spelled as in the first."""
    spelled: dict[str, str] = {}
    for name in (*first, *more):
        spelled.setdefault(name.lower(), name)
    return list(spelled.values())


def write_catalog(
    directory: Path, *, sources: Sequence[str], given: Sequence[str], rejected: pa.Table, mapping: ItemMapping
) -> dict[str, Any]:
    """Write ``rejected.parquet`` and ``catalog.json`` of a catalogue whose index is there; return the latter.

    Parameters
    ----------
    directory : pathlib.Path
        The catalogue, with its ``items/``.
    sources : sequence of str
        The tables and folders that its items come from.
    given : sequence of str
        Columns that any of these has.
    rejected : pyarrow.Table
        Their rows that gave no item.
    mapping : ItemMapping
        What the first of them calls its columns and says in its cells.
    """
    buffer = io.BytesIO()
    pq.write_table(rejected.combine_chunks(), buffer, compression="zstd")
    write_durably(directory / REJECTED_FILE, buffer.getvalue())
    infos = index_info(directory / ITEMS)
    content = {
        "sources": list(sources),
        "rows": infos["count"] + rejected.num_rows,
        "items": infos["count"],
        "rejected": dict(Counter(rejected["reason"].to_pylist()).most_common()),
        "given": list(given),
        **mapping.as_dict(),
        "predicted": _predicted(directory / ITEMS),
        "bundle_sha256": infos["bundle_sha256"],
        "files": infos["files"],
    }
    write_durably(directory / CATALOG_FILE, (json.dumps(content, indent=2) + "\n").encode())
    return content


def catalog_of(index: Path) -> Path | None:
    """Return the catalogue that an index directory is the ``items/`` of, None where it is of none."""
    real = index.resolve()
    is_of_one = real.name == ITEMS and (real / INFOS_FILE).is_file() and (real.parent / CATALOG_FILE).is_file()
    return index.parent if is_of_one else None


def _are_texts(mapping: Any, keys: Sequence[str] | None = None) -> bool:
    return isinstance(mapping, dict) and all(
        isinstance(value, str) and (keys is None or key in keys) for key, value in mapping.items()
    )


def _predicted(items: Path) -> dict[str, int]:
    """Count by tag the items whose value was predicted."""
    rows = read_rows(items)
    own = pc.fill_null(pc.equal(rows[CATEGORY], rows[CATEGORY_PREDICTED]), False)
    guessed = rows[probability_of(CATEGORY_PREDICTED)].is_valid()
    counts = {CATEGORY: pc.sum(pc.and_(own, guessed)).as_py()}
    for name in rows.column_names:
        if name != CATEGORY_PREDICTED and probability_of(name) in rows.column_names:
            counts[name] = len(rows) - rows[probability_of(name)].null_count
    return {name: count for name, count in counts.items() if count}
