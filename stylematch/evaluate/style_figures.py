"""How good opinions on styles are, against the style that a rule set gives to the true labels.

- Log loss: the mean of -log of the probability that an opinion gives to the true style, a proper score (Good,
  "Rational Decisions", Journal of the Royal Statistical Society B 14, 1952). Macro-F1: over the styles with at least
  30 faces.
- Paired differences: both opinions are scored on the same resample, so what makes a face hard for both falls out.
- Two intervals: over pictures, and over people. Pictures of one person are not independent, so the second is the
  wider and the more honest one; it draws whole people (Davison and Hinkley, "Bootstrap Methods and their
  Application", 1997, section 3.8).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stylematch.evaluate.calibration import calibration_errors
from stylematch.evaluate.intervals import Weights, bootstrap
from stylematch.evaluate.scores import categorical_scores, published

LEAST_FACES = 30
Floats = NDArray[np.float64]


def opinion_figures(
    opinions: Mapping[str, Floats],
    truth: NDArray[np.int64],
    people: NDArray[np.int64],
    styles: Sequence[str],
    *,
    pooled: str,
) -> dict[str, Any]:
    """Measure opinions, and one of them against each of the others.

    Parameters
    ----------
    opinions : mapping of str to ndarray of float64, shape (n, S)
        Distributions over the styles, by name.
    truth : ndarray of int64, shape (n,)
        True styles.
    people : ndarray of int64, shape (n,)
        Whose face it is.
    styles : sequence of str
        Their names.
    pooled : str
        The opinion that the others are compared with.

    Returns
    -------
    dict
        ``faces``, ``people``, ``support`` (faces by style), ``opinions`` (by name: ``log_loss``, ``accuracy``,
        ``macro_f1``, ``expected_calibration_error``, ``intervals`` over pictures, ``per_style``) and ``against`` (by
        name of the other: ``log_loss`` and ``macro_f1``, each the pooled one's minus the other's, with its interval
        over pictures and over people).
    """
    support = np.bincount(truth, minlength=len(styles))
    frequent = np.flatnonzero(support >= LEAST_FACES)
    losses = {name: -np.log(said[np.arange(len(truth)), truth]) for name, said in opinions.items()}

    def scores(weights: Weights) -> dict[str, Floats]:
        values: dict[str, Floats] = {}
        exact = weights.astype(np.float64)
        for name, said in opinions.items():
            values[f"{name}/log_loss"] = exact @ losses[name] / exact.sum(1)
            f1 = categorical_scores(said, truth, weights)["f1"][:, frequent]
            values[f"{name}/macro_f1"] = np.nanmean(f1, axis=1) if len(frequent) else np.full(len(f1), np.nan)
        for name in opinions:
            for score in ("log_loss", "macro_f1"):
                values[f"against {name}/{score}"] = values[f"{pooled}/{score}"] - values[f"{name}/{score}"]
        return values

    names, person = np.unique(people, return_inverse=True)
    figures = {name: published(values[0]) for name, values in scores(np.ones((1, len(truth)), np.float32)).items()}
    over_pictures = bootstrap(scores, len(truth))
    over_people = bootstrap(lambda weights: scores(weights[:, person]), len(names))
    return {
        "faces": len(truth),
        "people": len(names),
        "support": dict(zip(styles, support.tolist(), strict=True)),
        "opinions": {
            name: {
                "log_loss": figures[f"{name}/log_loss"],
                "accuracy": published((said.argmax(1) == truth).mean()),
                "macro_f1": figures[f"{name}/macro_f1"],
                "expected_calibration_error": published(calibration_errors(said, truth)[0]),
                "intervals": {score: over_pictures[f"{name}/{score}"] for score in ("log_loss", "macro_f1")},
                "per_style": _per_style(said, losses[name], truth, styles),
            }
            for name, said in opinions.items()
        },
        "against": {
            name: {
                score: {
                    "difference": figures[f"against {name}/{score}"],
                    "over_pictures": over_pictures[f"against {name}/{score}"],
                    "over_people": over_people[f"against {name}/{score}"],
                }
                for score in ("log_loss", "macro_f1")
            }
            for name in opinions
            if name != pooled
        },
    }


def _per_style(
    said: Floats, losses: Floats, truth: NDArray[np.int64], styles: Sequence[str]
) -> dict[str, dict[str, float | None]]:
    f1 = categorical_scores(said, truth, np.ones((1, len(truth)), np.float32))["f1"][0]
    return {
        style: {
            "log_loss": published(losses[truth == place].mean()) if (truth == place).any() else None,
            "f1": published(f1[place]),
        }
        for place, style in enumerate(styles)
    }
