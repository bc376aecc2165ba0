"""Which vectors a condition on their columns allows: SQL over ``rows.parquet``, answered by DuckDB as positions.

The positions go into a search as ``allowed``, so that a filter never leaves fewer than k answers where k exist.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stylematch.errors import UserError
from stylematch.tables.shown import shown

_ITEM_ID = "item_id"
"""What ``recommendations`` and an item table call the ``id``; a condition may, too."""
MAX_VALUES = 8
"""How many of a column's values are told of."""
_PLAIN = re.compile(r"[^\W\d]\w*")
_EQUALS = re.compile(r"""(?:"([^"]+)"|\b(\w+))\s*=\s*'((?:[^']|'')*)'""")


def positions_where(rows: pa.Table, where: str) -> npt.NDArray[np.int64]:
    """Return the positions of the rows that a condition holds for, ascending.

    Parameters
    ----------
    rows : pyarrow.Table
        One row a vector: ``StoredIndex.rows``. The ``id`` may also be called ``item_id``.
    where : str
        What stands behind SQL's WHERE, such as ``category = 'Coat' AND price < 50``.

    Returns
    -------
    ndarray of int64, shape (m,)
        None where no row fits; a row whose condition is NULL does not.

    Raises
    ------
    UserError
        If it is not one condition over the columns, or DuckDB does not know a column's type.
    """
    import duckdb

    from stylematch.tables.closed_duckdb import closed_connection, words_of

    if not where.strip():
        raise UserError('the condition is empty; write one such as "price < 50", or leave it out')
    known = rows.column_names
    spelled = {name.casefold() for name in known}
    position = "stylematch position"  # which nobody means, but a catalogue may have
    while position in spelled:
        position += "_"
    table = rows
    if _ITEM_ID not in spelled:
        table, known = table.append_column(_ITEM_ID, rows["id"]), [*known, _ITEM_ID]
    numbered = table.append_column(position, pa.array(np.arange(rows.num_rows)))
    try:
        with closed_connection({"items": table, position: numbered}) as connection:
            # A filter takes one expression alone: pasted into a query, a bracket too many would end the condition and
            # what stands behind it could add rows of its own. Without the numbers it is only read: what is proposed for
            # a column that is not there, are columns that are.
            connection.table("items").filter(where)
            held = connection.table(position).set_alias("items").filter(where)
            found = held.project(f'"{position}"').order("1").fetchnumpy()[position]
    except duckdb.Error as error:
        raise UserError(
            f"the condition '{shown(where)}' cannot be read as a condition on this index's items: "
            f"{shown(words_of(error).rstrip('.'))}. {_told_columns(known)}"
        ) from None
    return np.asarray(found, np.int64)


def _told_columns(names: Sequence[str]) -> str:
    """Return the sentences that list columns as a condition has to write them."""
    from stylematch.tables.closed_duckdb import closed_connection, quoted

    sql = "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category IN ('reserved', 'type_function')"
    with closed_connection({}) as connection:
        words = {word for (word,) in connection.execute(sql).fetchall()}
    bare = [bool(_PLAIN.fullmatch(name)) and name.lower() not in words for name in names]
    written = [name if plain else quoted(name) for name, plain in zip(names, bare, strict=True)]
    quotes = "" if all(bare) else " Names in double quotes need them; in a shell put the condition into single quotes."
    return f"Their columns are {shown(', '.join(written))}.{quotes}"


def told_values(rows: pa.Table, where: str) -> str:
    """Return what stands in the columns of text that a condition asks for equality with what none of them holds.

    Parameters
    ----------
    rows : pyarrow.Table
        As of ``positions_where``.
    where : str
        A condition that can be read and holds for no row.

    Returns
    -------
    str
        "gender is 'Men' or 'Women' there", a sentence a column; empty where nothing can be told, as of numbers.
    """
    spelled = {name.casefold(): name for name in rows.column_names}
    told: dict[str, str] = {}
    for quoted, plain, text in _EQUALS.findall(where):
        name = spelled.get((quoted or plain).casefold())
        if name is None or name in ("id", *told) or not pa.types.is_string(rows.schema.field(name).type):
            continue
        counts = {entry["values"]: entry["counts"] for entry in rows[name].drop_null().value_counts().to_pylist()}
        if counts and text.replace("''", "'") not in counts:
            most = sorted(counts, key=lambda value: (-counts[value], value))[:MAX_VALUES]
            more = f" or {len(counts) - len(most):,} other values" if len(counts) > len(most) else ""
            told[name] = f"{name} is {', '.join(map(repr, most))}{more} there"
    return "; ".join(told.values())
