"""Vectors of unit length in the stored form, made in blocks, so that ten million never lie in memory as float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stylematch.errors import UserError
from stylematch.search.names import some

Storage = Literal["fp16", "fp32"]
_BLOCK_VALUES = 2**21  # 16 MiB of float64, of which there are a few at a time
_WIDENED_ROWS = 2**16  # fixed: what is built of them may follow from their number


def normalise(wide: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the rows (n, d), none of them zero, scaled to length 1."""
    # The largest component first: squares of very small or very large vectors would leave float64's range.
    scaled = wide / np.abs(wide).max(axis=1, keepdims=True)
    return scaled / np.sqrt((scaled * scaled).sum(axis=1, keepdims=True))


def has_direction(wide: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return bool (n,): which rows are finite and not zero."""
    return np.isfinite(wide).all(axis=1) & (wide != 0).any(axis=1)


def unit_rows(
    ids: Sequence[str] | pa.Array, vectors: npt.ArrayLike, storage: Storage, *, in_place: bool = False
) -> npt.NDArray[Any]:
    """Normalise vectors in float64 and round them to the stored form.

    Parameters
    ----------
    ids : sequence of str or pyarrow.Array, length n
        Unique names of the vectors.
    vectors : array_like of float, shape (n, d)
        Any length but zero.
    storage : {"fp16", "fp32"}
        Half floats or floats.
    in_place : bool
        Write over the vectors where they are of the stored form, instead of holding both.

    Returns
    -------
    ndarray of float16 or float32, shape (n, d)
        Rounded by IEEE's rule: FAISS's own rounding depends on its build; halves it stores unchanged.

    Raises
    ------
    UserError
        If there are no vectors, an id occurs twice, or a vector is zero or not finite; the id is named.
    """
    given = np.asarray(vectors)
    if given.ndim != 2 or len(given) != len(ids):
        raise ValueError(f"vectors of shape {given.shape} for {len(ids)} ids: expected (n, d) and n ids")
    if given.size == 0:
        raise UserError("There are no embeddings to index; an index needs at least one.")
    _check_unique(ids)
    stored = np.dtype(np.float16 if storage == "fp16" else np.float32)
    rows = given if in_place and given.dtype == stored else np.empty(given.shape, stored)
    bad: list[int] = []
    step = max(1, _BLOCK_VALUES // given.shape[1])
    for start in range(0, len(given), step):
        wide = np.ascontiguousarray(given[start : start + step], np.float64)
        broken = np.flatnonzero(~has_direction(wide))
        bad.extend(start + int(row) for row in broken)
        if not bad:
            rows[start : start + step] = normalise(wide)
    if bad:
        raise UserError(
            f"The embedding of {str(ids[bad[0]])!r} (row {bad[0]}) is zero or not finite, without a "
            f"direction; {len(bad)} such in all. Leave these rows out, or embed them again."
        )
    return rows


def widened(halves: npt.NDArray[np.float16], positions: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the rows at some positions (p,) of stored halves (n, d) as float32, a fixed number at a time."""
    for start in range(0, len(positions), _WIDENED_ROWS):
        yield np.ascontiguousarray(halves[positions[start : start + _WIDENED_ROWS]], np.float32)


def _check_unique(ids: Sequence[str] | pa.Array) -> None:
    column = pa.array(ids, pa.string()) if not isinstance(ids, pa.Array) else ids
    distinct = pc.count_distinct(column).as_py()
    pa.default_memory_pool().release_unused()  # the table of all ids that this took
    if distinct == len(column):
        return
    counts = column.value_counts()
    repeated = sorted(counts.field("values").filter(pc.greater(counts.field("counts"), 1)).to_pylist())
    raise UserError(f"{len(repeated)} ids occur more than once: {some(repeated)}. Give every embedding its own id.")
