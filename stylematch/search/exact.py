"""Exact nearest neighbours by cosine, over FAISS's flat index.

Vectors are L2-normalised and stored once, as half floats (FAISS ``IndexScalarQuantizer``, ``QT_fp16``); on
loading they are widened into an ``IndexFlatIP``, whose rows are searched in batches (``search/scan``), or,
memory-mapped, left on disk and widened a block at a time. That only proposes; see ``search/base`` for how the answers
are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stylematch.errors import UserError
from stylematch.search.base import Hits, IndexKind, SearchIndex
from stylematch.search.files import INDEX_FILE, halves_of, read_faiss, write_faiss
from stylematch.search.names import appended, staying
from stylematch.search.on_gpu import Proposer, proposer_on_gpu
from stylematch.search.rows_file import ROWS_FILE, read_ids, write_rows
from stylematch.search.scan import MANY_QUERIES, best_products
from stylematch.search.structure import search_with
from stylematch.search.units import Storage, unit_rows
from stylematch.tables.shown import shown

FACTORY: dict[Storage, str] = {"fp16": "SQfp16", "fp32": "Flat"}
"""FAISS's name of the stored form."""
__all__ = ["FACTORY", "Hits", "INDEX_FILE", "ROWS_FILE", "Storage", "VectorIndex"]


