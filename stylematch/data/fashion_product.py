"""Fashion Product Images (Kaggle): ``styles.csv`` and ``images/ID.jpg`` into aligned label arrays, and their splits.

The table is read line by line: its last column, ``productDisplayName`` (which may be absent), holds bare commas
and single quotes, so what a line has too many of belongs to it and a quote never reaches into the next line.
Seven columns are labels; ``year`` only splits, and the name is not kept. Rows that cannot be used are dropped
and counted by reason.

Source: Param Aggarwal, "Fashion Product Images Dataset", Kaggle 2019. The pictures carry no licence.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stylematch.data.article_types import TYPES_OF_CATEGORY
from stylematch.data.copies import contents_of, first_of_each
from stylematch.data.fashion_mnist import CLASSES
from stylematch.data.labels import CategoricalGroup, LabelSchema
from stylematch.data.picture_table import NO_LABEL, called_otherwise, picture_files, read_lines, why_no_picture
from stylematch.data.splits import Rows, split_stratified
from stylematch.errors import UserError

GROUPS = ("gender", "masterCategory", "subCategory", "articleType", "baseColour", "season", "usage")
LICENCE = "Learned from Fashion Product Images (Kaggle), whose pictures carry no licence."
TABLE = "styles.csv"
UNKNOWN = -1
_NAME = "productDisplayName"
_REASONS = ("malformed_row", "duplicate_id", "no_picture", "unreadable_picture", "not_a_picture")


@dataclass(frozen=True, eq=False)
class FashionProduct:
    """The products that have a picture, in the order of the table.

    Attributes
    ----------
    pictures : pathlib.Path
        The folder of the pictures; ``names`` are the files in it.
    ids : tuple of str
        n of them.
    labels : dict of str to ndarray of int64, shape (n,)
        By group of ``GROUPS``: places in the group's ``classes``, -1 where unknown.
    classes : dict of str to tuple of str
        By group: class names, sorted.
    year : ndarray of int64, shape (n,)
        -1 where unknown.
    dropped : dict of str to int
        How many rows were left out, by reason; with n they add up to the rows of the table.
    """

    pictures: Path
    ids: tuple[str, ...]
    labels: dict[str, Rows]
    classes: dict[str, tuple[str, ...]]
    year: Rows
    dropped: dict[str, int]

    def __len__(self) -> int:
        """Return the number of products."""
        return len(self.ids)

    @property
    def names(self) -> tuple[str, ...]:
        """The pictures' file names; put them there."""
        return tuple(f"{product}.jpg" for product in self.ids)


def without_copies(products: FashionProduct) -> FashionProduct:
    """Return the products less those whose picture equals an earlier one's, which are counted as dropped."""
    kept = np.flatnonzero(first_of_each(contents_of(products.pictures, products.names)))
    return replace(
        products,
        ids=tuple(products.ids[row] for row in kept),
        labels={group: labels[kept] for group, labels in products.labels.items()},
        year=products.year[kept],
        dropped={**products.dropped, "duplicate_picture": len(products) - len(kept)},
    )


class YearSplit(NamedTuple):
    """Ascending rows of each part; ``left_out`` are the products of unknown year."""

    train: Rows
    validation: Rows
    test: Rows
    left_out: Rows


def read_fashion_product(root: Path) -> FashionProduct:
    """Read the folder of ``styles.csv`` and ``images/``.

    Raises
    ------
    UserError
        If the table or the folder is missing, cannot be read or lacks a column, or none of its pictures is there.
    """
    columns: dict[str, list[str]] = {name: [] for name in ("id", "year", *GROUPS)}
    dropped = dict.fromkeys(_REASONS, 0)
    seen: set[str] = set()
    there = picture_files(root / "images")
    for row in _read_rows(root / TABLE):
        reason = _why_dropped(row, seen, there)
        if reason is not None:
            dropped[reason] += 1
        elif row is not None:
            for name, values in columns.items():
                values.append(row[name])
    if not columns["id"]:
        raise UserError(
            f"{root / 'images'} has none of the pictures (ID.jpg) that {root / TABLE} names; put them there."
            + called_otherwise(there, (f"{product}.jpg" for product in sorted(seen)))
        )
    coded = {group: _coded(columns[group]) for group in GROUPS}
    return FashionProduct(
        pictures=root / "images",
        ids=tuple(columns["id"]),
        labels={group: labels for group, (labels, _) in coded.items()},
        classes={group: classes for group, (_, classes) in coded.items()},
        year=np.array([_year(text) for text in columns["year"]], np.int64),
        dropped=dropped,
    )


def schema(products: FashionProduct, groups: Sequence[str] = GROUPS) -> LabelSchema:
    """Return the label schema of the chosen groups.

    Raises
    ------
    UserError
        If there is no such group, or it has fewer than two classes, so that there is nothing to tell apart.
    """
    for group in groups:
        classes = products.classes.get(group)
        if classes is None:
            raise UserError(f"Fashion Product Images has no label group '{group}'; choose among {', '.join(GROUPS)}.")
        if len(classes) < 2:
            raise UserError(
                f"Label group '{group}' has {len(classes) or 'no'} {'class' if len(classes) == 1 else 'classes'} left, "
                "which leaves nothing to tell apart: "
                "lower min_label_count or leave the group out."
            )
    return LabelSchema(tuple(CategoricalGroup(group, products.classes[group]) for group in groups))


