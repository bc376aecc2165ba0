"""Compare two runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def compare(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="A run's folder: of score, or a night of export.")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="The run to compare with it, such as exports/latest.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write every change there: Parquet, and a page to look at.")
    ] = None,
) -> None:
    """Say what changed between two runs: photos, styles, items, attributes."""
    from stylematch.pipelines.compare import compare as run

    for line in run(run_a, run_b, out).lines():
        typer.echo(line)
