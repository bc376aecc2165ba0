"""Anybody's labelled pictures: a CSV or Parquet table with a column of pictures and columns of labels.

A column of classes gives a categorical group, whose classes are the answers that occur; columns of yes and no give one
binary group together. An empty cell is an unknown label. Of two rows for one picture the first is kept; rows that
cannot be used are dropped and counted by reason. A cell that a column cannot mean ends the reading: a training on
misread labels would take longer to notice.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stylematch.data.copies import contents_of, first_of_each
from stylematch.data.label_cells import PART_WORDS, UNKNOWN, YES_NO, LabelCells
from stylematch.data.labels import BinaryGroup, CategoricalGroup, LabelSchema
from stylematch.data.splits import Rows
from stylematch.data.table_pictures import TablePictures
from stylematch.data.table_rows import RowReason, read_table
from stylematch.errors import UserError
from stylematch.settings.train_data import TAGS
from stylematch.tables.shown import shown

PARTS = ("train", "val", "test")
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
    usual_image : str, optional
        The same, where the table has such a column.
    part : str, optional
        The column that says which rows are learned from (``train``), watched (``val``) and tested on (``test``).
    """

    groups: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    image: str | None = None
    usual_image: str | None = None
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
    contents : tuple of str
        What tells the pictures' contents apart, a hash or, of one that cannot be read, its name; empty until
        ``without_copies`` has looked.
    """

    source: Path
    pictures: Path
    names: tuple[str, ...]
    labels: dict[str, npt.NDArray[np.integer]]
    classes: dict[str, tuple[str, ...]]
    parts: Rows | None
    dropped: dict[str, int]
    contents: tuple[str, ...] = ()

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
        """Return the same with classes of fewer than ``min_count`` rows unknown; rows without another are dropped."""
        labels, classes = dict(self.labels), dict(self.classes)
        for name, values in self.labels.items():
            if values.ndim == 1:
                counts = np.bincount(values[values >= 0], minlength=len(classes[name]))
                kept = np.flatnonzero(counts >= min_count)
                places = np.full(len(counts) + 1, UNKNOWN, np.int64)  # the last is where -1 points to
                places[kept] = np.arange(len(kept))
                labels[name] = places[values]
                classes[name] = tuple(classes[name][place] for place in kept)
        known = np.any([np.atleast_2d(values.T >= 0).any(0) for values in labels.values()], axis=0)
        return replace(self, labels=labels, classes=classes)._only(known, "rare_label")

    def without_copies(self) -> LabelTable:
        """Return the same less rows whose picture equals an earlier one's, with the ``contents`` of the others.

        A copy that is tested on while its like is learned from would flatter a figure, whatever the two are called.
        """
        contents = contents_of(self.pictures, self.names)
        return replace(self, contents=tuple(contents))._only(first_of_each(contents), "duplicate_picture")

    def _only(self, kept: npt.NDArray[np.bool_], reason: str) -> LabelTable:
        """Return the same with some of its rows, the others counted as dropped."""
        return replace(
            self,
            names=tuple(itertools.compress(self.names, kept)),
            contents=tuple(itertools.compress(self.contents, kept)),
            labels={name: values[kept] for name, values in self.labels.items()},
            parts=None if self.parts is None else self.parts[kept],
            dropped={**self.dropped, reason: int((~kept).sum())},
        )


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
    table = LabelCells(source, read_table(source))
    there = set(table.names) if whichever else {*columns.groups, *columns.tags}
    groups, tags = ([name for name in names if name in there] for names in (columns.groups, columns.tags))
    if not groups and not tags:
        wanted = ", ".join((*columns.groups, *columns.tags))
        raise UserError(f"{shown(source)} has none of the columns {shown(wanted)}, {table.has()}")
    cells = {name: table.cells(name) for name in (*groups, *tags)}
    dropped = Counter({str(RowReason.MALFORMED_ROW): len(table.rows.damaged)})
    image = _image_column(table, columns)
    by_id = image in _IDS and image not in (columns.image, columns.usual_image)
    pictures = _pictured(table.cells(image), by_id, TablePictures(folder, allow_outside=False), dropped)
    labelled = [place for place in pictures if any(column[place] for column in cells.values())]
    dropped["no_label"] = len(pictures) - len(labelled)
    if not labelled:
        why = ", ".join(f"{reason} {count:,}" for reason, count in sorted(dropped.items()) if count) or "no rows"
        first = next((cell for cell in table.cells(image) if cell is not None), None)
        if table.rows.damaged:
            line, reason = table.rows.damaged[0]
            why += f" (the first, {table.rows.counted} {line}: {reason})"
        said = f"; the first of its pictures is said to be '{shown(first)}'" if first and not pictures else ""
        raise UserError(f"{shown(source)} has no row with a label and a picture in {shown(folder)}: {why}{said}.")
    labels: dict[str, npt.NDArray[np.integer]] = {}
    classes: dict[str, tuple[str, ...]] = {}
    for name in groups:
        given = [cells[name][place] for place in labelled]
        table.check_short(name, given, labelled)
        classes[name] = in_order({cell for cell in given if cell is not None})
        number: dict[str | None, int] = {label: place for place, label in enumerate(classes[name])}
        labels[name] = np.array([number.get(cell, UNKNOWN) for cell in given], np.int64)
    if tags:
        labels[TAGS] = np.array([table.meant(name, labelled, YES_NO, _SAID) for name in tags], np.int8).T
        classes[TAGS] = tuple(tags)
    parts = None
    if columns.part is not None:
        parts = np.array(table.meant(columns.part, labelled, PART_WORDS, ", ".join(PARTS), empty=False), np.int64)
    names = tuple(pictures[place] for place in labelled)
    return LabelTable(source, folder, names, labels, classes, parts, dict(dropped))


def _image_column(table: LabelCells, columns: LabelColumns) -> str:
    """Return the column that names the pictures: the one that was asked for, or what such a column is called."""
    usual = (column for column in (columns.usual_image, _IMAGE, *_IDS) if column in table.names)
    name = columns.image or next(usual, None)
    if name is None:
        raise UserError(
            f"{shown(table.source)} has no column {_IMAGE}; {table.has()} Say which of them names the pictures: "
            "data.image_column of a training, --image-column of evaluate."
        )
    if name in (*columns.groups, *columns.tags):
        raise UserError(
            f"{shown(table.source)}: column {shown(name)} names the pictures, so it is no label; leave it out."
        )
    return name


def _pictured(cells: Sequence[str | None], by_id: bool, find: TablePictures, dropped: Counter[str]) -> dict[int, str]:
    """Return the rows that have a picture of their own, with its path; count the others."""
    found: dict[str, int] = {}
    for place, cell in enumerate(cells):
        path = (RowReason.NO_IMAGE, "") if cell is None else find.by_id(cell) if by_id else find.in_folder(cell)
        if by_id and isinstance(path, str):
            path = find.in_folder(path)
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
