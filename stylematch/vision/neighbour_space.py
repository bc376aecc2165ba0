"""An embedding that is read from an earlier layer, so that neighbours see what the label heads do not.

Where an embedding is what the labels are read from, a vote of neighbours repeats what the labels say. A layer before
still has, in its maps' four quarters, what the last layers sum away. Ridge regression from those means to the labels
finds the directions that matter; each label's score counts the same in a cosine. It is fitted in closed form, from all
training pictures, after everything else has been trained: no weight of the labels' own way changes.

Source: ridge regression, Hoerl and Kennard, Technometrics 12, 1970; linear probes of earlier layers: Alain and Bengio,
"Understanding intermediate layers using linear classifier probes", 2016.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from stylematch.errors import UserError
from stylematch.vision.pooling import grid_means

PARTS = 2
"""Rows and columns of the grid over whose parts a layer's maps are averaged."""
_RIDGE = 0.1  # of every picture: the weight of the penalty, where features have unit variance
_LEAST_SPREAD = 1e-4  # beside the most spread column: what varies less is rounding
_LARGEST = 1000.0  # of the weights, which a bundle keeps in half precision; a cosine does not ask for their scale


class NeighbourSpace(nn.Module):
    """A linear map of the means over a grid of a layer's maps.

    Parameters
    ----------
    channels : int
        Of the layer's maps.
    width : int
        Length of the embedding.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels * PARTS * PARTS, width)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the embedding (n, width), not normalised, of maps (n, channels, h, w)."""
        return self.linear(means(maps))

    def load(self, fitted: Fitted) -> None:
        """Take over what was fitted."""
        with torch.no_grad():
            self.linear.weight.copy_(torch.from_numpy(fitted.weight))
            self.linear.bias.copy_(torch.from_numpy(fitted.bias))


@dataclass(frozen=True)
class Fitted:
    """The linear map.

    Attributes
    ----------
    weight : ndarray of float64, shape (width, features)
    bias : ndarray of float64, shape (width,)
    """

    weight: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]


def means(maps: Tensor) -> Tensor:
    """Return the means of maps (n, c, h, w) over ``PARTS`` by ``PARTS`` parts: (n, c * PARTS * PARTS)."""
    return grid_means(maps, PARTS).flatten(1)


def fit_space(batches: Iterable[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]) -> Fitted:
    """Fit the map to pictures.

    Parameters
    ----------
    batches : iterable of (ndarray of float64 (n, features), ndarray of float64 (n, width))
        Means of a layer's maps and targets; NaN is unknown, and counts as the target's mean.

    Raises
    ------
    UserError
        If no target is known.
    """
    parts = list(batches)
    features, targets = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    known = ~np.isnan(targets)
    if not known.any():
        raise UserError("model.embedding_layer: no picture has a known label that the embedding could be fitted to.")
    usual = np.where(known, targets, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    centred = np.where(known, targets - usual, 0.0)
    mean, deviation = features.mean(axis=0), _deviation(features)
    scaled = (features - mean) / deviation
    penalty = _RIDGE * len(scaled) * np.eye(scaled.shape[1])
    solved = np.linalg.solve(scaled.T @ scaled + penalty, scaled.T @ centred)
    weight = (solved / _deviation(scaled @ solved)).T / deviation
    bias = -weight @ mean
    scale = max(1.0, float(np.abs(weight).max()) / _LARGEST, float(np.abs(bias).max()) / _LARGEST)
    return Fitted(weight / scale, bias / scale)


def _deviation(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return each column's standard deviation, 1 where it never changes."""
    spread = values.std(axis=0)
    return np.where(spread > _LEAST_SPREAD * spread.max(), spread, 1.0)
