"""Anybody's labelled pictures: a CSV or Parquet table with a column of pictures and columns of labels.

A column of classes gives a categorical group, whose classes are the answers that occur; columns of yes and no give one
binary group together. An empty cell is an unknown label. Of two rows for one picture the first is kept; rows that
cannot be used are dropped and counted by reason. A cell that a column cannot mean ends the reading: a training on
misread labels would take longer to notice.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stylematch.data.labels import BinaryGroup, CategoricalGroup, LabelSchema
from stylematch.data.splits import Rows
from stylematch.data.table_pictures import TablePictures
from stylematch.data.table_rows import RowReason, TableRows, read_table
from stylematch.errors import UserError
from stylematch.settings.train_data import TAGS
from stylematch.tables.disk import shown

PARTS = ("train", "val", "test")
UNKNOWN = -1
_YES_NO = {"1": 1, "true": 1, "yes": 1, "y": 1, "0": 0, "false": 0, "no": 0, "n": 0}
_PARTS = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}
_SAID = "yes, no, true, false, 1, 0 and, where it is unknown, nothing"
_WHOLE = re.compile(r"-?\d+")
_IMAGE, _IDS = "image", ("item_id", "id")


@dataclass(frozen=True)
class LabelColumns:
    """Which columns of a table mean what.

    Attributes
    ----------
    groups : tuple of str
        Columns of classes, one answer each.
    tags : tuple of str
        Columns of yes and no.
    image : str, optional
        The column of the pictures' paths; without one ``image``, or else the pictures are called as ``item_id``.
    part : str, optional
        The column that says which rows are learned from (``train``), watched (``val``) and tested on (``test``).
    """

    groups: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    image: str | None = None
    part: str | None = None


@dataclass(frozen=True, eq=False)
class LabelTable:
    """The rows that have a picture and a label, in the order of the table.

    Attributes
    ----------
    source, pictures : pathlib.Path
        The table, and the folder that names are relative to.
    names : tuple of str
        The pictures' paths in it, n of them.
    labels : dict of str to ndarray
        By group: int64 (n,) of places in the group's ``classes``, or, of yes and no, int8 (n, columns) of 0 and 1; -1
        where unknown.
    classes : dict of str to tuple of str
        By group: its classes, or the columns of yes and no.
    parts : ndarray of int64, shape (n,), or None
        Places in ``PARTS``, where a column says so.
    dropped : dict of str to int
        How many rows were left out, by reason; with n they add up to the rows of the table.
    """

    source: Path
    pictures: Path
    names: tuple[str, ...]
    labels: dict[str, npt.NDArray[np.integer]]
    classes: dict[str, tuple[str, ...]]
    parts: Rows | None
    dropped: dict[str, int]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.names)

    @property
    def schema(self) -> LabelSchema:
        """The groups, in the order in which their columns were asked for; yes and no last."""
        return LabelSchema(
            tuple(
                BinaryGroup(name, classes) if self.labels[name].ndim == 2 else CategoricalGroup(name, classes)
                for name, classes in self.classes.items()
            )
        )

    def without_rare(self, min_count: int) -> LabelTable:
        """Return the same, with classes of fewer than ``min_count`` rows unknown, and forgotten."""
        labels, classes = dict(self.labels), dict(self.classes)
        for name, values in self.labels.items():
            if values.ndim == 1:
                counts = np.bincount(values[values >= 0], minlength=len(classes[name]))
                kept = np.flatnonzero(counts >= min_count)
                places = np.full(len(counts) + 1, UNKNOWN, np.int64)  # the last is where -1 points to
                places[kept] = np.arange(len(kept))
                labels[name] = places[values]
                classes[name] = tuple(classes[name][place] for place in kept)
        return replace(self, labels=labels, classes=classes)


def read_label_table(
    source: Path, columns: LabelColumns, images: Path | None = None, *, whichever: bool = False
) -> LabelTable:
    """Read a table of labelled pictures.

    Parameters
    ----------
    source : pathlib.Path
        A ``.csv``, ``.tsv`` or ``.parquet`` file.
    columns : LabelColumns
        Which of its columns mean what.
    images : pathlib.Path, optional
        The folder that the pictures' paths are relative to, and may not leave; by default the table's.
    whichever : bool
        Read those of the columns of labels that there are, one at least.

    Raises
    ------
    UserError
        If the table or a column is missing or cannot be read, a cell cannot be meant, or no row can be used.
    """
    if not source.is_file():
        raise UserError(f"There is no table at {shown(source)}; name a .csv or .parquet file.")
    folder = source.parent if images is None else images
    if not folder.is_dir():
        raise UserError(f"{shown(folder)}, where the pictures should lie, is no directory.")
    table = _Table(source, read_table(source))
    there = set(table.names) if whichever else {*columns.groups, *columns.tags}
    groups, tags = ([name for name in names if name in there] for names in (columns.groups, columns.tags))
    if not groups and not tags:
        wanted = ", ".join((*columns.groups, *columns.tags))
        raise UserError(f"{shown(source)} has none of the columns {shown(wanted)}, {table.has()}")
    cells = {name: table.cells(name) for name in (*groups, *tags)}
    dropped = Counter({str(RowReason.MALFORMED_ROW): len(table.rows.damaged)})
    pictures = _pictured(table, columns.image, TablePictures(folder, allow_outside=False), dropped)
    labelled = [place for place in pictures if any(column[place] for column in cells.values())]
    dropped["no_label"] = len(pictures) - len(labelled)
    if not labelled:
        why = ", ".join(f"{reason} {count:,}" for reason, count in sorted(dropped.items()) if count) or "no rows"
        raise UserError(f"{shown(source)} has no row with a label and a picture in {shown(folder)}: {why}.")
    labels: dict[str, npt.NDArray[np.integer]] = {}
    classes: dict[str, tuple[str, ...]] = {}
    for name in groups:
        given = [cells[name][place] for place in labelled]
        classes[name] = in_order({cell for cell in given if cell is not None})
        number: dict[str | None, int] = {label: place for place, label in enumerate(classes[name])}
        labels[name] = np.array([number.get(cell, UNKNOWN) for cell in given], np.int64)
    if tags:
        labels[TAGS] = np.array([table.meant(name, labelled, _YES_NO, _SAID) for name in tags], np.int8).T
        classes[TAGS] = tuple(tags)
    parts = None
    if columns.part is not None:
        parts = np.array(table.meant(columns.part, labelled, _PARTS, ", ".join(PARTS), empty=False), np.int64)
    names = tuple(pictures[place] for place in labelled)
    return LabelTable(source, folder, names, labels, classes, parts, dict(dropped))


class _Table:
    """A table's columns, as text."""

    def __init__(self, source: Path, rows: TableRows) -> None:
        self.source, self.rows, self.names = source, rows, rows.table.column_names

    def has(self) -> str:
        """Say which columns there are."""
        return f"its columns are {shown(', '.join(self.names))}."

    def cells(self, name: str) -> list[str | None]:
        """Return a column as text, None where it says nothing."""
        if name not in self.names:
            raise UserError(f"{shown(self.source)} has no column {shown(name)}; {self.has()}")
        column = self.rows.table[name]
        if pa.types.is_floating(column.type):  # whole numbers with gaps, most likely
            values = [None if value is None or value != value else value for value in column.to_pylist()]
            if all(value is None or value == value // 1 for value in values):
                return [None if value is None else f"{value:.0f}" for value in values]
        try:
            texts = column.cast(pa.string()).to_pylist()
        except pa.ArrowException as error:
            raise UserError(
                f"{shown(self.source)}: column {shown(name)} is {column.type}, which is no text."
            ) from error
        return [text.strip() or None if text is not None else None for text in texts]

    def meant(
        self, name: str, places: Sequence[int], known: Mapping[str, int], said: str, *, empty: bool = True
    ) -> list[int]:
        """Return what a column's cells mean at some places; a ``UserError`` names the first that means nothing."""
        cells, values = self.cells(name), []
        for place in places:
            cell = cells[place]
            value = UNKNOWN if cell is None and empty else known.get((cell or "").casefold())
            if value is None:
                where = f"{shown(self.source)}, {self.rows.counted} {self.rows.numbers[place]:,}, column {shown(name)}"
                raise UserError(f"{where}: '{shown(cell or '')}' is none of {said}.")
            values.append(value)
        return values


def _pictured(table: _Table, image: str | None, find: TablePictures, dropped: Counter[str]) -> dict[int, str]:
    """Return the rows that have a picture of their own, with its path; count the others."""
    name = image or next((column for column in (_IMAGE, *_IDS) if column in table.names), None)
    if name is None:
        raise UserError(
            f"{shown(table.source)} has no column {_IMAGE}; {table.has()} Say in data.image_column which of them names "
            "the pictures."
        )
    by_id = image is None and name in _IDS
    found: dict[str, int] = {}
    for place, cell in enumerate(table.cells(name)):
        path = (RowReason.NO_IMAGE, "") if cell is None else find.by_id(cell) if by_id else find.by_path(cell)
        if not isinstance(path, str):
            dropped[path[0]] += 1
        elif path in found:
            dropped["duplicate_name"] += 1
        else:
            found[path] = place
    return {place: path for path, place in found.items()}


def in_order(labels: set[str]) -> tuple[str, ...]:
    """Return labels in the order that people expect: numbers by their value, words by their letters."""
    if all(_WHOLE.fullmatch(label) for label in labels):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))
