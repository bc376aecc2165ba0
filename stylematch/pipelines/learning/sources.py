"""Data sets as a training or an evaluation sees them: label groups, examples by part, and what goes into the bundle.

One function a data set, chosen by the job; everything after that is the same for all of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from stylematch.data import celeba as celeba_data
from stylematch.data.celeba import OFFICIAL_PARTITION
from stylematch.data.celeba_files import attribute_file, holds_celeba
from stylematch.data.labels import Group, LabelSchema
from stylematch.engines.progress import Progress
from stylematch.errors import UserError
from stylematch.pipelines.learning.garment_sources import (
    fashion_mnist_source,
    fashion_product_source,
    flixstock_source,
    garments_source,
)
from stylematch.pipelines.learning.labelled_faces import WILD, part_title, photo_faces
from stylematch.pipelines.learning.source import TO_TEST_ON, Source
from stylematch.pipelines.learning.table_source import folders_source, table_source
from stylematch.settings.load import usual_folder
from stylematch.settings.train_data import TrainData
from stylematch.tables.cores import usable_cores
from stylematch.tables.shown import shown
from stylematch.vision import crops
from stylematch.vision.alignment import largest_crop_px
from stylematch.vision.examples import Examples, celeba_examples

_PHOTOS = "photos"  # whole ones, whose faces are found as scoring finds them


def open_source(data: TrainData, input_px: int, cache: Path, *, margin: bool = False) -> Source:
    """Open the data set that a job names.

    Parameters
    ----------
    data : TrainData
        Which data set, labels and split.
    input_px : int
        Side of the model's input.
    cache : pathlib.Path
        Folder of the arrays of cut pictures.
    margin : bool
        What is learned from will be moved: keep what lies around the crops.

    Raises
    ------
    UserError
        If it is missing or malformed.
    """
    return _SOURCES[data.dataset](data, input_px, cache, margin)


class _Celeba:
    """CelebA's folders side by side, and how their parts are cut.

    Parameters
    ----------
    data : TrainData
        Which of them, and where.
    input_px : int
        Side of the model's input.
    cache : pathlib.Path
        Folder of the arrays of cut pictures.
    """

    def __init__(self, data: TrainData, input_px: int, cache: Path) -> None:
        home = Path(data.root) if data.root else usual_folder("celeba")
        if data.root and not holds_celeba(home) and holds_celeba(home / "celeba"):
            home /= "celeba"  # the folder of CelebA's folders
        self.home, self.root = home.absolute(), home.absolute().parent
        self.read = functools.cache(celeba_data.read_celeba)  # each folder's labels once, not once a part
        self._input_px, self._cache, self._limit, self._wild = input_px, cache, data.limit, data.wild

    def crop_px(self) -> int | None:
        """Return the side of the pictures' crops in their own pixels, where the model takes more; else None.

        Stored so, CelebA's are cut in a third of the time for 224 px, and take two thirds of the room. Whole photos
        may have more pixels of a face than those that are face crops already.
        """
        own_px = None if self._wild else largest_crop_px(self.read(self.home))
        return own_px if own_px is not None and own_px < self._input_px else None

    def cut(
        self,
        folder: Path,
        split: int | None,
        *,
        wild: bool = False,
        crop_px: int | None = None,
        margin: bool = False,
    ) -> Examples:
        """Return the examples of a folder's split, or of all of it; options as of ``celeba_examples``."""
        with Progress(None, "pictures", f"cut {folder.name}") as progress:
            return celeba_examples(
                folder,
                split,
                input_px=self._input_px,
                crop_px=crop_px,
                margin=margin,
                cache=self._cache,
                wild=wild,
                limit=self._limit,
                workers=usable_cores(),
                progress=progress.update,
                read=self.read,
            )

    def tests(self) -> Iterator[tuple[str, Examples]]:
        """Give titles and examples of what nothing is learned from; only these are cut."""
        labels = self.read(self.home)
        called = "celeba" if labels.partition == OFFICIAL_PARTITION else None
        yield part_title(self.home, labels, 2, called), self.cut(self.home, 2)
        for folder in self._tests_elsewhere():
            if folder.name == _PHOTOS:
                yield from photo_faces(folder, self._input_px, self._limit)
            else:
                yield folder.name, self.cut(folder, None)

    def tested_elsewhere(self) -> set[str]:
        """Return the pictures of the folders that are tests as a whole."""
        return {name for folder in self._tests_elsewhere() for name in self.read(folder).image_ids}

    def _tests_elsewhere(self) -> list[Path]:
        beside = (self.root / "celeba_aligned_sample", self.root / _PHOTOS)
        return [folder for folder in beside if folder.is_dir() and folder != self.home]


