"""``index add``, ``index remove``: change an index by id.

The changed index is written beside the old one and takes its place by one rename. What was measured of the old one is
measured again: the recall, and the effort of an approximate index is raised where that fell below its target or below
what it was; and the speed. Inverted lists are built again where more than a fifth of their vectors came later.
"""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stylematch.errors import UserError
from stylematch.pipelines.indexing.catalog_files import catalog_of
from stylematch.pipelines.indexing.equal_columns import with_equal_columns
from stylematch.pipelines.indexing.ids_file import read_ids_file, told_missing
from stylematch.pipelines.indexing.index import INDEX
from stylematch.pipelines.indexing.shards import read_embeddings
from stylematch.search.directory import Origin, StoredIndex, load_index_directory, save_index_directory
from stylematch.search.infos import LABELS_KEY
from stylematch.search.names import some
from stylematch.search.tuning import queries_per_s, refreshed
from stylematch.tables.shown import shown


@dataclass(frozen=True)
class IndexChange:
    """What a change did.

    Attributes
    ----------
    count : int
        Vectors in the index now.
    added, updated, removed, missing : int
        Ids that were added, replaced, removed, and named but not there.
    recall_at_10 : float or None
        Measured again, where the index says one.
    """

    count: int
    added: int = 0
    updated: int = 0
    removed: int = 0
    missing: int = 0
    recall_at_10: float | None = None

    def lines(self) -> list[str]:
        """Return the change as sentences."""
        done = [f"{number:,} {word}" for word in ("added", "updated", "removed") if (number := getattr(self, word))]
        if self.missing:
            done.append(f"{self.missing:,} not there")
        recall = "" if self.recall_at_10 is None else f"; recall@10 {self.recall_at_10:.4f}"
        return [f"{', '.join(done) or 'nothing to change'}; {self.count:,} vectors now{recall}"]


def add_to_index(
    directory: Path,
    embeddings_dir: Path,
    *,
    update: bool = False,
    new_columns: bool = False,
    source: str | None = None,
    out: Path | None = None,
) -> IndexChange:
    """Add the vectors of embedding shards to an index.

    Parameters
    ----------
    directory : pathlib.Path
        An index directory of any kind; it is replaced at the end.
    embeddings_dir : pathlib.Path
        Embeddings by the same model, with the index's columns.
    update : bool
        Replace the vector and the row of an id that is there; otherwise that is refused.
    new_columns : bool
        Columns may differ: a cell that a side has not is empty, and a column of two types becomes one of numbers or of
        text that holds both; categories stand in order, as of a new build. Otherwise a column that is missing is
        refused, and others are left out.
    source : str, optional
        Where all of them come from now; by default as before.
    out : pathlib.Path, optional
        Leave the index as it is, and write the changed one here.

    Raises
    ------
    UserError
        If either is damaged, they do not belong together, or an id is there already.
    """
    with _changing(directory, out):
        return _add(directory, embeddings_dir, update, new_columns, source, out or directory)


def _add(
    directory: Path, embeddings_dir: Path, update: bool, new_columns: bool, source: str | None, out: Path
) -> IndexChange:
    stored, embeddings = load_index_directory(directory), read_embeddings(embeddings_dir)
    rows, new_rows = stored.rows, embeddings.rows
    if new_columns:
        rows, new_rows = with_equal_columns(rows, new_rows)
    _check_belong_together(stored, rows.schema, embeddings.description, new_rows, directory, embeddings_dir)
    index, new_rows = stored.index, new_rows.select(rows.column_names)
    positions = index.positions_of(embeddings.ids)
    there, fresh = np.flatnonzero(positions >= 0), np.flatnonzero(positions < 0)
    if there.size and not update:
        named = shown(some(embeddings.ids.take(pa.array(there)).to_pylist()))
        raise UserError(
            f"{there.size} ids are in {shown(directory)} already: {named}. Leave them out, or replace them with "
            "--update."
        )
    if there.size:
        index.update(embeddings.ids.take(pa.array(there)), embeddings.vectors[there])
        taken = np.arange(rows.num_rows)
        taken[positions[there]] = rows.num_rows + there
        rows = _behind(rows, new_rows).take(pa.array(taken))
    if fresh.size:
        index.add(embeddings.ids.take(pa.array(fresh)), embeddings.vectors[fresh])
        rows = _behind(rows, new_rows.take(pa.array(fresh)))
    key = LABELS_KEY[stored.infos["kind"]]
    known = stored.infos[key]
    labels = known
    if key == "categories":
        labels = known + [c for c in embeddings.description[key] if c not in known]
        labels = sorted(labels) if new_columns else labels
    recall = _replace(out, stored, rows, labels, source)
    return IndexChange(len(index), added=len(fresh), updated=len(there), recall_at_10=recall)


