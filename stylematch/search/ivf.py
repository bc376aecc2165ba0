"""Inverted lists (IVF): vectors in the list of their nearest centroid, a search looks into the nearest lists.

- ``ivf`` keeps half floats in the lists, ``ivfpq`` product-quantised codes (Jegou et al. 2011) of a few bytes, whose
  candidates are rescored from ``vectors.npy``: half floats by position, always memory-mapped, not held in memory.
- Which lists are probed is decided as answers are: FAISS proposes, float64 decides. FAISS's own choice goes through
  BLAS, whose last bits depend on the batch.
- Centroids are trained on a sample of fixed seed by one thread. They do not follow what is added: beyond a fifth of the
  vectors the index is worn, and ``tuning.refreshed`` builds it again.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from stylematch.errors import UserError
from stylematch.search.approximate import ApproximateIndex
from stylematch.search.base import IndexKind
from stylematch.search.files import read_array, write_array
from stylematch.search.parameters import left_out
from stylematch.search.structure import one_thread
from stylematch.search.units import widened

VECTORS_FILE = "vectors.npy"
TRAINING_ROWS_PER_LIST = 64
TRAINING_ROWS_CODES = 2**16
CODE_VALUES = 256
"""Centroids of a product quantiser's byte: it cannot be trained on fewer vectors."""
MAX_LATER = 0.2
"""The share of vectors that came after the training above which an index is worn."""
_CENTROID_MARGIN = 8
_SEED = 20_240_901


