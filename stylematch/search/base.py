"""What all kinds of index share: ids, checked queries, and answers that do not depend on how queries are batched.

- Whatever proposes candidates (FAISS, a GPU, a scan of the stored rows), their scores are recomputed in float64
  by a sum of fixed shape and sorted by (-score, id): BLAS adds in another order for another batch size.
- An exact answer stands when its k-th score is above everything that was left out, by more than float32's error;
  otherwise (many ties) more is proposed for that query.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stylematch.errors import UserError
from stylematch.search.names import some
from stylematch.search.scan import Propose, scan
from stylematch.search.units import Storage, has_direction, normalise

IndexKind = Literal["exact", "hnsw", "ivf", "ivfpq"]

MARGIN = 32  # proposals beyond k: more than tie within float32's error in real embeddings, cheap to recompute
_WIDEN = 4
_BATCH_QUERIES = 2048
_RESCORE_VALUES = 2**19  # float64 values in flight while recomputing: 4 MB, stays in cache


@dataclass(frozen=True)
class Hits:
    """Answers of a search, best first.

    Attributes
    ----------
    positions : ndarray of int64, shape (q, k)
        Positions in the index; -1 where fewer than k vectors exist (or are allowed).
    scores : ndarray of float64, shape (q, k)
        Inner products of the unit queries with the stored vectors: cosines, to within the rounding of the
        stored form; -inf where the position is -1.
    """

    positions: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]


class SearchIndex(ABC):
    """Vectors with unique ids, searched by cosine; one small interface for every kind of index.

    Positions are those of ``ids`` and of ``rows.parquet``; they close up when vectors are removed.

    Parameters
    ----------
    ids : sequence of str or pyarrow.Array
        The vectors' names, by position.
    storage : {"fp16", "fp32"}
        The stored form of the vectors.
    """

    kind: ClassVar[IndexKind]

    def __init__(self, ids: Sequence[str] | pa.Array, storage: Storage) -> None:
        self._ids = ids if isinstance(ids, pa.Array) else pa.array(ids, pa.string())
        self.storage: Storage = storage

    def __len__(self) -> int:
        return len(self._ids)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The ids, by position."""
        return tuple(self._ids.to_pylist())

    @property
    def id_column(self) -> pa.Array:
        """The ids by position, as a pyarrow array of strings: a tenth of the memory of ``ids``."""
        return self._ids

    @property
    @abstractmethod
    def dim(self) -> int:
        """Length of a vector."""

    @property
    @abstractmethod
    def factory(self) -> str:
        """FAISS's name of the stored form."""

    @property
    def bytes_per_vector(self) -> int:
        """Size of one stored vector in bytes, without what a kind keeps beside it."""
        return self.dim * (2 if self.storage == "fp16" else 4)

    @property
    @abstractmethod
    def memory_bytes(self) -> int:
        """What a search holds in memory when nothing is mapped, ids and columns aside."""

    @abstractmethod
    def save(self, directory: Path, rows: pa.Table | None = None) -> tuple[str, ...]:
        """Write the index into a directory and return the names of its files."""

    @abstractmethod
    def add(self, ids: Sequence[str] | pa.Array, vectors: npt.ArrayLike) -> None:
        """Append vectors (n, d) under new ids; a ``UserError`` names ids that are there already.

        The effort of an approximate kind stays, so its recall may fall where the new vectors are unlike the old:
        ``search/tuning.refreshed`` mends that, as ``index add`` and ``index remove`` do.
        """

    @abstractmethod
    def remove(self, ids: Sequence[str] | pa.Array) -> npt.NDArray[np.int64]:
        """Remove vectors by id and return the former positions of those that stay, ascending."""

    @abstractmethod
    def update(self, ids: Sequence[str] | pa.Array, vectors: npt.ArrayLike) -> None:
        """Replace the vectors (n, d) of ids that are there; their positions stay."""

    @abstractmethod
    def _rows(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Return the stored rows, float16 or float32, shape (*positions.shape, d)."""

    @abstractmethod
    def _search_batch(
        self, unit: npt.NDArray[np.float64], k: int, allowed: npt.NDArray[np.int64] | None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Return positions and scores (q, k) of unit queries, k at most as many as there are."""

    def vectors(self, positions: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return stored vectors as float32 (n, d), of unit length but for the stored form's rounding."""
        return np.ascontiguousarray(self._rows(np.asarray(positions, np.int64)), np.float32)

    def positions_of(self, ids: Sequence[str] | pa.Array) -> npt.NDArray[np.int64]:
        """Return the positions of ids; -1 for one that is not there."""
        found = pc.index_in(ids if isinstance(ids, pa.Array) else pa.array(ids, pa.string()), value_set=self._ids)
        return found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)

    def search(self, queries: npt.ArrayLike, k: int, *, allowed: npt.NDArray[np.int64] | None = None) -> Hits:
        """Find each query's k nearest vectors; one by one or all at once, the answers are bit-equal.

        Parameters
        ----------
        queries : array_like of float32, shape (q, d)
            Any length but zero; normalised here.
        k : int
            How many, at least 1.
        allowed : ndarray of int64, optional
            The positions to search in (order and repeats do not matter). Only these are searched among, so
            there are k answers wherever k are allowed.

        Returns
        -------
        Hits
            Best first; equal scores in the order of the ids (by code points).

        Raises
        ------
        ValueError
            If shapes or positions do not fit the index, or a query is zero or not finite.
        """
        wide = np.ascontiguousarray(queries, np.float64)  # the sums below follow the memory's order
        if wide.ndim != 2 or wide.shape[1] != self.dim:
            raise ValueError(f"queries of shape {wide.shape}: expected (q, {self.dim})")
        if k < 1:
            raise ValueError(f"k is {k}: at least 1")
        if not has_direction(wide).all():
            raise ValueError("a query is zero or not finite")
        if allowed is not None:
            allowed = _ascending(np.asarray(allowed, np.int64).ravel())
            if allowed.size and not 0 <= allowed[0] <= allowed[-1] < len(self):
                raise ValueError(f"allowed positions must lie in 0 to {len(self) - 1}")
        unit = normalise(wide) if len(wide) else wide
        hits = Hits(np.full((len(unit), k), -1, np.int64), np.full((len(unit), k), -np.inf, np.float64))
        found = min(k, len(self) if allowed is None else len(allowed))
        for start in range(0, len(unit) if found else 0, _BATCH_QUERIES):
            batch = slice(start, start + _BATCH_QUERIES)
            positions, scores = self._search_batch(unit[batch], found, allowed)
            hits.positions[batch, :found], hits.scores[batch, :found] = positions, scores
        return hits

    def _search_exactly(
        self, unit: npt.NDArray[np.float64], k: int, available: int, propose: Propose
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Return the k best (q, k) of ``available`` vectors, widening the proposals of queries not settled."""
        positions, scores = np.empty((len(unit), k), np.int64), np.empty((len(unit), k), np.float64)
        # Twice the bound on the float32 error of an inner product of unit vectors, in any order of summation.
        tolerance = (self.dim + 8) * 2.0**-23
        proposals = min(available, k + MARGIN)
        todo = np.arange(len(unit))
        while todo.size:
            approximate, proposed = propose(unit[todo].astype(np.float32), proposals)
            positions[todo], best = self._best(unit[todo], proposed, k)
            scores[todo] = best
            if proposals == available:
                break
            todo = todo[best[:, -1] <= approximate[:, -1].astype(np.float64) + tolerance]
            proposals = min(available, proposals * _WIDEN)
        return positions, scores

    def _best(
        self, unit: npt.NDArray[np.float64], proposed: npt.NDArray[np.int64], k: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Return the k best positions and scores (q, k) of those proposed (q, n), sorted by (-score, id)."""
        exact = self._rescore(unit, proposed)
        order = np.argsort(-exact, axis=-1)
        ordered = np.take_along_axis(exact, order, axis=-1)
        # Few scores are equal, and sorting by two keys takes three times as long.
        tied = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=-1))
        if len(tied):
            order[tied] = np.lexsort((self._id_ranks(proposed[tied]), -exact[tied]), axis=-1)
        return np.take_along_axis(proposed, order[:, :k], axis=-1), ordered[:, :k]

    def _rescore(self, unit: npt.NDArray[np.float64], proposed: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Inner products in float64, summed along the last axis of a contiguous array: one order always."""
        exact = np.empty(proposed.shape, np.float64)
        step = max(1, _RESCORE_VALUES // max(1, proposed.shape[1] * self.dim))
        for start in range(0, len(unit), step):
            rows = slice(start, start + step)
            exact[rows] = (self._rows(proposed[rows]) * unit[rows, None, :]).sum(axis=-1)
        return exact

    def _id_ranks(self, proposed: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return numbers that order positions as their ids do (UTF-8 sorts as code points do)."""
        distinct, inverse = np.unique(proposed, return_inverse=True)
        ranks = np.empty(len(distinct), np.int64)
        ranks[pc.sort_indices(self._ids.take(pa.array(distinct))).to_numpy()] = np.arange(len(distinct))
        return ranks[inverse].reshape(proposed.shape)

    def _scan(self, positions: npt.NDArray[np.int64] | None) -> Propose:
        """Return an exact proposer that reads the stored rows (all, or those named) in blocks."""
        return scan(self._rows, np.arange(len(self)) if positions is None else positions)

    def _known(self, ids: Sequence[str] | pa.Array) -> npt.NDArray[np.int64]:
        """Return the positions of ids that must be there, each once."""
        positions = self.positions_of(ids)
        missing = [str(ids[int(row)]) for row in np.flatnonzero(positions < 0)]
        if missing:
            raise UserError(f"{len(missing)} ids are not in the index: {some(missing)}; leave them out.")
        if len(np.unique(positions)) != len(positions):
            raise UserError("An id is named twice; name each once.")
        return positions

    def _check_new(self, ids: Sequence[str] | pa.Array, rows: npt.NDArray[Any]) -> None:
        self._check_dim(rows)
        there = [str(ids[int(row)]) for row in np.flatnonzero(self.positions_of(ids) >= 0)]
        if there:
            raise UserError(
                f"{len(there)} ids are in the index already: {some(there)}; leave them out, or update them."
            )

    def _check_dim(self, rows: npt.NDArray[Any]) -> None:
        if rows.shape[1] != self.dim:
            raise ValueError(f"vectors of {rows.shape[1]} dimensions: the index has {self.dim}")

    def _set_ids(self, ids: pa.Array) -> None:
        self._ids = ids
        self.__dict__.pop("ids", None)  # the cached tuple


def _ascending(positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return positions in order, each once: themselves where they are so, which is known in no time."""
    return positions if (positions[1:] > positions[:-1]).all() else np.unique(positions)
