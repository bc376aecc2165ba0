"""Data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stylematch.cli.options import RulesOption

data_app = typer.Typer(help="Data sets: put one's label files together.", no_args_is_help=True)
merge_app = typer.Typer(help="Write a data set's label files as one table.", no_args_is_help=True)
data_app.add_typer(merge_app, name="merge")


@merge_app.command("celeba")
def merge_celeba(
    root: Annotated[
        Path, typer.Argument(metavar="ROOT", help="A folder in CelebA's layout; its pictures are not needed.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE.parquet", help="The table's file; replaced if it is there.")],
    rules: RulesOption = "wardrobe",
) -> None:
    """Merge all of CelebA's label files, with the style of each picture by its true labels."""
    from stylematch.pipelines.learning.merge import merge_celeba as run

    for line in run(root, out, rules).lines():
        typer.echo(line)
