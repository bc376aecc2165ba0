"""The report of ``evaluate-recs`` as Markdown and as plots, made of what ``report.json`` says and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stylematch.evaluate.canvas import new_figure, shortened, write_bars, write_figure
from stylematch.evaluate.lists import LIST_MEANS, TOTALS

# The card's and the plots' own ways of writing: one look for all reports.
from stylematch.evaluate.markdown import markdown_table, markdown_text, shown_interval, shown_number

PARTS = ("items", "instance", "worn", "worn_held_out", "lists")
_TITLES = {
    "items": "Items of one class (Fashion-MNIST)",
    "instance": "An item found again (Fashion-MNIST)",
    "worn": "Worn clothes to the whole catalogue (Fashion Product)",
    "worn_held_out": "Worn clothes to the held-out part of the catalogue (Fashion Product)",
    "lists": "Lists of a run",
}
FIGURES = {
    "r_at_1": "R@1",
    "r_at_10": "R@10",
    "p_at_10": "P@10",
    "map_at_r": "mAP@R",
    "ndcg_at_10": "nDCG@10",
    "catalogue_coverage": "catalogue coverage",
    "distributional_coverage_bits": "distributional coverage (bits)",
    "intra_list_diversity": "intra-list diversity (1 - cosine)",
    "novelty_bits": "novelty (bits)",
    "short_lists": "people with fewer items than wanted",
}
_PROTOCOLS = {
    "items": (
        "Every test picture searches the training pictures by cosine; relevant is what has its class. An encoder that "
        "was trained here on Fashion-MNIST learned from the training pictures and their classes, never from the test "
        "pictures."
    ),
    "instance": (
        "Another view of every test picture (a crop of 85 to 100 %, up to 2 px off the middle, 0.8 to 1.2 times as "
        "light; one fixed seed) searches all pictures, training and test; relevant is the picture itself and nothing "
        "else. An encoder that collapses classes does well above and fails here."
    ),
    "worn": (
        "The query is the torso below the face in a held-out product's picture that shows a person; the gallery are "
        "all products' pictures as `catalog build` cuts them (the torso where a person wears the item), without the "
        "query's own item. Relevant is what has its article type and gender. All embeddings see the same 28 px crops. "
        "{learned}"
    ),
    "worn_held_out": (
        "The same queries against the held-out products alone, of which no encoder that was trained here learned any: "
        "a smaller gallery."
    ),
}
_LEARNED = {
    True: "**The encoder learned from the rest of this catalogue's pictures** (not from the queries).",
    False: "The encoder learned from none of these pictures.",
}
_INTRODUCTION = (
    "What is measured here is consistency: whether the embedding puts together what belongs together by its labels, "
    "and what the lists are like. There is no interaction log, so nothing is said about anybody's taste. Intervals "
    "hold 95 % of {resamples:,} bootstrap resamples of the queries (Efron, 1979), for lists of the photos. P@10 is "
    "over ten ranks even where fewer items are relevant; mAP@R is that of Musgrave et al. (ECCV 2020). In the last two "
    "columns a query that failed (no crop, no embedding) counts as zero."
)
_LISTS = (
    "Coverage is the share of the catalogue that anybody is recommended; distributional coverage the entropy of the "
    "recommended items ({most:.2f} bits at most). Diversity is the mean of 1 - cosine over the pairs of a list; "
    "novelty the mean of -log2 of the share of people who get an item, in these very lists. Random lists are drawn "
    "from the whole catalogue whatever the style; most popular are the items that this run recommends most, for "
    "everybody. Coverage and entropy are totals, not means, and have no interval."
)
_COLOURS = ("#1f6f8b", "#c9cfd4", "#8a6d3b")


def report_text(report: Mapping[str, Any], plots: Mapping[str, str]) -> str:
    """Return the report as Markdown.

    Parameters
    ----------
    report : mapping
        What ``report.json`` holds.
    plots : mapping of str to str
        By part: the path of its plot, relative to the report.
    """
    encoder = report["encoder"]
    lines = [
        "# Recommendations: consistency",
        "",
        f"Encoder: {markdown_text(encoder['name'])}, {encoder['embedding_dim']} dimensions, "
        f"sha256 `{encoder['sha256'][:16]}`.",
        *([f"**A quick try**: only the first {report['limit']:,} pictures of each part."] if report["limit"] else []),
        "",
        _INTRODUCTION.format(resamples=report["resamples"]),
        "",
    ]
    for name, part in report["parts"].items():
        lines += [f"## {_TITLES[name]}", "", *(_lists_lines(part) if name == "lists" else _part_lines(name, part))]
        if name in plots:
            lines += [f"![{_TITLES[name]}]({plots[name]})", ""]
    if report["left_out"]:
        lines += ["## Left out", ""]
        lines += [f"- {_TITLES.get(name, name)}: {markdown_text(why)}" for name, why in report["left_out"].items()]
    return "\n".join(lines).rstrip() + "\n"


def headlines(report: Mapping[str, Any]) -> Iterator[str]:
    """Give one line for each part and row: its means."""
    for part, values in report["parts"].items():
        for name, row in values["rows"].items():
            if "not_measured" in row:
                yield f"{part}, {name}: not measured: {row['not_measured']}"
            else:
                said = ", ".join(f"{FIGURES[key]} {shown_number(_mean(value))}" for key, value in row.items())
                yield f"{part}, {name}: {said}"


def plot_name(part: str) -> str:
    """Return the file name of a part's plot."""
    return f"{part}.png"


