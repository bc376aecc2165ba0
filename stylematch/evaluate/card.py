"""The model card: what a bundle is, what it learned from, what was measured and what it must not be used for.

Follows Mitchell et al., "Model Cards for Model Reporting", FAT* 2019: details, intended use and misuse, data, metrics
with intervals and baselines, figures by subgroup, calibration, caveats. It is made of the bundle and ``figures.json``
alone; what was not measured is not in it, and what is undefined is shown as an en dash.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stylematch.data.labels import Group
from stylematch.evaluate.card_words import ANY_INTENDED, ANY_NOT_FOR, ANY_TAGS, DATA, INTENDED, NOT_FOR
from stylematch.evaluate.headlines import BASELINES, FIGURE_NAMES, POINTS_SOURCE
from stylematch.evaluate.markdown import UNDEFINED, markdown_table, markdown_text, shown_interval, shown_number
from stylematch.settings.train_data import FOLDERS, TABLE, TAGS
from stylematch.tables.disk import write_durably
from stylematch.vision.bundle import CARD, Bundle

_SUBGROUP_COLUMNS = (
    "count",
    "accuracy",
    "majority_accuracy",
    "balanced_accuracy",
    "balanced_accuracy_at_thresholds",
    "macro_f1",
    "mean_average_precision",
    "expected_calibration_error",
)
_COUNTED = {
    "unknown": "pictures without a known label",
    "unknown_cells": "cells (a picture's label) that are unknown",
    "unknown_labels": "labels without any known picture",
}
HELD_OUT = "pictures that nothing was learned from"
"""What a training measures on; which pictures somebody else names, only they can say."""
_RUNTIMES = {"cpu": "ONNX Runtime", "cpu-bf16": "OpenVINO in bfloat16", "cuda": "torch on CUDA"}
_HOW = (
    "Measured on the exported bundle in {runtime}, on {pictures}. Accuracy and F1 are at the threshold 0.5. The "
    "baseline of an accuracy is that of always answering the more (or most) frequent label, of points that of always "
    "answering the mean position. Errors of landmarks are relative to the distance between the eyes. Intervals are as "
    "wide as the middle 95 % of 1,000 bootstrap resamples of the pictures (Efron, 1979), "
    "moved so that the resamples' median is the figure itself (Efron, 1981). The calibration error has 15 equal-width "
    "bins, of a yes/no label by the probability of yes, of a category by that of the answer (Guo "
    f"et al., 2017). {UNDEFINED} is what is undefined, such as the recall of a label that never occurs; means leave "
    "it out."
)


def write_card(bundle: Bundle, figures: dict[str, Any]) -> None:
    """Write ``MODEL_CARD.md`` into a bundle.

    Parameters
    ----------
    bundle : Bundle
        The model.
    figures : dict
        What ``figures.json`` says: ``job``, ``learned_from``, ``measured`` (data set -> group -> figures, as
        ``stylematch.evaluate.measure`` returns them) and, where there are, ``data`` (what was left out, by name) and
        ``calibration`` (group -> what ``calibration_figures`` returns). Thresholds are the bundle's own.
    """
    write_durably(bundle.directory / CARD, card_text(bundle, figures).encode())


def card_text(bundle: Bundle, figures: dict[str, Any], pictures: str = HELD_OUT, device: str = "cpu") -> str:
    """Return the card as Markdown; arguments as ``write_card`` takes them.

    Parameters
    ----------
    pictures : str
        What the figures were measured on, in words.
    device : {"cpu", "cpu-bf16", "cuda"}
        Where the model ran.
    """
    groups = bundle.schema.groups
    job = figures.get("job", {})  # a bundle that was copied without its figures has none
    dataset = job.get("settings", bundle.description).get("data", {}).get("dataset")
    own = dataset in (TABLE, FOLDERS)  # what a group means that is called as a known one is its owner's to say
    built = bundle.description["architecture"]
    lines = [
        f"# {markdown_text(bundle.name)}",
        "",
        f"- Network: {markdown_text(built['backbone'])}, "
        f"{bundle.description['parameters']:,} parameters, {bundle.input_px} px input, "
        f"embedding of {bundle.embedding_dim} dimensions"
        + (", answers by the mean of a picture and its mirror image" * bool(built.get("mirror")))
        + (", computes in whole numbers of eight bits" * bundle.int8),
        f"- Predicts: {', '.join(f'{markdown_text(g.name)} ({g.kind}, {g.width})' for g in groups)}",
        *([f"- Learned from: {figures['learned_from']:,} pictures (job {markdown_text(job['name'])})"] if job else []),
        f"- Licence: {markdown_text(bundle.description['licence'])}",
        "",
        "## Intended use",
        "",
        *_unique((None if own else INTENDED.get(group.name)) or _any_intended(group) for group in groups),
        "",
        "## Must not be used for",
        "",
        *_unique(ANY_NOT_FOR if own else NOT_FOR.get(group.name, ANY_NOT_FOR) for group in groups),
        "",
        "## Data",
        "",
        DATA.get(dataset) or f"The data set {markdown_text(dataset or 'that the job names')}; its own licence holds.",
        "",
        *_notes(figures.get("data", {})),
        "## Figures",
        "",
        _HOW.format(pictures=pictures, runtime=_RUNTIMES[device])
        if figures["measured"]
        else "Nothing was measured: the data had no part to test on.",
        "",
    ]
    for data_set, by_group in figures["measured"].items():
        lines += [f"### {markdown_text(data_set)}", ""]
        for group, values in by_group.items():
            lines += _group_lines(group, values)
    started = job.get("settings", {}).get("model", {}).get("start_from")
    calibrated = started is not None and not started.endswith(".ckpt")  # a training's own, before it is calibrated
    lines += _calibration_lines(figures.get("calibration", {}), bundle.description.get("thresholds", {}), calibrated)
    return "\n".join(lines).rstrip() + "\n"


def _any_intended(group: Group) -> str:
    if group.name == TAGS:
        return ANY_TAGS.format(", ".join(markdown_text(label) for label in group.labels))
    return ANY_INTENDED.format(markdown_text(group.name))


def _notes(notes: Mapping[str, Any]) -> list[str]:
    """Return what was dropped or left out of the data, a line each."""
    lines = []
    for name, value in notes.items():
        inner = value.items() if isinstance(value, dict) else ()
        if isinstance(value, list):
            value = ", ".join(map(str, value))
        shown_value = ", ".join(f"{_words(key)} {shown_number(item)}" for key, item in inner) or shown_number(value)
        lines.append(f"- {_words(name)}: {shown_value}")
    return [*lines, ""] if lines else []


def _group_lines(group: str, values: Mapping[str, Any]) -> list[str]:
    """Return one group's figures: what it is, the means, the subgroups, the labels."""
    apart = {*FIGURE_NAMES, *BASELINES, POINTS_SOURCE}
    plain = {key: value for key, value in values.items() if not isinstance(value, dict | list) and key not in apart}
    what = [markdown_text(group), *_points_are(values)]
    counts = ", ".join(f"{_COUNTED.get(key) or _words(key)} {shown_number(value)}" for key, value in plain.items())
    lines = [f"**{', '.join(what)}**" + (f": {counts}" if counts else ""), ""]
    intervals = values.get("intervals", {})
    rows = []
    for key, (title, baseline) in FIGURE_NAMES.items():
        if key in values:
            compared = values.get(baseline) if isinstance(baseline, str) else baseline
            if key == "balanced_accuracy":  # of categories it is no half
                compared = values.get("majority_balanced_accuracy", compared)
            rows.append([title, shown_number(values[key]), shown_interval(intervals.get(key)), shown_number(compared)])
    if rows:
        lines += markdown_table(["figure", "value", "95 % interval", "baseline"], rows)
    for attribute, halves in values.get("subgroups", {}).items():
        lines += _subgroup_lines(attribute, halves)
    if best := values.get("best_classes"):
        named = ", ".join(f"{markdown_text(b['name'])} ({shown_number(b['recall'])} of {b['support']:,})" for b in best)
        lines += [f"Best classes by recall: {named}.", ""]
    if never := values.get("never_trained"):
        here = {name: support for name, support in never["classes"].items() if support}
        named = ", ".join(f"{markdown_text(name)} ({support:,})" for name, support in here.items())
        others = len(never["classes"]) - len(here)
        absent = f"; {others:,} more have none" if others else ""
        lines += [
            f"Classes that never occur in training, and their pictures here: {named or 'none'}{absent}. Accuracy on "
            f"these {never['count']:,} pictures: {shown_number(never['accuracy'])}.",
            "",
        ]
    if per_label := values.get("per_label"):
        columns = list(dict.fromkeys(key for label in per_label.values() for key in label if key != "intervals"))
        table = [
            [markdown_text(name), *(_with_interval(label, c) for c in columns)] for name, label in per_label.items()
        ]
        lines += markdown_table([markdown_text(group), *(_words(column) for column in columns)], table)
    return lines


