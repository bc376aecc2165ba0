"""Training examples: pictures cut once into one memory-mapped uint8 array, with their targets beside it.

Each picture is stored as the canonical crop with a margin (a *field*), so that training can shift, zoom and turn it
without meeting an edge, and evaluation takes exactly the middle. The array is written once per recipe into a
cache folder and reused as long as the recipe (data set, sizes, crop constants) is the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stylematch.data.celeba import CelebaFolder, corners_in_picture, read_celeba
from stylematch.data.decode import decode_photo
from stylematch.data.fashion_mnist import find_fashion_mnist, read_fashion_mnist
from stylematch.errors import PhotoRejectedError
from stylematch.vision import crops
from stylematch.vision.faces import FaceBox, FaceLocator, SlimefaceLocator

_MARGIN = 8  # the share of the input's side that a field is wider on every side: 1/8, in whole pixels
Targets = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Examples:
    """Pictures and targets, ready to learn from or to evaluate on.

    Attributes
    ----------
    ids : tuple of str
        File names or item ids, n of them.
    fields : ndarray of uint8, shape (n, field, field, channels)
        Crops with a margin around them (memory-mapped).
    targets : dict of str to ndarray
        By label group, as ``stylematch.data.labels`` describes.
    dropped : int
        Pictures of the source that gave no crop (missing, unreadable, no face found at the labelled place).
    """

    ids: tuple[str, ...]
    fields: npt.NDArray[np.uint8]
    targets: Targets
    dropped: int = 0

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.ids)

    def subset(self, rows: npt.NDArray[np.integer]) -> Examples:
        """Return only the given rows; the pictures of consecutive rows stay memory-mapped."""
        consecutive = len(rows) > 0 and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows)))
        fields = self.fields[rows[0] : rows[-1] + 1] if consecutive else self.fields[rows]
        return replace(
            self,
            ids=tuple(self.ids[row] for row in rows),
            fields=fields,
            targets={name: values[rows] for name, values in self.targets.items()},
        )

    def in_channels(self, channels: int) -> Examples:
        """Return grey pictures as pictures of ``channels`` equal ones, without copying them; others as they are."""
        if self.fields.shape[3] != 1:
            return self
        return replace(self, fields=np.broadcast_to(self.fields, (*self.fields.shape[:3], channels)))

    def crops(self, size_px: int) -> npt.NDArray[np.uint8]:
        """Return the middle ``size_px`` square of every field: what the model sees without augmentation."""
        start = (self.fields.shape[1] - size_px) // 2
        return self.fields[:, start : start + size_px, start : start + size_px]


def joined(parts: Sequence[Examples]) -> Examples:
    """Return examples of several sources as one, with copies of their pictures."""
    return Examples(
        ids=tuple(name for part in parts for name in part.ids),
        fields=np.concatenate([part.fields for part in parts]),
        targets={name: np.concatenate([part.targets[name] for part in parts]) for name in parts[0].targets},
        dropped=sum(part.dropped for part in parts),
    )


def field_px(input_px: int) -> int:
    """Return the side of what is stored for an input of ``input_px``: an eighth wider on every side."""
    return input_px + 2 * -(-input_px // _MARGIN)


def celeba_examples(
    root: Path,
    split: int | None,
    *,
    input_px: int,
    cache: Path,
    wild: bool = False,
    limit: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Examples:
    """Cut one split of a CelebA folder.

    Parameters
    ----------
    root : pathlib.Path
        A folder in CelebA's layout.
    split : int, optional
        0 train, 1 val, 2 test; None takes all.
    input_px : int
        Side of the model's input.
    cache : pathlib.Path
        Folder for the array.
    wild : bool
        Whole photos: the crop lies around what the face finder finds, where that meets the labelled face.
        Without it the pictures are face crops already.
    limit : int, optional
        Only the first so many pictures.
    progress : callable
        Told the number of pictures done, one by one.
    """
    folder = read_celeba(root)
    rows = np.arange(len(folder.image_ids)) if split is None else np.flatnonzero(folder.split == split)
    rows = rows[:limit]
    stored_px = field_px(input_px)
    ids = tuple(folder.image_ids[row] for row in rows)
    recipe = [str(root.resolve()), ids, stored_px, wild, stored_px / input_px, crops.SIDE_PER_BOX, crops.EYE_IN_BOX]
    recipe += [crops.EYE_LINE, crops.ALIGNED_TOP]
    digest = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]
    stored, placed = cache / f"celeba-{digest}.npy", cache / f"celeba-{digest}-squares.npy"
    if not placed.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        locator: FaceLocator | None = SlimefaceLocator() if wild else None
        fields = np.lib.format.open_memmap(stored, "w+", np.uint8, (len(rows), stored_px, stored_px, 3))
        squares = np.full((len(rows), 3), np.nan)
        for position, row in enumerate(rows):
            square = _cut_one(folder, int(row), locator, stored_px / input_px, fields[position])
            if square is not None:
                squares[position] = (square.x, square.y, square.side)
            progress(1)
        fields.flush()
        # This file says that the array is whole, so it appears whole or not at all.
        np.save(unfinished := placed.with_suffix(".part.npy"), squares, allow_pickle=False)
        unfinished.replace(placed)
    fields = np.load(stored, mmap_mode="r", allow_pickle=False)
    squares = np.load(placed, allow_pickle=False)

    def placed_in_crop(points_px: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        origin = np.tile(squares[:, :2], points_px.shape[1] // 2)
        return ((points_px - origin) / squares[:, 2:3]).astype(np.float32)

    examples = Examples(
        ids=ids,
        fields=fields,
        targets={
            "attributes": folder.attributes[rows],
            "landmarks": placed_in_crop(folder.landmarks_px[rows]),
            "box": placed_in_crop(corners_in_picture(folder)[rows]),
        },
    )
    usable = np.flatnonzero(np.isfinite(squares[:, 0]))
    return replace(examples.subset(usable), dropped=len(rows) - len(usable)) if len(usable) < len(rows) else examples


def fashion_mnist_examples(root: Path | None, split: str, *, limit: int | None = None) -> Examples:
    """Return one split of Fashion-MNIST; a field is the 28x28 picture in a black margin."""
    items = read_fashion_mnist(find_fashion_mnist(root), split)
    margin = (field_px(28) - 28) // 2
    fields = np.pad(items.pictures[:limit], ((0, 0), (margin, margin), (margin, margin)))[..., None]
    return Examples(items.item_ids[:limit], fields, {"category": items.labels[:limit]})


def _cut_one(
    folder: CelebaFolder, row: int, locator: FaceLocator | None, growth: float, out: npt.NDArray[np.uint8]
) -> crops.Square | None:
    """Write one field into ``out`` and return the crop's square, or None where there is no face to be had."""
    try:
        data = (folder.pictures / folder.image_ids[row]).read_bytes()
        photo = decode_photo(data, max_side_px=None, max_megapixels=100)
    except (OSError, PhotoRejectedError):
        return None
    if locator is None:
        square = crops.square_in_aligned(photo.width, photo.height)
    else:
        x, y, width, height = (float(value) for value in folder.boxes_px[row])
        labelled = FaceBox(x, y, width, height, 1.0)
        met = [box for box in locator.locate(photo).boxes if box.overlap(labelled) > 0.3]
        if not met:
            return None
        best = max(met, key=lambda box: box.overlap(labelled))
        square = crops.square_around_box(best.x, best.y, best.width, best.height)
    out[:] = crops.cut(photo.pixels, photo.width, photo.height, square.grown(growth), out.shape[0])
    return square
