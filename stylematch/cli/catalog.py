"""Catalogues of your own items."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stylematch.cli.options import DeviceOption, WorkersOption

catalog_app = typer.Typer(help="Catalogues: make one of your own items with their pictures.", no_args_is_help=True)


@catalog_app.command("build")
def catalog_build(
    items: Annotated[
        Path, typer.Argument(metavar="ITEMS", help="A .csv or .parquet table of items, or a directory of pictures.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The collection, such as indexes/NAME.")],
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder that the column image is relative to; by default the table's."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=COLUMN", help="What the table calls a column, such as item_id=sku; repeatable."),
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The garment encoder; by default the shipped one.")
    ] = None,
    allow_outside: Annotated[
        bool, typer.Option("--allow-outside", help="Pictures may lie outside the folder.")
    ] = False,
    device: DeviceOption = "auto",
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Pictures a batch; changes no result.")] = 256,
    workers: WorkersOption = 0,
) -> None:
    """Build a collection of your own items: pictures embedded, tags that are missing predicted."""
    from stylematch.pipelines.catalog import build_catalog

    pairs = [pair.partition("=") for pair in column or ()]
    if broken := next(("".join(pair) for pair in pairs if not (pair[0] and pair[2])), None):
        raise typer.BadParameter(f"{broken} is no NAME=COLUMN", param_hint="--column")
    summary = build_catalog(
        items,
        out,
        images=images,
        columns={name: of for name, _, of in pairs},
        bundle_dir=bundle,
        allow_outside=allow_outside,
        device=device,
        batch_size=batch_size,
        workers=workers,
    )
    for line in summary.lines():
        typer.echo(line)
