"""What the gallery needs to find photos: of every photo its path and status, of every face what filters ask for.

Columns, so that 50,000 photos are a few MB to load: folders are named once, a face is two small numbers, its
attributes as bits and its items' numbers. A chunk of 5,000 photos is written as soon as it is full.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

LIKELY = 0.5
"""From this probability on a face shows an attribute, for the filter."""
_CHUNK_PHOTOS = 5000
_WORD_BITS = 32


class FindingColumns:
    """Collects photos until a chunk is full.

    Parameters
    ----------
    attribute_count : int
        Attributes of a face.
    """

    def __init__(self, attribute_count: int) -> None:
        self.words = -(-attribute_count // _WORD_BITS)
        """Numbers that hold one face's attributes: bit ``i % 32`` of number ``i // 32`` is attribute ``i``."""
        self._clear()

    def _clear(self) -> None:
        self._folders: dict[str, int] = {}
        self._columns: dict[str, list[Any]] = {
            name: [] for name in ("folder", "names", "kinds", "faces", "styles", "scores", "bits", "lists", "items")
        }

    def add(
        self, path: str, kind: int, faces: Sequence[tuple[int, float, NDArray[np.float32], Sequence[int]]]
    ) -> dict[str, Any] | None:
        """Take the next photo; return the chunk that it fills, if it does.

        Parameters
        ----------
        path : str
            As in the tables.
        kind : int
            Number of its status and reason.
        faces : sequence of (style, style_score, probabilities, items)
            The style's number, its score from 0 to 1 or None, the attributes' probabilities (a,), its items' numbers.
        """
        columns = self._columns
        cut = path.rfind("/") + 1
        columns["folder"].append(self._folders.setdefault(path[:cut], len(self._folders)))
        columns["names"].append(path[cut:])
        columns["kinds"].append(kind)
        columns["faces"].append(len(faces))
        for style, score, probabilities, items in faces:
            columns["styles"].append(style)
            # Thousandths, rounded down: what is said to reach 50 % does.
            columns["scores"].append(0 if score is None else int(score * 1000))
            columns["bits"] += _packed(probabilities >= LIKELY, self.words)
            columns["lists"].append(len(items))
            columns["items"] += items
        return self.take() if len(columns["names"]) == _CHUNK_PHOTOS else None

    def take(self) -> dict[str, Any] | None:
        """Return what has been collected since the last chunk, None where that is nothing."""
        if not self._columns["names"]:
            return None
        chunk = {"folders": list(self._folders), **self._columns}
        self._clear()
        return chunk


def _packed(shown: NDArray[np.bool_], words: int) -> list[int]:
    padded = np.zeros(words * _WORD_BITS, np.bool_)
    padded[: len(shown)] = shown
    return [int(word) for word in np.packbits(padded, bitorder="little").view("<u4")]
