"""The crops that ``evaluate-recs`` measures worn clothes by: each picture is read once, in processes, and kept.

A query is cut as ``score`` cuts the clothes of a photo's largest face, an item as ``catalog build`` cuts its picture.
Both are readers of their own, so nothing is cut here in a way that the program would not cut it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from stylematch.data.article_types import may_be_worn_on_torso
from stylematch.data.decode import decode_photo
from stylematch.data.fashion_product import FashionProduct
from stylematch.engines.progress import Progress
from stylematch.errors import PhotoRejectedError
from stylematch.pipelines.recs.encoders import SIDE_PX
from stylematch.tables.cores import usable_cores
from stylematch.vision.crops import Square
from stylematch.vision.cut_cache import Cut, Cuts, cut_once
from stylematch.vision.face_reader import FINDER_SIDE_PX
from stylematch.vision.faces import YunetLocator
from stylematch.vision.garments import cut_torso
from stylematch.vision.item_picture import ItemPictureReader

_VERSION = 1  # raised with every change of what is cut, so that no kept array is mistaken for new
_MAX_MEGAPIXELS = 200.0
_WHOLE, _NOTHING = Square(0.0, 0.0, float(SIDE_PX)), Square(0.0, 0.0, 0.0)
Pictures = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]
Task = TypeVar("Task")


@dataclass(frozen=True)
class WornCrops:
    """Pictures that show a person.

    Attributes
    ----------
    pictures : ndarray of uint8, shape (n, 28, 28, 3)
        The clothes below the largest face.
    rows : ndarray of int64, shape (n,)
        The products they show, ascending.
    failed : ndarray of int64
        Products whose picture shows a face, but too little below it.
    """

    pictures: Pictures
    rows: Rows
    failed: Rows


def worn_crops(products: FashionProduct, rows: Rows, cache: Path, *, workers: int | None = None) -> WornCrops:
    """Cut the clothes of whoever is shown.

    Parameters
    ----------
    products : FashionProduct
        The data set.
    rows : ndarray of int64
        Products of it, ascending.
    cache : pathlib.Path
        Folder for the crops; created.
    workers : int, optional
        Processes, by default one a core; they change nothing.
    """
    paths = [products.pictures / products.names[row] for row in rows]
    cuts = _cut(_worn, paths, paths, "worn", "cut worn clothes", _recipe(products, rows), cache, workers)
    there = cuts.squares[:, 2] > 0
    return WornCrops(cuts.fields[there], rows[cuts.rows[there]], rows[cuts.rows[~there]])


def item_crops(
    products: FashionProduct, rows: Rows, cache: Path, *, workers: int | None = None
) -> tuple[Pictures, Rows]:
    """Cut products' pictures as those of a catalogue with their article types; arguments as for ``worn_crops``.

    Returns
    -------
    pictures : ndarray of uint8, shape (n, 28, 28, 3)
        The torso where a person wears the item, else the garment.
    rows : ndarray of int64, shape (n,)
        The products they show: those of ``rows`` whose picture can be read.
    """
    names = (*products.classes["articleType"], "")  # the last entry is where -1, unknown, points to
    worn = [may_be_worn_on_torso(names[kind]) for kind in products.labels["articleType"][rows]]
    paths = [products.pictures / products.names[row] for row in rows]
    tasks = list(zip(paths, worn, strict=True))
    cuts = _cut(_item, tasks, paths, "item", "cut the catalogue", [*_recipe(products, rows), worn], cache, workers)
    return cuts.fields, rows[cuts.rows]


def _cut(
    function: Callable[[Task], Cut | None],
    tasks: Sequence[Task],
    files: Sequence[Path],
    name: str,
    description: str,
    recipe: list[Any],
    cache: Path,
    workers: int | None,
) -> Cuts:
    with Progress(len(tasks), "pictures", description) as progress:
        return cut_once(
            function,
            tasks,
            SIDE_PX,
            files=files,
            cache=cache,
            name=name,
            recipe=[_VERSION, *recipe],
            workers=workers or usable_cores(),
            progress=progress.update,
        )


def _recipe(products: FashionProduct, rows: Rows) -> list[Any]:
    return [str(products.pictures.resolve()), [products.ids[row] for row in rows]]


def _worn(path: Path) -> Cut | None:
    """Return the torso; an empty square where there is a face, but too little below it; None where nobody is seen."""
    try:
        photo = decode_photo(path.read_bytes(), max_side_px=FINDER_SIDE_PX, max_megapixels=_MAX_MEGAPIXELS)
    except (OSError, PhotoRejectedError):
        return None
    faces = YunetLocator().locate(photo).boxes
    if not faces:
        return None
    torso = cut_torso(photo, faces[0], SIDE_PX)
    return (np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8), _NOTHING) if torso is None else (torso, _WHOLE)


def _item(task: tuple[Path, bool]) -> Cut | None:
    path, may_be_worn = task
    try:
        return _reader().read(path.read_bytes(), may_be_worn=may_be_worn).crop, _WHOLE
    except (OSError, PhotoRejectedError):
        return None


@once
def _reader() -> ItemPictureReader:
    return ItemPictureReader(SIDE_PX, 3, torsos=True)
