"""The nightly export."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer

from stylematch.cli.options import OverridesOption

app = typer.Typer()


@app.command()
def export(
    job: Annotated[Path, typer.Argument(metavar="JOB.toml", help="The job file, such as jobs/nightly.toml.")],
    day: Annotated[
        datetime | None,
        typer.Option("--date", formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", help="The night's date; by default today."),
    ] = None,
    verify_content: Annotated[
        bool, typer.Option("--verify-content", help="Hash every file again, whatever its size and time say.")
    ] = False,
    overrides: OverridesOption = None,
) -> None:
    """Score what is new since last night, keep what is not, and publish a dated snapshot."""
    from stylematch.cli.logs import say
    from stylematch.cli.streams import whether_heard_or_not
    from stylematch.errors import LimitExceededError
    from stylematch.tables.arrow import without_pandas_if_alone

    without_pandas_if_alone()
    from stylematch.pipelines.nights.export import export as run
    from stylematch.settings.export import ExportJob
    from stylematch.settings.load import load_job

    def tell(warnings: Sequence[str]) -> None:
        with whether_heard_or_not(sys.stderr):
            for warning in warnings:
                say(f"warning: {warning}", level="warning")

    settings = load_job(job, ExportJob, overrides or ())
    try:
        summary = run(settings, day=day.date() if day else date.today(), verify_content=verify_content)
    except LimitExceededError as error:
        tell(error.warnings)
        raise
    tell(summary.warnings)
    with whether_heard_or_not(sys.stdout):
        for line in summary.lines():
            typer.echo(line)
        sys.stdout.flush()
