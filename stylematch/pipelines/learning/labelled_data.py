"""Labelled pictures that are measured: which data a name, a folder or a table holds, and their names and labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from stylematch.data import fashion_mnist, fashion_product, flixstock
from stylematch.data.class_folders import read_class_folders
from stylematch.data.label_table import LabelColumns, LabelTable, read_label_table
from stylematch.data.table_rows import TABLE_SUFFIXES
from stylematch.errors import UserError
from stylematch.settings.load import data_root
from stylematch.settings.train_data import FOLDERS, TABLE
from stylematch.tables.shown import shown
from stylematch.vision.bundle import Bundle
from stylematch.vision.model_pictures import takes_faces

GARMENTS = "garments"
_USUAL = {"fashion-product": "fashion_product", "flixstock": "flixstock"}
_TABLES = {fashion_product.TABLE: "fashion-product", flixstock.TABLE: "flixstock"}
Labels: TypeAlias = dict[str, tuple[npt.NDArray[np.integer], Sequence[str]]]


@dataclass(frozen=True)
class LabelledData:
    """What a name, a folder or a table of labelled pictures holds; see ``find_labelled``.

    Attributes
    ----------
    named : str
        As the user named it.
    fashion_mnist : bool
        Whether Fashion-MNIST is among it.
    kind : {"fashion-product", "flixstock", "table", "folders"} or None
        Which table of pictures is, if any, or folders of them.
    folder : pathlib.Path
        Where that lies; of a table of somebody's own, the file.
    images : pathlib.Path, optional
        The folder of that table's pictures, where it is not the table's.
    image_column : str, optional
        The column of that table that names them; by default as the bundle learned it, or what it usually is called.
    """

    named: str
    fashion_mnist: bool
    kind: str | None
    folder: Path
    images: Path | None = None
    image_column: str | None = None


@dataclass(frozen=True, eq=False)
class LabelledPictures:
    """Labelled pictures as the data have them.

    Attributes
    ----------
    pictures : pathlib.Path
        Their folder.
    names : sequence of str
        Files in it, n of them.
    labels : dict of str to (ndarray of int, sequence of str)
        By group: places in its classes, shape (n,); of yes and no, 0 and 1, shape (n, columns). -1 is unknown.
    told_apart : sequence of str
        What a training that learned from them knew each by: its name, or of somebody's own a hash of its contents.
    """

    pictures: Path
    names: Sequence[str]
    labels: Labels
    told_apart: Sequence[str]


def find_labelled(
    data: str, bundle: Bundle, images: Path | None = None, image_column: str | None = None
) -> LabelledData | None:
    """Return what lies there of the data that ``labelled_garments`` reads, None where there is none of it.

    Parameters
    ----------
    data : str
        A folder of Fashion-MNIST (IDX files), Fashion Product Images (``styles.csv``) or FlixStock
        (``attributes.csv``), or the name of one that is at its usual place; "garments" are the first two. Or a file:
        a table of labelled pictures.
    bundle : Bundle
        The model to measure; for one that learned from folders of classes any other folder is one of those.
    images, image_column : pathlib.Path, str, optional
        The folder of that table's pictures, and its column that names them.

    Raises
    ------
    UserError
        If one of these is named beside anything but a table.
    """
    root = Path(data)
    if root.is_file() or (root.suffix.lower() in TABLE_SUFFIXES and not root.is_dir()):
        return LabelledData(data, False, TABLE, Path(data), images, image_column)
    for option, value in (("--images", images), ("--image-column", image_column)):
        if value is not None:
            raise UserError(f"{option} is for a table of labelled pictures (DATA as a .csv or .parquet file).")
    if data == "fashion-mnist":
        return LabelledData(data, True, None, Path(data))
    if data in (GARMENTS, *_USUAL):
        kind = "fashion-product" if data == GARMENTS else data
        return LabelledData(data, data == GARMENTS, kind, data_root() / _USUAL[kind])
    kinds = (kind for table, kind in _TABLES.items() if (root / table).is_file())
    found = LabelledData(data, fashion_mnist.holds_fashion_mnist(root), next(kinds, None), root)
    if found.fashion_mnist or found.kind:
        return found
    by_folders = root.is_dir() and bundle.learned.get("dataset") == FOLDERS
    return replace(found, kind=FOLDERS) if by_folders else None


def read_labelled(data: LabelledData, bundle: Bundle) -> LabelledPictures:
    """Read names and labels of the table of pictures, or of the folders of them, that were found.

    Raises
    ------
    UserError
        If they are missing or damaged, or the bundle looks at faces.
    """
    assert data.kind is not None
    return _READERS[data.kind](data, bundle)


def _product(data: LabelledData, bundle: Bundle) -> LabelledPictures:
    del bundle
    products = fashion_product.read_fashion_product(data.folder)
    labels: Labels = {group: (products.labels[group], products.classes[group]) for group in fashion_product.GROUPS}
    labels["category"] = fashion_product.fashion_mnist_categories(products), fashion_mnist.CLASSES
    return LabelledPictures(products.pictures, products.names, labels, products.names)


def _flixstock(data: LabelledData, bundle: Bundle) -> LabelledPictures:
    # "N/A" is a class where the bundle has it for one.
    groups = [group for group in bundle.schema.groups if group.name in flixstock.GROUPS]
    answers = any(flixstock.NOT_APPLICABLE in group.labels for group in groups)
    garments = flixstock.read_flixstock(data.folder, "category" if answers else "unknown")
    labels: Labels = {group: (garments.labels[group], garments.classes[group]) for group in flixstock.GROUPS}
    return LabelledPictures(garments.pictures, garments.names, labels, garments.names)


def _table(data: LabelledData, bundle: Bundle) -> LabelledPictures:
    if takes_faces(bundle):
        raise UserError(f"{shown(bundle.directory)} looks at faces; measure it on a folder in CelebA's layout.")
    groups = tuple(group.name for group in bundle.schema.groups if group.kind == "categorical")
    tags = tuple(label for group in bundle.schema.groups if group.kind == "binary" for label in group.labels)
    usual = bundle.learned.get("image_column")
    columns = LabelColumns(groups, tags, data.image_column, usual)
    return _own(read_label_table(data.folder, columns, data.images, whichever=True))


def _folders(data: LabelledData, bundle: Bundle) -> LabelledPictures:
    (group,) = bundle.schema.groups
    return _own(read_class_folders(data.folder, group.name))


def _own(read: LabelTable) -> LabelledPictures:
    table = read.without_copies()
    labels: Labels = {name: (table.labels[name], table.classes[name]) for name in table.classes}
    return LabelledPictures(table.pictures, table.names, labels, table.contents)


_READERS: dict[str, Callable[[LabelledData, Bundle], LabelledPictures]] = {
    "fashion-product": _product,
    "flixstock": _flixstock,
    TABLE: _table,
    FOLDERS: _folders,
}
