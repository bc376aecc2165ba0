"""Catalogues of your own items."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stylematch.cli.options import DeviceOption, MissingOkOption, PhotoTimeoutOption, WorkersOption

if TYPE_CHECKING:
    from stylematch.pipelines.indexing.catalog_items import ItemSource

catalog_app = typer.Typer(help="Catalogues: make one of your own items, change it.", no_args_is_help=True)

ItemsArgument = Annotated[
    Path, typer.Argument(metavar="ITEMS", help="A .csv or .parquet table of items, or a directory of pictures.")
]
ImagesOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="The folder that the column image is relative to; by default the table's."),
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=COLUMN", help="What the table calls a column, such as item_id=sku; repeatable."),
]
OutsideOption = Annotated[bool, typer.Option("--allow-outside", help="Pictures may lie outside the folder.")]
BatchOption = Annotated[int, typer.Option(min=1, metavar="N", help="Pictures a batch; changes no result.")]
IndexOption = Annotated[
    Path, typer.Option(metavar="DIR", help="A collection that catalog build wrote; replaced when all is done.")
]


@catalog_app.command("build")
def catalog_build(
    items: ItemsArgument,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The collection, such as indexes/NAME.")],
    images: ImagesOption = None,
    column: ColumnOption = None,
    bundle: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The garment encoder; by default the shipped one.")
    ] = None,
    allow_outside: OutsideOption = False,
    device: DeviceOption = "auto",
    batch_size: BatchOption = 256,
    workers: WorkersOption = 0,
    photo_timeout_s: PhotoTimeoutOption = 60.0,
) -> None:
    """Build a collection of your own items: pictures embedded, tags that are missing predicted."""
    from stylematch.pipelines.indexing.catalog import build_catalog

    source = _source(items, images, column, allow_outside, device, batch_size, workers, photo_timeout_s)
    for line in build_catalog(source, out, bundle_dir=bundle).lines():
        typer.echo(line)


@catalog_app.command("add")
def catalog_add(
    items: ItemsArgument,
    index: IndexOption,
    images: ImagesOption = None,
    column: ColumnOption = None,
    allow_outside: OutsideOption = False,
    device: DeviceOption = "auto",
    batch_size: BatchOption = 256,
    workers: WorkersOption = 0,
    photo_timeout_s: PhotoTimeoutOption = 60.0,
) -> None:
    """Add items to a collection, or update those whose ids are there, without building it again."""
    from stylematch.pipelines.indexing.catalog_change import add_to_catalog

    source = _source(items, images, column, allow_outside, device, batch_size, workers, photo_timeout_s)
    for line in add_to_catalog(index, source).lines():
        typer.echo(line)


@catalog_app.command("remove")
def catalog_remove(
    index: IndexOption,
    ids: Annotated[Path, typer.Option(metavar="FILE", help="The ids of the items to remove, one a line (UTF-8).")],
    missing_ok: MissingOkOption = False,
) -> None:
    """Remove items and their pictures from a collection, without building it again."""
    from stylematch.pipelines.indexing.catalog_change import remove_from_catalog

    for line in remove_from_catalog(index, ids, missing_ok=missing_ok).lines():
        typer.echo(line)


def _source(
    items: Path,
    images: Path | None,
    column: list[str] | None,
    allow_outside: bool,
    device: str,
    batch_size: int,
    workers: int,
    photo_timeout_s: float,
) -> ItemSource:
    from stylematch.pipelines.indexing.catalog_items import ItemSource

    pairs = [pair.partition("=") for pair in column or ()]
    if broken := next(("".join(pair) for pair in pairs if not (pair[0] and pair[2])), None):
        raise typer.BadParameter(f"{broken} is no NAME=COLUMN", param_hint="--column")
    columns = {name: of for name, _, of in pairs}
    return ItemSource(items, images, columns, allow_outside, device, batch_size, workers, photo_timeout_s)
