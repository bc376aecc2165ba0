"""Two tables of items that somebody kept at different times -> two tables with equal columns, to be put together."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from stylematch.data.item_numbers import as_kind, is_number
from stylematch.search.rows_file import PICTURE_COLUMN


def with_equal_columns(first: pa.Table, second: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return two tables with all columns of both, each of one type, empty where a table lacks one; pictures last.

    Names that differ in the case of their letters alone are one, spelled as in the first table: SQL knows no case.
    """
    spelled = {name.lower(): name for name in first.column_names}
    second = second.rename_columns([spelled.get(name.lower(), name) for name in second.column_names])
    names = list(dict.fromkeys((*first.column_names, *second.column_names)))
    names.sort(key=PICTURE_COLUMN.__eq__)
    for name in names:
        if name not in first.column_names:
            field = second.schema.field(name).with_nullable(True)
            first = first.append_column(field, pa.nulls(first.num_rows, field.type))
        elif name not in second.column_names:
            field = first.schema.field(name).with_nullable(True)
            second = second.append_column(field, pa.nulls(second.num_rows, field.type))
    first, second = first.select(names), second.select(names)
    fields = [
        pa.field(one.name, _common(first[one.name], second[one.name]), one.nullable or other.nullable)
        for one, other in zip(first.schema, second.schema, strict=True)
    ]
    return _cast(first, fields), _cast(second, fields)


def _common(one: pa.ChunkedArray, other: pa.ChunkedArray) -> pa.DataType:
    """Return the type of two columns, else the first that holds every cell of both: whole numbers, numbers, text."""
    if one.type == other.type:
        return one.type
    for full, empty in ((one, other), (other, one)):
        if empty.null_count == len(empty):  # such as text by which a CSV says nothing of a number
            return full.type
    if pa.types.is_integer(one.type) and pa.types.is_integer(other.type):
        wider = pa.int64()
    elif is_number(one.type) and is_number(other.type):
        wider = pa.float64()
    else:
        return pa.string()
    return wider if _fits(one, wider) and _fits(other, wider) else pa.string()


def _fits(column: pa.ChunkedArray, kind: pa.DataType) -> bool:
    try:
        return bool(as_kind(column, kind).cast(column.type).equals(column))  # a decimal is rounded without a word
    except pa.ArrowInvalid:  # an unsigned one of 64 bits, or a whole number that a double would round
        return False


def _cast(table: pa.Table, fields: Sequence[pa.Field]) -> pa.Table:
    return pa.table([_as(table[field.name], field.type) for field in fields], schema=pa.schema(fields))


def _as(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if column.null_count == len(column):  # there is no cell to cast, and of some types no way to
        return pa.chunked_array([pa.nulls(len(column), kind)])
    return as_kind(column, kind)