def _with_interval(figures: Mapping[str, Any], key: str) -> str:
    """Return one figure of a label, and its interval in brackets where there is one."""
    ends = figures.get("intervals", {}).get(key)
    return shown_number(figures.get(key)) + (f" ({shown_interval(ends)})" if ends else "")


def _subgroup_lines(attribute: str, halves: Mapping[str, Any]) -> list[str]:
    columns = [column for column in _SUBGROUP_COLUMNS if any(column in halves[key] for key in ("1", "0"))]
    rows = [
        [f"{markdown_text(attribute)} = {key}", *(shown_number(halves[key].get(column)) for column in columns)]
        for key in ("1", "0")
    ]
    left_out = ", ".join(markdown_text(name) for name in halves["left_out"])
    return [
        *markdown_table(["subgroup", *(_words(column) for column in columns)], rows),
        f"Both rows are means over the same {halves['labels']} labels: without {left_out}, which are the attribute "
        "itself and those of which one of the two subgroups has only one class.",
        "",
    ]


def _points_are(values: Mapping[str, Any]) -> list[str]:
    """Say whose points a landmark figure is measured against."""
    if "normalised_mean_error" not in values:
        return []
    source = values.get(POINTS_SOURCE)
    return [f"against {markdown_text(source)}" if source else "against points of unknown origin"]


