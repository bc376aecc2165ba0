"""What each approximate kind does with FAISS's structure; ``ApproximateIndex`` does all that they have in common."""

# ruff: noqa: B027  # most kinds have nothing to do where another has

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import faiss
import numpy as np
import numpy.typing as npt


class Structure(ABC):
    """A structure of FAISS, which knows vectors by labels; rows (n, d) come in blocks of float32."""

    keeps_removed: ClassVar[bool] = False
    """Whether FAISS still holds what was removed, as tombstones."""

    def _label_count(self) -> int:
        """Return how many labels FAISS has given, where it counts the removed too."""
        return 0

    def _after_change(self) -> None:
        """Mend what changes have worn out."""

    @abstractmethod
    def _make(self, halves: npt.NDArray[np.float16], positions: npt.NDArray[np.int64]) -> None:
        """Build FAISS's structure over the rows at some positions."""

    @abstractmethod
    def _insert(self, rows: Iterable[npt.NDArray[np.float32]], labels: npt.NDArray[np.int32]) -> None:
        """Add rows to FAISS's structure under new labels, which ascend."""

    @abstractmethod
    def _forget(self, labels: npt.NDArray[np.int32]) -> None:
        """Take labels out of FAISS's structure, where it can."""

    @abstractmethod
    def _propose(
        self, unit: npt.NDArray[np.float64], wanted: int, selector: Any, share: float
    ) -> npt.NDArray[np.int64]:
        """Return labels (q, wanted), -1 where there are no more."""

    @abstractmethod
    def _structure_bytes(self) -> int:
        """Return the size of FAISS's structure in memory."""

    @abstractmethod
    def _fits(self) -> bool:
        """Return whether what was read is of this kind and has the labels."""

    def _save_more(self, directory: Path) -> tuple[str, ...]:  # noqa: ARG002
        return ()

    def _loaded(self, directory: Path) -> None:
        """Read what ``_save_more`` wrote."""

    def _keep(self, halves: npt.NDArray[np.float16]) -> None:
        """Append rows to the stored halves, where they are stored apart."""

    def _close_up(self, kept: npt.NDArray[np.int64]) -> None:
        """Leave only the rows at ``kept`` in the stored halves, where they are stored apart."""

    def _overwrite(self, positions: npt.NDArray[np.int64], halves: npt.NDArray[np.float16]) -> None:
        """Replace rows of the stored halves, where they are stored apart."""


def search_with(threads: int) -> None:
    """Let FAISS search with so many threads what this thread asks from now on; OpenMP keeps the number by thread."""
    faiss.omp_set_num_threads(threads)


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold FAISS to one thread, for what would otherwise depend on how many there are."""
    threads = faiss.omp_get_max_threads()
    search_with(1)
    try:
        yield
    finally:
        search_with(threads)