def remove_from_index(
    directory: Path, ids_file: Path, *, missing_ok: bool = False, out: Path | None = None
) -> IndexChange:
    """Remove vectors from an index.

    Parameters
    ----------
    directory : pathlib.Path
        An index directory of any kind; it is replaced at the end.
    ids_file : pathlib.Path
        One id a line; empty lines and repeats do not matter.
    missing_ok : bool
        Count ids that are not there instead of refusing them.
    out : pathlib.Path, optional
        As of ``add_to_index``.

    Raises
    ------
    UserError
        If the file cannot be read, an id is not there, or none would stay.
    """
    with _changing(directory, out):
        return _remove(directory, ids_file, missing_ok, out)


def _remove(directory: Path, ids_file: Path, missing_ok: bool, out: Path | None) -> IndexChange:
    ids = read_ids_file(ids_file)
    stored = load_index_directory(directory)
    positions = stored.index.positions_of(ids)
    missing = [name for name, position in zip(ids, positions, strict=True) if position < 0]
    if missing and not missing_ok:
        raise UserError(
            f"{told_missing(ids_file, ids, missing, directory)}. Mend the file, or pass over them with --missing-ok."
        )
    there = [name for name, position in zip(ids, positions, strict=True) if position >= 0]
    labels = stored.infos[LABELS_KEY[stored.infos["kind"]]]
    if not there:
        if out is not None:
            shutil.copytree(directory, out)
        return IndexChange(len(stored.index), missing=len(missing))
    kept = stored.index.remove(there)
    recall = _replace(out or directory, stored, stored.rows.take(pa.array(kept)), labels)
    return IndexChange(len(kept), removed=len(there), missing=len(missing), recall_at_10=recall)


def _changing(directory: Path, out: Path | None) -> AbstractContextManager[Any]:
    """Lock an index that is to be replaced; one whose change goes elsewhere is locked by whoever asked for that.

    Raises
    ------
    UserError
        It is no index of its own: that of a catalogue changes together with what lies beside it.
    """
    if out is not None:
        return nullcontext()
    if (catalog := catalog_of(directory)) is not None:
        raise UserError(
            f"{shown(directory)} is the index of the catalogue {shown(catalog)}, whose pictures and counts would not "
            f"change with it; use 'catalog add ITEMS --index {shown(catalog)}' or 'catalog remove --index "
            f"{shown(catalog)} --ids FILE'."
        )
    return INDEX.locked(directory)


def _replace(
    directory: Path, stored: StoredIndex, rows: pa.Table, labels: list[str], source: str | None = None
) -> float | None:
    search: dict[str, Any] | None = stored.infos.get("search")
    index, recall, speed = stored.index, None, None
    if search is not None:
        target = search["target_recall"]
        index, measured = refreshed(index, target_recall=target, recall_before=search["recall_at_10"])
        search = {"target_recall": target, **measured.as_dict()}
        recall, speed = measured.at_10, queries_per_s(index)
    before = Origin.of(stored.infos)
    origin = replace(before, labels=labels, source=before.source if source is None else source)
    with INDEX.staged(directory) as staged:
        save_index_directory(staged, index, rows, origin, search=search, speed=speed)
    return recall


def _check_belong_together(
    stored: StoredIndex,
    schema: pa.Schema,
    description: dict[str, Any],
    rows: pa.Table,
    directory: Path,
    embeddings_dir: Path,
) -> None:
    for key in ("kind", "dim", "bundle_sha256"):
        if stored.infos[key] != description[key]:
            raise UserError(
                f"{shown(embeddings_dir)} has {key} {shown(str(description[key]))}, {shown(directory)} has "
                f"{shown(str(stored.infos[key]))}; embed with the model that made the index."
            )
    for field in schema:
        if field.name not in rows.column_names or rows.schema.field(field.name).type != field.type:
            raise UserError(
                f"{shown(embeddings_dir)} has no column '{shown(field.name)}' of type {field.type}, which "
                f"{shown(directory)} keeps; embed the data again with it."
            )


def _behind(rows: pa.Table, new_rows: pa.Table) -> pa.Table:
    """Return both. A column may hold nulls where it may in either: ids may in an index, in ``embed``'s shards not."""
    return pa.concat_tables([rows, new_rows], promote_options="default")
