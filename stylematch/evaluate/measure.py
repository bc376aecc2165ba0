"""Everything that is measured of a model on one data set: figures, intervals and subgroups, by label group.

The figures follow from a group's kind, so a new data set needs no code here. The result is plain JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from stylematch.data.labels import BinaryGroup, CategoricalGroup, Group, LabelSchema, PointGroup
from stylematch.errors import UserError
from stylematch.evaluate.intervals import Weights, bootstrap
from stylematch.evaluate.metrics import (
    CLASS_MEANS,
    MEANS,
    binary_figures,
    categorical_figures,
    coordinate_figures,
    landmark_figures,
)
from stylematch.evaluate.scores import binary_scores, categorical_scores, landmark_errors, ranking_scores
from stylematch.tables.contract import LANDMARKS
from stylematch.tables.shown import shown

SUBGROUPS = ("Male", "Young")
_SHARE = (0.0, 1.0)
Arrays = Mapping[str, npt.NDArray[Any]]
Floats = npt.NDArray[np.float64]


def measure(
    schema: LabelSchema,
    predictions: Arrays,
    targets: Arrays,
    *,
    thresholds: Arrays | None = None,
    mean_shape: Arrays | None = None,
    trained_counts: Arrays | None = None,
) -> dict[str, dict[str, Any]]:
    """Measure a model's predictions against labels.

    Parameters
    ----------
    schema : LabelSchema
        What the model predicts.
    predictions : mapping of str to ndarray of float, shape (n, width)
        By group: probabilities, or coordinates in units of the crop's side; such as ``Predictions.heads``.
    targets : mapping of str to ndarray
        By group, as ``stylematch.data.labels`` describes; a group that the data set lacks is left out of the result.
    thresholds : mapping of str to ndarray of float, shape (width,), optional
        By binary group, chosen on a validation split.
    mean_shape : mapping of str to ndarray of float, shape (width,), optional
        By point group, the mean of the training split: the baseline.
    trained_counts : mapping of str to ndarray of int, shape (width,), optional
        By categorical group, the training pictures of each class.

    Returns
    -------
    dict
        By group: what ``stylematch.evaluate.metrics`` says of its kind; ``intervals``, the 95 % bootstrap interval
        [low, high] of the means by their names, and within ``per_label`` of the scores of a label or class; and
        ``subgroups`` where a binary group has such labels.

    Raises
    ------
    UserError
        If a prediction is missing, is not finite, or predictions and targets do not fit together.
    """
    given, means, trained = thresholds or {}, mean_shape or {}, trained_counts or {}
    figures: dict[str, dict[str, Any]] = {}
    for group in schema.groups:
        if group.name not in targets:
            continue
        said, truth = _checked(group, predictions, targets[group.name])
        if isinstance(group, BinaryGroup):
            figures[group.name] = _measure_binary(group, said, truth, given.get(group.name))
        elif isinstance(group, CategoricalGroup):
            figures[group.name] = _measure_categorical(group, said, truth, trained.get(group.name))
        else:
            figures[group.name] = _measure_points(group, said, truth, means.get(group.name))
    return figures


def subgroup_figures(
    probabilities: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    names: Sequence[str],
    *,
    by: Sequence[str] = SUBGROUPS,
    thresholds: npt.NDArray[np.floating] | None = None,
) -> dict[str, dict[str, Any]]:
    """Measure the pictures with and those without an attribute apart, by their true labels.

    So that the two can be compared, their means go over the same labels: without the attribute itself, and without
    those of which one of the two has only one class (no woman of a few hundred has a goatee).

    Parameters
    ----------
    probabilities, labels, names, thresholds
        As ``binary_figures`` takes them.
    by : sequence of str
        The attributes; those that ``names`` lacks are passed over.

    Returns
    -------
    dict
        By attribute: ``"1"`` and ``"0"``, the means of ``binary_figures`` for the pictures with and without it;
        ``labels``, how many the means go over; ``left_out``, the names of the others; ``unknown``, the pictures whose
        label is not known. A half without a picture has None for figures, and leaves no label out.
    """
    subgroups: dict[str, dict[str, Any]] = {}
    for attribute in by:
        if attribute not in names:
            continue
        value = labels[:, list(names).index(attribute)]
        halves = {key: np.flatnonzero(value == int(key)) for key in ("1", "0")}
        shared = np.array([name != attribute for name in names])
        for rows in halves.values():
            if len(rows):
                shared &= (labels[rows] == 1).any(0) & (labels[rows] == 0).any(0)
        kept = np.flatnonzero(shared)
        cut = None if thresholds is None else np.asarray(thresholds)[kept]
        for key, rows in halves.items():
            figures = binary_figures(
                probabilities[np.ix_(rows, kept)],
                labels[np.ix_(rows, kept)],
                [names[column] for column in kept.tolist()],
                thresholds=cut,
            )
            for detail in ("per_label", "unknown_cells", "unknown_labels", "one_class_labels"):
                del figures[detail]
            subgroups.setdefault(attribute, {})[key] = figures
        subgroups[attribute] |= {
            "labels": len(kept),
            "left_out": [name for name, is_shared in zip(names, shared, strict=True) if not is_shared],
            "unknown": int((value < 0).sum()),
        }
    return subgroups


def _measure_binary(
    group: BinaryGroup, said: Floats, truth: npt.NDArray[np.integer], thresholds: npt.NDArray[np.floating] | None
) -> dict[str, Any]:
    def scores(weights: Weights) -> dict[str, Floats]:
        each = binary_scores(said, truth, weights, thresholds)
        return {MEANS[key]: _row_means(values) for key, values in each.items()} | _by_label(each)

    figures = binary_figures(said, truth, group.labels, thresholds=thresholds)
    _add_intervals(figures, bootstrap(scores, len(truth), bounds=_SHARE))
    if subgroups := subgroup_figures(said, truth, group.labels, thresholds=thresholds):
        figures["subgroups"] = subgroups
    return figures


def _measure_categorical(
    group: CategoricalGroup, said: Floats, truth: npt.NDArray[np.integer], trained: npt.NDArray[np.integer] | None
) -> dict[str, Any]:
    known = truth >= 0

    def scores(weights: Weights) -> dict[str, Floats]:
        every = categorical_scores(said[known], truth[known], weights) | ranking_scores(
            said[known], truth[known], weights
        )
        each = {name: values for name, values in every.items() if values.ndim == 2}
        means = {mean: _row_means(each[key]) for key, mean in CLASS_MEANS.items()}
        return {name: values for name, values in every.items() if values.ndim == 1} | means | _by_label(each)

    figures = categorical_figures(said, truth, group.labels, trained_counts=trained)
    _add_intervals(figures, bootstrap(scores, int(known.sum()), bounds=_SHARE))
    return figures


def _measure_points(
    group: PointGroup, said: Floats, truth: npt.NDArray[np.floating], mean: npt.NDArray[np.floating] | None
) -> dict[str, Any]:
    if group.labels != LANDMARKS:
        figures = coordinate_figures(said, truth, group.labels, mean)
        if not set(LANDMARKS) <= set(group.labels):
            return figures
        columns = [group.labels.index(name) for name in LANDMARKS]
        landmarks = PointGroup(group.name, LANDMARKS)
        return figures | _measure_points(
            landmarks, said[:, columns], truth[:, columns], None if mean is None else mean[columns]
        )
    errors = landmark_errors(said, truth)
    errors = errors[np.isfinite(errors)]

    def means(weights: Weights) -> dict[str, Floats]:
        return {"normalised_mean_error": weights @ errors / max(1, len(errors))}

    return landmark_figures(said, truth, mean) | {"intervals": bootstrap(means, len(errors), bounds=(0, np.inf))}


def _by_label(each: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return the columns of scores by their names and places."""
    return {f"{name}/{place}": column for name, values in each.items() for place, column in enumerate(values.T)}


