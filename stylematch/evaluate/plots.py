"""Pictures of the figures: reliability diagram, confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from stylematch.evaluate.calibration import BINS, expected_calibration_error, reliability_bins
from stylematch.evaluate.canvas import new_figure, shortened, write_figure

MOST_CLASSES = 30
# What was said, what was true, and the distance of the two.
_RELIABILITY = {
    "binary": ("probability of yes", "share of yes", "pooled error"),
    "categorical": ("confidence", "share of right answers", "error"),
}


def plot_reliability(
    path: Path,
    curves: Mapping[str, tuple[npt.NDArray[np.floating], npt.NDArray[np.bool_]]],
    title: str,
    kind: Literal["binary", "categorical"] = "categorical",
) -> None:
    """Draw how often is right what was said with how much confidence, and how often it was said.

    Of yes/no labels it is how often yes is true of what was given which probability of yes, all labels together: the
    legend's error is pooled over them, and not the mean over labels that figures have.

    Parameters
    ----------
    path : pathlib.Path
        The PNG to write.
    curves : mapping of str to (confidence float (n,), hit bool (n,))
        By what the legend calls them, such as "before" and "after"; see ``stylematch.evaluate.calibration``.
    title : str
        Above the plot.
    kind : {"binary", "categorical"}
        What the group is, which says what the axes are.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed; so do the other plots.
    """
    said_name, true_name, error_name = _RELIABILITY[kind]
    figure = new_figure(5.5, 6.5)
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle="--", label="perfectly calibrated")
    edges = np.linspace(0, 1, BINS + 1)
    for number, (name, (confidence, hit)) in enumerate(curves.items()):
        said, true, rows = reliability_bins(confidence, hit)
        there = rows > 0
        error = expected_calibration_error(confidence, hit)
        colour = f"C{number}"
        label = shortened(name).replace("$", r"\$") + f" ({error_name} {error:.3f})"
        axes.plot(said[there], true[there], marker="o", markersize=4, color=colour, label=label)
        below.stairs(rows / max(1, rows.sum()), edges, color=colour)
    axes.set(ylabel=true_name, xlim=(0, 1), ylim=(0, 1))
    below.set(xlabel=said_name, ylabel="share of answers", ylim=(0, None))
    axes.legend(loc="upper left", fontsize=8, frameon=False)
    for part in (axes, below):
        part.grid(linewidth=0.4)
    write_figure(path, figure, axes, title)


def plot_confusion(
    path: Path,
    probabilities: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    names: Sequence[str],
    title: str,
) -> None:
    """Draw what was answered (columns) where what was true (rows), as shares of each row.

    Parameters
    ----------
    path : pathlib.Path
        The PNG to write.
    probabilities : ndarray of float, shape (n, classes)
    labels : ndarray of int, shape (n,)
        -1 is unknown and left out.
    names : sequence of str
        One a class. Of more than 30 that occur, the 30 most frequent are drawn, and answers among the others are one
        more column.
    title : str
        Above the plot.
    """
    known = labels >= 0
    said, truth = probabilities[known].argmax(1), labels[known]
    support = np.bincount(truth, minlength=len(names))
    order = np.argsort(-support, kind="stable")
    if len(names) > MOST_CLASSES:
        order = order[:MOST_CLASSES]
        order = order[support[order] > 0]
    column = np.full(len(names), len(order))
    column[order] = np.arange(len(order))
    counts = np.zeros((len(order) + 1, len(order) + 1))
    np.add.at(counts, (column[truth], column[said]), 1)
    columns = [shortened(names[k]) for k in order]
    counts = counts[:-1]
    if counts[:, -1].any():
        columns.append("(others)")
    else:
        counts = counts[:, :-1]
    shares = counts / np.maximum(1, support[order])[:, None]
    side = max(4.5, 2.2 + 0.34 * len(columns))
    figure = new_figure(side + 0.6, side)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=8, parse_math=False)
    rows = [f"{shortened(names[k])} ({support[k]:,})" for k in order]
    axes.set_yticks(range(len(rows)), rows, fontsize=8, parse_math=False)
    axes.set(xlabel="answered", ylabel="true (pictures)")
    for (row, place), share in np.ndenumerate(shares):
        if share >= 0.005:
            colour = "white" if share > 0.6 else "black"
            axes.text(
                place,
                row,
                f"{share:.2f}"[0 if share >= 0.995 else 1 :],
                ha="center",
                va="center",
                fontsize=6,
                color=colour,
            )
    figure.colorbar(image, ax=axes, shrink=0.6, label="share of the row")
    write_figure(path, figure, axes, title, trimmed=True)
