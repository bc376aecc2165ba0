"""Options that say what a shop's table calls its columns and means by its words, and what it is written in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from stylematch.data.item_mapping import ItemMapping

ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=COLUMN",
        help="What the table calls a column, such as item_id=sku; repeatable; add and update know those of the build.",
    ),
]
ValueOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TAG:CELL=NAME",
        help="What a word of the table means, such as gender:HAKA=Men; repeatable; remembered as --column is.",
    ),
]
EncodingOption = Annotated[
    str, typer.Option(metavar="NAME", help="What a CSV's letters are written in, such as cp1252; not remembered.")
]


def mapping_of(column: list[str] | None, value: list[str] | None) -> ItemMapping:
    """Return what ``--column`` and ``--value`` say.

    Raises
    ------
    typer.BadParameter
        If one of them is no such pair.
    """
    from stylematch.data.item_mapping import ItemMapping

    columns: dict[str, str] = {}
    for pair in column or ():
        name, _, of = pair.partition("=")
        if not name or not of:
            raise typer.BadParameter(f"{pair} is no NAME=COLUMN", param_hint="--column")
        columns[name] = of
    values: dict[str, dict[str, str]] = {}
    for pair in value or ():
        tag, _, word = pair.partition(":")
        cell, _, name = word.rpartition("=")  # a cell may hold both signs
        if not tag or not cell or not name:
            raise typer.BadParameter(f"{pair} is no TAG:CELL=NAME", param_hint="--value")
        values.setdefault(tag, {})[cell] = name
    return ItemMapping(columns, values)
