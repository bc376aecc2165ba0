"""Losses that follow the label schema; unknown labels count for nothing.

Binary groups: mean binary cross-entropy. Categorical groups: cross-entropy. Point groups: smooth L1 in
hundredths of the crop's side (Huber, 1964), so that a point off by more than a few per cent does not drown
the others.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from stylematch.data.labels import LabelSchema

_POINT_UNITS = 100.0


def schema_loss(
    schema: LabelSchema,
    outputs: dict[str, Tensor],
    targets: dict[str, Tensor],
    *,
    label_smoothing: float = 0.0,
    points_weight: float = 1.0,
) -> dict[str, Tensor]:
    """Return one scalar loss per group.

    Parameters
    ----------
    schema : LabelSchema
        The groups.
    outputs : dict of str to Tensor of float, shape (n, width)
        Logits, or points.
    targets : dict of str to Tensor
        As ``stylematch.data.labels`` describes: -1 or NaN is unknown.
    label_smoothing : float
        For categorical groups (Szegedy et al., CVPR 2016).
    points_weight : float
        Factor of point losses.
    """
    losses: dict[str, Tensor] = {}
    for group in schema.groups:
        values, target = outputs[group.name].float(), targets[group.name]
        if group.kind == "categorical":
            loss = functional.cross_entropy(
                values, target, ignore_index=-1, label_smoothing=label_smoothing, reduction="sum"
            )
            losses[group.name] = loss / (target >= 0).sum().clamp(min=1)
        elif group.kind == "binary":
            known = target >= 0
            loss = functional.binary_cross_entropy_with_logits(values, target.clamp(min=0).float(), reduction="none")
            losses[group.name] = _mean_where(loss, known)
        else:
            known = torch.isfinite(target)
            safe = torch.where(known, target, values.detach())
            loss = functional.smooth_l1_loss(values * _POINT_UNITS, safe * _POINT_UNITS, reduction="none")
            losses[group.name] = _mean_where(loss, known) * points_weight
    return losses


def _mean_where(values: Tensor, known: Tensor) -> Tensor:
    return (values * known).sum() / known.sum().clamp(min=1)