class IvfIndex(ApproximateIndex):
    """Inverted lists of half floats."""

    kind: IndexKind = "ivf"  # type: ignore[misc]

    @property
    def factory(self) -> str:
        """FAISS's name of the stored form."""
        return f"IVF{self.parameters.lists},SQfp16"

    @property
    def is_worn(self) -> bool:
        """Whether more than a fifth of the vectors were added or updated since the centroids were trained."""
        built_of = self.parameters.built_of
        return built_of > 0 and int((self._labels.by_position >= built_of).sum()) > MAX_LATER * len(self)

    def _empty(self, dim: int) -> Any:
        return faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(dim),
            dim,
            self.parameters.lists,
            faiss.ScalarQuantizer.QT_fp16,
            faiss.METRIC_INNER_PRODUCT,
            False,
        )

    def _make(self, halves: npt.NDArray[np.float16], positions: npt.NDArray[np.int64]) -> None:
        self._halves: npt.NDArray[np.float16] = halves
        rows = max(self.parameters.lists * TRAINING_ROWS_PER_LIST, TRAINING_ROWS_CODES)
        sample = positions
        if len(positions) > rows:
            sample = np.sort(np.random.default_rng(_SEED).choice(positions, rows, replace=False))
        self._faiss = self._empty(halves.shape[1])
        clustering = self._faiss.cp
        clustering.spherical, clustering.min_points_per_centroid = True, 1
        clustering.max_points_per_centroid, clustering.seed = 2**20, _SEED
        with one_thread():
            self._faiss.train(np.ascontiguousarray(halves[sample], np.float32))
        self._centroids_found()
        self._insert(widened(halves, positions), self._labels[positions])

    def _insert(self, rows: Iterable[npt.NDArray[np.float32]], labels: npt.NDArray[np.int32]) -> None:
        start = 0
        for block in rows:
            self._faiss.add_with_ids(block, labels[start : start + len(block)].astype(np.int64))
            start += len(block)

    def _forget(self, labels: npt.NDArray[np.int32]) -> None:
        self._faiss.remove_ids(faiss.IDSelectorBatch(labels.astype(np.int64)))

    def _rows(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        return self._halves[positions]

    def _keep(self, halves: npt.NDArray[np.float16]) -> None:
        self._halves = np.concatenate([self._halves, halves])

    def _close_up(self, kept: npt.NDArray[np.int64]) -> None:
        self._halves = self._halves[kept]

    def _overwrite(self, positions: npt.NDArray[np.int64], halves: npt.NDArray[np.float16]) -> None:
        self._halves = np.array(self._halves)  # a mapped file stays as it is
        self._halves[positions] = halves

    def _propose(
        self, unit: npt.NDArray[np.float64], wanted: int, selector: Any, share: float
    ) -> npt.NDArray[np.int64]:
        probes = min(self.parameters.lists, int(np.ceil(self.parameters.effort / share)))
        lists, nearness = self._nearest_lists(unit, probes)
        queries = np.ascontiguousarray(unit, np.float32)
        scores = np.empty((len(unit), wanted), np.float32)
        labels = np.empty((len(unit), wanted), np.int64)
        settings = faiss.SearchParametersIVF(nprobe=probes, sel=selector)  # type: ignore[call-arg]
        # The wrapped search_preassigned takes no parameters, the C++ one does.
        self._faiss.search_preassigned_c(
            len(unit),
            faiss.swig_ptr(queries),
            wanted,
            faiss.swig_ptr(lists),
            faiss.swig_ptr(nearness),
            faiss.swig_ptr(scores),
            faiss.swig_ptr(labels),
            False,
            settings,
        )
        return labels

    def _nearest_lists(
        self, unit: npt.NDArray[np.float64], probes: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        proposals = min(self.parameters.lists, probes + _CENTROID_MARGIN)
        lists = np.empty((len(unit), probes), np.int64)
        nearness = np.empty((len(unit), probes), np.float32)
        step = max(1, 2**19 // (proposals * self.dim))
        for start in range(0, len(unit), step):
            rows = slice(start, start + step)
            _, proposed = self._faiss.quantizer.search(unit[rows].astype(np.float32), proposals)
            exact = (self._centroids[proposed] * unit[rows, None, :]).sum(axis=-1)
            best = np.lexsort((proposed, -exact), axis=-1)[:, :probes]
            lists[rows] = np.take_along_axis(proposed, best, axis=-1)
            nearness[rows] = np.take_along_axis(exact, best, axis=-1)
        return lists, nearness

    def _centroids_found(self) -> None:
        self._centroids = faiss.downcast_index(self._faiss.quantizer).reconstruct_n(0, self.parameters.lists)

    def _structure_bytes(self) -> int:
        row = self._faiss.code_size + 8
        return int(self._faiss.ntotal * row + 2 * self._centroids.nbytes)

    def _fits(self) -> bool:
        return bool(
            isinstance(self._faiss, type(self._empty(self._faiss.d)))
            and self._faiss.ntotal == len(self)
            and self._faiss.nlist == self.parameters.lists
        )

    def _save_more(self, directory: Path) -> tuple[str, ...]:
        write_array(directory / VECTORS_FILE, self._halves)
        return (VECTORS_FILE,)

    def _loaded(self, directory: Path) -> None:
        self._halves = read_array(directory / VECTORS_FILE, (len(self), self._faiss.d), np.float16, mapped=True)
        self._centroids_found()


class IvfPqIndex(IvfIndex):
    """Inverted lists of product-quantised residuals, refined from the half floats on disk."""

    kind: IndexKind = "ivfpq"  # type: ignore[misc]

    @property
    def factory(self) -> str:
        """FAISS's name of the stored form."""
        return f"IVF{self.parameters.lists},PQ{self.parameters.code_bytes}"

    @property
    def is_worn(self) -> bool:
        """As of ``IvfIndex``, while there are enough vectors to learn codes from, without those that tuning asks."""
        return super().is_worn and len(self) - left_out(len(self)) >= CODE_VALUES

    def _empty(self, dim: int) -> Any:
        index = faiss.IndexIVFPQ(
            faiss.IndexFlatIP(dim),
            dim,
            self.parameters.lists,
            self.parameters.code_bytes,
            8,
            faiss.METRIC_INNER_PRODUCT,
        )
        index.pq.cp.min_points_per_centroid, index.pq.cp.seed = 1, _SEED
        return index

    def _make(self, halves: npt.NDArray[np.float16], positions: npt.NDArray[np.int64]) -> None:
        if len(positions) < CODE_VALUES:
            raise UserError(
                f"Product quantisation needs at least {CODE_VALUES} vectors to learn from, here are {len(positions)}; "
                "use --kind exact."
            )
        super()._make(halves, positions)
