"""Data sets as a training or an evaluation sees them: label groups, examples by part, and what goes into the bundle.

One function a data set, chosen by the job; everything after that is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stylematch.data import celeba as celeba_data
from stylematch.data import fashion_mnist as fashion_mnist_data
from stylematch.data import fashion_product, flixstock
from stylematch.data.labels import LabelSchema
from stylematch.engines.progress import Progress
from stylematch.errors import PhotoRejectedError, UserError
from stylematch.settings import TrainData, data_root
from stylematch.tables.manifest import usable_cores
from stylematch.vision import crops
from stylematch.vision.examples import Examples, celeba_examples, fashion_mnist_examples
from stylematch.vision.face_reader import FaceReader
from stylematch.vision.faces import FaceBox
from stylematch.vision.whole_pictures import whole_picture_examples

_FASHION_VALIDATION_SHARE = 20  # one twentieth of Fashion-MNIST's training split is watched, not learned from
_LABELLED_OVERLAP = 0.3
_TEST_SHARE = 0.2


@dataclass(frozen=True)
class Source:
    """What a data set gives a training.

    Attributes
    ----------
    schema : LabelSchema
        The label groups to learn.
    parts : list of (Examples, int)
        What is learned from, and how often an epoch shows each.
    val : Examples
        What is watched, and what temperatures and thresholds are chosen on.
    tests : callable
        Gives titles and examples that nothing is learned from, one after another.
    licence : str
        Under which what was learned may be used.
    description : dict
        More to say in ``bundle.json``.
    notes : dict
        What a person should know of the data: what was dropped or left out, by name.
    """

    schema: LabelSchema
    parts: list[tuple[Examples, int]]
    val: Examples
    tests: Callable[[], Iterator[tuple[str, Examples]]]
    licence: str
    description: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def pictures(self) -> int:
        """Pictures that are learned from."""
        return sum(len(part) for part, _ in self.parts)

    def mean_shapes(self) -> dict[str, npt.NDArray[np.floating]]:
        """Return the mean of every group of points over the first training part, where any is known."""
        points = {g.name: self.parts[0][0].targets[g.name] for g in self.schema.groups if g.kind == "points"}
        known = {name: values[np.isfinite(values).all(1)] for name, values in points.items()}
        return {name: values.mean(axis=0) for name, values in known.items() if len(values)}

    def trained_counts(self) -> dict[str, npt.NDArray[np.int64]]:
        """Return how many training pictures each class of every categorical group has."""
        counts = {}
        for group in self.schema.groups:
            if group.kind == "categorical":
                labels = np.concatenate([part.targets[group.name] for part, _ in self.parts])
                counts[group.name] = np.bincount(labels[labels >= 0], minlength=group.width)
        return counts


def open_source(data: TrainData, input_px: int, cache: Path) -> Source:
    """Open the data set that a job names.

    Parameters
    ----------
    data : TrainData
        Which data set, labels and split.
    input_px : int
        Side of the model's input.
    cache : pathlib.Path
        Folder of the arrays of cut pictures.

    Raises
    ------
    UserError
        If it is missing or malformed.
    """
    return _SOURCES[data.dataset](data, input_px, cache)


def _celeba(data: TrainData, input_px: int, cache: Path) -> Source:
    root = Path(data.root) if data.root else data_root()

    def cut(folder: str, split: int | None, *, wild: bool = False) -> Examples:
        with Progress(None, "pictures", f"cut {folder}") as progress:
            return celeba_examples(
                root / folder,
                split,
                input_px=input_px,
                cache=cache,
                wild=wild,
                limit=data.limit,
                progress=progress.update,
            )

    parts = [(cut("celeba", 0), 1)]
    if data.wild:
        parts.append((cut("celeba_wild", None, wild=True), data.wild_repeat))

    def tests() -> Iterator[tuple[str, Examples]]:
        yield "celeba test (local split)", cut("celeba", 2)
        if (root / "celeba_aligned_sample").is_dir():
            yield "celeba_aligned_sample", cut("celeba_aligned_sample", None)
        if (root / "photos").is_dir():
            yield from photo_faces(root / "photos", input_px, data.limit)

    val = cut("celeba", 1)
    groups = tuple(g for g in celeba_data.SCHEMA_WITH_BOX.groups if g.name in data.label_groups)
    geometry = {name: getattr(crops, name) for name in ("SIDE_PER_BOX", "EYE_IN_BOX", "EYE_LINE", "ALIGNED_TOP")}
    return Source(
        LabelSchema(groups),
        parts,
        val,
        tests,
        celeba_data.LICENCE,
        {"crop": {name.lower(): value for name, value in geometry.items()}},
        {"pictures without a usable face": sum(part.dropped for part, _ in parts) + val.dropped},
    )


def photo_faces(root: Path, input_px: int, limit: int | None = None) -> Iterator[tuple[str, Examples]]:
    """Give the faces of whole photos as scoring would find and cut them.

    Parameters
    ----------
    root : pathlib.Path
        A folder in CelebA's layout with photos as found.
    input_px : int
        Side of the crop.
    limit : int, optional
        Only the first so many photos.

    Yields
    ------
    title : str
        "photos, largest face found" and "photos, face that meets the label".
    examples : Examples
        The largest faces have no points: the labelled ones may be another person's.
    """
    folder = celeba_data.read_celeba(root)
    reader = FaceReader("find", input_px, min_face_px=24, max_megapixels=200)
    corners_px = celeba_data.corners_in_picture(folder)
    found: dict[str, list[tuple[int, npt.NDArray[np.uint8], crops.Square]]] = {"largest": [], "met": []}
    pictures = folder.image_ids[:limit]
    with Progress(len(pictures), "photos", "find faces") as progress:
        for row, name in enumerate(pictures):
            progress.update(1)
            try:
                faces = reader.read((folder.pictures / name).read_bytes())
            except PhotoRejectedError:
                continue
            x, y, width, height = (float(value) for value in folder.boxes_px[row])
            overlaps = [box.overlap(FaceBox(x, y, width, height, 1.0)) for box in faces.boxes]
            for face, square in enumerate(faces.squares):
                if face == 0:
                    found["largest"].append((row, faces.crops[face], square))
                if overlaps[face] == max(overlaps) and overlaps[face] > _LABELLED_OVERLAP:
                    found["met"].append((row, faces.crops[face], square))
    for key, title in (("largest", "photos, largest face found"), ("met", "photos, face that meets the label")):
        if not found[key]:
            continue
        rows = [row for row, _, _ in found[key]]
        squares = [square for _, _, square in found[key]]
        targets: dict[str, npt.NDArray[Any]] = {"attributes": folder.attributes[rows]}
        for group, points_px in (("landmarks", folder.landmarks_px), ("box", corners_px)):
            points = np.stack([square.place(points_px[row]) for row, square in zip(rows, squares, strict=True)])
            targets[group] = points if key == "met" else np.full_like(points, np.nan)
        yield (
            title,
            Examples(
                tuple(folder.image_ids[row] for row in rows),
                np.stack([crop for _, crop, _ in found[key]]),
                targets,
                len(pictures) - len(rows),
            ),
        )


def _fashion_mnist(data: TrainData, input_px: int, cache: Path) -> Source:
    del input_px, cache  # the whole data set is one file in memory
    root = Path(data.root) if data.root else None
    examples = fashion_mnist_examples(root, "train", limit=data.limit)
    watched = len(examples) // _FASHION_VALIDATION_SHARE
    if watched == 0:
        raise UserError("fashion-mnist needs at least 20 pictures (data.limit).")
    rows = np.arange(len(examples))

    def tests() -> Iterator[tuple[str, Examples]]:
        yield "fashion-mnist test", fashion_mnist_examples(root, "test", limit=data.limit)

    return Source(
        fashion_mnist_data.SCHEMA,
        [(examples.subset(rows[:-watched]), 1)],
        examples.subset(rows[-watched:]),
        tests,
        f"Learned from {fashion_mnist_data.LICENCE}",
    )


def _fashion_product(data: TrainData, input_px: int, cache: Path) -> Source:
    root = Path(data.root) if data.root else data_root() / "fashion_product"
    products = fashion_product.read_fashion_product(root)
    if data.min_label_count > 1:
        products = fashion_product.mask_rare(products, data.min_label_count)
    notes: dict[str, Any] = {f"rows dropped: {reason}": count for reason, count in products.dropped.items() if count}
    if data.split == "years":
        parts = fashion_product.split_by_year(products, data.validation, data.split_seed)
        train, val, test = parts.train, parts.validation, parts.test
        title = "fashion-product test (odd years)"
        if len(parts.left_out):
            notes["rows of no year, left out"] = len(parts.left_out)
    else:
        labels = products.labels["articleType"]
        rest, test = fashion_product.split_stratified(labels, _TEST_SHARE, data.split_seed)
        kept, held = fashion_product.split_stratified(labels[rest], data.validation, data.split_seed)
        train, val, title = rest[kept], rest[held], "fashion-product test (stratified fifth)"
    for group in data.label_groups:
        if untrained := fashion_product.never_trained(products, train, test, group):
            notes[f"{group} that no training picture has"] = list(untrained)
    cut = _whole(data, input_px, cache, products.pictures, products.names, products.labels)
    return Source(
        fashion_product.schema(products, data.label_groups),
        [(cut(train), 1)],
        cut(val),
        lambda: iter([(title, cut(test))]),
        fashion_product.LICENCE,
        {"input": {"resize": data.resize}},
        notes,
    )


def _flixstock(data: TrainData, input_px: int, cache: Path) -> Source:
    root = Path(data.root) if data.root else data_root() / "flixstock"
    garments = flixstock.read_flixstock(root, data.missing)
    rest, test = flixstock.split_random(len(garments), _TEST_SHARE, data.split_seed)
    kept, held = flixstock.split_random(len(rest), data.validation, data.split_seed)
    cut = _whole(data, input_px, cache, garments.pictures, garments.names, garments.labels)
    return Source(
        LabelSchema(tuple(g for g in garments.schema.groups if g.name in data.label_groups)),
        [(cut(rest[kept]), 1)],
        cut(rest[held]),
        lambda: iter([("flixstock test (random fifth)", cut(test))]),
        flixstock.LICENCE,
        {"input": {"resize": data.resize}},
        {f"rows dropped: {reason}": count for reason, count in garments.dropped.items() if count},
    )


def _whole(
    data: TrainData,
    input_px: int,
    cache: Path,
    pictures: Path,
    names: Sequence[str],
    labels: Mapping[str, npt.NDArray[np.int64]],
) -> Callable[[npt.NDArray[np.int64]], Examples]:
    """Return what cuts some rows of a data set of whole pictures."""

    def cut(rows: npt.NDArray[np.int64]) -> Examples:
        rows = rows[: data.limit]
        with Progress(len(rows), "pictures", f"cut {pictures.parent.name}") as progress:
            return whole_picture_examples(
                pictures,
                [names[row] for row in rows],
                {group: labels[group][rows] for group in data.label_groups},
                input_px=input_px,
                mode=data.resize,
                cache=cache,
                workers=usable_cores(),
                progress=progress.update,
            )

    return cut


_SOURCES: dict[str, Callable[[TrainData, int, Path], Source]] = {
    "celeba": _celeba,
    "fashion-mnist": _fashion_mnist,
    "fashion-product": _fashion_product,
    "flixstock": _flixstock,
}
