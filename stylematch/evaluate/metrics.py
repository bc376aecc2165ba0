"""Figures of merit, each beside the baseline that makes it mean something: ``scores`` of every picture once, as JSON.

- Binary labels: accuracy, balanced accuracy, F1, average precision, expected calibration error, and the accuracy of
  always answering the more frequent label.
- Categories: accuracy, top-5 accuracy; precision, recall, F1 and average precision of each class and their means, of
  which that of recall is balanced accuracy; expected calibration error; and the accuracy of always answering the most
  frequent class (or the five most frequent).
- Points: normalised mean error, beside that of the mean shape.

What is undefined is None, and left out of means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from stylematch.evaluate.intervals import Weights
from stylematch.evaluate.scores import (
    TOP,
    Floats,
    binary_scores,
    categorical_scores,
    landmark_errors,
    published,
    ranking_scores,
    ratio,
)

# By the name of a score of one label: the name of its mean over labels.
MEANS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced_accuracy",
    "f1": "macro_f1",
    "average_precision": "mean_average_precision",
    "balanced_accuracy_at_threshold": "balanced_accuracy_at_thresholds",
    "expected_calibration_error": "expected_calibration_error",
}
# The same of a class.
CLASS_MEANS = {"recall": "balanced_accuracy", "f1": "macro_f1", "average_precision": "mean_average_precision"}
_BEST = 5


def binary_figures(
    probabilities: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    names: Sequence[str],
    *,
    thresholds: npt.NDArray[np.floating] | None = None,
) -> dict[str, Any]:
    """Measure independent yes/no predictions at the threshold 0.5, and at thresholds of their own.

    Parameters
    ----------
    probabilities : ndarray of float, shape (n, labels)
    labels : ndarray of int, shape (n, labels)
        0 or 1; -1 is unknown and left out, label by label.
    names : sequence of str
        One a label.
    thresholds : ndarray of float, shape (labels,), optional
        Chosen on other pictures; adds the balanced accuracy there.

    Returns
    -------
    dict
        ``count``, the means over labels ``accuracy``, ``balanced_accuracy``, ``macro_f1``,
        ``mean_average_precision``, ``balanced_accuracy_at_thresholds``, ``expected_calibration_error`` and
        ``majority_accuracy``; ``unknown_cells``, how many labels of pictures are unknown, all labels together; how
        many labels were left out of means: ``unknown_labels`` (no row is known) out of all, ``one_class_labels``
        (only yes or only no occurs) out of those of balanced accuracy, F1 and average precision, which such labels do
        not have (None); and ``per_label`` with the same by name.
    """
    scores = {
        name: values[0] for name, values in binary_scores(probabilities, labels, _once(labels), thresholds).items()
    }
    known = (labels >= 0).sum(0)
    share = ratio((labels > 0).sum(0), known)
    majority = np.maximum(share, 1 - share)
    columns = {**scores, "majority_accuracy": majority, "share": share}
    if thresholds is not None:
        columns["threshold"] = np.asarray(thresholds, np.float64)
    per_label: dict[str, dict[str, float | int | None]] = {
        name: {key: published(values[position]) for key, values in columns.items()} | {"count": int(known[position])}
        for position, name in enumerate(names)
    }
    one_class = (known > 0) & (majority == 1)
    return {
        "count": len(labels),
        **{MEANS[key]: published(_mean(values)) for key, values in scores.items()},
        "majority_accuracy": published(_mean(majority)),
        "unknown_cells": int((labels < 0).sum()),
        "unknown_labels": int((known == 0).sum()),
        "one_class_labels": int(one_class.sum()),
        "per_label": per_label,
    }


def categorical_figures(
    probabilities: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    names: Sequence[str],
    *,
    trained_counts: npt.NDArray[np.integer] | None = None,
) -> dict[str, Any]:
    """Measure one-of-many predictions.

    Parameters
    ----------
    probabilities : ndarray of float, shape (n, classes)
    labels : ndarray of int, shape (n,)
        -1 is unknown and left out.
    names : sequence of str
        One a class.
    trained_counts : ndarray of int, shape (classes,), optional
        Training pictures of each class; those of classes without any are scored apart.

    Returns
    -------
    dict
        ``count``, ``unknown``, ``accuracy``, ``balanced_accuracy`` and ``mean_average_precision`` (over the classes
        that occur), ``macro_f1`` (over those that occur or were answered), ``majority_accuracy``,
        ``majority_balanced_accuracy``, ``expected_calibration_error``; ``top5_accuracy`` and
        ``majority_top5_accuracy`` where there are more than five classes; ``best_classes``, up to five by recall (then
        by support); with
        ``trained_counts`` also ``count_seen``, ``accuracy_seen`` and ``majority_accuracy_seen`` of the pictures whose
        class was trained, and ``never_trained`` (``count``, ``accuracy``, ``classes``: name to support); ``per_label``
        with precision (None where a class was never answered), recall and average precision (None where it does not
        occur), F1 (None where neither) and support.
    """
    rows = labels >= 0
    probabilities, labels = probabilities[rows], labels[rows]
    once = _once(labels)
    every = categorical_scores(probabilities, labels, once) | ranking_scores(probabilities, labels, once)
    scores = {name: values[0] for name, values in every.items()}
    support = np.bincount(labels, minlength=len(names))
    falling = np.sort(support)[::-1]
    figures: dict[str, Any] = {
        "count": len(labels),
        "unknown": int((~rows).sum()),
        "accuracy": published(scores["accuracy"]),
        **{mean: published(_mean(scores[key])) for key, mean in CLASS_MEANS.items()},
        "majority_accuracy": published(_share(falling[0], len(labels))),
        "majority_balanced_accuracy": published(_share(1, int((support > 0).sum()))),
        "expected_calibration_error": published(scores["expected_calibration_error"]),
    }
    if "top5_accuracy" in scores:
        figures["top5_accuracy"] = published(scores["top5_accuracy"])
        figures["majority_top5_accuracy"] = published(_share(falling[:TOP].sum(), len(labels)))
    if trained_counts is not None:
        figures |= _seen_and_not(probabilities.argmax(1) == labels, labels, support, names, trained_counts)
    per_class = {key: scores[key] for key in ("precision", "recall", "f1", "average_precision")}
    per_label: dict[str, dict[str, float | int | None]] = {
        name: {key: published(values[k]) for key, values in per_class.items()} | {"support": int(support[k])}
        for k, name in enumerate(names)
    }
    occurring = [k for k in range(len(names)) if support[k]]
    best = sorted(occurring, key=lambda k: (-scores["recall"][k], -support[k], k))[:_BEST]
    figures["best_classes"] = [
        {"name": names[k], "recall": published(scores["recall"][k]), "support": int(support[k])} for k in best
    ]
    return {**figures, "per_label": per_label}


def landmark_figures(
    points: npt.NDArray[np.floating],
    truth: npt.NDArray[np.floating],
    mean_shape: npt.NDArray[np.floating] | None,
) -> dict[str, Any]:
    """Measure landmarks in any one unit; rows whose truth is unknown (NaN) are left out and counted.

    Parameters
    ----------
    points, truth : ndarray of float, shape (n, 10)
        Left eye, right eye, nose, left and right corner of the mouth; x before y.
    mean_shape : ndarray of float, shape (10,), or None
        The baseline's constant answer, the mean of the training split.

    Returns
    -------
    dict
        ``count``, ``unknown``, ``normalised_mean_error``, ``mean_shape_error`` (of the baseline),
        ``own_mean_shape_error`` (of the mean of these very points, which no constant answer can do much better than);
        None if no row is known.
    """
    errors = landmark_errors(points, truth)
    known = np.isfinite(errors)
    baseline = None if mean_shape is None else landmark_errors(np.broadcast_to(mean_shape, truth.shape), truth)
    own = landmark_errors(np.broadcast_to(truth[known].mean(0), truth.shape), truth) if known.any() else errors
    return {
        "count": int(known.sum()),
        "unknown": int((~known).sum()),
        "normalised_mean_error": published(_mean(errors)),
        "mean_shape_error": None if baseline is None else published(_mean(baseline)),
        "own_mean_shape_error": published(_mean(own)),
    }


def coordinate_figures(
    answers: npt.NDArray[np.floating],
    truth: npt.NDArray[np.floating],
    names: Sequence[str],
    mean_answer: npt.NDArray[np.floating] | None,
) -> dict[str, Any]:
    """Measure coordinates that are no face's landmarks, such as those of a box; NaN is unknown, column by column.

    Parameters
    ----------
    answers, truth : ndarray of float, shape (n, columns)
        In units of the crop's side.
    names : sequence of str
        One a column.
    mean_answer : ndarray of float, shape (columns,), or None
        The baseline's constant answer, the mean of the training split.

    Returns
    -------
    dict
        ``count`` (rows of which something is known), ``mean_absolute_error`` and ``mean_answer_error`` (the same of
        the baseline), the means over columns, and ``per_label``.
    """
    columns = {"mean_absolute_error": _column_means(np.abs(answers - truth))}
    columns["mean_answer_error"] = _column_means(np.abs((np.nan if mean_answer is None else mean_answer) - truth))
    return {
        "count": int(np.isfinite(truth).any(1).sum()),
        **{key: published(_mean(values)) for key, values in columns.items()},
        "per_label": {name: {key: published(v[k]) for key, v in columns.items()} for k, name in enumerate(names)},
    }


def _seen_and_not(
    right: npt.NDArray[np.bool_],
    labels: npt.NDArray[np.integer],
    support: npt.NDArray[np.integer],
    names: Sequence[str],
    trained_counts: npt.NDArray[np.integer],
) -> dict[str, Any]:
    trained = np.asarray(trained_counts) > 0
    seen = trained[labels]
    count = int(seen.sum())
    return {
        "count_seen": count,
        "accuracy_seen": published(_share(right[seen].sum(), count)),
        "majority_accuracy_seen": published(_share(support[trained].max(initial=0), count)),
        "never_trained": {
            "count": len(labels) - count,
            "accuracy": published(_share(right[~seen].sum(), len(labels) - count)),
            "classes": {names[k]: int(support[k]) for k in np.flatnonzero(~trained).tolist()},
        },
    }


def _once(labels: npt.NDArray[np.integer]) -> Weights:
    return np.ones((1, len(labels)), np.float32)


def _share(part: int, whole: int) -> float:
    return float(part) / whole if whole else float("nan")


def _column_means(values: npt.NDArray[np.floating]) -> Floats:
    return np.array([_mean(column) for column in values.T])


def _mean(values: npt.NDArray[np.floating]) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean(dtype=np.float64)) if len(values) else float("nan")
