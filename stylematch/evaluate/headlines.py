"""What was measured, in a line for each group of labels, and what figures are called where people read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stylematch.evaluate.markdown import shown_number
from stylematch.tables.shown import shown

POINTS_SOURCE = "points_source"
"""The key in a point group's figures of whose the points are, as the data set says; absent where it says nothing."""
FIGURE_NAMES: dict[str, tuple[str, str | float | None]] = {
    "accuracy": ("accuracy", "majority_accuracy"),
    "accuracy_seen": ("accuracy, classes that occur in training", "majority_accuracy_seen"),
    "top5_accuracy": ("top-5 accuracy", "majority_top5_accuracy"),
    "balanced_accuracy": ("balanced accuracy", 0.5),
    "balanced_accuracy_at_thresholds": ("balanced accuracy at the thresholds chosen on validation", 0.5),
    "macro_f1": ("macro-F1", None),
    "mean_average_precision": ("mean average precision", None),
    "expected_calibration_error": ("expected calibration error", None),
    "normalised_mean_error": ("normalised mean error", "mean_shape_error"),
    "mean_absolute_error": ("mean absolute error", "mean_answer_error"),
}
"""By figure: what a person calls it, and the figure that is its baseline (or a number that chance gives)."""
BASELINES = {
    "majority_balanced_accuracy",
    *(baseline for _, baseline in FIGURE_NAMES.values() if isinstance(baseline, str)),
}
"""The figures that only stand beside others."""
PICTURES = "pictures"
"""The key, among the groups, of how many pictures were measured and left out."""
PERHAPS_LEARNED = "perhaps learned from"
"""The key there of how many of them are of a training part that the model may have learned from."""


def headlines(measured: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Give one line of means for each data set and group that has any, and one for what was left out of a data set.

    Parameters
    ----------
    measured : mapping
        By data set and group, as ``figures.json`` has them.
    """
    for title, groups in measured.items():
        lines = [line for group, figures in groups.items() if group != PICTURES for line in _lines(group, figures)]
        for line in lines or [": nothing measured, as no picture has a label that the model knows"]:
            yield f"{shown(title)}{line}"
        if left_out := groups.get(PICTURES, {}).get("left_out"):
            yield f"{shown(title)}: {left_out:,} {'pictures' if left_out > 1 else 'picture'} left out"
        if learned := groups.get(PICTURES, {}).get(PERHAPS_LEARNED):
            yield f"{shown(title)}: {learned:,} of its pictures {PERHAPS_LEARNED}"


def _lines(group: str, figures: Mapping[str, Any]) -> Iterator[str]:
    if said := "; ".join(_said(figures)):
        whose = f" ({shown(figures[POINTS_SOURCE])})" if POINTS_SOURCE in figures else ""
        yield f", {shown(group)}{whose} of {figures['count']:,} pictures: {said}"


def _said(figures: Mapping[str, Any]) -> Iterator[str]:
    for key, (name, baseline) in FIGURE_NAMES.items():
        if figures.get(key) is None or (key == "accuracy_seen" and figures[key] == figures.get("accuracy")):
            continue
        of_baseline = figures.get(baseline) if isinstance(baseline, str) else None
        beside = "" if of_baseline is None else f" (baseline {shown_number(of_baseline)})"
        yield f"{name} {shown_number(figures[key])}{beside}"
