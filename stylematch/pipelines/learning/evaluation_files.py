"""What ``evaluate`` leaves: figures, a model card and plots, which appear by one rename.

Only an earlier evaluation gives way to it: of any other folder, such as the bundle's own, nothing is replaced.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stylematch.data.labels import LabelSchema
from stylematch.errors import MissingExtraError
from stylematch.evaluate.bar_plots import plot_class_bars, plot_label_bars, plot_label_confusion
from stylematch.evaluate.card import card_text
from stylematch.evaluate.plots import plot_confusion, plot_reliability
from stylematch.tables.disk import write_durably
from stylematch.tables.replace import DirectoryKind
from stylematch.vision.bundle import CARD, FIGURES, Bundle

PLOTS = "plots"
_PICTURES = "the pictures that each title names"
EVALUATION = DirectoryKind("an evaluation", FIGURES, lambda _, name: name in (CARD, PLOTS))


@dataclass(frozen=True)
class Measured:
    """What a model said of one set of labelled pictures.

    Attributes
    ----------
    title : str
        What figures and plots call the set.
    heads : mapping of str to ndarray of float, shape (n, width)
        What the model said, by group.
    targets : mapping of str to ndarray
        What is true, by group, as ``Examples.targets`` has it.
    figures : dict
        What was measured, by group.
    """

    title: str
    heads: Mapping[str, npt.NDArray[np.floating]]
    targets: Mapping[str, npt.NDArray[Any]]
    figures: dict[str, Any]


def write_evaluation(out: Path, bundle: Bundle, measured: Sequence[Measured], device: str) -> str | None:
    """Write an evaluation's folder; return why it has no plots, or None where it has them.

    Parameters
    ----------
    out : pathlib.Path
        Absent, empty, or an earlier evaluation.
    bundle : Bundle
        What was measured; what its own ``figures.json`` says of the training is kept.
    measured : sequence of Measured
        One for each set of pictures.
    device : {"cpu", "cpu-bf16", "cuda"}
        Where the model ran.

    Raises
    ------
    UserError
        OUT holds something else.
    StylematchError
        OUT cannot be written.
    """
    figures = {
        **_read_json(bundle.directory / FIGURES),
        "device": device,
        "measured": {part.title: part.figures for part in measured},
    }
    with EVALUATION.replaced(out) as staged:
        write_durably(staged / FIGURES, (json.dumps(figures, indent=2) + "\n").encode())
        write_durably(staged / CARD, card_text(bundle, figures, _PICTURES, device).encode())
        plots = staged / PLOTS
        plots.mkdir()
        try:
            for part in measured:
                _draw(bundle.schema, part, plots)
        except MissingExtraError as error:  # at the first plot; the figures are worth keeping
            plots.rmdir()
            return str(error)
    return None


def _draw(schema: LabelSchema, measured: Measured, folder: Path) -> None:
    stem = "".join(c if c.isalnum() else "-" for c in measured.title).strip("-")
    for group in schema.groups:
        if group.kind == "points" or group.name not in measured.targets:
            continue
        title = f"{measured.title}: {group.name}"
        said, truth = measured.heads[group.name], measured.targets[group.name]
        bars, confusion = (folder / f"{stem}-{group.name}{part}.png" for part in ("", "-confusion"))
        if group.kind == "binary":
            plot_label_bars(bars, measured.figures[group.name]["per_label"], title)
            plot_label_confusion(confusion, said, truth, group.labels, title)
            known = truth >= 0
            confidence, hit = said[known], truth[known] == 1
        else:
            plot_class_bars(bars, measured.figures[group.name]["per_label"], title)
            plot_confusion(confusion, said, truth, group.labels, title)
            known = truth >= 0
            confidence, hit = said[known].max(1), said[known].argmax(1) == truth[known]
        plot_reliability(
            folder / f"{stem}-{group.name}-reliability.png", {group.name: (confidence, hit)}, title, group.kind
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
