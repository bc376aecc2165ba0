"""Embed pictures, and put the default together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from stylematch.cli.options import DeviceOption, FashionMnistOption

app = typer.Typer()


@app.command()
def embed(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="celeba, fashion-mnist, a directory of pictures, or a job file.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Where the embeddings go (not with a job file).")
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The model that embeds; by default the shipped one for the source."),
    ] = None,
    fashion_mnist: FashionMnistOption = None,
    root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder of CelebA, where it is not at its usual place.")
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(metavar="SPLIT", help="train, val or test; repeatable; by default all.")
    ] = None,
    faces: Annotated[
        Literal["find", "aligned"] | None,
        typer.Option(help="For a directory: search for faces (the default), or take each picture for a face crop."),
    ] = None,
    device: DeviceOption = "auto",
    batch_size: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Pictures a batch, by default 64; changes no result.")
    ] = None,
) -> None:
    """Embed a data set or a directory of pictures into Parquet shards."""
    from stylematch.pipelines.indexing.embed import embed as run
    from stylematch.pipelines.indexing.embed import embed_job, settings_of

    if source.endswith(".toml"):
        if any((out, bundle, fashion_mnist, root, split, faces, batch_size)):
            raise typer.BadParameter("a job file says all but --device itself", param_hint="SOURCE")
        lines = embed_job(Path(source), device).lines()
    else:
        if out is None:
            raise typer.BadParameter("is needed for a source that is no job file", param_hint="--out")
        settings = settings_of(
            source,
            out,
            bundle=bundle,
            fashion_mnist=fashion_mnist,
            celeba=root,
            splits=split,
            faces=faces,
            batch_size=batch_size,
        )
        lines = run(settings, device).lines()
    for line in lines:
        typer.echo(line)


@app.command("default-index")
def default_index(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the collection goes.")] = Path("indexes/default"),
    attributes: Annotated[Path, typer.Option(metavar="DIR", help="The attribute model's bundle.")] = Path(
        "runs/celeba-mobilenet-int8-points/bundle"
    ),
    garments: Annotated[Path, typer.Option(metavar="DIR", help="The garment encoder's bundle.")] = Path(
        "runs/garments-taught/bundle"
    ),
    root: Annotated[Path | None, typer.Option(metavar="DIR", help="The folder of CelebA.")] = None,
    fashion_mnist: FashionMnistOption = None,
) -> None:
    """Put the default together from two trained models and their data sets."""
    from stylematch.pipelines.indexing.default_index import build_default

    for line in build_default(out, attributes, garments, celeba=root, fashion_mnist=fashion_mnist):
        typer.echo(line)
