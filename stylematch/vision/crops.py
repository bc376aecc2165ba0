"""The canonical face crop: one square, placed alike for training and scoring, whatever the picture.

Everything the attribute model sees is this square, resized to its input. It is placed in one of two ways:

- around a face finder's box, as wide as ``SIDE_PER_BOX`` times the geometric mean of the box's sides, with
  the eye line (``EYE_IN_BOX`` of the box's height) at ``EYE_LINE`` of the square;
- in a picture that is already a face crop (CelebA's), as the largest square, ``ALIGNED_TOP`` of the spare
  height above it.

The constants were fitted so that both agree: on 700 training pictures of the local CelebA split the eyes lie
at 0.382 of the finder's box height, 0.397 of its mean side apart, and 0.229 of the picture's width apart.

Where the square leaves the picture, the picture's edge is repeated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from stylematch.data.decode import four_channels, rgb_image_of, rgb_of

SIDE_PER_BOX = 1.734
EYE_IN_BOX = 0.382
EYE_LINE = 0.43
ALIGNED_TOP = 0.75
_NO_PART = 1e-6  # of a pixel: what is left of whole numbers after a few sums


@dataclass(frozen=True)
class Square:
    """A square in the pixels of the upright, full-size photo; it may leave the photo."""

    x: float
    y: float
    side: float

    def place(self, points_px: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Return points of the photo, shape (2 * points,), x before y, in units of this square: 0 to 1 within it."""
        origin = np.tile((self.x, self.y), len(points_px) // 2)
        return ((points_px - origin) / self.side).astype(np.float32)

    def grown(self, factor: float) -> Square:
        """Return the square with the same centre and ``factor`` times the side."""
        margin = self.side * (factor - 1) / 2
        return Square(self.x - margin, self.y - margin, self.side * factor)


def square_around_box(x: float, y: float, width: float, height: float) -> Square:
    """Place the crop around a face finder's box, all in pixels of the photo."""
    side = SIDE_PER_BOX * math.sqrt(width * height)
    return Square(x + width / 2 - side / 2, y + EYE_IN_BOX * height - EYE_LINE * side, side)


def square_in_aligned(width: int, height: int) -> Square:
    """Place the crop in a picture of ``width`` by ``height`` pixels that is itself a face crop."""
    side = float(min(width, height))
    return Square((width - side) / 2, max(height - side, 0.0) * ALIGNED_TOP, side)


def cut(
    pixels: npt.NDArray[np.uint8], photo_width: int, photo_height: int, square: Square, size_px: int
) -> npt.NDArray[np.uint8]:
    """Cut a square out of a photo and resize it, antialiased.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (h, w, 3)
        The upright photo, possibly decoded smaller than it is.
    photo_width, photo_height : int
        Its full size in pixels, in which ``square`` is given.
    square : Square
        What to cut.
    size_px : int
        Side of the result.

    Returns
    -------
    ndarray of uint8, shape (size_px, size_px, 3)
    """
    height, width = pixels.shape[:2]
    scale_x, scale_y = width / photo_width, height / photo_height
    left, right = square.x * scale_x, (square.x + square.side) * scale_x
    top, bottom = square.y * scale_y, (square.y + square.side) * scale_y
    # As decoded, a pixel is moved as one number of four bytes, and Pillow takes them as they are.
    four = four_channels(pixels)
    source: npt.NDArray[Any] = pixels if four is None else four.view(np.uint32)[..., 0]
    x, y = round(left), round(top)
    if max(abs(left - x), abs(top - y), abs(right - x - size_px), abs(bottom - y - size_px)) < _NO_PART:
        region = _edges_repeated(source, x, y, x + size_px, y + size_px)
        return region if four is None else rgb_of(region)  # resizing would change nothing
    # A margin of whole pixels around the square keeps the resampling filter from seeing the cut.
    margin = 2 + math.ceil(max(right - left, bottom - top) / size_px)
    x0, x1 = math.floor(left) - margin, math.ceil(right) + margin
    y0, y1 = math.floor(top) - margin, math.ceil(bottom) + margin
    region = _edges_repeated(source, x0, y0, x1, y1)
    box = (left - x0, top - y0, right - x0, bottom - y0)
    # Copied once, for three channels are resized a sixth faster than four, and then need not be told from the fourth.
    image = Image.fromarray(region) if four is None else rgb_image_of(region)
    return np.asarray(image.resize((size_px, size_px), Image.Resampling.BILINEAR, box=box, reducing_gap=None))


def _edges_repeated(source: npt.NDArray[Any], x0: int, y0: int, x1: int, y1: int) -> npt.NDArray[Any]:
    """Return columns x0 to x1 of rows y0 to y1, contiguous; outside the picture its nearest pixel is repeated."""
    height, width = source.shape[:2]
    if x0 >= 0 and y0 >= 0 and x1 <= width and y1 <= height:
        return np.ascontiguousarray(source[y0:y1, x0:x1])
    region = np.empty((y1 - y0, x1 - x0, *source.shape[2:]), source.dtype)
    (rows, top, bottom), (columns, left, right) = _within(y0, y1, height), _within(x0, x1, width)
    # One block and then its edges: gathering every pixel by its number takes twice as long.
    region[top:bottom, left:right] = source[rows, columns]
    region[top:bottom, :left] = region[top:bottom, left : left + 1]
    region[top:bottom, right:] = region[top:bottom, right - 1 : right]
    region[:top] = region[top]
    region[bottom:] = region[bottom - 1]
    return region


def _within(start: int, end: int, size: int) -> tuple[slice, int, int]:
    """Return what a side of the picture has of start to end, at least its nearest pixel, and where that lies there."""
    first, last = min(max(start, 0), size - 1), max(min(end, size), 1)
    place = min(max(first - start, 0), end - start - 1)
    return slice(first, last), place, place + last - first
