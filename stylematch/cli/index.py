"""Indexes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from stylematch.cli.options import MissingOkOption
from stylematch.tables.shown import shown

index_app = typer.Typer(help="Indexes: build one from embeddings, change it, say what it holds.", no_args_is_help=True)

IndexArgument = Annotated[Path, typer.Argument(metavar="DIR", help="An index; replaced when all is done.")]
EmbeddingsArgument = Annotated[Path, typer.Argument(metavar="EMBEDDINGS", help="A directory that embed wrote.")]


@index_app.command("build")
def index_build(
    embeddings: EmbeddingsArgument,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The index's directory, such as indexes/NAME.")],
    kind: Annotated[
        Literal["auto", "exact", "hnsw", "ivf", "ivfpq"],
        typer.Option(help="By default chosen by size and memory: exact up to a million vectors."),
    ] = "auto",
    target_recall: Annotated[
        float, typer.Option(metavar="X", help="The recall@10 that approximate kinds are tuned to.")
    ] = 0.95,
    max_memory_gb: Annotated[
        float, typer.Option(metavar="X", help="Memory in GiB, for building and for searching each.")
    ] = 8.0,
) -> None:
    """Build a FAISS index over embeddings."""
    from stylematch.pipelines.indexing.index import build_index
    from stylematch.settings.faults import OPTIONS
    from stylematch.settings.index import IndexSettings
    from stylematch.settings.load import validated

    settings = validated(IndexSettings, OPTIONS, kind=kind, target_recall=target_recall, max_memory_gb=max_memory_gb)
    infos = build_index(embeddings, out, settings, on_plan=lambda lines: typer.echo("\n".join(lines)))
    typer.echo(f"{infos['count']:,} {infos['kind']} of {infos['dim']} dimensions in {shown(out)}")
    if infos["kind"] == "faces" and not infos["attribute_names"]:
        typer.echo("these faces have no labels: score cannot vote with them (its gallery is embedded from celeba)")


@index_app.command("add")
def index_add(
    directory: IndexArgument,
    embeddings: EmbeddingsArgument,
    update: Annotated[bool, typer.Option("--update", help="Replace the vectors of ids that are there.")] = False,
) -> None:
    """Add embeddings to an index, without building it again."""
    from stylematch.pipelines.indexing.index_change import add_to_index

    for line in add_to_index(directory, embeddings, update=update).lines():
        typer.echo(line)


@index_app.command("remove")
def index_remove(
    directory: IndexArgument,
    ids: Annotated[Path, typer.Option(metavar="FILE", help="The ids to remove, one a line (UTF-8).")],
    missing_ok: MissingOkOption = False,
) -> None:
    """Remove vectors from an index by id, without building it again."""
    from stylematch.pipelines.indexing.index_change import remove_from_index

    for line in remove_from_index(directory, ids, missing_ok=missing_ok).lines():
        typer.echo(line)


@index_app.command("info")
def index_info(path: Annotated[Path, typer.Argument(metavar="INDEX", help="An index or a collection.")]) -> None:
    """Say what an index or a collection holds."""
    from stylematch.pipelines.indexing.index import describe_index

    typer.echo(describe_index(path))
