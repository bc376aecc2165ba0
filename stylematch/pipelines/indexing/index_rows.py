"""An index whose vectors stay and whose rows change: new cells by id, and the directory with them.

Nothing is done row by row: a stock of a million items is updated every night.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stylematch.data.item_numbers import is_number
from stylematch.data.item_words import TAGS
from stylematch.errors import UserError
from stylematch.pipelines.indexing.equal_columns import with_equal_columns
from stylematch.pipelines.indexing.item_tags import (
    CATEGORY,
    CATEGORY_PREDICTED,
    as_spelled,
    probability_of,
    told_by_name,
)
from stylematch.search.infos import INFOS_FILE, LABELS_KEY, index_info
from stylematch.search.rows_file import PICTURE_COLUMN, ROWS_FILE, write_rows
from stylematch.tables.disk import file_sha256, link_or_copy, write_durably
from stylematch.tables.shown import shown

_New = tuple[pa.ChunkedArray, npt.NDArray[np.bool_]]


def with_new_cells(
    rows: pa.Table, positions: npt.NDArray[np.int64], cells: pa.Table, own: Sequence[str]
) -> tuple[pa.Table, list[str]]:
    """Return the rows of an index of items with new cells; an empty one leaves the old.

    Parameters
    ----------
    rows : pyarrow.Table
        One row a vector.
    positions : ndarray of int64, shape (m,)
        The rows that the new cells are of, each once.
    cells : pyarrow.Table
        m rows of columns as ``ItemUpdates`` has them.
    own : sequence of str
        The model's categories.

    Returns
    -------
    rows : pyarrow.Table
        With columns that were not there before, and types that hold both, as of ``with_equal_columns``. A tag that is
        given is no guess any more; ``category_predicted`` follows a category whose name tells it, and else stays.
    changed : list of str
        The columns with a new cell, as the index spells them.
    """
    spelled = {name.lower(): name for name in rows.column_names}
    new: dict[str, _New] = {}
    for name in cells.column_names:
        column = cells[name]
        if name in TAGS:
            column = _mapped(
                column, {cell: as_spelled(name, cell) for cell in column.unique().to_pylist()}, pa.string()
            )
        there = _is_there(column)
        if not there.any():
            continue
        if name == CATEGORY:
            new |= _category(column, own)
        else:
            new[spelled.get(name.lower(), name)] = column, there
        if name in TAGS:
            new[probability_of(name)] = pa.chunked_array([pa.nulls(len(column), pa.float32())]), there
    pictures = rows.column_names.index(PICTURE_COLUMN) if PICTURE_COLUMN in rows.column_names else None
    slim = rows if pictures is None else rows.remove_column(pictures)
    slim, added = with_equal_columns(slim, pa.table({name: column for name, (column, _) in new.items()}))
    for name in new:
        if name in rows.column_names and _loses_its_type(rows[name].type, slim[name].type):
            raise UserError(
                f"the catalogue's column '{shown(name)}' is of {rows[name].type}, and the table has "
                f"{new[name][0].type} there: conditions and readers count on the former; mend the table's cells, or "
                "build the catalogue again."
            )
    for name, (_, there) in new.items():
        place = slim.column_names.index(name)
        slim = slim.set_column(place, slim.field(place), _replaced(slim[name], added[name], positions, there))
    for place, field in enumerate(slim.schema):  # no old cell was emptied
        if field.name in rows.column_names:
            slim = slim.set_column(place, field.with_nullable(rows.field(field.name).nullable), slim[field.name])
    if pictures is not None:
        slim = slim.append_column(rows.field(pictures), rows[pictures])
    return slim, [name for name in new if not name.endswith(probability_of("")) and name != CATEGORY_PREDICTED]


def write_with_rows(directory: Path, rows: pa.Table, own: Sequence[str], out: Path) -> dict[str, Any]:
    """Write an index of items again, its vectors as they are, with other cells in its rows.

    Parameters
    ----------
    directory : pathlib.Path
        The index.
    rows : pyarrow.Table
        One row a vector, with the ids that it has.
    own : sequence of str
        The model's categories.
    out : pathlib.Path
        A directory to make.

    Returns
    -------
    dict
        What its ``infos.json`` holds.

    Raises
    ------
    UserError
        If a file is missing.
    """
    infos = index_info(directory, with_speed=True)
    out.mkdir()
    for name in infos["files"]:
        if name != ROWS_FILE:
            with readable(directory / name):
                link_or_copy(directory / name, out / name)
    write_rows(rows["id"].combine_chunks(), rows, out)
    path = out / ROWS_FILE
    infos["files"][ROWS_FILE] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    infos[LABELS_KEY["items"]] = sorted({*rows[CATEGORY].unique().to_pylist(), *own})
    write_durably(out / INFOS_FILE, (json.dumps(infos, indent=2) + "\n").encode())
    return infos


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Name a file of a catalogue that is missing or cannot be read.

    Raises
    ------
    UserError
        It is so.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise UserError(
            f"{shown(path)} cannot be read ({error.strerror}); copy the whole catalogue again, or build it again."
        ) from error


def check_rows_file(directory: Path) -> None:
    """Compare ``rows.parquet`` with what ``infos.json`` says of it: what is damaged is not written again as if whole.

    Raises
    ------
    UserError
        If it is another one.
    """
    path = directory / ROWS_FILE
    with readable(path):
        found = file_sha256(path)
    if found != index_info(directory)["files"][ROWS_FILE]["sha256"]:
        raise UserError(
            f"{shown(path)} is damaged: it is not the file that {INFOS_FILE} describes (sha256). Copy the whole "
            "catalogue again, or build it again."
        )


def _category(column: pa.ChunkedArray, own: Sequence[str]) -> dict[str, _New]:
    """Return the new cells of ``category``, and of ``category_predicted`` where the name tells it."""
    by_name = {name.lower(): name for name in own}
    names = [name for name in column.unique().to_pylist() if name is not None]
    told = {name: told_by_name(name, by_name) for name in names}
    known = {name: category for name, (category, _) in told.items()}
    is_told = _mapped(column, {name: is_told for name, (_, is_told) in told.items()}, pa.bool_())
    where = pc.fill_null(is_told, False).to_numpy()
    return {
        CATEGORY: (_mapped(column, {n: by_name.get(n.lower(), n) for n in names}, pa.string()), _is_there(column)),
        CATEGORY_PREDICTED: (_mapped(column, known, pa.string()), where),
        probability_of(CATEGORY_PREDICTED): (pa.chunked_array([pa.nulls(len(column), pa.float32())]), where),
    }


def _loses_its_type(old: pa.DataType, new: pa.DataType) -> bool:
    return old != new and not (is_number(old) and is_number(new)) and not pa.types.is_null(old)


def _mapped(column: pa.ChunkedArray, meaning: Mapping[str | None, Any], kind: pa.DataType) -> pa.ChunkedArray:
    """Return a column of text with each of its words replaced, looking at no word twice."""
    coded = column.combine_chunks().dictionary_encode()
    meant = pa.array([meaning.get(word) for word in coded.dictionary.to_pylist()], kind)
    return pa.chunked_array([meant.take(coded.indices)])


def _is_there(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    return np.asarray(column.is_valid().to_numpy(), np.bool_)


def _replaced(
    old: pa.ChunkedArray, new: pa.ChunkedArray, positions: npt.NDArray[np.int64], there: npt.NDArray[np.bool_]
) -> pa.ChunkedArray:
    """Return a column with the new cells that are there at their positions."""
    taken = np.arange(len(old))
    taken[positions[there]] = len(old) + np.flatnonzero(there)
    return pa.chunked_array([*old.chunks, *new.chunks], old.type).take(pa.array(taken))
