"""Columns of somebody's table of items, under the names and in the types that an index can keep and be asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from stylematch.data.item_mapping import KNOWN
from stylematch.data.item_numbers import as_kind, is_number, names_or_null, only_finite
from stylematch.errors import UserError
from stylematch.tables.shown import shown

_KEPT_AS = {pa.float16(): pa.float32(), pa.string_view(): pa.string()}
"""Types that Parquet has, but that cannot be asked for or taken from, and the next one that can."""


def name_columns(
    table: pa.Table, source: Path, names: Mapping[str, str], reserved: Sequence[str]
) -> tuple[pa.Table, list[str]]:
    """Give the known columns their names and types, and leave out what an index cannot keep.

    Parameters
    ----------
    table : pyarrow.Table
        As it was read.
    source : pathlib.Path
        Where, for messages.
    names : mapping of str to str
        By a name of ``KNOWN`` the table's name for that column.
    reserved : sequence of str
        Names of columns that the index fills itself.

    Returns
    -------
    columns : pyarrow.Table
        Those of ``KNOWN`` that there are, text but for a price in numbers, then the others; no NaN, no infinity.
    left_out : list of str
        The columns that are not among them, each with why.

    Raises
    ------
    UserError
        If there is no column of ids, or it is not clear which column is meant.
    """
    origin = _origin(table, source, names)
    columns: dict[str, pa.ChunkedArray] = {}
    left_out: list[str] = []
    for known, name in origin.items():
        column = _kept(table[name])
        if known == "price" and column is not None and is_number(column.type):
            columns[known] = column
            continue
        text = _text(table[name], name, source)
        # Not a category that people could be shown: the item gets the one that is predicted.
        columns[known] = names_or_null(text) if known == "category" else text
    taken = {name.lower() for name in (*reserved, *columns, "id")}
    for name in table.column_names:
        if name in origin.values():
            continue
        column = _kept(table[name])
        if not name.strip():
            left_out.append("those without a name")  # SQL could not ask for it
        elif name.lower() in taken:
            left_out.append(f"{name} (the index has a column of this name)")
        elif column is None:
            left_out.append(f"{name} ({table[name].type})")
        else:
            taken.add(name.lower())
            columns[name] = column
    return pa.table(columns), left_out


def _origin(table: pa.Table, source: Path, names: Mapping[str, str]) -> dict[str, str]:
    """Return by its known name what the table calls each column that it has."""
    origin: dict[str, str] = {}
    for known in KNOWN:
        if known in names:
            found = [names[known]]
            if names[known] not in table.column_names:
                raise UserError(f"{shown(source)} has no column '{shown(names[known])}'; {_has(table)}")
        else:
            found = _called(table, known)
            if known == "item_id" and not found:
                found = _called(table, "id")
        if len(found) > 1:
            raise UserError(
                f"{shown(source)} has the columns {shown(' and '.join(found))}; say --column {known}=WHICH."
            )
        if found:
            origin[known] = found[0]
    if "item_id" not in origin:
        if len(table.column_names) == 1 and (other := next((c for c in "|:" if c in table.column_names[0]), None)):
            raise UserError(
                f"{shown(source)} has one column, {shown(table.column_names[0])}; cells stand apart by commas, "
                f"semicolons or tabs, not by {other}: save it so."
            )
        raise UserError(f"{shown(source)} has no column item_id; {_has(table)} Say --column item_id=WHICH.")
    return origin


def _called(table: pa.Table, known: str) -> list[str]:
    return [name for name in table.column_names if name.lower() == known.lower()]


def _kept(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return a column in a type that an index can keep, None where there is none."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_decimal256(kind):
        kind = pa.float64()
    kind = _KEPT_AS.get(kind, kind)
    if pa.types.is_nested(kind) or pa.types.is_null(kind) or pa.types.is_interval(kind) or _is_bytes(kind):
        return None
    try:
        return only_finite(as_kind(column, kind))
    except pa.ArrowException:
        return None


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def _text(column: pa.ChunkedArray, name: str, source: Path) -> pa.ChunkedArray:
    try:
        return column.cast(pa.string())
    except pa.ArrowException as error:
        raise UserError(f"{shown(source)}: column '{shown(name)}' is {column.type}, which is no text.") from error


def _has(table: pa.Table) -> str:
    return f"its columns are {shown(', '.join(table.column_names))}."
