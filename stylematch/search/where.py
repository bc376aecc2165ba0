"""Which vectors a condition on their columns allows: SQL over ``rows.parquet``, answered by DuckDB as positions.

The positions go into a search as ``allowed``, so that a filter never leaves fewer than k answers where k exist.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stylematch.errors import UserError
from stylematch.tables.shown import shown

_ITEM_ID = "item_id"
"""What ``recommendations`` and an item table call the ``id``; a condition may, too."""


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
    table = rows.append_column(position, pa.array(np.arange(rows.num_rows)))
    if _ITEM_ID not in spelled:
        table, known = table.append_column(_ITEM_ID, rows["id"]), [*known, _ITEM_ID]
    try:
        with closed_connection({"items": table}) as connection:
            # A filter takes one expression alone: pasted into a query, a bracket too many would end the condition and
            # what stands behind it could add rows of its own.
            held = connection.table("items").filter(where)
            found = held.project(f'"{position}"').order("1").fetchnumpy()[position]
    except duckdb.Error as error:
        raise UserError(
            f"the condition '{shown(where)}' cannot be read as a condition on this index's items: "
            f"{shown(words_of(error).rstrip('.'))}. Their columns are {shown(', '.join(known))}."
        ) from None
    return np.asarray(found, np.int64)
