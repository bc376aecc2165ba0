"""Figures of merit, each beside the baseline that makes it mean something. Pure numpy.

Binary labels: accuracy, balanced accuracy (mean of the two recalls; Brodersen et al., ICPR 2010), F1, and the
accuracy of always answering the more frequent label. Points: normalised mean error, the mean distance over
the distance between the eyes, beside that of the mean shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def binary_figures(
    probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], names: Sequence[str]
) -> dict[str, Any]:
    """Measure independent yes/no predictions at the threshold 0.5.

    Parameters
    ----------
    probabilities : ndarray of float, shape (n, labels)
    labels : ndarray of int, shape (n, labels)
        0 or 1.
    names : sequence of str
        One a label.

    Returns
    -------
    dict
        ``count``, the means ``accuracy``, ``balanced_accuracy``, ``macro_f1`` and ``majority_accuracy``, and
        ``per_label`` with the same by name. A label without positives (or negatives) has the recall 0 there.
    """
    said, truth = probabilities >= 0.5, labels > 0
    hits, false_alarms = (said & truth).sum(0), (said & ~truth).sum(0)
    misses, rejections = (~said & truth).sum(0), (~said & ~truth).sum(0)
    count = len(truth)
    accuracy = (hits + rejections) / count
    balanced = (_share(hits, hits + misses) + _share(rejections, rejections + false_alarms)) / 2
    f1 = _share(2 * hits, 2 * hits + false_alarms + misses)
    share = truth.mean(0)
    majority = np.maximum(share, 1 - share)
    columns = {
        "accuracy": accuracy,
        "balanced_accuracy": balanced,
        "f1": f1,
        "majority_accuracy": majority,
        "share": share,
    }
    per_label = {
        name: {key: round(float(values[position]), 4) for key, values in columns.items()}
        for position, name in enumerate(names)
    }
    return {
        "count": count,
        "accuracy": round(float(accuracy.mean()), 4),
        "balanced_accuracy": round(float(balanced.mean()), 4),
        "macro_f1": round(float(f1.mean()), 4),
        "majority_accuracy": round(float(majority.mean()), 4),
        "per_label": per_label,
    }


def categorical_figures(
    probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], names: Sequence[str]
) -> dict[str, Any]:
    """Measure one-of-many predictions.

    Parameters
    ----------
    probabilities : ndarray of float, shape (n, classes)
    labels : ndarray of int, shape (n,)
    names : sequence of str
        One a class.

    Returns
    -------
    dict
        ``count``, ``accuracy``, ``majority_accuracy`` and the recall of each class.
    """
    said = probabilities.argmax(1)
    counts = np.bincount(labels, minlength=len(names))
    hits = np.bincount(labels[said == labels], minlength=len(names))
    recall = _share(hits, counts)
    return {
        "count": len(labels),
        "accuracy": round(float(hits.sum() / len(labels)), 4),
        "majority_accuracy": round(float(counts.max() / len(labels)), 4),
        "per_label": {name: {"recall": round(float(recall[k]), 4)} for k, name in enumerate(names)},
    }


def landmark_figures(
    points: npt.NDArray[np.floating], truth: npt.NDArray[np.floating], mean_shape: npt.NDArray[np.floating]
) -> dict[str, Any]:
    """Measure landmarks in any one unit; rows whose truth is unknown (NaN) are left out and counted.

    Parameters
    ----------
    points, truth : ndarray of float, shape (n, 10)
        Left eye, right eye, nose, left and right corner of the mouth; x before y.
    mean_shape : ndarray of float, shape (10,)
        The baseline's constant answer, the mean of the training split.

    Returns
    -------
    dict
        ``count``, ``unknown``, ``normalised_mean_error``, ``mean_shape_error`` (None if no row is known).
    """
    known = np.isfinite(truth).all(1)

    def error(answer: npt.NDArray[np.floating]) -> float | None:
        if not known.any():
            return None
        true = truth[known].reshape(-1, 5, 2)
        distance = np.linalg.norm(answer.reshape(-1, 5, 2) - true, axis=2).mean(1)
        return round(float((distance / np.linalg.norm(true[:, 0] - true[:, 1], axis=1)).mean()), 4)

    return {
        "count": int(known.sum()),
        "unknown": int((~known).sum()),
        "normalised_mean_error": error(points[known]),
        "mean_shape_error": error(np.broadcast_to(mean_shape, truth[known].shape)),
    }


def _share(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
