"""A graph of near neighbours (HNSW, Malkov and Yashunin 2018): the fastest search, and the most memory.

FAISS's HNSW cannot take a node out. A removed vector stays as a tombstone, a bridge that is never an answer;
beyond a fifth of them the graph is built again. It is built by one thread: with more, its links follow from
their timing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from stylematch.search.approximate import ApproximateIndex
from stylematch.search.base import IndexKind
from stylematch.search.files import halves_of
from stylematch.search.structure import one_thread
from stylematch.search.units import widened

MAX_TOMBSTONES = 0.2
"""The share of removed nodes above which the graph is built again."""
_FAISS: Any = faiss  # its stubs know other signatures


class HnswIndex(ApproximateIndex):
    """HNSW over half floats, which FAISS holds; nothing is stored twice."""

    kind: IndexKind = "hnsw"  # type: ignore[misc]
    keeps_removed = True

    @property
    def factory(self) -> str:
        """FAISS's name of the stored form."""
        return f"HNSW{self.parameters.links}_SQfp16"

    def _make(self, halves: npt.NDArray[np.float16], positions: npt.NDArray[np.int64]) -> None:
        self._faiss = _FAISS.IndexHNSWSQ(
            halves.shape[1], faiss.ScalarQuantizer.QT_fp16, self.parameters.links, faiss.METRIC_INNER_PRODUCT
        )
        self._faiss.hnsw.efConstruction = self.parameters.build_effort
        self._insert(widened(halves, positions), self._labels[positions])

    def _insert(self, rows: Iterable[npt.NDArray[np.float32]], labels: npt.NDArray[np.int32]) -> None:
        if labels.size and labels[0] != self._faiss.ntotal:
            raise ValueError(f"the next label is {self._faiss.ntotal}, not {labels[0]}")
        with one_thread():
            for block in rows:
                self._faiss.add(block)

    def _forget(self, labels: npt.NDArray[np.int32]) -> None:
        pass  # a label without a position is a tombstone

    def _after_change(self) -> None:
        if len(self) < (1 - MAX_TOMBSTONES) * self._labels.given:
            halves = self.halves()
            self._faiss = None
            self._label(np.arange(len(self), dtype=np.int32))
            self._make(halves, np.arange(len(self)))

    def _label_count(self) -> int:
        return 0 if self._faiss is None else int(self._faiss.ntotal)

    def _rows(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        return halves_of(faiss.downcast_index(self._faiss.storage))[self._labels[positions]]

    def _propose(
        self, unit: npt.NDArray[np.float64], wanted: int, selector: Any, share: float
    ) -> npt.NDArray[np.int64]:
        effort = max(self.parameters.effort, wanted)
        settings = _FAISS.SearchParametersHNSW(efSearch=int(np.ceil(effort / share)), sel=selector)
        labels: npt.NDArray[np.int64] = self._faiss.search(unit.astype(np.float32), wanted, params=settings)[1]
        return labels

    def _structure_bytes(self) -> int:
        graph = self._faiss.hnsw
        return int(
            self._faiss.ntotal * 2 * self.dim
            + 4 * graph.neighbors.size()
            + 8 * graph.offsets.size()
            + 4 * graph.levels.size()
        )

    def _fits(self) -> bool:
        if not isinstance(self._faiss, faiss.IndexHNSWSQ):
            return False
        self._label(self._labels.by_position)  # tombstones count from here on
        return bool(self._faiss.ntotal == self._labels.given)
