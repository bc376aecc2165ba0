"""Scores under weights: the formulas behind the figures, for many rows of weights of pictures at once. Pure numpy.

A figure (one row of ones) and its bootstrap interval (1,000 rows) come out of the same lines. What is undefined is NaN.

- Balanced accuracy: the mean of the two recalls (Brodersen et al., ICPR 2010).
- Average precision: as scikit-learn defines it, a mean of precisions weighted by the gain in recall, equal scores taken
  together; of a category, that of the class against the rest.
- Normalised error of points: the mean distance over the distance between the eyes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stylematch.evaluate.calibration import calibration_errors
from stylematch.evaluate.intervals import Weights

Floats = npt.NDArray[np.float64]
TOP = 5


def binary_scores(
    probabilities: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    weights: Weights,
    thresholds: npt.NDArray[np.floating] | None = None,
) -> dict[str, Floats]:
    """Score each label under each row of weights.

    Parameters
    ----------
    probabilities, labels, thresholds
        As ``metrics.binary_figures`` takes them.
    weights : ndarray of float32, shape (m, n)
        Whole numbers, how often each picture counts.

    Returns
    -------
    dict of str to ndarray of float64, shape (m, labels)
        ``accuracy``, ``balanced_accuracy``, ``f1``, ``average_precision``, ``expected_calibration_error`` and, with
        thresholds, ``balanced_accuracy_at_threshold``; NaN where undefined.
    """
    probabilities = np.asarray(probabilities, np.float64)
    known, truth = labels >= 0, labels > 0
    positives, negatives = _counts(weights, truth), _counts(weights, known & ~truth)
    both = np.where((positives > 0) & (negatives > 0), 1.0, np.nan)

    def at(threshold: float | npt.NDArray[np.floating]) -> tuple[Floats, Floats]:
        said = probabilities >= threshold
        return _counts(weights, said & truth), _counts(weights, said & known & ~truth)

    def balanced(hits: Floats, false_alarms: Floats) -> Floats:
        return both * (ratio(hits, positives) + ratio(negatives - false_alarms, negatives)) / 2

    by_picture = np.ascontiguousarray(weights.T)  # whole rows are sorted then, which is many times faster
    precisions = np.empty(positives.shape)
    for column in range(labels.shape[1]):
        precisions[:, column] = _average_precision(probabilities[:, column], labels[:, column], by_picture)
    hits, false_alarms = at(0.5)
    scores = {
        "accuracy": ratio(hits + negatives - false_alarms, positives + negatives),
        "balanced_accuracy": balanced(hits, false_alarms),
        "f1": both * ratio(2 * hits, hits + false_alarms + positives),
        "average_precision": both * precisions,
    }
    if thresholds is not None:
        scores["balanced_accuracy_at_threshold"] = balanced(*at(np.asarray(thresholds, np.float64)))
    return scores | {"expected_calibration_error": calibration_errors(probabilities, labels, weights)}


def categorical_scores(
    probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], weights: Weights
) -> dict[str, Floats]:
    """Score a group whose labels are all known under each row of weights.

    Parameters
    ----------
    probabilities, labels
        As ``metrics.categorical_figures`` takes them.
    weights : ndarray of float32, shape (m, n)
        Whole numbers, how often each picture counts.

    Returns
    -------
    dict of str to ndarray of float64
        ``accuracy`` and, of more than five classes, ``top5_accuracy``, shape (m,); ``precision``, ``recall``, ``f1``,
        shape (m, classes); NaN where undefined.

    See Also
    --------
    ranking_scores : Those that need the probabilities themselves, and more time.
    """
    classes = np.arange(probabilities.shape[1])
    said = probabilities.argmax(1)
    right = said == labels
    total = weights.sum(1, dtype=np.float64)
    scores = {"accuracy": ratio(_counts(weights, right), total)}
    if len(classes) > TOP:
        leading = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP]
        scores["top5_accuracy"] = ratio(_counts(weights, (leading == labels[:, None]).any(1)), total)
    true, answered = _counts(weights, labels[:, None] == classes), _counts(weights, said[:, None] == classes)
    hits = _counts(weights, (labels[:, None] == classes) & right[:, None])
    scores |= {"precision": ratio(hits, answered), "recall": ratio(hits, true)}
    return scores | {"f1": ratio(2 * hits, true + answered)}


def ranking_scores(
    probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], weights: Weights
) -> dict[str, Floats]:
    """Return ``average_precision``, shape (m, classes), and ``expected_calibration_error``, shape (m,).

    Parameters
    ----------
    probabilities, labels, weights
        As ``categorical_scores`` takes them.
    """
    by_picture = np.ascontiguousarray(weights.T)
    precisions = np.full((len(weights), probabilities.shape[1]), np.nan)
    for k in np.unique(labels):
        precisions[:, k] = _average_precision(probabilities[:, k], labels == k, by_picture)
    return {
        "average_precision": precisions,
        "expected_calibration_error": calibration_errors(probabilities, labels, weights)[:, 0],
    }


def landmark_errors(points: npt.NDArray[np.floating], truth: npt.NDArray[np.floating]) -> Floats:
    """Return each row's mean distance over the distance between its true eyes, (n,); NaN where that is unknown."""
    true = np.asarray(truth, np.float64).reshape(-1, 5, 2)
    distance = np.linalg.norm(np.asarray(points, np.float64).reshape(-1, 5, 2) - true, axis=2).mean(1)
    return ratio(distance, np.linalg.norm(true[:, 0] - true[:, 1], axis=1))


def _average_precision(
    scores: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], by_picture: Weights
) -> Floats:
    """Return the average precision of one label under each column of weights (n, m); NaN without positives."""
    rows = np.flatnonzero(labels >= 0)
    order = rows[np.argsort(-scores[rows], kind="stable")]
    positive = np.flatnonzero(labels[order] > 0)
    if len(positive) == 0:
        return np.full(by_picture.shape[1], np.nan)
    falling = -scores[order]
    # Equal scores cannot be told apart: all of them count from the last of them on.
    last = np.searchsorted(falling, falling[positive], side="right") - 1
    drawn = by_picture[order]
    hits = drawn[positive]
    answered = np.cumsum(drawn, axis=0)[last]
    right = np.cumsum(hits, axis=0)[np.searchsorted(positive, last, side="right") - 1]
    # What was not drawn weighs nothing, so the 1 that keeps 0/0 away is never seen.
    gained = (hits * (right / np.maximum(answered, 1, dtype=np.float64))).sum(0)
    return ratio(gained, hits.sum(0))


def _counts(weights: Weights, mask: npt.NDArray[np.bool_]) -> Floats:
    # float32 counts whole numbers exactly up to 16.7 million, so the order in which a processor adds does not matter.
    return np.asarray(weights @ mask.astype(np.float32), np.float64)


def ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> Floats:
    """Return ``part / whole``, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)


def published(value: float) -> float | None:
    """Return a figure as reports have it: four digits behind the point, None where it is undefined."""
    return round(float(value), 4) if np.isfinite(value) else None
