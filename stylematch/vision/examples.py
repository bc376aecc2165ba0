"""Training examples: pictures cut once into one memory-mapped uint8 array, with their targets beside it.

Each picture is stored as its canonical crop or, for a training that shifts, zooms or turns it without meeting an edge,
with a margin around that (a *field*). Crops that have fewer pixels than a model takes may be stored so, and are
enlarged in batches, on the device that trains. The array is written once per recipe into a cache folder
(``stylematch.vision.cut_cache``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stylematch.data.celeba import CelebaFolder, corners_in_picture, read_celeba
from stylematch.data.decode import decode_photo
from stylematch.data.fashion_mnist import find_fashion_mnist, read_fashion_mnist
from stylematch.errors import PhotoRejectedError
from stylematch.vision import crops
from stylematch.vision.cut_cache import Cut, cut_once
from stylematch.vision.faces import FaceBox, YunetLocator, labelled_face
from stylematch.vision.grey import grey

_VERSION = 2  # raised with every change of what is cut
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
        Crops, perhaps with a margin around them (memory-mapped).
    targets : dict of str to ndarray
        By label group, as ``stylematch.data.labels`` describes.
    crop_px : int
        Side of the crop in the middle of a field; where it is not the model's input, it is enlarged for that.
    dropped : int
        Pictures of the source that gave no crop (missing, unreadable, no face found at the labelled place).
    unknown : dict of str to int
        By label group, labels that the data give and the model does not know.
    points_source : str
        Whose the points are, as the data set says; empty where that is unknown.
    """

    ids: tuple[str, ...]
    fields: npt.NDArray[np.uint8]
    targets: Targets
    crop_px: int
    dropped: int = 0
    unknown: dict[str, int] = field(default_factory=dict)
    points_source: str = ""

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.ids)

    def subset(self, rows: npt.NDArray[np.integer]) -> Examples:
        """Return only some rows, shape (m,), in their order; the pictures of consecutive rows stay memory-mapped."""
        consecutive = len(rows) > 0 and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows)))
        fields = self.fields[rows[0] : rows[-1] + 1] if consecutive else self.fields[rows]
        return replace(
            self,
            ids=tuple(self.ids[row] for row in rows),
            fields=fields,
            targets={name: values[rows] for name, values in self.targets.items()},
        )

    def in_channels(self, channels: int) -> Examples:
        """Return grey pictures as ``channels`` equal ones, without copying them; coloured ones as grey where asked."""
        if self.fields.shape[3] == channels:
            return self
        if channels == 1:
            return replace(self, fields=np.stack([grey(picture) for picture in self.fields])[..., None])
        return replace(self, fields=np.broadcast_to(self.fields, (*self.fields.shape[:3], channels)))

    def crops(self) -> npt.NDArray[np.uint8]:
        """Return what the model sees without augmentation, shape (n, crop_px, crop_px, channels)."""
        return self.fields[middle(self.fields.shape[1], self.crop_px)]


def joined(parts: Sequence[Examples]) -> Examples:
    """Return examples of several sources as one, with copies of their pictures."""
    return Examples(
        ids=tuple(name for part in parts for name in part.ids),
        fields=np.concatenate([part.fields for part in parts]),
        targets={name: np.concatenate([part.targets[name] for part in parts]) for name in parts[0].targets},
        crop_px=parts[0].crop_px,
        dropped=sum(part.dropped for part in parts),
        points_source=parts[0].points_source if len({part.points_source for part in parts}) == 1 else "",
    )