class VectorIndex(SearchIndex):
    """Vectors with unique ids, searched exactly by cosine. Made by ``build`` or ``load``."""

    kind: IndexKind = "exact"  # type: ignore[misc]

    def __init__(
        self, ids: Sequence[str] | pa.Array, vectors: npt.NDArray[Any], storage: Storage, device: str = "cpu"
    ) -> None:
        super().__init__(ids, storage)
        self._mapped: Any = None
        self._gpu: Proposer | None = None
        self._ranks: npt.NDArray[np.int64] | None = None
        self._widen(vectors)
        if device == "cuda":
            self._gpu = proposer_on_gpu(self._flat, self._vectors)

    @classmethod
    def build(cls, ids: Sequence[str] | pa.Array, vectors: npt.ArrayLike, *, storage: Storage = "fp16") -> VectorIndex:
        """Normalise vectors and index them.

        Parameters
        ----------
        ids : sequence of str or pyarrow.Array, length n
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
        return cls(ids, unit_rows(ids, vectors, storage), storage)

    def save(self, directory: Path, rows: pa.Table | None = None) -> tuple[str, ...]:
        """Write ``index.faiss`` and ``rows.parquet`` (``id``, then the columns of ``rows``) into a directory.

        Parameters
        ----------
        directory : pathlib.Path
            Where to write.
        rows : pyarrow.Table, optional
            One row a vector, in the index's order; its column ``id``, if any, is replaced by the index's ids.

        Returns
        -------
        tuple of str
            The files' names.
        """
        stored: Any = self._flat
        if self._mapped is not None:
            stored = self._mapped
        elif self.storage == "fp16":
            stored = faiss.IndexScalarQuantizer(self.dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
            stored.add(np.ascontiguousarray(self._vectors))
        write_faiss(stored, directory)
        write_rows(self._ids, rows, directory)
        return INDEX_FILE, ROWS_FILE

    @classmethod
    def load(
        cls, directory: Path, *, device: str = "cpu", threads: int | None = None, mapped: bool = False
    ) -> VectorIndex:
        """Read what ``save`` wrote.

        Parameters
        ----------
        directory : pathlib.Path
            Holds ``index.faiss`` and ``rows.parquet``.
        device : {"cpu", "cuda"}
            With "cuda", searches without ``allowed`` run on the GPU, by FAISS where its GPU build is installed, else
            by torch; answers stay the same.
        threads : int, optional
            Threads of FAISS from now on, for what this thread asks; by default FAISS's own choice stays.
        mapped : bool
            Leave half floats on disk and page them in as they are searched (CPU only); answers stay the same.

        Raises
        ------
        UserError
            If a file is missing, damaged, or not of this kind; the file is named.
        """
        if threads is not None:
            search_with(threads)
        path = directory / INDEX_FILE
        ids = read_ids(directory)
        stored = read_faiss(directory, mapped=mapped)
        storage = _storage_of(stored)
        if storage is None:
            raise UserError(f"{shown(path)} is a {type(stored).__name__}, not an index of stylematch; build it again.")
        if stored.ntotal != len(ids):
            raise UserError(
                f"{shown(path)} holds {stored.ntotal} vectors, {ROWS_FILE} {len(ids)} rows; build it again."
            )
        if mapped and storage == "fp16" and device == "cpu":
            index = cls.__new__(cls)
            SearchIndex.__init__(index, ids, storage)
            index._gpu, index._flat, index._ranks, index._mapped = None, None, None, stored
            index._vectors = halves_of(stored)
            return index
        return cls(ids, stored.reconstruct_n(0, stored.ntotal), storage, device)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._vectors.shape[1])

    @property
    def factory(self) -> str:
        """FAISS's name of the stored form."""
        return FACTORY[self.storage]

    @property
    def memory_bytes(self) -> int:
        """The widened vectors."""
        return 4 * self.dim * len(self)

    def add(self, ids: Sequence[str] | pa.Array, vectors: npt.ArrayLike) -> None:
        """Append vectors (n, d) under new ids; FAISS appends in place.

        Raises
        ------
        UserError
            If an id is there already, or as in ``build``; nothing is added then.
        """
        rows = unit_rows(ids, vectors, self.storage)
        self._check_new(ids, rows)
        self._make_changeable()
        self._flat.add(np.ascontiguousarray(rows, np.float32))
        self._changed(appended(self._ids, ids))

    def remove(self, ids: Sequence[str] | pa.Array) -> npt.NDArray[np.int64]:
        """Remove vectors by id; FAISS closes up in place.

        Returns
        -------
        ndarray of int64
            The former positions of those that stay, ascending.

        Raises
        ------
        UserError
            If an id is not there, or none would stay; nothing is removed then.
        """
        gone = self._known(ids)
        kept = staying(len(self), gone)
        self._make_changeable()
        self._flat.remove_ids(faiss.IDSelectorBatch(gone))
        self._changed(self._ids.take(pa.array(kept)))
        return kept

    def update(self, ids: Sequence[str] | pa.Array, vectors: npt.ArrayLike) -> None:
        """Replace the vectors (n, d) of ids that are there; their positions stay.

        Raises
        ------
        UserError
            If an id is not there, or as in ``build``; nothing is changed then.
        """
        rows = unit_rows(ids, vectors, self.storage)
        positions = self._known(ids)
        self._check_dim(rows)
        self._make_changeable()
        self._vectors.flags.writeable = True
        self._vectors[positions] = rows
        self._changed(self._ids)

    def _rows(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        return self._vectors[positions]

    def _id_ranks(self, proposed: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        if self._ranks is None:  # of all ids, once: an exact index is small
            self._ranks = super()._id_ranks(np.arange(len(self)))
        return self._ranks[proposed]

    def _search_batch(
        self, unit: npt.NDArray[np.float64], k: int, allowed: npt.NDArray[np.int64] | None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        propose = partial(self._propose, allowed)
        return self._search_exactly(unit, k, len(self) if allowed is None else len(allowed), propose)

    def _propose(
        self, allowed: npt.NDArray[np.int64] | None, unit: npt.NDArray[np.float32], proposals: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        if self._mapped is not None or (allowed is not None and len(unit) >= MANY_QUERIES):
            return self._scan(allowed)(unit, proposals)
        if allowed is not None:
            # A copy of the rows, as a scan makes it, would take a few queries longer than the search itself.
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorArray(allowed))  # type: ignore[call-arg]
            return self._flat.search(unit, proposals, params=parameters)
        if self._gpu is not None and (self._gpu.max_k is None or proposals <= self._gpu.max_k):
            return self._gpu.search(unit, proposals)
        return best_products(unit, self._vectors, proposals)

    def _widen(self, rows: npt.NDArray[Any]) -> None:
        self._flat: Any = faiss.IndexFlatIP(rows.shape[1])
        self._flat.add(np.ascontiguousarray(rows, np.float32))
        self._mapped = None
        self._view(rows.shape)

    def _view(self, shape: tuple[int, ...]) -> None:
        # A view of FAISS's own copy, so that the vectors lie in memory once.
        self._vectors = faiss.rev_swig_ptr(self._flat.get_xb(), shape[0] * shape[1]).reshape(shape)
        self._vectors.flags.writeable = False

    def _make_changeable(self) -> None:
        if self._mapped is not None:
            self._widen(self._vectors)

    def _changed(self, ids: pa.Array) -> None:
        on_gpu, self._gpu = self._gpu is not None, None
        self._set_ids(ids)
        self._ranks = None
        self._view((self._flat.ntotal, self._flat.d))
        if on_gpu:
            self._gpu = proposer_on_gpu(self._flat, self._vectors)


def _storage_of(stored: Any) -> Storage | None:
    if stored.metric_type != faiss.METRIC_INNER_PRODUCT:
        return None
    if isinstance(stored, faiss.IndexScalarQuantizer) and stored.sq.qtype == faiss.ScalarQuantizer.QT_fp16:
        return "fp16"
    return "fp32" if isinstance(stored, faiss.IndexFlat) else None
