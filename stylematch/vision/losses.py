"""Losses that follow the label schema; unknown labels count for nothing.

Every label is first made soft: a probability per output, NaN where it is unknown. Mixed pictures and a teacher's
opinion are then plain averages of targets, and one loss serves them all. Binary groups: mean binary cross-entropy.
Categorical groups: cross-entropy. Point groups: smooth L1 in hundredths of the crop's side (Huber, 1964), so that a
point off by more than a few per cent does not drown the others.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from stylematch.data.labels import LabelSchema

_POINT_UNITS = 100.0
Targets = dict[str, Tensor]


def soft_targets(schema: LabelSchema, targets: Targets) -> Targets:
    """Return targets as floats, shape (n, width of the group), NaN where unknown.

    Parameters
    ----------
    schema : LabelSchema
        The groups.
    targets : dict of str to Tensor
        As ``stylematch.data.labels`` describes: -1 or NaN is unknown.
    """
    soft: Targets = {}
    for group in schema.groups:
        target = targets[group.name]
        if group.kind == "categorical":
            chosen = functional.one_hot(target.clamp(min=0), group.width).float()
            soft[group.name] = chosen.masked_fill((target < 0)[:, None], torch.nan)
        elif group.kind == "binary":
            soft[group.name] = target.float().masked_fill(target < 0, torch.nan)
        else:
            soft[group.name] = target.float()
    return soft


def mix_targets(schema: LabelSchema, targets: Targets, partner: Tensor, share: Tensor) -> Targets:
    """Return the targets of pictures that were mixed with their partners (mixup, Zhang et al., ICLR 2018).

    Parameters
    ----------
    schema : LabelSchema
        The groups.
    targets : dict of str to Tensor
        Soft targets.
    partner : Tensor of int64, shape (n,)
        With which row each was mixed.
    share : Tensor of float, shape (n, 1)
        How much of itself is left; 1 is an unmixed picture. A mixed picture has no points.
    """
    mixed: Targets = {}
    for group in schema.groups:
        target = targets[group.name]
        if group.kind == "points":
            mixed[group.name] = target.masked_fill(share < 1, torch.nan)
        else:
            mixed[group.name] = torch.where(share < 1, share * target + (1 - share) * target[partner], target)
    return mixed


def teach_targets(schema: LabelSchema, targets: Targets, teacher: Targets, weight: float) -> Targets:
    """Return targets drawn towards a teacher's outputs (distillation, Hinton et al., 2015).

    Parameters
    ----------
    schema : LabelSchema
        The groups.
    targets : dict of str to Tensor
        Soft targets; what is unknown in them is the teacher's alone.
    teacher : dict of str to Tensor
        The teacher's logits for the same pictures; its points are not used.
    weight : float
        The teacher's share, 0 to 1.
    """
    taught: Targets = {}
    for group in schema.groups:
        target = targets[group.name]
        if group.kind == "points":
            taught[group.name] = target
            continue
        logits = teacher[group.name].float()
        opinion = torch.sigmoid(logits) if group.kind == "binary" else torch.softmax(logits, dim=1)
        taught[group.name] = torch.where(target.isnan(), opinion, (1 - weight) * target + weight * opinion)
    return taught


def schema_loss(
    schema: LabelSchema, outputs: dict[str, Tensor], targets: Targets, *, label_smoothing: float = 0.0
) -> dict[str, Tensor]:
    """Return one scalar loss per group.

    Parameters
    ----------
    schema : LabelSchema
        The groups.
    outputs : dict of str to Tensor of float, shape (n, width)
        Logits, or points.
    targets : dict of str to Tensor of float, shape (n, width)
        Soft targets.
    label_smoothing : float
        For categorical groups (Szegedy et al., CVPR 2016).
    """
    losses: dict[str, Tensor] = {}
    for group in schema.groups:
        values, target = outputs[group.name].float(), targets[group.name]
        known = ~target.isnan()
        target = torch.where(known, target, 0.0)
        if group.kind == "categorical":
            known = known[:, 0]
            loss = functional.cross_entropy(values, target, label_smoothing=label_smoothing, reduction="none")
        elif group.kind == "binary":
            loss = functional.binary_cross_entropy_with_logits(values, target, reduction="none")
        else:
            loss = functional.smooth_l1_loss(values * _POINT_UNITS, target * _POINT_UNITS, reduction="none")
        losses[group.name] = (loss * known).sum() / known.sum().clamp(min=1)
    return losses


def schema_accuracy(
    schema: LabelSchema, outputs: dict[str, Tensor], targets: Targets
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return for each binary or categorical group how many known labels were met, and how many are known."""
    met: dict[str, tuple[Tensor, Tensor]] = {}
    for group in schema.groups:
        if group.kind == "points":
            continue
        values, target = outputs[group.name], targets[group.name]
        known = ~target.isnan()
        if group.kind == "binary":
            met[group.name] = (((values > 0) == (target > 0.5)) & known).sum(), known.sum()
        else:
            known = known[:, 0]
            met[group.name] = ((values.argmax(1) == target.argmax(1)) & known).sum(), known.sum()
    return met
