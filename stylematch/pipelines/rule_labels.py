"""True labels of people, from a Parquet file, for the rules that ask for them.

Only the columns that the rules use are read, whole columns at a time. Labels may be booleans, 0/1 or CelebA's
-1/1; whatever else a column holds is refused, since a silent guess would move faces between styles.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow.parquet import ParquetFile

from stylematch.errors import UserError
from stylematch.style.ruleset import RuleSet


def read_labels(path: Path, rule_set: RuleSet) -> NDArray[np.bool_]:
    """Read the labels that a rule set uses from a Parquet file.

    Returns
    -------
    ndarray of bool, shape (n, a)
        Columns as in the set's ``attribute_names``; those that no rule uses are not read and stay False.

    Raises
    ------
    UserError
        The file is missing, is no Parquet, lacks a column that the rules use, or has values in it that are no labels.
    """
    where = f"labels file {str(path)!r}"
    if not path.is_file():
        raise UserError(f"{where} is no file; give the path of a Parquet file with a column per attribute")
    try:
        with ParquetFile(path) as file:
            have = set(file.schema_arrow.names)
            missing = [name for name in rule_set.attributes if name not in have]
            if missing:
                raise UserError(
                    f"{where} lacks {'a column' if len(missing) == 1 else 'columns'} that rule set "
                    f"{rule_set.name!r} uses: {', '.join(missing)}; add them or use another rule set"
                )
            table = file.read(columns=list(rule_set.attributes))
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{where} cannot be read as Parquet ({error}); give a whole Parquet file") from error
    labels = np.zeros((table.num_rows, len(rule_set.attribute_names)), dtype=np.bool_)
    for name in rule_set.attributes:
        labels[:, rule_set.attribute_names.index(name)] = _as_bool(table.column(name), f"{where}, column {name}")
    return labels


def _as_bool(column: pa.ChunkedArray, where: str) -> NDArray[np.bool_]:
    """Return one column of labels as bool (n,); ``where`` names file and column in errors."""
    if not (pa.types.is_boolean(column.type) or pa.types.is_integer(column.type)):
        raise UserError(f"{where} is of type {column.type}; labels must be booleans, 0 and 1, or -1 and 1")
    if column.null_count:
        row = column.is_null().index(True).as_py() + 1
        raise UserError(f"{where}, row {row} has no value; fill in the label or leave the row out")
    # Arrow's own to_numpy imports pandas, which takes longer than all the rest of the command.
    numbers = column.cast(pa.uint8()) if pa.types.is_boolean(column.type) else column
    values = np.from_dlpack(numbers.combine_chunks())
    # Neither 0 nor 1 alone tells the two codings apart, so the column's other value decides.
    absent = -1 if (values == -1).any() else 0
    odd = np.flatnonzero((values != 1) & (values != absent))
    if len(odd):
        coding = "-1 and 1 (there is a -1 in this column)" if absent else "booleans, 0 and 1, or -1 and 1"
        raise UserError(f"{where}, row {odd[0] + 1} is {values[odd[0]]}; labels must be {coding}")
    return values == 1
