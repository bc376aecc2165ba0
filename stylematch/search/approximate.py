"""What the approximate kinds share: FAISS proposes labels, stored half floats decide, and filters stay filters.

- FAISS knows vectors by their labels (``search/labels``), so its structure stays where positions close up.
- Candidates are rescored in float64 from the stored halves: the refinement of a product quantiser, and what makes
  equal scores stand by id. Every step looks at one query alone, so batches and threads change nothing.
- A query whose candidates run short, and every search among less than a twentieth of the vectors, is answered
  exactly over what is allowed: k answers come wherever k exist.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stylematch.errors import UserError
from stylematch.search.base import MARGIN, SearchIndex
from stylematch.search.files import INDEX_FILE, read_array, read_faiss, write_array, write_faiss
from stylematch.search.labels import Labels
from stylematch.search.names import all_but, appended, staying
from stylematch.search.on_gpu import Proposer, proposer_on_gpu
from stylematch.search.parameters import SEARCH_FILE, Parameters, read_search
from stylematch.search.rows_file import ROWS_FILE, read_ids, write_rows
from stylematch.search.structure import Structure, search_with
from stylematch.search.units import unit_rows, widened
from stylematch.tables.disk import write_durably
from stylematch.tables.shown import shown

LABELS_FILE = "labels.npy"
EXACT_BELOW = 0.05
"""A search among a smaller share of the vectors than this is exact."""
Made = TypeVar("Made", bound="ApproximateIndex")


class ApproximateIndex(SearchIndex, Structure):
    """Vectors found through a structure of FAISS; made by ``build`` or ``load``.

    Parameters
    ----------
    ids : pyarrow.Array
        By position.
    parameters : Parameters
        How it is searched.
    """

    def __init__(self, ids: pa.Array, parameters: Parameters) -> None:
        super().__init__(ids, "fp16")
        self._mapped = False
        self._later = (np.empty((0, 0), np.float16), np.array([], np.int64))
        self.parameters = parameters
        self._faiss: Any = None
        self._gpu: Proposer | None = None
        self._label(np.arange(len(ids), dtype=np.int32))

    @classmethod
    def build(
        cls: type[Made], ids: Sequence[str] | pa.Array, vectors: npt.ArrayLike, *, parameters: Parameters
    ) -> Made:
        """Normalise vectors (n, d) and index them; as ``VectorIndex.build``, with half floats stored."""
        column = ids if isinstance(ids, pa.Array) else pa.array(ids, pa.string())
        index = cls.begin(column, unit_rows(ids, vectors, "fp16"), parameters=parameters, later=np.array([], np.int64))
        index.finish()
        return index

    @classmethod
    def begin(
        cls: type[Made],
        ids: pa.Array,
        halves: npt.NDArray[np.float16],
        *,
        parameters: Parameters,
        later: npt.NDArray[np.int64],
    ) -> Made:
        """Index all rows but those at the positions ``later``, which ``finish`` adds: the queries of the tuning.

        Parameters
        ----------
        ids : pyarrow.Array, length n
            Unique names.
        halves : ndarray of float16, shape (n, d)
            As ``unit_rows`` returns them; kept, not copied, where the kind stores them apart.
        parameters : Parameters
            How to build.
        later : ndarray of int64
            Positions, ascending.
        """
        index = cls(ids, replace(parameters, built_of=len(ids)))
        first = all_but(len(ids), later)
        labels = np.empty(len(ids), np.int32)
        labels[np.concatenate([first, later])] = np.arange(len(ids), dtype=np.int32)
        index._label(labels)
        index._later = (halves, later)
        index._make(halves, first)
        return index

    def finish(self) -> None:
        """Add what ``begin`` left out."""
        halves, later = self._later
        self._later = (halves[:0], later[:0])
        self._insert(widened(halves, later), self._labels[later])

    def save(self, directory: Path, rows: pa.Table | None = None) -> tuple[str, ...]:
        """Write the index's files; see ``VectorIndex.save``."""
        write_faiss(self._faiss, directory)
        write_array(directory / LABELS_FILE, self._labels.by_position)
        document = {"kind": self.kind, "dim": self.dim, **asdict(self.parameters)}
        write_durably(directory / SEARCH_FILE, (json.dumps(document, indent=2) + "\n").encode())
        write_rows(self._ids, rows, directory)
        return INDEX_FILE, ROWS_FILE, LABELS_FILE, SEARCH_FILE, *self._save_more(directory)

    @classmethod
    def load(
        cls: type[Made], directory: Path, *, device: str = "cpu", threads: int | None = None, mapped: bool = False
    ) -> Made:
        """Read what ``save`` wrote; see ``VectorIndex.load``.

        With ``device="cuda"`` searches without ``allowed`` are exact, over all vectors on the GPU.

        Raises
        ------
        UserError
            As ``VectorIndex.load``; also if the files do not belong together.
        """
        if threads is not None:
            search_with(threads)
        document = read_search(directory)
        ids = read_ids(directory)
        dim = document.pop("dim")
        if document.pop("kind") != cls.kind:
            raise UserError(f"{shown(directory)} is no index of kind {cls.kind}; build it again.")
        index = cls(ids, Parameters(**document))
        index._label(read_array(directory / LABELS_FILE, (len(ids),), np.int32, mapped=False))
        index._faiss, index._mapped = read_faiss(directory, mapped=mapped), mapped
        if not index._fits() or index._faiss.d != dim:
            raise UserError(f"{shown(directory / INDEX_FILE)} is not the index of {SEARCH_FILE}; build it again.")
        index._loaded(directory)
        if device == "cuda":
            index._to_gpu()
        return index

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._faiss.d)

    @property
    def memory_bytes(self) -> int:
        """FAISS's structure and the labels; halves that are stored apart stay on disk."""
        return int(self._structure_bytes() + self._labels.nbytes)

    @property
    def is_worn(self) -> bool:
        """Whether so much came later that what was learned from the vectors at the build no longer fits them."""
        return False

    def tuned(self, **changes: int) -> None:
        """Change how it is searched: ``effort``, ``candidates``."""
        self.parameters = replace(self.parameters, **changes)

    def add(self, ids: Sequence[str] | pa.Array, vectors: npt.ArrayLike) -> None:
        """Append vectors (n, d) under new ids, without a rebuild; raises as ``VectorIndex.add``."""
        halves = unit_rows(ids, vectors, "fp16")
        self._check_new(ids, halves)
        self._own()
        labels = self._labels.new(len(halves))
        self._insert(widened(halves, np.arange(len(halves))), labels)
        self._keep(halves)
        self._set_ids(appended(self._ids, ids))
        self._changed(np.concatenate([self._labels.by_position, labels]))

    def remove(self, ids: Sequence[str] | pa.Array) -> npt.NDArray[np.int64]:
        """Remove vectors by id; returns and raises as ``VectorIndex.remove``."""
        gone = self._known(ids)
        kept = staying(len(self), gone)
        self._own()
        self._forget(self._labels[gone])
        self._close_up(kept)
        self._set_ids(self._ids.take(pa.array(kept)))
        self._changed(self._labels[kept])
        return kept

    def update(self, ids: Sequence[str] | pa.Array, vectors: npt.ArrayLike) -> None:
        """Replace the vectors (n, d) of ids that are there; raises as ``VectorIndex.update``."""
        halves = unit_rows(ids, vectors, "fp16")
        positions = self._known(ids)
        self._check_dim(halves)
        self._own()
        new = self._labels.new(len(halves))
        self._forget(self._labels[positions])
        self._insert(widened(halves, np.arange(len(halves))), new)
        self._overwrite(positions, halves)
        labels = self._labels.by_position.copy()
        labels[positions] = new
        self._changed(labels)

    def candidates(
        self, unit: npt.NDArray[np.float64], k: int, selector: Any = None, share: float = 1.0
    ) -> npt.NDArray[np.int64]:
        """Return positions (q, n) that FAISS proposes for k answers; -1 where it found no more.

        Parameters
        ----------
        unit : ndarray of float64, shape (q, d)
            Unit queries.
        k : int
            Answers wanted.
        selector : faiss.IDSelector, optional
            The labels that count.
        share : float
            Their share of all labels; the effort grows as it shrinks.
        """
        wanted = k * self.parameters.candidates + MARGIN
        return self._labels.positions_of(self._propose(unit, wanted, selector, share))

    def found_scores(
        self, unit: npt.NDArray[np.float64], k: int, own: npt.NDArray[np.int64] | None = None
    ) -> npt.NDArray[np.float64]:
        """Return the scores (q, k) of what FAISS alone finds, best first, -inf where it found no more.

        ``own`` (q,) names positions that do not count: the queries' own.
        """
        proposed = self.candidates(unit, k)
        missing = proposed < 0
        if own is not None:
            missing |= proposed == own[:, None]
        if proposed.max(initial=-1) < 0:
            return np.full((len(unit), k), -np.inf)
        exact = self._rescore(unit, np.where(proposed < 0, proposed.max(), proposed))
        exact[missing] = -np.inf
        return -np.sort(-exact, axis=1)[:, :k]

    def halves(self) -> npt.NDArray[np.float16]:
        """Return a copy of all stored rows (n, d), by position."""
        return np.ascontiguousarray(self._rows(np.arange(len(self))), np.float16)

    def exact(
        self, unit: npt.NDArray[np.float64], k: int, allowed: npt.NDArray[np.int64] | None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Return the true positions and scores (q, at most k) of unit queries (q, d), by a scan of the stored rows."""
        available = len(self) if allowed is None else len(allowed)
        return self._search_exactly(unit, min(k, available), available, self._scan(allowed))

    def _search_batch(
        self, unit: npt.NDArray[np.float64], k: int, allowed: npt.NDArray[np.int64] | None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        available = len(self) if allowed is None else len(allowed)
        if self._gpu is not None and allowed is None:
            return self._search_exactly(unit, k, available, self._propose_on_gpu)
        share = available / (self._labels.given if self.keeps_removed else len(self))
        wanted = k * self.parameters.candidates + MARGIN
        if share < EXACT_BELOW or wanted > EXACT_BELOW * available:
            return self._search_exactly(unit, k, available, self._scan(allowed))
        proposed = self.candidates(unit, k, self._selector(allowed), share)
        short = (proposed < 0).any(axis=1)
        positions, scores = np.empty((len(unit), k), np.int64), np.empty((len(unit), k), np.float64)
        positions[~short], scores[~short] = self._best(unit[~short], proposed[~short], k)
        if short.any():
            exact = self._search_exactly(unit[short], k, available, self._scan(allowed))
            positions[short], scores[short] = exact
        return positions, scores

    def _selector(self, allowed: npt.NDArray[np.int64] | None) -> Any:
        """Return what FAISS may propose: the allowed, and never a tombstone."""
        if allowed is None and (len(self) == self._labels.given or not self.keeps_removed):
            return None
        return faiss.IDSelectorBitmap(self._labels.bitmap(allowed))  # type: ignore[call-arg, arg-type]

    def _label(self, by_position: npt.NDArray[np.int32]) -> None:
        self._labels = Labels(by_position, self._label_count())

    def _changed(self, labels: npt.NDArray[np.int32]) -> None:
        self._label(labels)
        self._after_change()
        if self._gpu is not None:  # it holds the vectors of before
            self._to_gpu()

    def _to_gpu(self) -> None:
        flat, vectors = faiss.IndexFlatIP(self.dim), self.vectors(np.arange(len(self)))
        flat.add(vectors)
        self._gpu = proposer_on_gpu(flat, vectors)

    def _propose_on_gpu(
        self, unit: npt.NDArray[np.float32], proposals: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        if self._gpu is None or (self._gpu.max_k is not None and proposals > self._gpu.max_k):
            return self._scan(None)(unit, proposals)
        return self._gpu.search(unit, proposals)

    def _own(self) -> None:
        """Take FAISS's structure into memory: what is mapped cannot change."""
        if self._mapped:
            self._faiss, self._mapped = faiss.deserialize_index(faiss.serialize_index(self._faiss)), False
