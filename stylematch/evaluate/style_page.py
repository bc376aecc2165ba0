"""The figures of ``rules fit`` as a page: what each opinion is worth, in the mean and for each style."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stylematch.evaluate.markdown import UNDEFINED, markdown_table, markdown_text
from stylematch.evaluate.style_figures import LEAST_FACES

_NAMES = {
    "rules": "rules alone",
    "rules_fitted": "rules alone, fitted",
    "neighbours": "neighbours alone",
    "neighbours_fitted": "neighbours alone, fitted",
    "pooled": "**pooled**",
}
_COMPARED = ("rules", "neighbours", "pooled")
_INTRODUCTION = f"""\
# What rules, neighbours and their pool are worth

Written by `stylematch-batch rules fit`; [How a face gets its style](style.md) says what the three are. True is the
style that the same rules give to the true labels. *Fitted* baselines have their own sharpness and prior (the neighbours
also their own vote), fitted on the same people as the pool. Macro-F1 is over the styles with at least {LEAST_FACES}
faces. Intervals hold 95 % of 1,000 bootstrap resamples; differences are paired, the pool's figure minus the other's, so
that a negative difference of log loss says that the pool is better. An interval over people draws whole people, because
pictures of one person are not independent. *Neighbours alone* is their vote by similarity, as `neighbour_style` of the
tables says it; the pool hears them weighed by what the model says of the face.
"""


def style_page(figures: Mapping[str, Any]) -> str:
    """Return the page in Markdown.

    Parameters
    ----------
    figures : mapping
        What ``rules fit`` measured: ``rule_sets`` by name, each with ``fit`` and ``measured`` (by title what
        ``opinion_figures`` returns).
    """
    parts = [
        _INTRODUCTION,
        f"Attribute model `{figures['sha256']['bundle'][:12]}`, fitted to {markdown_text(figures['fitted_to'])}.\n",
    ]
    for name, of_set in figures["rule_sets"].items():
        vote, weights = of_set["fit"]["vote"], of_set["fit"]["weights"]
        parts.append(
            f"## {markdown_text(name)}\n\nk = {vote['k']}, temperature {vote['temperature']}, "
            f"pseudo-count {vote['pseudo_count']}, agreement {vote['agreement']}; "
            f"weights: rules {weights['rules']:.3f}, neighbours {weights['neighbours']:.3f}, "
            f"prior {weights['prior']:.3f}.\n"
        )
        for title, measured in of_set["measured"].items():
            parts.append("\n".join(_means(title, measured)))
        parts.append("\n".join(_by_style(of_set["measured"])))
    return "\n".join(parts)


def _means(title: str, measured: Mapping[str, Any]) -> list[str]:
    people = f" of {measured['people']:,} people" if measured["people"] < measured["faces"] else ""
    rows = []
    for key, name in _NAMES.items():
        said = measured["opinions"][key]
        differences = ["", ""]
        if key in measured["against"]:
            against = measured["against"][key]
            differences = [_difference(against[score], people) for score in ("log_loss", "macro_f1")]
        cells = [
            f"{_number(said[score])} {_interval(said['intervals'][score], '{:.3f}')}"
            for score in ("log_loss", "macro_f1")
        ]
        cells += [_number(said[score]) for score in ("accuracy", "expected_calibration_error")]
        rows.append([name, *cells, *differences])
    head = ("opinion", "log loss", "macro-F1", "accuracy", "calibration error", "pool minus this: log loss", "macro-F1")
    return [f"### {markdown_text(title)}: {measured['faces']:,} faces{people}", "", *markdown_table(head, rows)]


def _by_style(by_title: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for title, measured in by_title.items():
        scored = f"log loss of the faces that have it, and F1, of {', '.join(_COMPARED)}"
        yield f"{markdown_text(title)}, by style: {scored}\n"
        rows = []
        for style, count in measured["support"].items():
            values = [
                _number(measured["opinions"][key]["per_style"][style][score])
                for score in ("log_loss", "f1")
                for key in _COMPARED
            ]
            rows.append([markdown_text(style), str(count), *values])
        scores = [f"{score}, {key}" for score in ("loss", "F1") for key in _COMPARED]
        yield from markdown_table(("style", "faces", *scores), rows)


def _difference(against: Mapping[str, Any], people: str) -> str:
    told = f"{_number(against['difference'], '{:+.4f}')} {_interval(against['over_pictures'], '{:+.4f}')}"
    return f"{told}, over people {_interval(against['over_people'], '{:+.4f}')}" if people else told


def _number(value: float | None, form: str = "{:.3f}") -> str:
    return UNDEFINED if value is None else form.format(value)


def _interval(ends: list[float] | None, form: str) -> str:
    return "" if ends is None else f"({form.format(ends[0])} to {form.format(ends[1])})"