def celeba_tests(input_px: int, cache: Path, limit: int | None) -> Iterator[tuple[str, Examples]]:
    """Give titles and examples of the tests of CelebA at its usual place; parameters as of ``open_source``."""
    return _Celeba(TrainData(dataset="celeba", limit=limit), input_px, cache).tests()


def _celeba(data: TrainData, input_px: int, cache: Path, margin: bool) -> Source:
    folders = _Celeba(data, input_px, cache)
    home, root, read, cut = folders.home, folders.root, folders.read, folders.cut
    attribute_file(home)
    if data.wild and not (root / WILD).is_dir():  # before the first folder is cut
        raise UserError(f"{shown(root / WILD)} does not exist: put it there, or set data.wild to false.")
    crop_px = folders.crop_px()
    found = [(cut(home, 0, crop_px=crop_px, margin=margin), 1)]
    if data.wild:
        found.append((cut(root / WILD, None, wild=True, margin=margin), data.wild_repeat))
    tested_on = folders.tested_elsewhere()
    parts = [(_without(part, tested_on), times) for part, times in found]
    shared = sum(len(part) for part, _ in found) - sum(len(part) for part, _ in parts)
    val = cut(home, 1, crop_px=crop_px, margin=margin)
    tested = sum(
        (read(home).pictures / read(home).image_ids[row]).is_file() for row in np.flatnonzero(read(home).split == 2)
    )
    groups = tuple(g for g in celeba_data.SCHEMA_WITH_BOX.groups if g.name in data.label_groups)
    geometry = {name: getattr(crops, name) for name in ("SIDE_PER_BOX", "EYE_IN_BOX", "EYE_LINE", "ALIGNED_TOP")}
    return Source(
        LabelSchema(groups),
        parts,
        val,
        folders.tests,
        celeba_data.LICENCE,
        {"crop": {name.lower(): value for name, value in geometry.items()}},
        {
            "pictures that are not there, are damaged or show no usable face": sum(part.dropped for part, _ in parts)
            + val.dropped,
            "pictures that are tested on elsewhere, left out": shared,
            TO_TEST_ON: min(tested, data.limit or tested),
            **_known_points(groups, [part for part, _ in parts]),
        },
        tuple(name for examples in (*(part for part, _ in parts), val) for name in examples.ids),
    )


def _without(part: Examples, names: Collection[str]) -> Examples:
    """Return a part less the pictures of some names."""
    kept = np.array([name not in names for name in part.ids], np.bool_)
    return part if kept.all() else part.subset(np.flatnonzero(kept))


def _known_points(groups: Sequence[Group], parts: Sequence[Examples]) -> dict[str, int]:
    """Count the pictures to learn from that have points: of a group that none has, nothing is learned."""
    where = {"box": "a box in the picture's own pixels"}
    return {
        f"pictures to learn from with {where.get(group.name, group.name)}": sum(
            int(np.isfinite(part.targets[group.name]).all(1).sum()) for part in parts
        )
        for group in groups
        if group.kind == "points"
    }


_SOURCES: dict[str, Callable[[TrainData, int, Path, bool], Source]] = {
    "celeba": _celeba,
    "fashion-mnist": fashion_mnist_source,
    "fashion-product": fashion_product_source,
    "flixstock": flixstock_source,
    "garments": garments_source,
    "table": table_source,
    "folders": folders_source,
}
