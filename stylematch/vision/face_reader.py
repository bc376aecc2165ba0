"""From a photo's bytes to its faces' crops: decode, locate, place, cut. Scoring sees photos only this way.

A photo is decoded at least ``FINDER_SIDE_PX`` large, which is all that the face finder looks at. Only where a
face is so small in it that its crop would have to be enlarged is the photo decoded again, as large as that
face needs.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stylematch.data.decode import DecodedPhoto, decode_photo
from stylematch.vision.crops import Square, cut, square_around_box, square_in_aligned
from stylematch.vision.faces import AlignedLocator, FaceBox, FaceLocator, Located, YunetLocator

FINDER_SIDE_PX = 640
Timed = Callable[[str], AbstractContextManager[object]]
"""Given a stage's name: a block that is timed as that stage."""


def untimed(_: str) -> AbstractContextManager[object]:
    """Time nothing."""
    return nullcontext()


@dataclass(frozen=True)
class PhotoFaces:
    """The faces of one photo.

    Attributes
    ----------
    photo : DecodedPhoto
        The upright photo, as large as the face finder needed it.
    boxes : tuple of FaceBox
        Largest first, f of them, in pixels of the full-size photo.
    squares : tuple of Square
        Where each crop lies, in the same pixels.
    crops : ndarray of uint8, shape (f, input_px, input_px, 3)
        What the attribute model sees.
    too_small : int
        Faces left out for their size.
    """

    photo: DecodedPhoto
    boxes: tuple[FaceBox, ...]
    squares: tuple[Square, ...]
    crops: npt.NDArray[np.uint8]
    too_small: int


class FaceReader:
    """Reads photos.

    Parameters
    ----------
    mode : {"find", "aligned"}
        Search for faces, or take every picture for a face crop such as CelebA's.
    input_px : int
        Side of the crops.
    min_face_px : int
        Smallest face that counts, when faces are searched.
    max_megapixels : float
        Photos that claim more are rejected.
    """

    def __init__(self, mode: str, input_px: int, *, min_face_px: int, max_megapixels: float) -> None:
        self.aligned = mode == "aligned"
        self.input_px = input_px
        self.max_megapixels = max_megapixels
        self._locator: FaceLocator = AlignedLocator() if self.aligned else YunetLocator(min_face_px)

    def read(self, data: bytes, timed: Timed = untimed) -> PhotoFaces:
        """Read one photo.

        Parameters
        ----------
        data : bytes
            The file.
        timed : callable
            Told the stages "decode", "find faces" and "cut" as they run.

        Raises
        ------
        PhotoRejectedError
            If the bytes are no picture that can be decoded.
        """
        with timed("decode"):
            photo = self.decode(data)
        with timed("find faces"):
            located = self.locate(photo)
        with timed("cut"):
            return self.cut(data, photo, located)

    def decode(self, data: bytes) -> DecodedPhoto:
        """Decode a photo as large as the face finder needs it."""
        return decode_photo(data, max_side_px=FINDER_SIDE_PX, max_megapixels=self.max_megapixels)

    def locate(self, photo: DecodedPhoto) -> Located:
        """Find the faces of a decoded photo."""
        return self._locator.locate(photo)

    def cut(self, data: bytes, photo: DecodedPhoto, located: Located) -> PhotoFaces:
        """Cut the crops of faces that were found."""
        squares = tuple(self._square(box, photo) for box in located.boxes)
        large = self._large_enough(data, photo, squares)
        crops = [cut(large.pixels, large.width, large.height, square, self.input_px) for square in squares]
        stacked = np.stack(crops) if crops else np.empty((0, self.input_px, self.input_px, 3), np.uint8)
        return PhotoFaces(photo, located.boxes, squares, stacked, located.too_small)

    def _square(self, box: FaceBox, photo: DecodedPhoto) -> Square:
        if self.aligned:
            return square_in_aligned(photo.width, photo.height)
        return square_around_box(box.x, box.y, box.width, box.height)

    def _large_enough(self, data: bytes, photo: DecodedPhoto, squares: tuple[Square, ...]) -> DecodedPhoto:
        if not squares:
            return photo
        wanted = min(1.0, self.input_px / min(square.side for square in squares))
        if photo.pixels.shape[1] >= wanted * photo.width:
            return photo
        side_px = int(np.ceil(wanted * max(photo.width, photo.height)))
        return decode_photo(data, max_side_px=side_px, max_megapixels=self.max_megapixels)
