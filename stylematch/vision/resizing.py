"""Batches of pictures at another size (torch), on whatever device they are."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def as_input(pixels: Tensor, side_px: int) -> Tensor:
    """Return uint8 pictures (n, side, side, channels) as a network of this input takes them: 0 to 1, channels first."""
    return resized(pixels.permute(0, 3, 1, 2).float() / 255.0, side_px)


def resized(pictures: Tensor, side_px: int) -> Tensor:
    """Return pictures, float (n, channels, side, side), at another side, antialiased; as they are where it is theirs.

    Enlarged ones are those of Pillow's bilinear filter, by which scoring enlarges, but not rounded to whole levels.
    """
    if pictures.shape[-1] == side_px:
        return pictures
    return functional.interpolate(pictures, (side_px, side_px), mode="bilinear", antialias=True)
