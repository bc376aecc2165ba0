"""Refit the heads of points by ridge regression on the trained features (torch).

Landmarks share a backbone with the attributes, and there their gradients are kept small, since otherwise they drown
the attributes. A linear head on given features has a best answer in closed form, so it need not wait for gradient
steps: one pass over augmented training pictures gives the normal equations, and the regularisation is chosen on
validation pictures.

Method: ridge regression (Hoerl and Kennard, Technometrics 1970) on standardised features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch

from stylematch.settings import Augment
from stylematch.vision.augment import augment_batch
from stylematch.vision.examples import Examples
from stylematch.vision.networks import Network

_BATCH = 64
_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
_UNCHANGED = Augment(flip=0.0)

Floats = npt.NDArray[np.float64]


def refit_points(
    network: Network,
    parts: list[Examples],
    val: Examples,
    augment: Augment,
    *,
    input_px: int,
    seed: int,
    advance: Callable[[int], None],
) -> None:
    """Replace the head of every group of points in a network, in place.

    Parameters
    ----------
    network : Network
        Trained.
    parts : list of Examples
        What it learned from.
    val : Examples
        What the penalty is chosen on.
    augment : Augment
        How the training pictures are changed.
    input_px : int
        Side of the crop.
    seed : int
        For the augmentation.
    advance : callable
        Told how many more pictures are done.
    """
    network.eval()
    for group in network.schema.groups:
        if group.kind != "points":
            continue

        def rows_of(examples: list[Examples], settings: Augment, name: str = group.name) -> tuple[Floats, Floats]:
            pairs = list(_features(network, examples, settings, name, input_px, seed, advance))
            features, points = (np.concatenate(side) for side in zip(*pairs, strict=True))
            known = np.isfinite(points).all(axis=1)
            return features[known], points[known]

        features, points = rows_of(parts, augment)
        val_features, val_points = rows_of([val], _UNCHANGED)
        fits = [_ridge(features, points, penalty) for penalty in _PENALTIES]
        errors = [float(np.abs(val_features @ weight.T + bias - val_points).mean()) for weight, bias in fits]
        weight, bias = fits[int(np.argmin(errors))]
        head = network.heads[group.name]
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(weight))  # type: ignore[operator]
            head.bias.copy_(torch.from_numpy(bias))  # type: ignore[operator]


def _features(
    network: Network,
    examples: list[Examples],
    settings: Augment,
    group: str,
    input_px: int,
    seed: int,
    advance: Callable[[int], None],
) -> Iterator[tuple[Floats, Floats]]:
    """Yield pooled features and points of batches of augmented pictures."""
    for number, part in enumerate(examples):
        for start in range(0, len(part), _BATCH):
            rows = slice(start, start + _BATCH)
            fields = torch.from_numpy(np.array(part.fields[rows])).permute(0, 3, 1, 2).float() / 255.0
            truth = torch.from_numpy(np.array(part.targets[group][rows]))
            generator = torch.Generator().manual_seed(seed + 1_000_003 * (number * 1_000_000 + start))
            with torch.inference_mode():
                pictures, points = augment_batch(fields, truth, input_px, settings, generator)
                features = network.features(pictures.contiguous(memory_format=torch.channels_last))
            assert points is not None
            advance(len(fields))
            yield features.double().numpy(), points.double().numpy()


def _ridge(features: Floats, points: Floats, penalty: float) -> tuple[Floats, Floats]:
    """Return weight (outputs, features) and bias (outputs,) of the best linear map under a relative penalty."""
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-6
    standard = (features - mean) / scale
    gram = standard.T @ standard
    gram[np.diag_indices_from(gram)] += penalty * len(features)
    weight = np.linalg.solve(gram, standard.T @ (points - points.mean(axis=0))).T / scale
    return weight, points.mean(axis=0) - weight @ mean
