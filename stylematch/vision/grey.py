"""Colour to the grey that models of one channel see."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image


def grey(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the luma (ITU-R 601) of RGB pixels (h, w, 3) as uint8 (h, w); grey ones (h, w, 1) as they are."""
    if pixels.shape[2] == 1:
        return pixels[..., 0]
    return np.asarray(Image.fromarray(pixels).convert("L"))
