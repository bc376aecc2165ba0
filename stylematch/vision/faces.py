"""Locate faces in decoded photos, in pixels of the upright full-size photo, largest face first.

``YunetLocator`` looks at the whole photo small first, because time grows with the area: a side of 192 px takes 0.6 ms
a photo, 640 px 6 ms. It stops at a size where it is confident of exactly one face and suspects no other. Where it finds
none, or several, or suspects one more, it looks again at the next size and joins what all found: 20 of 600 wild photos.

``AlignedLocator`` is for pictures that are face crops already, such as CelebA's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stylematch.data.decode import DecodedPhoto
from stylematch.vision.yunet import find_faces

_MAX_UPSCALE = 2.0
_SAME_FACE_IOU = 0.4
_LABELLED_OVERLAP = 0.3


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


class YunetLocator:
    """Finds faces with YuNet; one call uses one thread.

    Parameters
    ----------
    min_face_px : int
        Shorter side, in pixels of the full-size photo, under which a face is only counted.
    sides_px : sequence of int
        The larger side of the picture that the finder sees, in the order tried. Photos should be decoded to
        at least the last one. Small photos are enlarged at most twice.
    min_confidence : float
        Confidence, 0.5 to 1, under which a find is no face; the less confident only call for a larger look.
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
        scale_x, scale_y = photo.width / size[0], photo.height / size[1]
        boxes = (
            _inside((x * scale_x, y * scale_y, width * scale_x, height * scale_y), photo, confidence)
            for confidence, x, y, width, height in find_faces(np.asarray(photo.seen_at(size)))
        )
        return [box for box in boxes if box is not None]


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
