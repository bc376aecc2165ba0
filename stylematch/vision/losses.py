"""Losses that follow the label schema; unknown labels count for nothing.

Every label is first made soft: a probability per output, NaN where it is unknown. Mixed pictures and a teacher's
opinion are then plain averages of targets, and one loss serves them all. Binary groups: binary cross-entropy, focal
loss (Lin et al., ICCV 2017) or asymmetric loss (Ridnik et al., ICCV 2021). Categorical groups: cross-entropy
(smoothed: Szegedy et al., CVPR 2016). Point groups: smooth L1 in hundredths of the crop's side (Huber, 1964), so that
a point off by more than a few per cent does not drown the others, or the mean squared error in ranges of the training
split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional

from stylematch.data.labels import LabelSchema
from stylematch.settings.train_method import Loss

_POINT_UNITS = 100.0
_FOCAL_GAMMA = 2.0
_ASYMMETRIC_GAMMA, _ASYMMETRIC_MARGIN = 4.0, 0.05
_LARGEST_WEIGHT = 10.0
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


def teach_targets(schema: LabelSchema, targets: Targets, teachers: Sequence[Targets], weight: float) -> Targets:
    """Return targets drawn towards what teachers say on average (distillation, Hinton et al., 2015).

    Parameters
    ----------
    schema : LabelSchema
        The groups.
    targets : dict of str to Tensor
        Soft targets; labels that are unknown in them are the teachers' alone, unknown points stay unknown.
    teachers : sequence of dict of str to Tensor
        Each teacher's logits and points for the same pictures.
    weight : float
        The teachers' share, 0 to 1.
    """
    taught: Targets = {}
    for group in schema.groups:
        target = targets[group.name]
        logits = torch.stack([teacher[group.name].float() for teacher in teachers])
        if group.kind == "points":
            taught[group.name] = (1 - weight) * target + weight * logits.mean(0)
            continue
        opinion = (torch.sigmoid(logits) if group.kind == "binary" else torch.softmax(logits, dim=2)).mean(0)
        taught[group.name] = torch.where(target.isnan(), opinion, (1 - weight) * target + weight * opinion)
    return taught


@dataclass(frozen=True)
class SchemaLoss:
    """What a network is trained to make small.

    Attributes
    ----------
    schema : LabelSchema
        The groups.
    settings : Loss
        Which loss a kind of group has.
    weights : dict of str to Tensor of float, shape (width of the group,)
        By group: what a positive label (binary) or a class (categorical) counts; 1 where the group is absent.
    ranges : dict of str to Tensor of float, shape (width of the group,)
        By group of points: the range of each coordinate in the training split, in which ``mse`` measures.
    """

    schema: LabelSchema
    settings: Loss = field(default_factory=Loss)
    weights: dict[str, Tensor] = field(default_factory=dict)
    ranges: dict[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> SchemaLoss:
        """Return the same with its numbers on a device; others are sent there at every call, which waits for it."""
        weights, ranges = ({name: x.to(device) for name, x in part.items()} for part in (self.weights, self.ranges))
        return replace(self, weights=weights, ranges=ranges)

    def __call__(self, outputs: dict[str, Tensor], targets: Targets, *, training: bool = True) -> dict[str, Tensor]:
        """Return one scalar loss per group.

        Parameters
        ----------
        outputs : dict of str to Tensor of float, shape (n, width)
            Logits, or points.
        targets : dict of str to Tensor of float, shape (n, width)
            Soft targets.
        training : bool
            Without it labels are not smoothed.
        """
        losses: dict[str, Tensor] = {}
        for group in self.schema.groups:
            values, target = outputs[group.name].float(), targets[group.name]
            known = ~target.isnan()
            target = torch.where(known, target, 0.0)
            weights = self.weights.get(group.name)
            weights = None if weights is None else weights.to(values.device)
            if group.kind == "categorical":
                known = known[:, 0]
                smoothing = self.settings.label_smoothing if training else 0.0
                loss = functional.cross_entropy(values, target, label_smoothing=smoothing, reduction="none")
                if weights is not None:
                    loss = loss * (target * weights).sum(1)
            elif group.kind == "binary":
                loss = self._binary(values, target, weights)
            elif self.settings.points == "mse":
                loss = ((values - target) / self.ranges[group.name].to(values.device)).square()
            else:
                loss = functional.smooth_l1_loss(values * _POINT_UNITS, target * _POINT_UNITS, reduction="none")
            counts = self.settings.group_weights.get(group.name, 1.0)
            losses[group.name] = counts * (loss * known).sum() / known.sum().clamp(min=1)
        return losses

    def _binary(self, logits: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
        loss = functional.binary_cross_entropy_with_logits(logits, target, pos_weight=weights, reduction="none")
        if self.settings.binary == "bce":
            return loss
        chance = torch.sigmoid(logits)
        if self.settings.binary == "focal":  # easy labels count less
            return loss * (target - chance).abs() ** _FOCAL_GAMMA
        # Easy negatives count least, and not at all below a margin.
        shifted = (chance - _ASYMMETRIC_MARGIN).clamp(min=0)
        negative = -(1 - shifted).clamp(min=1e-8).log() * shifted**_ASYMMETRIC_GAMMA
        positive = -functional.logsigmoid(logits) * (1.0 if weights is None else weights)
        return target * positive + (1 - target) * negative


def instance_loss(views: Tensor, pictures: int, temperature: float) -> Tensor:
    """Return how badly pictures find themselves again (NT-Xent; Chen et al., SimCLR, ICML 2020).

    Parameters
    ----------
    views : Tensor of float, shape (pictures + again, dim)
        Unit vectors: every picture once, then another view of the first ``again`` of them, in the same order.
    pictures : int
        How many there are.
    temperature : float
        Lower looks at the most alike pictures only.

    Returns
    -------
    Tensor
        The cross-entropy of choosing the other view among all that are not the picture itself, over the pictures that
        have two.
    """
    count, again = len(views), len(views) - pictures
    with torch.autocast(views.device.type, enabled=False):  # half the digits, over a low temperature, are too few
        similarity = views.float() @ views.float().T / temperature
    similarity = similarity.masked_fill(torch.eye(count, dtype=torch.bool, device=views.device), -torch.inf)
    first = torch.arange(again, device=views.device)
    other = first + pictures
    return functional.cross_entropy(similarity[torch.cat([first, other])], torch.cat([other, first]))


def label_weights(schema: LabelSchema, targets: Targets, power: float = 1.0) -> dict[str, Tensor]:
    """Return what labels count so that rare ones are heard: the inverse of their frequency, or a power of that.

    Binary: negatives over positives, at most 10 (and at least 1/10). Categorical: the mean is 1 over the pictures, as
    scikit-learn's "balanced"; a class without pictures counts 0.

    Parameters
    ----------
    schema : LabelSchema
        The groups.
    targets : dict of str to Tensor of float, shape (n, width)
        Soft targets of the training split.
    power : float
        1 compensates a label's frequency in full, less of it in part (0.5: Mahajan et al., ECCV 2018).
    """
    weights: dict[str, Tensor] = {}
    for group in schema.groups:
        target = targets[group.name]
        if group.kind == "points":
            continue
        positive = target.nansum(0)
        known = (~target.isnan()).sum(0)
        if group.kind == "binary":
            ratio = (known - positive) / positive.clamp(min=1)
            weights[group.name] = ratio.clamp(1 / _LARGEST_WEIGHT, _LARGEST_WEIGHT) ** power
        else:
            present = positive > 0
            rarity = torch.where(present, 1 / positive.clamp(min=1), 0.0) ** power
            weights[group.name] = rarity * known / (rarity * positive).sum().clamp(min=torch.finfo(torch.float32).tiny)
    return weights


def point_ranges(schema: LabelSchema, targets: Targets) -> dict[str, Tensor]:
    """Return the range of every coordinate of points over the training split, 1 where it has none."""
    ranges: dict[str, Tensor] = {}
    for group in schema.groups:
        if group.kind == "points":
            target = targets[group.name]
            known = ~target.isnan()
            spread = torch.where(known, target, -torch.inf).amax(0) - torch.where(known, target, torch.inf).amin(0)
            ranges[group.name] = torch.where(spread > 0, spread, 1.0)
    return ranges
