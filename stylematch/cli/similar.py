"""Items that look like items."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from stylematch.cli.options import RunOutOption, WhereOption, all_of, names_in

app = typer.Typer()


@app.command()
def similar(
    out: RunOutOption = Path("stylematch-similar"),
    index: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A collection that catalog build wrote, or an index of items."),
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, max=1000, metavar="K", help="Items per item.")] = 10,
    where: WhereOption = None,
    same: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN,...", help="Only items equal there, such as category,gender; repeatable."),
    ] = None,
    ids: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The ids of the items to ask about, one a line (UTF-8); by default all."),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="Where the vectors are searched. Changes no result.")
    ] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Search again what is already there.")] = False,
) -> None:
    """Write for every item of a catalogue the items that look most like it, as Parquet."""
    from stylematch.pipelines.indexing.similar import similar as run
    from stylematch.settings.faults import OPTIONS
    from stylematch.settings.load import validated
    from stylematch.settings.similar import SimilarSettings

    settings = validated(
        SimilarSettings,
        OPTIONS,
        top_k=top_k,
        where=all_of(where),
        same=names_in(same),
        device=device,
        overwrite=overwrite,
    )
    for line in run(out, settings, index, ids).lines():
        typer.echo(line)
