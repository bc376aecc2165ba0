"""Columns of numbers out of the cells of somebody's table, so that ``price < 50`` can be asked of them.

Prices are written for people: with a currency, a decimal comma, groups of thousands, "N/A". What is read from such a
cell is a number or null, so that one odd cell does not turn a column into text, which nothing can be compared with.
NaN and infinities become null everywhere: they would satisfy ``price > 100``, as a database sorts NaN behind all
numbers.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SAYS_NOTHING = frozenset({"", "na", "n/a", "nan", "none"})
"""Cells, in lower case, by which tables say that they know nothing."""
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]{1,2})?")
_NUMBER_COMMA = re.compile(r"-?(0|[1-9][0-9]*|[1-9][0-9]{0,2}(\.[0-9]{3})+)(,[0-9]+)?")
_WORDS = r"[A-Z]{1,3}|(?:[Kk]r|Rs|Fr|SFr)\.?|zł|Kč|Ft|lei"  # EUR; the US of US$; what prices bear without a sign
_CURRENCY = re.compile(rf"^(?:{_WORDS})(?=[\s0-9-])|(?<=[\s0-9-])(?:{_WORDS})$")
_GROUP_SIGN = re.compile(r"(?<=[0-9])[\s'\u2019](?=[0-9]{3}(?![0-9]))")
_NO_CENTS = re.compile(r"(?<=[0-9])[.,][-\u2013\u2014]$")  # 49,- and the same with a dash
_THOUSANDS = r"([0-9]{1,3}(,[0-9]{3})+|[0-9]{1,2}(,[0-9]{2})+,[0-9]{3})"  # the second are India's: 1,29,900
_POINT = re.compile(rf"-?({_THOUSANDS}(\.[0-9]+)?|[0-9]*\.?[0-9]+([eE][-+]?[0-9]{{1,2}})?)")
_COMMA = re.compile(r"-?([0-9]{1,3}(\.[0-9]{3})+(,[0-9]+)?|[0-9]*,?[0-9]+)")
_CENTS = re.compile(r"-?[0-9]+[.,][0-9]{1,2}")  # whatever the column's decimal sign, these are no thousands
# Nor is there a doubt where both signs stand: 1,299.00 and 1.299,00, whatever the others of the column are like.
_BOTH = re.compile(rf"-?(?:{_THOUSANDS}\.[0-9]+|[0-9]{{1,3}}(\.[0-9]{{3}})+,[0-9]+)")


def names_or_null(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of text without spaces around its cells, null where a cell says nothing."""
    cells = pc.utf8_trim_whitespace(column)
    says_nothing = pc.is_in(pc.utf8_lower(cells), value_set=pa.array(sorted(SAYS_NOTHING)))
    return pc.if_else(says_nothing, pa.scalar(None, column.type), cells)


def typed(column: pa.ChunkedArray, *, decimal_comma: bool = False) -> pa.ChunkedArray:
    """Return a column of text as numbers where all cells that say something are numbers, else as it is.

    Parameters
    ----------
    column : pyarrow.ChunkedArray
        n cells of text.
    decimal_comma : bool
        As of ``prices``. An id with zeros in front ("0401") and a list ("1,2,3") are no numbers with it, either.
    """
    cells = [None if cell is None or _says_nothing(cell) else cell for cell in column.to_pylist()]
    there = [cell for cell in cells if cell is not None]
    if decimal_comma and any("," in cell for cell in there) and all(_NUMBER_COMMA.fullmatch(cell) for cell in there):
        points = [None if cell is None else float(cell.replace(".", "").replace(",", ".")) for cell in cells]
        return only_finite(_column(points, pa.float64()))
    if there and all(_WHOLE.fullmatch(cell) for cell in there):
        return _column([None if cell is None else int(cell) for cell in cells], pa.int64())
    if there and all(_NUMBER.fullmatch(cell) for cell in there):
        return only_finite(_column([None if cell is None else float(cell) for cell in cells], pa.float64()))
    return column


def only_finite(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column in which NaN and the infinities are null."""
    if not pa.types.is_floating(column.type):
        return column
    return pc.if_else(pc.is_finite(column), column, pa.scalar(None, column.type))


def is_number(kind: pa.DataType) -> bool:
    """Return whether a column of this type can be compared with numbers."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def as_kind(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return a column in another type; a decimal number becomes the double that is nearest, 19.90 the one of ``19.9``.

    Arrow multiplies its digits by a power of ten, which is not exact: 19.900000000000002, and so not ``<= 19.90``.
    """
    if pa.types.is_decimal(column.type) and pa.types.is_floating(kind):
        column = column.cast(pa.string())
    return column.cast(kind)


def prices(column: pa.ChunkedArray, *, decimal_comma: bool) -> tuple[pa.ChunkedArray, list[int]]:
    """Read a column of prices.

    Parameters
    ----------
    column : pyarrow.ChunkedArray
        n cells of text.
    decimal_comma : bool
        A comma is the decimal sign, if the column has any: so it is where cells are delimited by semicolons.

    Returns
    -------
    prices : pyarrow.ChunkedArray
        n numbers, whole ones where all are; null where a cell says nothing or is no number.
    unread : list of int
        Where the cells stand that are no number.
    """
    coded = column.combine_chunks().dictionary_encode()  # few of a million prices are told apart: 19.90, 24.90
    cells = [None if cell is None or _says_nothing(cell) else _bare(cell) for cell in coded.dictionary.to_pylist()]
    comma = decimal_comma and any("," in cell for cell in cells if cell is not None)
    numbers = [None if cell is None else _number(cell, comma) for cell in cells]
    strange = [code for code, cell in enumerate(cells) if cell is not None and numbers[code] is None]
    unread = np.flatnonzero(pc.is_in(coded.indices, value_set=pa.array(strange, pa.int32())).to_numpy(False)).tolist()
    there = [number for number in numbers if number is not None]
    kind = pa.int64() if there and all(isinstance(number, int) for number in there) else pa.float64()
    return _column(numbers, kind).take(coded.indices), unread


def _says_nothing(cell: str) -> bool:
    return cell.strip().lower() in SAYS_NOTHING


def _bare(cell: str) -> str:
    """Return a price without its currency, without spaces around it and without a sign between its thousands."""
    signless = "".join(sign for sign in cell if unicodedata.category(sign) != "Sc")
    return _NO_CENTS.sub("", _GROUP_SIGN.sub("", _CURRENCY.sub("", signless.strip()).strip()))


def _number(cell: str, comma: bool) -> int | float | None:
    if _WHOLE.fullmatch(cell):
        return int(cell)  # not by way of a float, which has no more than 15 of its digits
    if _CENTS.fullmatch(cell):
        text = cell.replace(",", ".")
    elif _BOTH.fullmatch(cell):
        thousands, decimal = (",", ".") if cell.rindex(".") > cell.rindex(",") else (".", ",")
        text = cell.replace(thousands, "").replace(decimal, ".")
    elif (_COMMA if comma else _POINT).fullmatch(cell):
        text = cell.replace(".", "").replace(",", ".") if comma else cell.replace(",", "")
    else:
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def _column(cells: Sequence[int | float | None], kind: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(cells, kind)])
