"""Pictures of any mode as RGB: wide channels are scaled to 8 bits, transparency is put on white."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a picture of any mode as RGB; the very image where it is so already."""
    if image.mode.startswith("I") or image.mode == "F":
        return _from_wide(np.asarray(image)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_wide(values: npt.NDArray[np.generic]) -> Image.Image:
    """Scale one channel of 16 or 32 bits, integer or float, to 8 bits.

    Integers are read as 8-bit or 16-bit values where they fit, floats as 0 to 1 or 0 to 255; anything else is
    stretched from its least to its greatest value.
    """
    wide = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = float(wide.min()), float(wide.max())
    is_integer = np.issubdtype(values.dtype, np.integer)
    if values.dtype.itemsize == 2:
        scaled = wide / 257
    elif low >= 0 and high <= 1 and not is_integer:
        scaled = wide * 255
    elif low >= 0 and high <= 255:
        scaled = wide
    elif low >= 0 and high <= 65535 and is_integer:
        scaled = wide / 257
    else:
        scaled = (wide - low) * (255 / (high - low)) if high > low else wide * 0
    return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))
