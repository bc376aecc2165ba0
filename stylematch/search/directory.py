"""An index on disk: ``index.faiss``, ``rows.parquet`` (one row a vector, in its order) and ``infos.json``.

``infos.json`` says what the vectors are, which model made them and what the files hash to. It names no time
and no machine, so equal embeddings give an equal directory; but for ``speed``, where it was measured, which
``index_info`` leaves out for whoever compares. Loading checks the files against it. Approximate kinds
add ``search.json``, ``labels.npy`` and, for inverted lists, ``vectors.npy``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from stylematch.errors import UserError
from stylematch.search.base import SearchIndex
from stylematch.search.infos import INFOS_FILE, LABELS_KEY, SPEED_KEY, Kind, index_info
from stylematch.search.kinds import load_index
from stylematch.search.rows_file import PICTURE_COLUMN, PICTURE_TYPE, ROWS_FILE, read_all
from stylematch.tables.disk import explained, file_sha256, write_durably
from stylematch.tables.shown import shown


@dataclass(frozen=True)
class Origin:
    """What the vectors of an index show, and where they come from.

    Attributes
    ----------
    kind : {"faces", "items"}
        What they show.
    labels : sequence of str
        Attribute columns (faces) or categories (items) of their rows.
    bundle_sha256 : str
        The model bundle that made them: only its embeddings can be compared with them.
    source, licence : str
        Where the pictures come from and on what terms.
    """

    kind: Kind
    labels: Sequence[str]
    bundle_sha256: str
    source: str
    licence: str

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> Origin:
        """Return what ``infos.json`` or ``embeddings.json`` says of it."""
        kind: Kind = description["kind"]
        return cls(
            kind,
            description[LABELS_KEY[kind]],
            description["bundle_sha256"],
            description["source"],
            description["licence"],
        )


@dataclass(frozen=True)
class StoredIndex:
    """A loaded index directory.

    Attributes
    ----------
    index : SearchIndex
        The vectors and their ids.
    rows : pyarrow.Table
        ``id`` and what is known of each vector: for faces a bool column per attribute; for items ``category``
        (string) and, where there are pictures, ``picture`` (fixed_size_binary(784): 28x28, grey).
    infos : dict
        The contents of ``infos.json``.
    """

    index: SearchIndex
    rows: pa.Table
    infos: dict[str, Any]


def save_index_directory(
    directory: Path,
    index: SearchIndex,
    rows: pa.Table,
    origin: Origin,
    *,
    search: dict[str, Any] | None = None,
    speed: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write an index directory; the caller stages it, so that it appears whole.

    Parameters
    ----------
    directory : pathlib.Path
        An existing, empty directory.
    index : SearchIndex
        The vectors.
    rows : pyarrow.Table
        One row a vector, in the index's order.
    origin : Origin
        What the vectors show, and where they come from.
    search : dict, optional
        What was asked and measured of the answers: target and recall.
    speed : dict, optional
        What the clock said, other on every run and machine.

    Returns
    -------
    dict
        What ``infos.json`` holds.

    Raises
    ------
    UserError
        If ``rows`` lacks a column of this kind or a category is not among its labels.
    StylematchError
        If a file cannot be written.
    """
    _check_rows(rows, origin.kind, origin.labels, len(index))
    with explained("write", directory):
        files = {
            name: {"bytes": (directory / name).stat().st_size, "sha256": file_sha256(directory / name)}
            for name in index.save(directory, rows)
        }
    infos: dict[str, Any] = {
        "kind": origin.kind,
        "count": len(index),
        "dim": index.dim,
        "metric": "cosine",
        "faiss": index.factory,
        "storage": index.storage,
        "bytes_per_vector": index.bytes_per_vector,
        "bundle_sha256": origin.bundle_sha256,
        "source": origin.source,
        "licence": origin.licence,
        "files": files,
        LABELS_KEY[origin.kind]: list(origin.labels),
    }
    if search is not None:
        on_disk = sum((directory / name).stat().st_size for name in files if name != ROWS_FILE)
        infos["search"] = {
            "kind": index.kind,
            **search,
            "memory_bytes_per_vector": round(index.memory_bytes / len(index), 1),
            "disk_bytes_per_vector": round(on_disk / len(index), 1),
        }
    if speed is not None:
        infos[SPEED_KEY] = speed
    write_durably(directory / INFOS_FILE, (json.dumps(infos, indent=2) + "\n").encode())
    return infos


def load_index_directory(
    directory: Path, *, device: str = "cpu", threads: int | None = None, mapped: bool = False
) -> StoredIndex:
    """Load an index directory of any kind and check its files against ``infos.json``.

    Parameters
    ----------
    directory : pathlib.Path
        What ``save_index_directory`` wrote.
    device, threads
        As in ``VectorIndex.load``.
    mapped : bool
        Leave the vectors on disk and page them in as they are searched. Files are then checked by their size
        alone: to hash them would be to read them.

    Raises
    ------
    UserError
        If a file is missing or not the one that ``infos.json`` describes; it is named.
    """
    infos = index_info(directory)
    for name, expected in infos["files"].items():
        path = directory / name
        try:
            if mapped and path.stat().st_size == expected["bytes"]:
                continue
            found = file_sha256(path)
        except OSError as error:
            raise UserError(
                f"{shown(path)} cannot be read ({error.strerror}); copy the whole index again, or build it again."
            ) from error
        if found != expected["sha256"]:
            raise UserError(
                f"{shown(path)} is damaged: it is not the file that {INFOS_FILE} describes (sha256). "
                "Copy the whole index again, or build it again."
            )
    index = load_index(directory, device=device, threads=threads, mapped=mapped)
    rows = read_all(directory, use_threads=threads != 1)  # to start them takes longer than to read a small catalogue
    if (len(index), index.dim) != (infos["count"], infos["dim"]):
        raise UserError(f"{shown(directory / INFOS_FILE)} is not about the vectors beside it; build it again.")
    _check_rows(rows, infos["kind"], infos[LABELS_KEY[infos["kind"]]], len(index))
    return StoredIndex(index, rows, infos)


def _check_rows(rows: pa.Table, kind: Kind, labels: Sequence[str], count: int) -> None:
    if rows.num_rows != count:
        raise ValueError(f"{rows.num_rows} rows for {count} vectors")
    wanted = dict.fromkeys(labels, pa.bool_()) if kind == "faces" else {"category": pa.string()}
    if kind == "items" and "picture" in rows.column_names:
        wanted[PICTURE_COLUMN] = PICTURE_TYPE
    for name, column_type in wanted.items():
        if name not in rows.column_names:
            raise UserError(f"An index of {kind} needs a column {name!r} ({column_type}); embed the data again.")
        if rows.schema.field(name).type != column_type:
            raise UserError(
                f"Column {name!r} of {kind} must be {column_type}, not {rows.schema.field(name).type}; embed the data "
                "again."
            )
        if name != "picture" and rows[name].null_count:
            raise UserError(
                f"Column {name!r} of an index of {kind} has {rows[name].null_count} empty cells; embed the data again."
            )
    if kind == "items":
        unknown = sorted(set(rows["category"].unique().to_pylist()) - set(labels))
        if unknown:
            raise UserError(f"Items of unknown category {unknown[0]!r}: the embeddings name {list(labels)}.")
