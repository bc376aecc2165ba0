"""Which vectors a condition on their columns allows: SQL over ``rows.parquet``, answered by DuckDB as positions.

The positions go into a search as ``allowed``, so that a filter never leaves fewer than k answers where k exist.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stylematch.errors import UserError
from stylematch.tables.disk import shown

_POSITION = "stylematch position"


def positions_where(rows: pa.Table, where: str) -> npt.NDArray[np.int64]:
    """Return the positions of the rows that a condition holds for, ascending.

    Parameters
    ----------
    rows : pyarrow.Table
        One row a vector: ``StoredIndex.rows``.
    where : str
        What stands behind SQL's WHERE, such as ``category = 'Coat' AND price < 50``.

    Returns
    -------
    ndarray of int64, shape (m,)
        None where no row fits; a row whose condition is NULL does not.

    Raises
    ------
    UserError
        If it is no condition over the columns.
    """
    import duckdb

    table = rows.append_column(_POSITION, pa.array(np.arange(rows.num_rows)))
    with duckdb.connect(":memory:", config={"python_enable_replacements": False}) as connection:
        connection.register("items", table)
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        # On lines of its own, so that a comment in it ends; in brackets, so that it stays one condition.
        sql = f'SELECT "{_POSITION}" FROM items WHERE (\n{where}\n) ORDER BY 1'  # noqa: S608
        try:
            if len(connection.extract_statements(sql)) != 1:
                raise UserError(f"the condition {shown(where)!r} is more than one statement")
            found = connection.execute(sql).fetchnumpy()[_POSITION]
        except duckdb.Error as error:
            message = " ".join(str(error).split("\n\n")[0].split())
            raise UserError(
                f"the condition {shown(where)!r} cannot be read: {shown(message)} The columns are "
                f"{shown(', '.join(rows.column_names))}."
            ) from None
    return np.asarray(found, np.int64)
