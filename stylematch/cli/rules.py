"""Rule sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stylematch.cli.options import RulesOption, names_in

rules_app = typer.Typer(help="Rule sets: check one, apply one to labels, fit its pool.", no_args_is_help=True)


@rules_app.command("apply")
def rules_apply(
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="A Parquet file with one column per attribute.")],
    rules: RulesOption = "wardrobe",
) -> None:
    """Evaluate a rule set on true labels and print how many faces fall into each style."""
    from stylematch.pipelines.rules import apply_rules

    for style, count in apply_rules(labels, rules):
        typer.echo(f"{style}\t{count}")


@rules_app.command("check")
def rules_check(
    rules: Annotated[str, typer.Argument(metavar="FILE", help="Your TOML file, or a shipped rule set's name.")],
    labels: Annotated[
        Path | None,
        typer.Option(metavar="LABELS", help="Count these faces (Parquet, as for apply), not the face gallery's."),
    ] = None,
    index: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="An index or collection, as for score: its categories and gallery count."),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME,...", help="Attributes that score would switch off; repeatable."),
    ] = None,
) -> None:
    """Check a rule set: coverage, overlaps, unreachable rules and unknown names, each with its line and key."""
    from stylematch.pipelines.rules import check_rules
    from stylematch.settings.faults import OPTIONS
    from stylematch.settings.load import validated
    from stylematch.settings.score import ScoreSettings

    off = validated(ScoreSettings, OPTIONS, without=names_in(without)).without
    for line in check_rules(rules, labels=labels, indexes=index or (), without=off).lines():
        typer.echo(line)


@rules_app.command("fit")
def rules_fit(
    rules: Annotated[
        list[str] | None, typer.Argument(metavar="NAME|FILE...", help="Rule sets; by default all that are shipped.")
    ] = None,
    index: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="An index or collection, as for score: its gallery and model are fitted to."),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder of celeba/ and photos/, labelled people to fit to.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A folder for the fits and a copy of the gallery, to name to score --index."),
    ] = None,
    report: Annotated[Path, typer.Option(metavar="DIR", help="Where figures go.")] = Path("stylematch-style"),
    cache: Annotated[Path | None, typer.Option(metavar="DIR", help="Where a training keeps its cut faces.")] = None,
) -> None:
    """Fit how rules and neighbours are pooled, into style.json beside the gallery, and measure what each is worth.

    Beside the shipped gallery only shipped rules have their fits; for your own name --out.
    """
    from stylematch.pipelines.learning.fit_style import fit_style

    for line in fit_style(rules or (), report, out=out, indexes=index or (), root=root, cache=cache).lines():
        typer.echo(line)