def fashion_mnist_categories(products: FashionProduct) -> Rows:
    """Return Fashion-MNIST's category of every product, shape (n,), where its article type leaves no doubt; else -1."""
    of = {kind: CLASSES.index(category) for category, kinds in TYPES_OF_CATEGORY.items() for kind in kinds}
    places = np.array([of.get(kind, UNKNOWN) for kind in products.classes["articleType"]] + [UNKNOWN], np.int64)
    return places[products.labels["articleType"]]


def restrict(products: FashionProduct, keep: Mapping[str, Sequence[str]]) -> FashionProduct:
    """Keep only the named classes of the named groups; labels of the others become unknown, no product is dropped."""
    labels, classes = dict(products.labels), dict(products.classes)
    for group, names in keep.items():
        kept = [place for place, name in enumerate(classes[group]) if name in names]
        # The last entry is where -1 points to.
        moved = np.full(len(classes[group]) + 1, UNKNOWN, np.int64)
        moved[kept] = np.arange(len(kept))
        labels[group] = moved[labels[group]]
        classes[group] = tuple(classes[group][place] for place in kept)
    return replace(products, labels=labels, classes=classes)


def mask_rare(products: FashionProduct, min_label_count: int, groups: Sequence[str] = GROUPS) -> FashionProduct:
    """Make the labels of classes with fewer than ``min_label_count`` products unknown, and forget these classes."""
    return restrict(
        products,
        {
            group: [
                name
                for name, count in zip(products.classes[group], class_counts(products, group), strict=True)
                if count >= min_label_count
            ]
            for group in groups
        },
    )


def class_counts(products: FashionProduct, group: str, rows: Rows | None = None) -> Rows:
    """Return how many products (of ``rows``) each class of a group has, shape (classes,)."""
    labels = products.labels[group] if rows is None else products.labels[group][rows]
    return np.bincount(labels[labels >= 0], minlength=len(products.classes[group]))


def split_by_year(products: FashionProduct, validation: float = 0.1, seed: int = 0) -> YearSplit:
    """Train on even years, test on odd ones; the share ``validation`` of the even years is set apart.

    It is stratified by article type.
    """
    known = products.year >= 0
    even = np.flatnonzero(known & (products.year % 2 == 0))
    train, held = split_stratified(products.labels["articleType"][even], validation, seed)
    return YearSplit(
        train=even[train],
        validation=even[held],
        test=np.flatnonzero(known & (products.year % 2 == 1)),
        left_out=np.flatnonzero(~known),
    )


def never_trained(products: FashionProduct, train: Rows, test: Rows, group: str = "articleType") -> tuple[str, ...]:
    """Return the classes that occur among the rows of ``test`` but not among those of ``train``."""
    unseen = (class_counts(products, group, test) > 0) & (class_counts(products, group, train) == 0)
    return tuple(products.classes[group][place] for place in np.flatnonzero(unseen))


def _read_rows(path: Path) -> Iterator[dict[str, str] | None]:
    """Yield each row of the table, or None where it is malformed."""
    header, *lines = read_lines(path, "Fashion Product Images")
    columns = _cells(header) or []
    missing = [name for name in ("id", *GROUPS, "year") if name not in columns]
    if missing:
        raise UserError(f"{path}: line 1 does not name the column {missing[0]}.")
    ends_in_name = columns[-1] == _NAME
    for line in lines:
        if not line.strip():
            continue
        cells = _cells(line)
        wanted = len(columns) - ends_in_name
        if cells is None or len(cells) < wanted or (len(cells) > wanted and not ends_in_name):
            yield None
        else:
            row = dict(zip(columns[:wanted], cells, strict=False))
            yield None if any("\ufffd" in row[name] for name in GROUPS) else row


def _cells(line: str) -> list[str] | None:
    try:
        return [cell.strip() for cell in next(csv.reader([line.rstrip("\r")]))]
    except (csv.Error, StopIteration):
        return None


def _why_dropped(row: dict[str, str] | None, seen: set[str], there: dict[str, Path]) -> str | None:
    # Every product's id is a number; anything else is a line that went wrong.
    if row is None or not re.fullmatch("[0-9]+", row["id"]):
        return "malformed_row"
    if row["id"] in seen:
        return "duplicate_id"
    seen.add(row["id"])
    return why_no_picture(there.get(f"{row['id']}.jpg"))


def _coded(values: list[str]) -> tuple[Rows, tuple[str, ...]]:
    classes = tuple(sorted(set(values) - NO_LABEL))
    place = {name: number for number, name in enumerate(classes)}
    return np.array([place.get(value, UNKNOWN) for value in values], np.int64), classes


def _year(text: str) -> int:
    return int(text[:4]) if re.fullmatch(r"[0-9]{4}(\.0)?", text) else UNKNOWN
