"""What a picture's mirror image says of the picture itself: labels do not depend on the side, points change theirs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# How names of points change in a mirror: what is left becomes right, and so do the corners of a box.
_SIDES = {"left": "right", "right": "left", "x_1": "x_2", "x_2": "x_1"}


def mirrored(labels: Sequence[str]) -> list[int]:
    """Return for each coordinate which one takes its place in a mirror.

    Parameters
    ----------
    labels : sequence of str
        Names such as ``lefteye_x`` or ``x_1``.
    """
    places = {label: place for place, label in enumerate(labels)}

    def partner(label: str) -> str:
        return next((label.replace(old, new, 1) for old, new in _SIDES.items() if old in label), label)

    return [places.get(partner(label), place) for place, label in enumerate(labels)]


def mirrored_back(points: Tensor, partners: Sequence[int]) -> Tensor:
    """Return where points that were found in mirror images lie in the pictures.

    Parameters
    ----------
    points : Tensor of float, shape (n, width)
        In units of the picture's side, x before y.
    partners : sequence of int
        From ``mirrored``.
    """
    places = points.unflatten(1, (-1, 2))
    there = torch.stack([1 - places[..., 0], places[..., 1]], 2).flatten(1)
    return torch.stack([there[:, partner] for partner in partners], 1)  # an index would be copied to the device
