"""Exact nearest neighbours by cosine, over FAISS, with answers that do not depend on how queries are batched.

- Vectors are L2-normalised and stored once, as half floats (FAISS ``IndexScalarQuantizer``, ``QT_fp16``); on
  loading they are widened into an ``IndexFlatIP``, whose search runs in BLAS batches.
- BLAS adds in another order for another batch size, so FAISS's scores are not bit-stable. FAISS only proposes
  k plus some; the scores are recomputed in float64 by a sum of fixed shape, and sorted by (-score, id).
- A query's answer stands when its k-th score is above everything that FAISS left out, by more than float32's
  error; otherwise (many ties) more is proposed for that query.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from stylematch.errors import UserError
from stylematch.search.on_gpu import Proposer, proposer_on_gpu
from stylematch.tables.disk import shown, write_durably

Storage = Literal["fp16", "fp32"]
INDEX_FILE = "index.faiss"
ROWS_FILE = "rows.parquet"
FACTORY: dict[Storage, str] = {"fp16": "SQfp16", "fp32": "Flat"}
"""FAISS's name of the stored form."""

_MARGIN = 32  # proposals beyond k: more than tie within float32's error in real embeddings, cheap to recompute
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


class VectorIndex:
    """Vectors with unique ids, searched exactly by cosine. Made by ``build`` or ``load``."""

    def __init__(
        self, ids: Sequence[str], vectors: npt.NDArray[np.float32], storage: Storage, device: str = "cpu"
    ) -> None:
        self.ids: tuple[str, ...] = tuple(ids)
        self.storage: Storage = storage
        self._flat = faiss.IndexFlatIP(vectors.shape[1])
        self._flat.add(vectors)
        # A view of FAISS's own copy, so that the vectors lie in memory once.
        self._vectors = faiss.rev_swig_ptr(self._flat.get_xb(), vectors.size).reshape(vectors.shape)
        self._vectors.flags.writeable = False
        self._id_rank = np.empty(len(self.ids), np.int64)
        self._id_rank[sorted(range(len(self.ids)), key=self.ids.__getitem__)] = np.arange(len(self.ids))
        self._gpu: Proposer | None = proposer_on_gpu(self._flat, self._vectors) if device == "cuda" else None

    @classmethod
    def build(cls, ids: Sequence[str], vectors: npt.ArrayLike, *, storage: Storage = "fp16") -> VectorIndex:
        """Normalise vectors and index them.

        Parameters
        ----------
        ids : sequence of str, length n
            Unique names of the vectors.
        vectors : array_like of float, shape (n, d)
            Any length but zero; they are L2-normalised in float64.
        storage : {"fp16", "fp32"}
            The stored form; the vectors searched are those that the stored form holds.

        Raises
        ------
        UserError
            If there are no vectors, an id occurs twice, or a vector is zero or not finite; the id is named.
        """
        wide = np.ascontiguousarray(vectors, np.float64)
        if wide.ndim != 2 or len(wide) != len(ids):
            raise ValueError(f"vectors of shape {wide.shape} for {len(ids)} ids: expected (n, d) and n ids")
        if wide.size == 0:
            raise UserError("There are no embeddings to index; an index needs at least one.")
        _check_unique(ids)
        bad = np.flatnonzero(~(np.isfinite(wide).all(axis=1) & (wide != 0).any(axis=1)))
        if bad.size:
            raise UserError(
                f"The embedding of {ids[int(bad[0])]!r} (row {bad[0]}) is zero or not finite, without a "
                f"direction; {bad.size} such in all. Leave these rows out, or embed them again."
            )
        unit = _normalise(wide)
        # Rounded here by IEEE's rule: FAISS's own rounding depends on its build; halves it stores unchanged.
        stored = unit.astype(np.float16 if storage == "fp16" else np.float32)
        return cls(ids, np.ascontiguousarray(stored, np.float32), storage)

    def save(self, directory: Path, rows: pa.Table | None = None) -> None:
        """Write ``index.faiss`` and ``rows.parquet`` (``id``, then the columns of ``rows``) into a directory.

        Parameters
        ----------
        directory : pathlib.Path
            Where to write.
        rows : pyarrow.Table, optional
            One row a vector, in the index's order; its column ``id``, if any, is replaced by the index's ids.
        """
        stored: Any = self._flat
        if self.storage == "fp16":
            stored = faiss.IndexScalarQuantizer(self.dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
            stored.add(np.ascontiguousarray(self._vectors))
        write_durably(directory / INDEX_FILE, faiss.serialize_index(stored).tobytes())
        table = pa.table({"id": pa.array(self.ids, pa.string())})
        if rows is not None:
            for name in rows.column_names:
                if name != "id":
                    table = table.append_column(rows.schema.field(name), rows[name])
        # Ids and pictures do not repeat: dictionaries would only cost space.
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd", compression_level=15, use_dictionary=False)
        write_durably(directory / ROWS_FILE, buffer.getvalue())

    @classmethod
    def load(cls, directory: Path, *, device: str = "cpu", threads: int | None = None) -> VectorIndex:
        """Read what ``save`` wrote.

        Parameters
        ----------
        directory : pathlib.Path
            Holds ``index.faiss`` and ``rows.parquet``.
        device : {"cpu", "cuda"}
            With "cuda", searches without ``allowed`` run on the GPU, by FAISS where its GPU build is installed, else
            by torch; answers stay the same.
        threads : int, optional
            Threads of FAISS from now on, for this whole process; by default FAISS's own choice stays.

        Raises
        ------
        UserError
            If a file is missing, damaged, or not of this kind; the file is named.
        """
        if threads is not None:
            faiss.omp_set_num_threads(threads)
        path = directory / INDEX_FILE
        try:
            with pq.ParquetFile(directory / ROWS_FILE) as file:
                ids = file.read(columns=["id"])["id"].to_pylist()
        except (OSError, pa.ArrowException, KeyError) as error:
            raise UserError(
                f"{shown(directory / ROWS_FILE)} cannot be read ({error}); build the index again."
            ) from error
        try:
            stored = faiss.deserialize_index(np.frombuffer(path.read_bytes(), np.uint8))
        except (OSError, RuntimeError) as error:
            raise UserError(f"{shown(path)} cannot be read ({type(error).__name__}); build the index again.") from error
        storage = _storage_of(stored)
        if storage is None:
            raise UserError(f"{shown(path)} is a {type(stored).__name__}, not an index of stylematch; build it again.")
        if stored.ntotal != len(ids):
            raise UserError(
                f"{shown(path)} holds {stored.ntotal} vectors, {ROWS_FILE} {len(ids)} rows; build it again."
            )
        return cls(ids, stored.reconstruct_n(0, stored.ntotal), storage, device)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._flat.d)

    @property
    def bytes_per_vector(self) -> int:
        """Size of one stored vector in bytes."""
        return self.dim * (2 if self.storage == "fp16" else 4)

    def vectors(self, positions: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return stored vectors as float32 (n, d), of unit length but for the stored form's rounding."""
        return np.ascontiguousarray(self._vectors[np.asarray(positions, np.int64)])

    def search(self, queries: npt.ArrayLike, k: int, *, allowed: npt.NDArray[np.int64] | None = None) -> Hits:
        """Find each query's k nearest vectors; one by one or all at once, the answers are bit-equal.

        Parameters
        ----------
        queries : array_like of float32, shape (q, d)
            Any length but zero; normalised here.
        k : int
            How many, at least 1.
        allowed : ndarray of int64, optional
            The positions to search in (order and repeats do not matter). FAISS searches among these only, so
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
        if not (np.isfinite(wide).all(axis=1) & (wide != 0).any(axis=1)).all():
            raise ValueError("a query is zero or not finite")
        if allowed is not None:
            allowed = np.unique(np.asarray(allowed, np.int64))
            if allowed.size and not 0 <= allowed[0] <= allowed[-1] < len(self):
                raise ValueError(f"allowed positions must lie in 0 to {len(self) - 1}")
        unit = _normalise(wide)
        hits = Hits(np.full((len(unit), k), -1, np.int64), np.full((len(unit), k), -np.inf, np.float64))
        available = len(self) if allowed is None else len(allowed)
        for start in range(0, len(unit) if available else 0, _BATCH_QUERIES):
            stop = start + _BATCH_QUERIES
            self._search_batch(
                unit[start:stop], k, allowed, available, hits.positions[start:stop], hits.scores[start:stop]
            )
        return hits

    def _search_batch(
        self,
        unit: npt.NDArray[np.float64],
        k: int,
        allowed: npt.NDArray[np.int64] | None,
        available: int,
        positions: npt.NDArray[np.int64],
        scores: npt.NDArray[np.float64],
    ) -> None:
        """Fill rows of ``positions`` and ``scores``; widen the proposals of queries that are not settled."""
        found = min(k, available)
        # Twice the bound on the float32 error of an inner product of unit vectors, in any order of summation.
        tolerance = (self.dim + 8) * 2.0**-23
        proposals = min(available, k + _MARGIN)
        todo = np.arange(len(unit))
        while todo.size:
            approximate, proposed = self._propose(unit[todo].astype(np.float32), proposals, allowed)
            exact = self._rescore(unit[todo], proposed)
            order = np.lexsort((self._id_rank[proposed], -exact), axis=-1)[:, :found]
            best = np.take_along_axis(exact, order, axis=-1)
            positions[todo, :found] = np.take_along_axis(proposed, order, axis=-1)
            scores[todo, :found] = best
            if proposals == available:
                return
            todo = todo[best[:, -1] <= approximate[:, -1].astype(np.float64) + tolerance]
            proposals = min(available, proposals * _WIDEN)

    def _propose(
        self, unit: npt.NDArray[np.float32], proposals: int, allowed: npt.NDArray[np.int64] | None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        if allowed is not None:
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorArray(allowed))  # type: ignore[call-arg]
            return self._flat.search(unit, proposals, params=parameters)
        if self._gpu is not None and (self._gpu.max_k is None or proposals <= self._gpu.max_k):
            return self._gpu.search(unit, proposals)
        return self._flat.search(unit, proposals)

    def _rescore(self, unit: npt.NDArray[np.float64], proposed: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Inner products in float64, summed along the last axis of a contiguous array: one order always."""
        exact = np.empty(proposed.shape, np.float64)
        step = max(1, _RESCORE_VALUES // max(1, proposed.shape[1] * self.dim))
        for start in range(0, len(unit), step):
            rows = slice(start, start + step)
            exact[rows] = (self._vectors[proposed[rows]] * unit[rows, None, :]).sum(axis=-1)
        return exact


def _normalise(wide: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    # The largest component first: squares of very small or very large vectors would leave float64's range.
    scaled = wide / np.abs(wide).max(axis=1, keepdims=True)
    return scaled / np.sqrt((scaled * scaled).sum(axis=1, keepdims=True))


def _check_unique(ids: Sequence[str]) -> None:
    seen: set[str] = set()
    repeated = sorted({name for name in ids if name in seen or seen.add(name)})  # type: ignore[func-returns-value]
    if repeated:
        named = ", ".join(repr(name) for name in repeated[:5]) + (", ..." if len(repeated) > 5 else "")
        raise UserError(f"{len(repeated)} ids occur more than once: {named}. Give every embedding its own id.")


def _storage_of(stored: Any) -> Storage | None:
    if stored.metric_type != faiss.METRIC_INNER_PRODUCT:
        return None
    if isinstance(stored, faiss.IndexScalarQuantizer) and stored.sq.qtype == faiss.ScalarQuantizer.QT_fp16:
        return "fp16"
    return "fp32" if isinstance(stored, faiss.IndexFlat) else None
