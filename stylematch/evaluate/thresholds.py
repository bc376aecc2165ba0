"""Where to cut a probability for the greatest balanced accuracy, by what is known of a validation split. Pure numpy.

The threshold at which most of those very pictures are right follows the few of a rare label wherever they happen to
lie. So both classes are smoothed first, over the log odds: each picture counts by a logistic curve in place of a step
(the kernel method of Fluss, Faraggi, Reiser, "Estimation of the Youden Index and its associated cutoff point",
Biometrical Journal 47, 2005, with Silverman's bandwidth). It asks nothing of the probabilities but their order, up to
a smooth change: where they are all too high, so is the threshold.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stylematch.evaluate.calibration import Floats, probabilities_of

_SUREST = 1e-7  # probabilities of 32 bits come no nearer to 1
_PLACES = 1001  # that are tried, evenly over the log odds
_AT_ONCE = 2**20  # pictures times places
_NORMAL_QUARTILES = 1.349  # how far those of a normal distribution lie apart, in its standard deviations
_LOGISTIC = 1.702  # by this a logistic curve is narrowed to be next to the normal one
_NARROWEST = 0.05  # bandwidth in log odds, where all pictures of a class say the same


def choose_thresholds(probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> Floats:
    """Choose for each binary label the threshold of the greatest smoothed balanced accuracy on a validation split.

    Parameters
    ----------
    probabilities : ndarray of float, shape (n, labels)
    labels : ndarray of int, shape (n, labels)
        0 or 1; -1 is unknown and left out.

    Returns
    -------
    ndarray of float64, shape (labels,)
        Between the least and the greatest probability, in the middle of those that are equally good. 0.5 where only one
        class, or one probability, occurs. The answer is yes from the threshold on.
    """
    return np.array(
        [
            _choose_threshold(np.asarray(probabilities[rows, column], np.float64), labels[rows, column] > 0)
            for column, rows in enumerate((labels >= 0).T)
        ]
    )


def _choose_threshold(scores: Floats, truth: npt.NDArray[np.bool_]) -> float:
    if truth.all() or not truth.any() or scores.min() == scores.max():
        return 0.5
    sure = np.clip(scores, _SUREST, 1 - _SUREST)
    odds = np.log(sure / (1 - sure))
    places = np.linspace(odds.min(), odds.max(), _PLACES)
    merit = _share_above(odds[truth], places) - _share_above(odds[~truth], places)
    first = int(merit.argmax())
    as_good = np.append(merit[first:] == merit[first], False)  # where both classes lie far from here
    place = (places[first] + places[first + int(as_good.argmin()) - 1]) / 2
    return float(probabilities_of(place, "binary"))


def _share_above(odds: Floats, places: Floats) -> Floats:
    """Return which share of a class lies above each place, smoothed."""
    odds = np.sort(odds)  # so that sums do not depend on the pictures' order
    steepness = _LOGISTIC / _bandwidth(odds)
    each = max(1, _AT_ONCE // len(odds))
    parts = (places[start : start + each, None] for start in range(0, len(places), each))
    return np.concatenate([probabilities_of((odds - part) * steepness, "binary").mean(1) for part in parts])


def _bandwidth(values: Floats) -> float:
    """Return Silverman's: 0.9 of the lesser of two estimates of the spread, shrinking with the fifth root of n."""
    low, high = np.quantile(values, (0.25, 0.75))
    spread = min(values.std(), (high - low) / _NORMAL_QUARTILES) or values.std()
    return max(0.9 * float(spread) * len(values) ** -0.2, _NARROWEST)
