"""Columns of ids: putting two together, what stays when some go, and naming a few in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stylematch.errors import UserError
from stylematch.tables.shown import closest


def appended(old: pa.Array, new: Sequence[str] | pa.Array) -> pa.Array:
    """Return two columns of ids as one."""
    return pa.concat_arrays([old, new if isinstance(new, pa.Array) else pa.array(new, pa.string())])


def staying(count: int, gone: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the positions, ascending, that stay of ``count`` when those in ``gone`` (m,) go.

    Raises
    ------
    UserError
        If none stays.
    """
    kept = all_but(count, gone)
    if not kept.size:
        raise UserError("Removing these ids would leave an empty index; delete its directory instead.")
    return kept


def some(names: Sequence[str]) -> str:
    """Return the first few names, quoted."""
    return ", ".join(repr(name) for name in names[:5]) + (", ..." if len(names) > 5 else "")


def proposed(name: str, known: Sequence[str]) -> str:
    """Return the end of a sentence about a name that is not known: the closest one, whatever its capitals, if any."""
    close = closest(name, known)
    return "" if close is None else f"; did you mean {close}? Capitals count"


def all_but(count: int, gone: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the positions up to a count without some (m,), ascending; sets would take five times the memory."""
    stay = np.ones(count, np.bool_)
    stay[gone] = False
    return np.flatnonzero(stay)
