"""What a picture's mirror image says of the picture itself: labels do not depend on the side, points change theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from stylematch.data.labels import LabelSchema

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


def mirrors_of(schema: LabelSchema) -> dict[str, list[int]]:
    """Return ``mirrored`` of each group of points."""
    return {group.name: mirrored(group.labels) for group in schema.groups if group.kind == "points"}


def seen_from_the_other_side(heads: Mapping[str, Tensor], mirrors: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Return what a network says of pictures whose mirror images it was shown.

    Parameters
    ----------
    heads : mapping of str to Tensor of float, shape (n, width of the group)
        What it says of the mirror images; points in units of the picture's side, x before y.
    mirrors : mapping of str to sequence of int
        From ``mirrors_of``.
    """
    return {**heads, **{name: _mirrored_back(heads[name], partners) for name, partners in mirrors.items()}}


def _mirrored_back(points: Tensor, partners: Sequence[int]) -> Tensor:
    places = points.unflatten(1, (-1, 2))
    there = torch.stack([1 - places[..., 0], places[..., 1]], 2).flatten(1)
    return torch.stack([there[:, partner] for partner in partners], 1)  # an index would be copied to the device
