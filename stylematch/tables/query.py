"""Answer one SQL question about some tables: DuckDB, able to read them and nothing else.

- The tables (``tables/views``) are registered as Arrow data sets, opened by us, before DuckDB is closed to all else
  (``tables/closed_duckdb``).
- Exactly one statement is taken, and only one that DuckDB itself calls a SELECT (WITH, FROM, VALUES,
  DESCRIBE, SUMMARIZE and SHOW are).
- Rows are fetched and written in blocks, so an answer of any length fits in memory.
"""

from __future__ import annotations

import csv
import datetime
import decimal
import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TextIO, get_args

from stylematch.errors import UserError
from stylematch.tables.shown import is_utf8, shown
from stylematch.tables.views import Views, said_of_damage

OutputFormat = Literal["table", "csv", "json"]
_BLOCK_ROWS = 1000
_SHOWN_LIST_ITEMS = 4

Row = tuple[Any, ...]


def run_query(views: Views, sql: str, *, output_format: OutputFormat, stream: TextIO) -> None:
    """Write the answer to ``sql`` over some tables to ``stream``.

    Parameters
    ----------
    views : Views
        What can be asked.
    sql : str
        One SELECT over them.
    output_format : {"table", "csv", "json"}
        ``table`` is aligned text for people: long lists are shortened, control characters escaped. ``csv``
        (RFC 4180, with a header; NULL is empty) and ``json`` (an array of objects; NaN and infinities are
        null) are complete.
    stream : text stream
        Where to write.

    Raises
    ------
    UserError
        The statement is not one SELECT, or DuckDB refuses it.
    """
    import duckdb

    from stylematch.tables.closed_duckdb import closed_connection, interruptible, words_of

    if output_format not in get_args(OutputFormat):
        raise UserError(f"unknown format '{shown(output_format)}': choose one of {', '.join(get_args(OutputFormat))}")
    if not is_utf8(sql):  # DuckDB cannot be handed it
        raise UserError(f"the query is no valid UTF-8: {shown(sql)}")
    write = {"table": _write_table, "csv": _write_csv, "json": _write_json}[output_format]
    with (
        tempfile.TemporaryDirectory(prefix="stylematch-query-") as spill,
        closed_connection(views.tables, views.aliases, temp_directory=spill) as connection,
        interruptible(connection) as interruptibly,
    ):
        try:
            statements = connection.extract_statements(sql)
            if len(statements) != 1:
                raise UserError(f"query takes exactly one SELECT statement, and this has {len(statements)}")
            kind = _kind(statements[0])
            if kind == "MULTI":
                raise UserError("query takes one plain SELECT: a PIVOT must list its values (PIVOT ... ON x IN (...))")
            if kind != "SELECT":
                raise UserError(f"query only reads: it takes one SELECT statement, and this is {kind}")
            cursor = interruptibly(lambda: connection.execute(statements[0]))
            names = [column[0] for column in cursor.description]
            zoned = [column[0] for column in cursor.description if "TIME ZONE" in str(column[1])]
            if zoned:  # the tables have none, and Python needs one more package to hold one
                raise UserError(f"column {shown(zoned[0])} is a time with a zone: cast it to TIMESTAMP or VARCHAR")
            write(names, iter(lambda: interruptibly(lambda: cursor.fetchmany(_BLOCK_ROWS)), []), stream)
        except OverflowError:  # an INTERVAL may be longer than Python's
            raise UserError("the answer has a value that is too large for Python: cast it to VARCHAR") from None
        except duckdb.Error as error:
            message = words_of(error)
            if isinstance(error, duckdb.CatalogException):  # whose guesses are DuckDB's own tables
                message = (
                    f"{message.partition(' Did you mean')[0]} The tables are {', '.join(views.tables)}.{views.hint}"
                )
            # DuckDB knows neither the file nor what to do about it.
            damage = said_of_damage(views.tables) if "Arrow" in message else None
            raise UserError(f"the query failed: {damage or shown(message)}") from None


def _kind(statement: Any) -> str:
    """Return the name of a statement's kind, of which DuckDB has more than its Python package can name."""
    try:
        return str(statement.type.name)
    except ValueError:
        return "none that is known"


def _write_table(names: Sequence[str], blocks: Iterator[list[Row]], stream: TextIO) -> None:
    count = 0
    # The first block sets the widths; a later block that needs more room widens them for itself and the rest.
    first = next(blocks, [])
    widths = [len(shown(name)) for name in names]
    header_due = True
    block: list[Row] | None = first
    while block is not None:
        cells = [[_cell(value) for value in row] for row in block]
        widths = [max([width, *(len(row[i]) for row in cells)]) for i, width in enumerate(widths)]
        if header_due:
            header_due = False
            stream.write("  ".join(shown(n).ljust(w) for n, w in zip(names, widths, strict=True)).rstrip() + "\n")
            stream.write("  ".join("-" * w for w in widths) + "\n")
        for row, values in zip(cells, block, strict=True):
            aligned = (
                cell.rjust(w) if isinstance(value, (int, float, decimal.Decimal)) else cell.ljust(w)
                for cell, value, w in zip(row, values, widths, strict=True)
            )
            stream.write("  ".join(aligned).rstrip() + "\n")
        count += len(block)
        block = next(blocks, None)
    stream.write(f"-- {count:,} {'row' if count == 1 else 'rows'}\n")


def _write_csv(names: Sequence[str], blocks: Iterator[list[Row]], stream: TextIO) -> None:
    writer = csv.writer(stream)
    writer.writerow(names)
    for block in blocks:
        writer.writerows([_csv_value(value) for value in row] for row in block)


def _write_json(names: Sequence[str], blocks: Iterator[list[Row]], stream: TextIO) -> None:
    keys = _distinct(names)
    separator = "[\n"
    for block in blocks:
        for row in block:
            values = {key: _json_value(value) for key, value in zip(keys, row, strict=True)}
            stream.write(separator + json.dumps(values, ensure_ascii=False, allow_nan=False))
            separator = ",\n"
    stream.write("[]\n" if separator == "[\n" else "\n]\n")


def _distinct(names: Sequence[str]) -> list[str]:
    """Return the names with ``_2``, ``_3`` ... added where SQL repeats one; an object's keys must differ."""
    keys: list[str] = []
    for name in names:
        key, number = name, 1
        while key in keys:
            number += 1
            key = f"{name}_{number}"
        keys.append(key)
    return keys


def _cell(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}" if abs(value) < 1e6 else repr(value)
    if isinstance(value, (list, tuple)):
        items = [_cell(item) for item in value[:_SHOWN_LIST_ITEMS]]
        more = f", ... {len(value):,} values" if len(value) > _SHOWN_LIST_ITEMS else ""
        return f"[{', '.join(items)}{more}]"
    return shown(str(_json_value(value)))


def _csv_value(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(_json_value(value), ensure_ascii=False, allow_nan=False)
    if isinstance(value, (float, decimal.Decimal)):
        return value
    return _json_value(value)


def _json_value(value: Any) -> Any:
    """Return ``value`` as JSON can hold it: ISO dates, hexadecimal bytes, NaN and infinities null."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, decimal.Decimal):
        value = float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (list, tuple)):
        return [_json_value(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    return str(value)
