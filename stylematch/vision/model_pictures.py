"""From a photo's bytes to what a bundle's model takes: the crops of its faces, or the whole picture.

A bundle that states its crop (``side_per_box`` in ``bundle.json``) learned from faces; any other learned from whole
pictures, resized as its ``input.resize`` says, in colour or in grey.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from stylematch.data.decode import DecodedPhoto
from stylematch.errors import UserError
from stylematch.vision.bundle import Bundle
from stylematch.vision.face_reader import FaceReader
from stylematch.vision.faces import FaceBox
from stylematch.vision.garments import garment_square
from stylematch.vision.grey import grey
from stylematch.vision.whole_pictures import MODES, decode_whole, resize_whole


@dataclass(frozen=True, eq=False)
class ModelPictures:
    """What one photo gives a model: n pictures.

    Attributes
    ----------
    photo : DecodedPhoto
        The upright photo, as large as it was needed.
    crops : ndarray of uint8, shape (n, input_px, input_px, channels)
        What the model sees.
    areas_px : ndarray of float64, shape (n, 4)
        Left, top, width and height of what each crop shows, in pixels of the full-size photo.
    boxes : tuple of FaceBox, or None
        The faces, largest first; None where the crop is the whole picture.
    too_small : int
        Faces left out for their size.
    """

    photo: DecodedPhoto
    crops: npt.NDArray[np.uint8]
    areas_px: npt.NDArray[np.float64]
    boxes: tuple[FaceBox, ...] | None
    too_small: int = 0

    def without_pixels(self) -> ModelPictures:
        """Return the same, less the photo's pixels, to wait in a batch."""
        return replace(self, photo=replace(self.photo, pixels=np.empty((0, 0, 3), np.uint8)))


class PictureReader(Protocol):
    """Anything that makes a model's pictures of a photo."""

    def read(self, data: bytes) -> ModelPictures:
        """Read one photo; raises ``PhotoRejectedError`` if it cannot be decoded."""
        ...


def takes_faces(bundle: Bundle) -> bool:
    """Say whether a bundle's model takes crops of faces."""
    crop = bundle.description.get("crop")
    return isinstance(crop, dict) and "side_per_box" in crop


class FacePictures:
    """The crops of a photo's faces; see ``FaceReader`` for the parameters."""

    def __init__(self, mode: str, input_px: int, *, min_face_px: int, max_megapixels: float) -> None:
        self._reader = FaceReader(mode, input_px, min_face_px=min_face_px, max_megapixels=max_megapixels)

    def read(self, data: bytes) -> ModelPictures:
        """Read one photo; raises ``PhotoRejectedError`` if it cannot be decoded."""
        faces = self._reader.read(data)
        areas = np.array([(s.x, s.y, s.side, s.side) for s in faces.squares], np.float64).reshape(-1, 4)
        return ModelPictures(faces.photo, faces.crops, areas, faces.boxes, faces.too_small)


class WholePictures:
    """The whole picture, resized as the bundle's model learned it.

    Parameters
    ----------
    bundle : Bundle
        The model, of one channel (grey, ITU-R 601 luma) or three (RGB).
    invert : bool
        Swap dark and light: Fashion-MNIST's garments are light on black.
    max_megapixels : float
        Photos that claim more are rejected.

    Raises
    ------
    UserError
        If the bundle names a way of resizing that is unknown here.
    """

    def __init__(self, bundle: Bundle, *, invert: bool, max_megapixels: float) -> None:
        self._side_px, self._channels = bundle.input_px, bundle.channels
        self._mode = str(bundle.description["input"].get("resize", "squash"))
        if self._mode not in MODES:
            raise UserError(
                f"{bundle.name} resizes its pictures by '{self._mode}', this version knows {', '.join(MODES)}: "
                "install the version that wrote the bundle."
            )
        self._invert, self._max_megapixels = invert, max_megapixels

    def read(self, data: bytes) -> ModelPictures:
        """Read one photo; raises ``PhotoRejectedError`` if it cannot be decoded."""
        photo = decode_whole(data, self._side_px, self._mode, max_megapixels=self._max_megapixels)
        pixels = resize_whole(photo.pixels, self._side_px, self._mode)
        if self._channels == 1:
            pixels = grey(pixels)[..., None]
        if self._invert:
            pixels = 255 - pixels
        return ModelPictures(photo, pixels[None], np.array([self._area(photo)]), None)

    def _area(self, photo: DecodedPhoto) -> tuple[float, float, float, float]:
        """Return what the model sees, as left, top, width and height: the photo, or a square."""
        if self._mode == "squash":
            return 0.0, 0.0, float(photo.width), float(photo.height)
        if self._mode == "garment":
            square, _ = garment_square(photo.pixels)
            scale = photo.width / photo.pixels.shape[1]
            return square.x * scale, square.y * scale, square.side * scale, square.side * scale
        side = float(max(photo.width, photo.height))
        return (photo.width - side) / 2, (photo.height - side) / 2, side, side


def picture_reader(
    bundle: Bundle, *, faces: str | None, invert: bool, min_face_px: int, max_megapixels: float
) -> PictureReader:
    """Return the reader that a bundle's model needs.

    Parameters
    ----------
    bundle : Bundle
        The model.
    faces : {"find", "aligned"}, optional
        For a model of faces: search for them (the default), or take every picture for a face crop.
    invert : bool
        For a model of grey pictures: swap dark and light.
    min_face_px, max_megapixels
        As in ``FaceReader``.

    Raises
    ------
    UserError
        If an option has no meaning for the model.
    """
    name = bundle.name
    if invert and bundle.channels != 1:
        raise UserError(f"--invert is for models of grey pictures; {name} takes colour: leave it out.")
    if takes_faces(bundle):
        return FacePictures(faces or "find", bundle.input_px, min_face_px=min_face_px, max_megapixels=max_megapixels)
    if faces is not None:
        raise UserError(f"--faces has no meaning for {name}, which takes whole pictures: leave it out.")
    return WholePictures(bundle, invert=invert, max_megapixels=max_megapixels)
