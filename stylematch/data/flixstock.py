"""FlixStock: neck, sleeve length and pattern of garments, from ``attributes.csv`` and ``images/``.

The classes have numbers and no names. ``#N/A`` (the attribute does not apply or cannot be seen) is either
unknown, and so masked in the loss, or a class of its own; so is an empty cell, which pandas makes of it when it writes
the table again, as it makes ``6.0`` of 6. Columns are found by name, others are passed over. Rows that cannot be used
are dropped and counted by reason; of two rows for one picture the first is kept.

Source: FlixStock's hiring challenge. The pictures carry no licence.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from stylematch.data.copies import contents_of, first_of_each
from stylematch.data.labels import CategoricalGroup, LabelSchema
from stylematch.data.picture_table import NO_LABEL, called_otherwise, picture_files, read_lines, why_no_picture
from stylematch.data.splits import Rows
from stylematch.data.table_csv import delimiter_of
from stylematch.errors import UserError

GROUPS = {"neck": 7, "sleeve_length": 4, "pattern": 10}
"""The groups in the order of the table, with how many classes each has (beside ``#N/A``)."""
LICENCE = "Learned from FlixStock's pictures, which carry no licence."
TABLE = "attributes.csv"
NOT_APPLICABLE = "N/A"
UNKNOWN = -1
_NO_LABEL = NO_LABEL | {"#N/A"}
_NAME = "filename"
_REASONS = ("malformed_row", "duplicate_name", "no_picture", "unreadable_picture", "not_a_picture")


@dataclass(frozen=True, eq=False)
class FlixStock:
    """The garments that have a picture, in the order of the table.

    Attributes
    ----------
    pictures : pathlib.Path
        The folder of the pictures.
    names : tuple of str
        File names in it, n of them.
    labels : dict of str to ndarray of int64, shape (n,)
        By group: places in the group's ``classes``, -1 where unknown.
    classes : dict of str to tuple of str
        By group: "0", "1" and so on; last "N/A" where that is a class and occurs.
    dropped : dict of str to int
        How many rows were left out, by reason; with n they add up to the rows of the table.
    """

    pictures: Path
    names: tuple[str, ...]
    labels: dict[str, Rows]
    classes: dict[str, tuple[str, ...]]
    dropped: dict[str, int]

    def __len__(self) -> int:
        """Return the number of garments."""
        return len(self.names)

    @property
    def schema(self) -> LabelSchema:
        """The three groups."""
        return LabelSchema(tuple(CategoricalGroup(group, self.classes[group]) for group in GROUPS))


def without_copies(garments: FlixStock) -> FlixStock:
    """Return the garments less those whose picture equals an earlier one's, which are counted as dropped."""
    kept = np.flatnonzero(first_of_each(contents_of(garments.pictures, garments.names)))
    return replace(
        garments,
        names=tuple(garments.names[row] for row in kept),
        labels={group: labels[kept] for group, labels in garments.labels.items()},
        dropped={**garments.dropped, "duplicate_picture": len(garments) - len(kept)},
    )


def read_flixstock(root: Path, na: Literal["category", "unknown"] = "unknown") -> FlixStock:
    """Read the folder of ``attributes.csv`` and ``images/``.

    Parameters
    ----------
    root : pathlib.Path
        The folder.
    na : {"unknown", "category"}
        What ``#N/A`` becomes: -1, or the class "N/A" after the others of each group in which it occurs.

    Raises
    ------
    UserError
        If ``na`` is neither, the table or the folder is missing or cannot be read, the table lacks a column,
        or none of its pictures is there.
    """
    if na not in ("category", "unknown"):
        raise UserError(f'na is "{na}"; #N/A can be a "category" of its own or "unknown".')
    names: dict[str, list[int]] = {}
    dropped = dict.fromkeys(_REASONS, 0)
    seen: set[str] = set()
    there = picture_files(root / "images")
    for row in _read_rows(root / TABLE):
        if row is None:
            reason: str | None = "malformed_row"
        elif row[0] in seen:
            reason = "duplicate_name"
        else:
            seen.add(row[0])
            reason = why_no_picture(there.get(row[0]))
        if reason is not None:
            dropped[reason] += 1
        elif row is not None:
            names[row[0]] = row[1]
    if not names:
        raise UserError(
            f"{root / 'images'} has none of the pictures that {root / TABLE} names; put them there."
            + called_otherwise(there, sorted(seen))
        )
    codes = np.array(list(names.values()), np.int64)
    labels = {group: codes[:, place].copy() for place, group in enumerate(GROUPS)}
    classes = {group: tuple(str(number) for number in range(count)) for group, count in GROUPS.items()}
    if na == "category":
        for group, count in GROUPS.items():
            if (labels[group] == UNKNOWN).any():
                labels[group][labels[group] == UNKNOWN] = count
                classes[group] = (*classes[group], NOT_APPLICABLE)
    return FlixStock(root / "images", tuple(names), labels, classes, dropped)


def _read_rows(path: Path) -> Iterator[tuple[str, list[int]] | None]:
    """Yield each row's file name and its three classes (-1 for ``#N/A``), or None where it is malformed."""
    header, *lines = read_lines(path, "FlixStock's pictures")
    delimiter = delimiter_of(header)
    columns = [cell.strip() for cell in next(csv.reader([header], delimiter=delimiter))]
    if missing := [name for name in (_NAME, *GROUPS) if name not in columns]:
        raise UserError(f"{path}: line 1 does not name the column {missing[0]}.")
    for line in lines:
        if line.strip():
            try:
                yield _parsed(dict(zip(columns, next(csv.reader([line], delimiter=delimiter)), strict=True)))
            except (ValueError, csv.Error):
                yield None


def _parsed(row: dict[str, str]) -> tuple[str, list[int]]:
    """Return one row's values; a ``ValueError`` says that it is malformed."""
    name = row[_NAME].strip()
    if not name:
        raise ValueError("a row without a name")
    return name, [_code(row[group].strip(), count) for group, count in GROUPS.items()]


def _code(text: str, count: int) -> int:
    if text in _NO_LABEL:
        return UNKNOWN
    code = int(text.removesuffix(".0"))
    if not 0 <= code < count:
        raise ValueError(text)
    return code
