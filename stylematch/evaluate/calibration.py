"""Making probabilities honest. Pure numpy.

- Expected calibration error: 15 equal-width bins ((m - 1)/15, m/15] of the confidence; the mean distance between a
  bin's mean confidence and its share of hits, weighted by the bin's rows. For a binary label the confidence is the
  probability of the positive class and a hit is a positive label; for a categorical group it is the probability of
  the class that was answered, and a hit is a right answer (Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern
  Neural Networks", ICML 2017).
- Temperatures: logits are divided by T, which is fitted on a validation split by the likelihood (same paper). The
  negative log-likelihood is convex in 1/T, so a bisection on its slope finds the one minimum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 15
COLDEST, HOTTEST = 0.1, 10.0  # temperatures are sought between these; a separable label would go to 0
_BISECTIONS = 60

Floats = npt.NDArray[np.float64]


def reliability_bins(
    confidence: npt.NDArray[np.floating], hit: npt.NDArray[np.bool_]
) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Return each bin's mean confidence, share of hits (both NaN in an empty bin) and number of rows.

    Parameters
    ----------
    confidence : ndarray of float, shape (n,)
        0 to 1.
    hit : ndarray of bool, shape (n,)

    Returns
    -------
    tuple of ndarray, each of shape (15,)
    """
    confidence = np.asarray(confidence, np.float64)
    bins = _bins(confidence)
    rows = np.bincount(bins, minlength=BINS)
    empty = np.full(BINS, np.nan)
    said = np.divide(np.bincount(bins, confidence, BINS), rows, out=empty.copy(), where=rows > 0)
    true = np.divide(np.bincount(bins, hit, BINS), rows, out=empty, where=rows > 0)
    return said, true, rows


def expected_calibration_error(confidence: npt.NDArray[np.floating], hit: npt.NDArray[np.bool_]) -> float:
    """Return the expected calibration error of n rows, NaN if there are none; arguments as ``reliability_bins``."""
    return float(_errors(confidence, hit, np.ones((1, len(hit))))[0])


def calibration_errors(
    probabilities: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    weights: npt.NDArray[np.floating] | None = None,
) -> npt.NDArray[np.float64]:
    """Return the expected calibration error of each binary label, or of a categorical group.

    Parameters
    ----------
    probabilities : ndarray of float, shape (n, width)
    labels : ndarray of int, shape (n, width) if binary, (n,) if categorical
        -1 is unknown and left out.
    weights : ndarray of float, shape (m, n), optional
        How often each picture counts; once without it.

    Returns
    -------
    ndarray of float64, shape ([m,] width) if binary, ([m,] 1) if categorical
        Without weights there is no m; NaN where no row is known.
    """
    counts = np.ones((1, len(labels))) if weights is None else weights
    known = labels >= 0
    if labels.ndim == 1:
        columns = [(known, probabilities.max(1)[known], (probabilities.argmax(1) == labels)[known])]
    else:
        columns = [(rows, probabilities[rows, k], labels[rows, k] > 0) for k, rows in enumerate(known.T)]
    errors = np.empty((len(counts), len(columns)))
    for column, (rows, said, hit) in enumerate(columns):
        errors[:, column] = _errors(said, hit, counts[:, rows])
    return errors[0] if weights is None else errors