def draw_report(
    folder: Path, report: Mapping[str, Any], advance: Callable[[int], None] = lambda _: None
) -> dict[str, str]:
    """Draw one plot a part and return their file names, by part.

    Parameters
    ----------
    folder : pathlib.Path
        An existing folder.
    report : mapping
        What ``report.json`` holds.
    advance : callable
        Told how many more plots are drawn.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    drawn = {}
    for name, part in report["parts"].items():
        rows = {key: row for key, row in part["rows"].items() if "not_measured" not in row}
        if name == "lists":
            _draw_panels(folder / plot_name(name), rows, _TITLES[name])
        else:
            _draw_bars(folder / plot_name(name), rows, _TITLES[name])
        drawn[name] = plot_name(name)
        advance(1)
    return drawn


def _part_lines(name: str, part: Mapping[str, Any]) -> list[str]:
    protocol = _PROTOCOLS[name].format(learned=_LEARNED[bool(part.get("learned_from_catalogue"))])
    facts = [f"{part['queries']:,} queries, {part['gallery']:,} items in the gallery"]
    if "showing_a_person" in part:
        facts.append(
            f"of {part['pictures_held_out']:,} pictures held out {part['showing_a_person']:,} show a person "
            "(a face was found)"
        )
    if part.get("unreadable_in_catalogue"):
        facts.append(f"{part['unreadable_in_catalogue']:,} pictures of the catalogue cannot be read")
    if part.get("without_relevant"):
        facts.append(f"{part['without_relevant']:,} queries left out, for which the gallery has nothing relevant")
    if part.get("relevant_share") is not None:
        facts.append(f"items drawn at random would give a P@10 of {part['relevant_share']:.3f}")
    return [protocol, "", "; ".join(facts) + ".", "", *_means_table(part["rows"])]


def _lists_lines(part: Mapping[str, Any]) -> list[str]:
    share = part["photos_without_any"]
    by_status = ", ".join(
        f"{markdown_text(key)} {count:,}" for key, count in part["photos_without_any_by_status"].items()
    )
    return [
        _LISTS.format(most=float(np.log2(max(1, part["catalogue"])))),
        "",
        f"{part['people']:,} people in {part['photos']:,} photos, {part['wanted']} items wanted for each, "
        f"{part['catalogue']:,} items in the catalogue. "
        f"Photos without any recommendation: {shown_number(share['mean'])} ({shown_interval(share['interval'])})"
        + (f"; by status: {by_status}." if by_status else "."),
        "",
        *_means_table(part["rows"]),
    ]


def _means_table(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    table = []
    for name, row in rows.items():
        if "not_measured" in row:
            table.append(
                [markdown_text(name), f"not measured: {markdown_text(row['not_measured'])}", *[shown_number(None)] * 4]
            )
        for key, value in row.items() if "not_measured" not in row else ():
            cells = [shown_number(_mean(value)), *[shown_number(None)] * 3]
            if isinstance(value, dict):
                zero = value["failed_as_zero"]
                cells = [
                    cells[0],
                    shown_interval(value["interval"]),
                    shown_number(zero["mean"]),
                    shown_interval(zero["interval"]),
                ]
            table.append([markdown_text(name), FIGURES[key], *cells])
    return markdown_table(["", "figure", "mean", "95 % interval", "failed as zero", "95 % interval"], table)


def _mean(value: Any) -> float | None:
    return value["mean"] if isinstance(value, dict) else value


def _draw_bars(path: Path, rows: Mapping[str, Mapping[str, Any]], title: str) -> None:
    """Draw groups of bars, a group a figure, a bar an embedding, with intervals."""
    keys = list(next(iter(rows.values()), {}))
    figure = new_figure(7.5, 1.6 + 0.32 * len(keys) * max(2, len(rows)))
    axes = figure.subplots()
    height = 0.8 / max(1, len(rows))
    for number, (name, row) in enumerate(rows.items()):
        places = np.arange(len(keys)) + (number - (len(rows) - 1) / 2) * height
        _bars(axes, places, [row[key] for key in keys], height, _COLOURS[number % len(_COLOURS)], name)
    axes.set(xlim=(0, 1.12), ylim=(len(keys) - 0.4, -0.6), xlabel="mean over the queries, 95 % interval")
    axes.set_yticks(range(len(keys)), [FIGURES[key] for key in keys])
    write_bars(path, figure, axes, title, columns=3)


def _draw_panels(path: Path, rows: Mapping[str, Mapping[str, Any]], title: str) -> None:
    """Draw one panel a figure, since each has a scale of its own."""
    keys = (*TOTALS, *LIST_MEANS)
    figure = new_figure(7.5, 1.0 + 0.95 * len(keys))
    panels = figure.subplots(len(keys), 1)
    for axes, key in zip(panels, keys, strict=True):
        for number, row in enumerate(rows.values()):
            _bars(axes, np.array([number]), [row[key]], 0.7, _COLOURS[number % len(_COLOURS)], None)
        most = max([value for row in rows.values() if (value := _mean(row[key])) is not None], default=0)
        axes.set(xlim=(0, 1.15 * most or 1), ylim=(len(rows) - 0.4, -0.6))
        axes.set_xlabel(FIGURES[key], fontsize=8)
        axes.set_yticks(range(len(rows)), [shortened(name) for name in rows], fontsize=8)
    write_figure(path, figure, panels[0], title)


def _bars(axes: Any, places: np.ndarray, values: Sequence[Any], height: float, colour: str, label: str | None) -> None:
    means = np.array([_mean(value) or 0 for value in values], np.float64)
    ends = [value["interval"] if isinstance(value, dict) and value["interval"] else None for value in values]
    bounds = np.array([end or (mean, mean) for end, mean in zip(ends, means, strict=True)])
    spread = np.abs(bounds - means[:, None]).T
    error = {"ecolor": "black", "elinewidth": 0.8}
    axes.barh(places, means, height=height, color=colour, xerr=spread, error_kw=error, label=label)
    for place, mean, end in zip(places, means, bounds[:, 1], strict=True):
        axes.annotate(f"{mean:.3f}", (end, place), (4, 0), textcoords="offset points", va="center", fontsize=7)
