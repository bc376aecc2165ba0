"""Bars by label: accuracy and confusion of each attribute; precision, recall and F1 of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stylematch.evaluate.canvas import legend_below, new_figure, shortened, write_bars, write_figure
from stylematch.evaluate.plots import MOST_CLASSES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Told apart in grey print, and by the colour-blind.
_STRONG, _MIDDLE, _WEAK = "#1f6f8b", "#e0a458", "#c9cfd4"
_ANSWERS = (
    ("yes, rightly", _STRONG, "white"),
    ("no, wrongly", "#8c3b2a", "white"),
    ("yes, wrongly", _MIDDLE, "black"),
    ("no, rightly", _WEAK, "black"),
)
_WRITTEN = 0.045  # a share that is wide enough for its number


def plot_label_bars(path: Path, per_label: Mapping[str, Mapping[str, Any]], title: str) -> None:
    """Draw each label's accuracy beside that of always answering the more frequent label.

    Parameters
    ----------
    path : pathlib.Path
        The PNG to write.
    per_label : mapping
        What ``binary_figures`` says under this name; labels without an accuracy get no bar.
    title : str
        Above the plot.
    """
    figure, axes = _bars_of(list(per_label))
    places = np.arange(len(per_label))
    for key, offset, colour, label in (
        ("accuracy", -0.2, _STRONG, "accuracy at 0.5"),
        ("majority_accuracy", 0.2, _WEAK, "always the more frequent label"),
    ):
        values = [figures[key] or 0 for figures in per_label.values()]
        axes.barh(places + offset, values, height=0.4, color=colour, label=label)
    for place, figures in zip(places, per_label.values(), strict=True):
        if figures["accuracy"] is not None:
            axes.text(figures["accuracy"] + 0.004, place - 0.2, f"{figures['accuracy']:.3f}", va="center", fontsize=7)
    drawn = [v for f in per_label.values() for v in (f["accuracy"], f["majority_accuracy"]) if v is not None]
    start = max(0.0, float(np.floor(min(drawn, default=0) * 10 - 0.5)) / 10)
    axes.set(xlim=(start, 1.05), xlabel=f"accuracy (the axis starts at {start:.1f})")
    write_bars(path, figure, axes, title, columns=2)


def plot_label_confusion(
    path: Path,
    probabilities: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    names: Sequence[str],
    title: str,
) -> None:
    """Draw what each label's pictures were answered at 0.5, rightly and wrongly, as shares that add up to 1.

    Parameters
    ----------
    path : pathlib.Path
        The PNG to write.
    probabilities : ndarray of float, shape (n, labels)
    labels : ndarray of int, shape (n, labels)
        0 or 1; -1 is unknown and left out, label by label. A label without a known picture gets no bar.
    names : sequence of str
        One a label.
    title : str
        Above the plot.
    """
    said, known, truth = probabilities >= 0.5, labels >= 0, labels > 0
    counts = [(rows & known).sum(0) for rows in (said & truth, ~said & truth, said & ~truth, ~said & ~truth)]
    figure, axes = _bars_of(names)
    start = np.zeros(len(names))
    for (label, colour, ink), count in zip(_ANSWERS, counts, strict=True):
        shares = count / np.maximum(1, known.sum(0))
        axes.barh(np.arange(len(names)), shares, left=start, height=0.75, color=colour, label=label)
        for place, (left, share) in enumerate(zip(start, shares, strict=True)):
            if share >= _WRITTEN:
                where = (left + share / 2, place)
                axes.text(*where, f"{share:.2f}", ha="center", va="center", fontsize=6.5, color=ink)
        start = start + shares
    axes.set(xlim=(0, 1), xlabel="share of the pictures, by the answer at 0.5 (the true yes first)")
    legend_below(figure, axes, columns=4)
    write_figure(path, figure, axes, title)


def plot_class_bars(path: Path, per_label: Mapping[str, Mapping[str, Any]], title: str) -> None:
    """Draw precision, recall and F1 of each class, the most frequent first.

    Parameters
    ----------
    path : pathlib.Path
        The PNG to write.
    per_label : mapping
        What ``categorical_figures`` says under this name; what is undefined gets no bar, a class without a picture no
        row. Of more than 30 others, the 30 most frequent are drawn.
    title : str
        Above the plot.
    """
    order = sorted((name for name in per_label if per_label[name]["support"]), key=lambda n: -per_label[n]["support"])
    left_out = max(0, len(order) - MOST_CLASSES)
    order = order[:MOST_CLASSES]
    figure, axes = _bars_of([f"{shortened(name)} ({per_label[name]['support']:,})" for name in order], each=0.42)
    for key, offset, colour, label in (
        ("precision", -0.27, _MIDDLE, "precision"),
        ("recall", 0.0, _WEAK, "recall"),
        ("f1", 0.27, _STRONG, "F1"),
    ):
        values = [per_label[name][key] for name in order]
        axes.barh(np.arange(len(order)) + offset, [v or 0 for v in values], height=0.27, color=colour, label=label)
        for place, value in enumerate(values):
            if value is not None:
                axes.text(value + 0.004, place + offset, f"{value:.2f}", va="center", fontsize=5.5)
    axes.set(xlim=(0, 1.05), xlabel=f"without the {left_out} least frequent classes" if left_out else "")
    write_bars(path, figure, axes, title, columns=3)


def _bars_of(names: Sequence[str], *, each: float = 0.3) -> tuple[Figure, Axes]:
    """Return a figure with a row of ``each`` inches for every name, the first on top."""
    figure = new_figure(7.5, 1.4 + each * max(3, len(names)))
    axes = figure.subplots()
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(np.arange(len(names)), [shortened(name) for name in names], parse_math=False)
    return figure, axes
