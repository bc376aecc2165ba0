"""From a catalogue picture's bytes to what the garment encoder sees of it.

Where a person shows the clothes, the torso below the face is cut out as it is from photos of people; else the garment
is trimmed as in a shop picture. So worn clothes meet worn clothes where the catalogue has such pictures. A model that
learned from whole pictures sees them whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from stylematch.data.decode import DecodedPhoto, decode_photo
from stylematch.vision.face_reader import FINDER_SIDE_PX
from stylematch.vision.faces import YunetLocator
from stylematch.vision.garments import cut_garment, cut_torso
from stylematch.vision.grey import grey
from stylematch.vision.whole_pictures import read_whole

Shown = Literal["torso", "garment"]
Pixels = npt.NDArray[np.uint8]
_MAX_MEGAPIXELS = 200.0  # a catalogue's pictures that claim more are rejected
_FACE_SIDE_PX = 224  # one look: a face that is smaller in a shop picture has no torso worth a look


@dataclass(frozen=True)
class ItemPicture:
    """One item's picture.

    Attributes
    ----------
    photo : DecodedPhoto
        The picture, upright.
    crop : ndarray of uint8, shape (input_px, input_px, channels)
        What the model sees.
    shown : {"torso", "garment"}
        How it was cut.
    """

    photo: DecodedPhoto
    crop: Pixels
    shown: Shown


class ItemPictureReader:
    """Reads catalogue pictures for a bundle.

    Parameters
    ----------
    input_px, channels : int
        Of the model's input.
    torsos : bool
        Whether the model knows worn clothes (``sees_clothes``).
    resize : {"garment", "squash", "pad"}
        How the model learned to see a picture (``resize_of``).
    """

    def __init__(self, input_px: int, channels: int, *, torsos: bool, resize: str = "garment") -> None:
        self._input_px, self._channels, self._resize = input_px, channels, resize
        self._locator = YunetLocator(sides_px=(_FACE_SIDE_PX,)) if torsos else None

    def read(self, data: bytes, *, may_be_worn: bool = True) -> ItemPicture:
        """Read one picture.

        Parameters
        ----------
        data : bytes
            The file.
        may_be_worn : bool
            False for what is no clothing of the torso, whatever the person in the picture wears.

        Raises
        ------
        PhotoRejectedError
            If the bytes are no picture that can be decoded, or claim too many pixels.
        """
        photo = decode_photo(data, max_side_px=FINDER_SIDE_PX, max_megapixels=_MAX_MEGAPIXELS)
        faces = self._locator.locate(photo).boxes if self._locator is not None and may_be_worn else ()
        torso = cut_torso(photo, faces[0], self._input_px) if faces else None
        if self._resize != "garment":
            crop = read_whole(data, self._input_px, self._resize)
        else:
            crop = cut_garment(photo.pixels, self._input_px) if torso is None else torso
        if self._channels == 1:
            crop = grey(crop)[..., None]
        return ItemPicture(photo, crop, "garment" if torso is None else "torso")
