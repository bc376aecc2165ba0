"""Exact inner-product search on a GPU: FAISS's own where its GPU build is installed, otherwise torch's.

Both only propose; ``VectorIndex`` recomputes the scores, so the answers are those of the CPU.
"""

from __future__ import annotations

from typing import Any, Protocol

import faiss
import numpy as np
import numpy.typing as npt

_FAISS_MAX_K = 2048
_SCORES_IN_FLIGHT = 2**28  # float32 scores of one chunk of queries: 1 GiB


class Proposer(Protocol):
    """What searches on a device.

    Attributes
    ----------
    max_k : int, optional
        The most neighbours it can propose; None for any number.
    """

    max_k: int | None

    def search(self, queries: npt.NDArray[np.float32], k: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Return scores and positions (q, k), best first."""
        ...


class FaissOnGpu:
    """FAISS's GPU build, which owns the same module as faiss-cpu."""

    max_k: int | None = _FAISS_MAX_K

    def __init__(self, flat: Any) -> None:
        self._resources = faiss.StandardGpuResources()
        self._index = faiss.index_cpu_to_gpu(self._resources, 0, flat)

    def search(self, queries: npt.NDArray[np.float32], k: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Return scores and positions (q, k), best first."""
        scores, positions = self._index.search(queries, k)
        return scores, positions


class TorchFlat:
    """One matrix product and a top-k, in chunks of queries.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, d)
        What is searched.
    device : str
        A torch device.
    """

    max_k: int | None = None

    def __init__(self, vectors: npt.NDArray[np.float32], device: str) -> None:
        import torch

        torch.backends.cuda.matmul.allow_tf32 = False
        self._torch, self._device = torch, device
        self._vectors = torch.tensor(vectors, device=device)

    def search(self, queries: npt.NDArray[np.float32], k: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Return scores and positions (q, k), best first."""
        torch = self._torch
        step = max(1, _SCORES_IN_FLIGHT // max(1, len(self._vectors)))
        scores = np.empty((len(queries), k), np.float32)
        positions = np.empty((len(queries), k), np.int64)
        with torch.inference_mode():
            for start in range(0, len(queries), step):
                rows = slice(start, start + step)
                product = torch.tensor(queries[rows], device=self._device) @ self._vectors.T
                best = torch.topk(product, k, dim=1)
                scores[rows] = best.values.cpu().numpy()
                positions[rows] = best.indices.cpu().numpy()
        return scores, positions


def proposer_on_gpu(flat: Any, vectors: npt.NDArray[np.float32]) -> Proposer | None:
    """Return FAISS's search on the first GPU where the installed FAISS has one, else torch's, else None.

    Parameters
    ----------
    flat : faiss.IndexFlatIP
        What FAISS copies to the GPU.
    vectors : ndarray of float32, shape (n, d)
        The same vectors, which torch copies.
    """
    if faiss.get_num_gpus() > 0:
        return FaissOnGpu(flat)
    try:
        import torch
    except ImportError:
        return None
    return TorchFlat(vectors, "cuda") if torch.cuda.is_available() else None
