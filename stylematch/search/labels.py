"""FAISS's numbers of the vectors of an approximate index, and the positions that they stand at.

A *label* is given once and never moved, while positions close up after a removal. So FAISS's structure stays as it is,
and the labels by position (``labels.npy``) say which vector is where.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class Labels:
    """Which label stands at which position, and the way back.

    Parameters
    ----------
    by_position : ndarray of int32, shape (n,)
        Each label once.
    given : int
        How many labels there have been, where those of removed vectors count too.
    """

    def __init__(self, by_position: npt.NDArray[np.int32], given: int = 0) -> None:
        self.by_position = by_position
        self._positions = np.full(max(int(by_position.max(initial=-1)) + 1, given), -1, np.int32)
        self._positions[by_position] = np.arange(len(by_position), dtype=np.int32)

    def __getitem__(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Return the labels of positions, in their shape."""
        return self.by_position[positions]

    @property
    def given(self) -> int:
        """How many labels there have been; the next one is this."""
        return len(self._positions)

    @property
    def nbytes(self) -> int:
        """What both ways take in memory."""
        return self.by_position.nbytes + self._positions.nbytes

    def new(self, count: int) -> npt.NDArray[np.int32]:
        """Return the next labels (count,), ascending; they do not stand anywhere yet."""
        return np.arange(self.given, self.given + count, dtype=np.int32)

    def positions_of(self, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return where labels stand, in their shape; -1 for -1 and for those of removed vectors."""
        return np.where(labels < 0, -1, self._positions[labels])

    def bitmap(self, positions: npt.NDArray[np.int64] | None) -> npt.NDArray[np.uint8]:
        """Return a bit a label, as FAISS's ``IDSelectorBitmap`` takes them: set for those at positions (m,), or all."""
        wanted = np.zeros(self.given, np.bool_)
        wanted[self.by_position if positions is None else self[positions]] = True
        return np.packbits(wanted, bitorder="little")
