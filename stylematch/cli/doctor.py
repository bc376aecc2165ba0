"""Say what this installation has and whether it works."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stylematch.cli.options import DeviceOption

app = typer.Typer()


@app.command()
def doctor(
    seconds: Annotated[float, typer.Option(min=0, max=600, metavar="X", help="How long to try the speed.")] = 10.0,
    index: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="Examine this index or collection, as for score.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Say what is installed, which devices, data and indexes are found, and how fast this machine is."""
    from stylematch.pipelines.doctor import examine, raise_for

    findings = []
    for finding in examine(seconds=seconds, indexes=index or (), device=device):
        findings.append(finding)
        typer.echo(finding.line())
    raise_for(findings)
