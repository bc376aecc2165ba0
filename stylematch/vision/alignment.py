"""Whether the pictures of a CelebA folder are face crops, as they are taken for, or whole photos; how large they are.

In face crops the eyes lie where ``stylematch.vision.crops`` expects them: on 300 pictures each, their middle is in the
median 0.01 (the local split) and 0.03 of the side (official pictures) from there, in whole photos 0.23 and 0.26.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stylematch.data.celeba import CelebaFolder, read_celeba
from stylematch.data.decode import read_header
from stylematch.errors import PhotoRejectedError, UserError
from stylematch.tables.shown import shown
from stylematch.vision.crops import EYE_IN_BOX, EYE_LINE, square_in_aligned

logger = logging.getLogger(__name__)
_LOOKED_AT = 200  # pictures, evenly over the folder
_FAR = 0.12  # of the side
_SLACK, _OWN_PIXELS_SHARE = 1.05, 0.9  # so many boxes lie in their own picture, some over its edge
_ENOUGH = 3  # pictures whose eyes are known
_UNEQUAL = 1.25  # by how much both sides vary among whole photos; CelebA's crops all have one width


def check_face_crops(root: Path) -> None:
    """Look whether a folder's pictures can be the face crops that they are about to be taken for.

    Parameters
    ----------
    root : pathlib.Path
        A folder in CelebA's layout.

    Raises
    ------
    UserError
        If the labelled eyes (or, without them, the labelled faces' boxes) are elsewhere than in face crops. Where
        neither is known, pictures of all sizes are a warning.
    """
    folder = read_celeba(root)
    rows, sizes = _sizes(folder)
    if not len(rows):
        return
    eyes = _eyes_px(folder, rows, sizes)
    known = np.isfinite(eyes).all(1)
    if known.sum() >= _ENOUGH:
        squares = [square_in_aligned(width, height) for width, height in sizes[known].tolist()]
        places = np.array([square.place(point) for square, point in zip(squares, eyes[known], strict=True)])
        away = float(np.median(np.hypot(places[:, 0] - 0.5, places[:, 1] - EYE_LINE)))
        if away > _FAR:
            raise UserError(
                f"The pictures in {shown(folder.pictures)} are whole photos, not face crops: by the labels, the eyes "
                f"of half of {known.sum()} are {away:.2f} of the side or more from where crops have them. Measure "
                "them with --faces find."
            )
        return
    low, high = np.quantile(sizes, (0.1, 0.9), axis=0)
    if len(sizes) >= _ENOUGH and (high > _UNEQUAL * low).all():
        logger.warning(
            "the pictures in %s have many sizes, as whole photos have, and are taken for face crops; if they are whole "
            "photos, measure them with --faces find",
            shown(folder.pictures),
        )


def largest_crop_px(folder: CelebaFolder) -> int | None:
    """Return the side in pixels of the largest crop of some pictures that are face crops; None where none is there."""
    _, sizes = _sizes(folder)
    return max((int(square_in_aligned(width, height).side) for width, height in sizes.tolist()), default=None)


def _sizes(folder: CelebaFolder) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return some rows whose picture can be read, and the pictures' widths and heights (n, 2)."""
    count = len(folder.image_ids)
    rows, sizes = [], []
    for row in np.unique(np.linspace(0, count - 1, min(count, _LOOKED_AT)).astype(int)).tolist():
        picture = folder.pictures / folder.image_ids[row]
        if not picture.is_file():  # a FIFO would be waited for
            continue
        try:
            header = read_header(picture.read_bytes())
        except (OSError, PhotoRejectedError):
            continue
        rows.append(row)
        sizes.append((header.width, header.height))
    return np.array(rows, np.int64), np.array(sizes, np.int64).reshape(-1, 2)


def _eyes_px(
    folder: CelebaFolder, rows: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return the middle between the eyes (n, 2), by their points or else by the boxes; NaN where it is unknown."""
    points = folder.landmark_centres_px[rows].astype(np.float64).reshape(len(rows), -1, 2)
    eyes = points[:, :2].mean(1)
    if np.isfinite(eyes).any():
        return eyes
    x, y, width, height = folder.boxes_px[rows].astype(np.float64).T
    known = np.isfinite(x)
    within = ((x + width <= _SLACK * sizes[:, 0]) & (y + height <= _SLACK * sizes[:, 1]))[known]
    # Official boxes of aligned pictures are in the pixels of the photos that these were cut from.
    if within.sum() < _OWN_PIXELS_SHARE * known.sum():
        return np.full((len(rows), 2), np.nan)
    return np.stack([x + width / 2, y + EYE_IN_BOX * height], 1)
