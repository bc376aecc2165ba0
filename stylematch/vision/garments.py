"""Pictures of garments as the garment encoder sees them: one space for shop pictures, worn clothes and Fashion-MNIST.

Fashion-MNIST was made from shop pictures by trimming their white border, squaring them and negating them, so that a
garment is light on black. Other pictures are treated alike: a shop picture is trimmed to what stands out from its
even border; in a picture of a person, the torso is cut out below the face; then dark and light are swapped.

Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST", arXiv:1708.07747, figure 1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stylematch.data.decode import DecodedPhoto
from stylematch.vision.crops import Square, cut
from stylematch.vision.faces import FaceBox

_EVEN_SHARE, _EVEN_LEVELS = 0.8, 20
_STANDS_OUT_LEVELS = 24
# An even border is the ground; of another one the most may be a black garment's, which no camera sees as fully black.
_BLACK_LEVEL, _FULLY_BLACK_LEVEL = 48, 8
# Measured from the face box, in its heights: a torso begins under the chin, and its square is so wide.
_TORSO_TOP, _TORSO_SIDE = 1.05, 2.4
TORSO_VISIBLE = 0.5
"""The share of a torso's square that has to lie within the photo, for its clothes to be looked at."""

Pixels = npt.NDArray[np.uint8]


def garment_square(pixels: Pixels) -> tuple[Square, bool]:
    """Find the garment in a shop picture.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (h, w, 3)
        The picture.

    Returns
    -------
    square : Square
        Around what stands out from an even border; around the whole picture where the border is not even.
    negated : bool
        Whether the border is black, so that light and dark are as in Fashion-MNIST already. Of one that is not even
        most has to be fully black: a garment that fills its picture touches it, as in 7 % of Fashion-MNIST's own.
    """
    height, width = pixels.shape[:2]
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).astype(np.int16)
    ground = np.median(border, axis=0)
    left, top, right, bottom = 0, 0, width, height
    even = (np.abs(border - ground).max(axis=1) <= _EVEN_LEVELS).mean() >= _EVEN_SHARE
    if even:
        stands_out = np.abs(pixels - ground).max(axis=2) > _STANDS_OUT_LEVELS
        rows, columns = np.flatnonzero(stands_out.any(axis=1)), np.flatnonzero(stands_out.any(axis=0))
        if len(rows):
            left, top, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    side = float(max(right - left, bottom - top))
    negated = bool(ground.max() <= (_BLACK_LEVEL if even else _FULLY_BLACK_LEVEL))
    return Square((left + right - side) / 2, (top + bottom - side) / 2, side), negated


def torso_square(face: FaceBox, width: int, height: int) -> Square | None:
    """Place the square of the clothes below a face, in a photo of ``width`` by ``height`` pixels.

    Returns
    -------
    Square or None
        None where less than ``TORSO_VISIBLE`` of it lies within the photo.
    """
    side = _TORSO_SIDE * face.height
    square = Square(face.x + face.width / 2 - side / 2, face.y + _TORSO_TOP * face.height, side)
    inside_x = min(square.x + side, width) - max(square.x, 0.0)
    inside_y = min(square.y + side, height) - max(square.y, 0.0)
    visible = max(inside_x, 0.0) * max(inside_y, 0.0) / side**2
    return square if visible >= TORSO_VISIBLE else None


def cut_garment(pixels: Pixels, size_px: int, growth: float = 1.0) -> Pixels:
    """Cut the garment out of a shop picture.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (h, w, 3)
        The picture.
    size_px : int
        Side of the result.
    growth : float
        How much wider than the garment's square, for training.

    Returns
    -------
    ndarray of uint8, shape (size_px, size_px, 3)
        Negated, as Fashion-MNIST is.
    """
    square, negated = garment_square(pixels)
    garment = cut(pixels, pixels.shape[1], pixels.shape[0], square.grown(growth), size_px)
    return garment if negated else 255 - garment


def cut_torso(photo: DecodedPhoto, face: FaceBox, size_px: int, growth: float = 1.0) -> Pixels | None:
    """Cut the clothes below a face out of a photo.

    Parameters
    ----------
    photo : DecodedPhoto
        The photo.
    face : FaceBox
        Whose clothes.
    size_px, growth
        As in ``cut_garment``.

    Returns
    -------
    ndarray of uint8, shape (size_px, size_px, 3), or None
        Negated, as Fashion-MNIST is; None where too little of them shows.
    """
    square = torso_square(face, photo.width, photo.height)
    if square is None:
        return None
    return 255 - cut(photo.pixels, photo.width, photo.height, square.grown(growth), size_px)