def _add_intervals(figures: dict[str, Any], intervals: Mapping[str, list[float] | None]) -> None:
    """Put the intervals of means, and those of labels from ``_by_label``, where their figures are."""
    labels = list(figures["per_label"].values())
    figures["intervals"] = {}
    for label in labels:
        label["intervals"] = {}
    for key, ends in intervals.items():
        name, _, place = key.partition("/")
        (labels[int(place)] if place else figures)["intervals"][name] = ends


def _row_means(values: Floats) -> Floats:
    """Return the mean of each row's values that are not NaN, NaN where none is."""
    there = np.isfinite(values)
    total = np.where(there, values, 0).sum(1)
    return np.divide(total, there.sum(1), out=np.full(len(values), np.nan), where=there.any(1))


def _checked(group: Group, predictions: Arrays, truth: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    what = f"label group '{shown(group.name)}'"
    if group.name not in predictions:
        raise UserError(f"There are no predictions for the {what}; measure a model that has it.")
    said, wide = predictions[group.name], (len(truth), group.width)
    expected = wide[:1] if group.kind == "categorical" else wide
    if said.shape != wide or truth.shape != expected:
        raise UserError(
            f"The {what} wants predictions {wide} and targets {expected}, there are {said.shape} and {truth.shape}; "
            "the model and the data set do not belong together."
        )
    if (broken := np.flatnonzero(~np.isfinite(said).all(1))).size:
        raise UserError(
            f"{broken.size} of {len(said)} predictions for the {what} are not finite, the first in row {broken[0]}; "
            "the model is damaged or its training diverged: train it again."
        )
    most = {"binary": 1, "categorical": group.width - 1}.get(group.kind)
    if most is not None and truth.size and (truth.min() < -1 or truth.max() > most):
        raise UserError(f"The {what} has a target outside -1 (unknown) to {most}; its labels were read wrongly.")
    return said, truth
