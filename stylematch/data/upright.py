"""Turn pictures upright, as their EXIF orientation says."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

_TRANSPOSE_BY_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 where there is none or it cannot be read.

    TIFF and HEIF decoders turn the picture themselves and leave none behind.
    """
    try:
        # PngImageFile.getexif would decode all pixels of a picture whose size is not checked yet.
        exif = Image.Image.getexif(image)
        if behind_pixels := image.info.get("exif"):  # where loading met it only now; else this does nothing
            exif.load(behind_pixels)
        value = exif.get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1
    return value if value in _TRANSPOSE_BY_ORIENTATION else 1


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return the width and height that a picture has once it is upright."""
    return (size[1], size[0]) if orientation in _SIDEWAYS else size


def upright_image(image: Image.Image, orientation: int) -> Image.Image:
    """Turn an image upright; one that is so already is returned itself."""
    if orientation not in _TRANSPOSE_BY_ORIENTATION:
        return image
    return image.transpose(_TRANSPOSE_BY_ORIENTATION[orientation])


def upright_pixels(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Turn (h, w, 4) upright and return its view (h, w, 3)."""
    match orientation:
        case 2:
            pixels = pixels[:, ::-1]
        case 3:
            pixels = pixels[::-1, ::-1]
        case 4:
            pixels = pixels[::-1]
        case 5:
            pixels = pixels.swapaxes(0, 1)
        case 6:
            pixels = np.rot90(pixels, -1)
        case 7:
            pixels = pixels[::-1, ::-1].swapaxes(0, 1)
        case 8:
            pixels = np.rot90(pixels)
    return np.ascontiguousarray(pixels)[..., :3]
