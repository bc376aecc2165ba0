"""``index build``, ``index info``: embedding shards -> an index directory; what such a directory holds.

Shards are Parquet files ``part-NNNNN.parquet`` beside ``embeddings.json``; their rows, in the order of the
files' names, become the index. The new index is written beside OUT and appears by one rename.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from stylematch.errors import UserError
from stylematch.search.directory import INFOS_FILE, LABELS_KEY, index_info, save_index_directory
from stylematch.search.index import VectorIndex
from stylematch.tables.disk import shown
from stylematch.tables.replace import check_replaceable, replaced_directory
from stylematch.vision.bundle import Bundle

EMBEDDINGS_FILE = "embeddings.json"
_COLLECTION = (("attributes", "faces"), ("garments", "items"))  # a model bundle and the index that it made


def build_index(embeddings_dir: Path, out: Path) -> dict[str, Any]:
    """Build an index directory from embedding shards.

    Parameters
    ----------
    embeddings_dir : pathlib.Path
        ``embeddings.json`` (``kind``, ``dim``, ``count``, ``bundle_sha256``, ``source``,
        ``licence``, ``attribute_names`` or ``categories``) and ``part-NNNNN.parquet`` with columns ``id``,
        ``embedding`` (fixed-size list of float or half float) and those that the index's rows keep.
    out : pathlib.Path
        The index directory to make. An index that is there is replaced; anything else is refused.

    Returns
    -------
    dict
        The contents of ``infos.json``. Equal embeddings give an equal directory.

    Raises
    ------
    UserError
        If the shards are missing, damaged or do not fit ``embeddings.json``, an id occurs twice, an embedding
        has no direction, or OUT holds something else.
    StylematchError
        If OUT cannot be written.
    """
    check_index_out(out)
    description = _read_description(embeddings_dir)
    table = _read_shards(embeddings_dir, description)
    index = VectorIndex.build(table["id"].to_pylist(), _vectors(table, embeddings_dir, description["dim"]))
    with replaced_directory(out, INFOS_FILE, _is_index_file, "an index") as staged:
        return save_index_directory(
            staged,
            index,
            table.drop_columns(["embedding"]),
            kind=description["kind"],
            labels=description[LABELS_KEY[description["kind"]]],
            bundle_sha256=description["bundle_sha256"],
            source=description["source"],
            licence=description["licence"],
        )


def check_index_out(out: Path) -> None:
    """Raise a UserError if no index can be put at ``out``; changes nothing."""
    check_replaceable(out, INFOS_FILE, _is_index_file, "an index")


def describe_index(path: Path) -> str:
    """Say in a few lines what an index directory holds, or each part of a collection.

    Parameters
    ----------
    path : pathlib.Path
        An index directory, or a directory with any of ``attributes/``, ``garments/`` (model bundles),
        ``faces/``, ``items/`` (indexes).

    Raises
    ------
    UserError
        If it is neither.
    """
    if (path / INFOS_FILE).is_file():
        return "\n".join(_describe_infos(index_info(path)))
    lines: list[str] = []
    for model, index in _COLLECTION:
        made_by = None
        if (path / model).is_dir():
            bundle = Bundle.open(path / model)
            made_by = bundle.sha256
            lines += [
                f"{model}/: model {shown(bundle.name)}",
                f"  input: {bundle.input_px} px, {'grey' if bundle.channels == 1 else 'RGB'}",
                f"  embedding: {bundle.embedding_dim} dimensions",
                f"  sha256: {made_by}",
            ]
        if (path / index).is_dir():
            infos = index_info(path / index)
            first, *rest = _describe_infos(infos)
            lines += [f"{index}/: {first}", *rest]
            if made_by not in (None, infos["bundle_sha256"]):
                lines.append(f"  WARNING: not made by the model in {model}/; embed and build it again")
    if not lines:
        raise UserError(
            f"{shown(path)} is no index ({INFOS_FILE} is missing) and no collection of any of "
            "attributes/, garments/, faces/, items/. Name one that 'stylematch-batch index build' wrote."
        )
    return "\n".join(lines)


def _describe_infos(infos: dict[str, Any]) -> list[str]:
    labels = LABELS_KEY[infos["kind"]]
    return [
        f"{infos['count']:,} {infos['kind']}, {infos['dim']} dimensions, {infos['metric']}",
        f"  faiss: {infos['faiss']}, {infos['bytes_per_vector']} bytes per vector",
        *(f"  {name}: {file['bytes']:,} bytes" for name, file in infos["files"].items()),
        f"  {labels.replace('_', ' ')}: {shown(', '.join(infos[labels]))}",
        f"  made by the model with sha256: {shown(infos['bundle_sha256'])}",
        f"  source: {shown(infos['source'])}",
        f"  licence: {shown(infos['licence'])}",
    ]


def _is_index_file(directory: Path, name: str) -> bool:
    return name in index_info(directory)["files"]


def _read_description(directory: Path) -> dict[str, Any]:
    path = directory / EMBEDDINGS_FILE
    try:
        description = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"{shown(path)} cannot be read ({error.strerror}); name a directory that 'stylematch-batch embed' wrote."
        ) from error
    except ValueError as error:
        raise UserError(f"{shown(path)} is damaged (no JSON); embed the data again.") from error
    kind = description.get("kind") if isinstance(description, dict) else None
    if kind not in LABELS_KEY:
        raise UserError(f"{shown(path)}: 'kind' is {kind!r}; it must be one of {', '.join(LABELS_KEY)}.")
    needed = ("dim", "count", "bundle_sha256", "source", "licence", LABELS_KEY[kind])
    if missing := [key for key in needed if key not in description]:
        raise UserError(f"{shown(path)} lacks {', '.join(missing)}; embed the data again.")
    return description


def _read_shards(directory: Path, description: dict[str, Any]) -> pa.Table:
    tables = []
    for path in sorted(directory.glob("part-*.parquet")):
        try:
            with pq.ParquetFile(path) as file:
                tables.append(file.read())
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{shown(path)} cannot be read ({error}); embed the data again.") from error
        if tables[-1].schema != tables[0].schema:
            raise UserError(f"{shown(path)} has other columns than the first shard; embed the data again.")
    rows = sum(table.num_rows for table in tables)
    if rows != description["count"] or not rows:
        raise UserError(
            f"{shown(directory)} holds {rows} embeddings in {len(tables)} shards, {EMBEDDINGS_FILE} says "
            f"{description['count']}; embed the data again."
        )
    table = pa.concat_tables(tables)
    for name in ("id", "embedding"):
        if name not in table.column_names or table[name].null_count:
            raise UserError(f"{shown(directory)}: column {name!r} is missing or has empty cells; embed again.")
    return table


def _vectors(table: pa.Table, directory: Path, dim: int) -> npt.NDArray[Any]:
    column = table["embedding"]
    if not pa.types.is_fixed_size_list(column.type) or column.type.list_size != dim:
        raise UserError(f"{shown(directory)}: column 'embedding' is {column.type}, not a list of {dim} numbers.")
    # from_dlpack, since Arrow's own to_numpy imports pandas.
    return np.from_dlpack(column.combine_chunks().flatten()).reshape(-1, dim)