def fit_temperatures(logits: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> Floats:
    """Fit one temperature to each binary label, or one to a categorical group, on a validation split.

    Parameters
    ----------
    logits : ndarray of float, shape (n, width)
        Before sigmoid or softmax.
    labels : ndarray of int, shape (n, width) if binary, (n,) if categorical
        -1 is unknown and left out.

    Returns
    -------
    ndarray of float64, shape (width,) if binary, (1,) if categorical
        Between 0.1 and 10; 1 where there is nothing to fit (labels of one class only, no known row, logits that are
        all alike).
    """
    logits, known = np.asarray(logits, np.float64), labels >= 0
    if labels.ndim == 1:
        # Only differences count; with the greatest at 0, no exponential overflows.
        logits, truth = logits[known] - logits[known].max(1, keepdims=True), labels[known]
        if not logits.any() or (truth == truth[0]).all():
            return np.ones(1)
        true_logit = logits[np.arange(len(truth)), truth]

        def slope(sharpness: Floats) -> Floats:
            share = _softmax(logits * sharpness)
            return np.array([((share * logits).sum(1) - true_logit).mean()])

        return _bisected(slope, np.ones(1, bool))
    positive = labels > 0
    logits = np.where(known, logits, 0)  # a logit of 0 adds nothing to the slope, whatever the temperature
    fits = np.asarray(positive.any(0) & (known & ~positive).any(0) & logits.any(0))

    def slopes(sharpness: Floats) -> Floats:
        return np.asarray(((_sigmoid(logits * sharpness) - positive) * logits).sum(0))

    return _bisected(slopes, fits)


def probabilities_of(logits: npt.NDArray[np.floating], kind: str) -> Floats:
    """Return what logits, those of a calibrated head or of any, mean.

    Parameters
    ----------
    logits : ndarray of float, shape (n, width)
    kind : str
        "binary" (sigmoid) or "categorical" (softmax).

    Returns
    -------
    ndarray of float64, shape (n, width)
    """
    exact = np.asarray(logits, np.float64)
    return _sigmoid(exact) if kind == "binary" else _softmax(exact)


def calibration_figures(
    logits: npt.NDArray[np.floating],
    cooled: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    temperatures: Floats,
    names: Sequence[str],
) -> dict[str, Any]:
    """Measure what temperatures change, for ``figures.json`` and the card.

    Parameters
    ----------
    logits, labels : ndarray
        As ``fit_temperatures`` takes them.
    cooled : ndarray of float, shape (n, width)
        The logits of the network that ships, whose heads have the temperatures folded in.
    temperatures : ndarray of float, shape (width,) if binary, (1,) if categorical
    names : sequence of str
        One a temperature.

    Returns
    -------
    dict
        ``pictures``, ``expected_calibration_error_before`` and ``_after`` (the mean over labels, None if none is
        known) and ``temperature`` by name.
    """
    figures: dict[str, Any] = {"pictures": len(labels)}
    kind = "categorical" if labels.ndim == 1 else "binary"
    for when, values in (("before", logits), ("after", cooled)):
        errors = calibration_errors(probabilities_of(values, kind), labels)
        errors = errors[np.isfinite(errors)]
        figures[f"expected_calibration_error_{when}"] = round(float(errors.mean()), 4) if len(errors) else None
    fitted = {name: round(float(value), 4) for name, value in zip(names, temperatures, strict=True)}
    return {**figures, "temperature": fitted}


def _bins(confidence: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    return np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)


def _errors(
    confidence: npt.NDArray[np.floating], hit: npt.NDArray[np.bool_], weights: npt.NDArray[np.floating]
) -> Floats:
    """Return the expected calibration error of n rows under each row of weights (m, n), NaN where all are 0."""
    confidence, weights = np.asarray(confidence, np.float64), np.asarray(weights, np.float64)
    # A bin's rows times the distance of its means is the distance of its sums.
    excess = np.zeros((len(hit), BINS))
    excess[np.arange(len(hit)), _bins(confidence)] = confidence - hit
    total = weights.sum(1)
    return np.divide(np.abs(weights @ excess).sum(1), total, out=np.full(len(weights), np.nan), where=total > 0)


def _bisected(slope: Callable[[Floats], Floats], fits: npt.NDArray[np.bool_]) -> Floats:
    """Return the temperatures at which the slope by 1/T is 0, 1 where nothing fits."""
    low, high = (np.full(len(fits), np.log(1 / end)) for end in (HOTTEST, COLDEST))
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        falling = slope(np.exp(middle)) < 0
        low, high = np.where(falling, middle, low), np.where(falling, high, middle)
    return np.where(fits, np.exp(-(low + high) / 2), 1.0)


def _sigmoid(logits: Floats) -> Floats:
    return (1 + np.tanh(logits / 2)) / 2


def _softmax(logits: Floats) -> Floats:
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(shares / shares.sum(1, keepdims=True))
