"""Catalogues of your own items."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stylematch.cli.mapped import ColumnOption, EncodingOption, ValueOption, mapping_of
from stylematch.cli.options import DeviceOption, MissingOkOption, PhotoTimeoutOption, WorkersOption

catalog_app = typer.Typer(help="Catalogues: make one of your own items, change it.", no_args_is_help=True)

ItemsArgument = Annotated[
    Path, typer.Argument(metavar="ITEMS", help="A .csv or .parquet table of items, or a directory of pictures.")
]
ImagesOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="The folder that the column image is relative to; by default the table's."),
]
OutsideOption = Annotated[bool, typer.Option("--allow-outside", help="Pictures may lie outside the folder.")]
MaxRejectOption = Annotated[
    float,
    typer.Option(
        min=0, max=1, metavar="X", help="If a larger share of the rows gives no item, nothing is written or replaced."
    ),
]
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
    value: ValueOption = None,
    encoding: EncodingOption = "utf-8",
    max_reject_share: MaxRejectOption = 0.5,
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
    from stylematch.pipelines.indexing.catalog_items import ItemSource

    source = ItemSource(
        items,
        images=images,
        mapping=mapping_of(column, value),
        encoding=encoding,
        max_reject_share=max_reject_share,
        allow_outside=allow_outside,
        device=device,
        batch_size=batch_size,
        workers=workers,
        photo_timeout_s=photo_timeout_s,
    )
    for line in build_catalog(source, out, bundle_dir=bundle).lines():
        typer.echo(line)


@catalog_app.command("add")
def catalog_add(
    items: ItemsArgument,
    index: IndexOption,
    images: ImagesOption = None,
    column: ColumnOption = None,
    value: ValueOption = None,
    encoding: EncodingOption = "utf-8",
    max_reject_share: MaxRejectOption = 0.5,
    allow_outside: OutsideOption = False,
    device: DeviceOption = "auto",
    batch_size: BatchOption = 256,
    workers: WorkersOption = 0,
    photo_timeout_s: PhotoTimeoutOption = 60.0,
) -> None:
    """Add items to a collection, or update those whose ids are there, without building it again."""
    from stylematch.pipelines.indexing.catalog_change import add_to_catalog
    from stylematch.pipelines.indexing.catalog_items import ItemSource

    source = ItemSource(
        items,
        images=images,
        mapping=mapping_of(column, value),
        encoding=encoding,
        max_reject_share=max_reject_share,
        allow_outside=allow_outside,
        device=device,
        batch_size=batch_size,
        workers=workers,
        photo_timeout_s=photo_timeout_s,
    )
    for line in add_to_catalog(index, source).lines():
        typer.echo(line)


@catalog_app.command("update")
def catalog_update(
    catalog: Annotated[
        Path,
        typer.Argument(metavar="CATALOG", help="A collection that catalog build wrote; replaced when all is done."),
    ],
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="A .csv or .parquet table of ids and new values.")],
    column: ColumnOption = None,
    value: ValueOption = None,
    encoding: EncodingOption = "utf-8",
    missing_ok: MissingOkOption = False,
) -> None:
    """Replace prices, stock and other values of a collection's items by id, without reading a picture."""
    from stylematch.pipelines.indexing.catalog_update import update_catalog

    mapping = mapping_of(column, value)
    for line in update_catalog(catalog, table, mapping, encoding=encoding, missing_ok=missing_ok).lines():
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