def _calibration_lines(
    calibration: Mapping[str, Mapping[str, Any]], thresholds: Mapping[str, Any], calibrated: bool
) -> list[str]:
    if not calibration and not thresholds:
        return []
    keys = ("pictures", "expected_calibration_error_before", "expected_calibration_error_after")
    rows = [
        [markdown_text(group), *(shown_number(values.get(key)) for key in keys)]
        for group, values in calibration.items()
    ]
    lines = [
        "## Calibration",
        "",
        "Fitted and measured on the validation split: temperatures, which divide the logits (Guo et al., 2017; they "
        "are in the bundle's weights), and thresholds for the best balanced accuracy.",
        "",
    ]
    if calibrated and rows:
        lines += [
            "The training started from a bundle that was calibrated: its temperatures were in the weights already, so "
            '"before" is no uncalibrated network, and these temperatures are what came on top.',
            "",
        ]
    lines += markdown_table(["group", "pictures", "calibration error before", "after"], rows) if rows else []
    for group in dict.fromkeys((*calibration, *thresholds)):
        fitted, chosen = calibration.get(group, {}).get("temperature", {}), thresholds.get(group, {})
        names = dict.fromkeys((*fitted, *chosen))
        table = [
            [markdown_text(name), shown_number(fitted.get(name)), shown_number(chosen.get(name))] for name in names
        ]
        lines += markdown_table([markdown_text(group), "temperature", "threshold"], table) if table else []
    return lines


def _words(key: str) -> str:
    return markdown_text(key.replace("_", " "))


def _unique(sentences: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(sentences))
