"""A table as somebody keeps it, a CSV file or Parquet, into columns; each row knows where it stands in the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from stylematch.data.table_csv import read_csv
from stylematch.errors import UserError
from stylematch.tables.shown import shown

_CSV, _PARQUET = (".csv", ".tsv"), ".parquet"
TABLE_SUFFIXES = (*_CSV, _PARQUET)


class RowReason(StrEnum):
    """Why a row gave nothing, besides the codes of ``stylematch.tables.contract.Reason`` for unreadable pictures."""

    MALFORMED_ROW = "malformed_row"
    NO_ID = "no_id"
    DUPLICATE_ID = "duplicate_id"
    NO_IMAGE = "no_image"
    MISSING_PICTURE = "missing_picture"
    OUTSIDE_FOLDER = "outside_folder"


@dataclass(frozen=True)
class TableRows:
    """A table as it was read, and what its rows are called and counted by.

    Attributes
    ----------
    table : pyarrow.Table
        n rows. A CSV's cells are text without the blanks around it, null where that is nothing.
    numbers : sequence of int
        n of them: a CSV's line, else the row, counted from 1.
    damaged : tuple of (int, str)
        The other lines, each with why it cannot be read.
    decimal_comma : bool
        Numbers may have one, as cells stand apart by semicolons.
    counted : {"row", "line"}
        What the numbers are of.
    """

    table: pa.Table
    numbers: Sequence[int]
    damaged: tuple[tuple[int, str], ...] = ()
    decimal_comma: bool = False
    counted: Literal["row", "line"] = "row"


def read_table(source: Path, encoding: str | None = None) -> TableRows:
    """Read a ``.csv``, ``.tsv`` or ``.parquet`` file.

    Parameters
    ----------
    source : pathlib.Path
        The file.
    encoding : str, optional
        Of a CSV, as ``read_csv`` takes it.

    Raises
    ------
    UserError
        If it is none of them, cannot be read, or names a column twice.
    """
    if source.suffix.lower() == _PARQUET:
        return _read_parquet(source)
    if source.suffix.lower() in _CSV:
        return _read_csv(source, encoding)
    raise UserError(f"{shown(source)} is no .csv, .tsv or .parquet file; save the table as one of them.")


def _read_parquet(source: Path) -> TableRows:
    try:
        with pq.ParquetFile(source) as file:
            table = file.read()
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{shown(source)} cannot be read: {shown(str(error))}.") from error
    names = table.column_names
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{shown(source)} has the column '{shown(doubled)}' twice; rename one of them.")
    return TableRows(table, range(1, table.num_rows + 1))


def _read_csv(source: Path, encoding: str | None) -> TableRows:
    read = read_csv(source, encoding)
    columns = {
        name: pa.array([row[place].strip() or None for row in read.rows], pa.string())
        for place, name in enumerate(read.names)
    }
    damaged = tuple((line, f"the row has {why}") for line, why in read.damaged)
    return TableRows(pa.table(columns), read.lines, damaged, read.delimiter == ";", "line")