def field_px(input_px: int) -> int:
    """Return the side of crops of ``input_px`` with their margins: an eighth wider on every side."""
    return input_px + 2 * -(-input_px // _MARGIN)


def middle(side_px: int, crop_px: int) -> tuple[slice, slice, slice]:
    """Return the index of the crops in the middles of fields, shape (n, side, side, channels)."""
    start = (side_px - crop_px) // 2
    return slice(None), slice(start, start + crop_px), slice(start, start + crop_px)


def celeba_examples(
    root: Path,
    split: int | None,
    *,
    input_px: int,
    crop_px: int | None = None,
    margin: bool = False,
    cache: Path,
    wild: bool = False,
    limit: int | None = None,
    workers: int = 1,
    progress: Callable[[int], None] = lambda _: None,
    read: Callable[[Path], CelebaFolder] = read_celeba,
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
    crop_px : int, optional
        Side of the stored crops, where they are to be enlarged for the model.
    margin : bool
        Keep what lies around the crops, to move them in a training.
    cache : pathlib.Path
        Folder for the array.
    wild : bool
        Whole photos: the crop lies around what the face finder finds, where that meets the labelled face.
        Without it the pictures are face crops already.
    limit : int, optional
        Only the first so many pictures.
    workers : int
        Processes that decode; changes no result.
    progress : callable
        Told the number of pictures done, one by one.
    read : callable
        Reads the folder's labels; whoever takes several parts of one may have it remember them.
    """
    folder = read(root)
    rows = np.arange(len(folder.image_ids)) if split is None else np.flatnonzero(folder.split == split)
    rows = rows[:limit]
    crop_px = crop_px or input_px
    stored_px = field_px(crop_px) if margin else crop_px
    constants = [crops.SIDE_PER_BOX, crops.EYE_IN_BOX, crops.EYE_LINE, crops.ALIGNED_TOP]
    names = [folder.image_ids[row] for row in rows]
    files, boxes_px = [folder.pictures / name for name in names], folder.boxes_px[rows].tolist()
    cuts = cut_once(
        partial(_cut_one, wild, stored_px / crop_px, stored_px),
        [(file, tuple(box)) for file, box in zip(files, boxes_px, strict=True)],
        stored_px,
        files=files,
        cache=cache,
        name="celeba",
        recipe=[_VERSION, str(root.resolve()), names, crop_px, boxes_px if wild else None, *constants],
        workers=workers,
        progress=progress,
    )
    kept, squares = rows[cuts.rows], cuts.squares

    def placed_in_crop(points_px: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        origin = np.tile(squares[:, :2], points_px.shape[1] // 2)
        return ((points_px - origin) / squares[:, 2:3]).astype(np.float32)

    return Examples(
        ids=tuple(folder.image_ids[row] for row in kept),
        fields=cuts.fields,
        targets={
            "attributes": folder.attributes[kept],
            "landmarks": placed_in_crop(folder.landmark_centres_px[kept]),
            "box": placed_in_crop(corners_in_picture(folder)[kept]),
        },
        crop_px=crop_px,
        dropped=len(rows) - len(kept),
        points_source=folder.points_source,
    )


def fashion_mnist_examples(
    root: Path | None, split: str, *, margin: bool = False, limit: int | None = None
) -> Examples:
    """Return one split of Fashion-MNIST; a field is the 28x28 picture, in a margin that is black."""
    items = read_fashion_mnist(find_fashion_mnist(root), split)
    side_px = items.pictures.shape[1]
    width = (field_px(side_px) - side_px) // 2 if margin else 0
    fields = np.pad(items.pictures[:limit], ((0, 0), (width, width), (width, width)))[..., None]
    return Examples(items.item_ids[:limit], fields, {"category": items.labels[:limit]}, side_px)


def _cut_one(
    wild: bool, growth: float, stored_px: int, task: tuple[Path, tuple[float, float, float, float]]
) -> Cut | None:
    """Return a field and its crop's square, or None where there is no face to be had."""
    path, labelled = task
    if not path.is_file():  # a FIFO would be waited for
        return None
    try:
        photo = decode_photo(path.read_bytes(), max_side_px=None, max_megapixels=100)
    except (OSError, PhotoRejectedError):
        return None
    if wild:
        boxes = YunetLocator().locate(photo).boxes
        met = labelled_face(boxes, FaceBox(*labelled, 1.0))
        if met is None:
            return None
        best = boxes[met]
        square = crops.square_around_box(best.x, best.y, best.width, best.height)
    else:
        square = crops.square_in_aligned(photo.width, photo.height)
    return crops.cut(photo.pixels, photo.width, photo.height, square.grown(growth), stored_px), square
