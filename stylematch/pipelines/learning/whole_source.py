"""What sources of whole pictures share: their cutting, what was dropped, and the share that is tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from stylematch.engines.progress import Progress
from stylematch.tables.cores import usable_cores
from stylematch.vision.examples import Examples
from stylematch.vision.whole_pictures import whole_picture_examples

TEST_SHARE = 0.2


class CutRows(Protocol):
    """What cuts some rows of a data set."""

    def __call__(self, rows: npt.NDArray[np.int64], margin: bool = False) -> Examples:
        """Return their examples, with a margin for a training that moves them."""
        ...


def cut_whole(
    pictures: Path,
    names: Sequence[str],
    labels: Mapping[str, npt.NDArray[np.integer]],
    groups: Sequence[str],
    input_px: int,
    cache: Path,
    mode: str,
    limit: int | None,
    title: str,
) -> CutRows:
    """Return what cuts some rows of a data set of whole pictures.

    Parameters
    ----------
    pictures : pathlib.Path
        Their folder.
    names : sequence of str
        Files in it, n of them.
    labels : mapping of str to ndarray of int, shape (n,) or (n, labels)
        By label group.
    groups : sequence of str
        Those of the label groups that the examples have.
    input_px, cache, mode
        As ``whole_picture_examples`` takes them.
    limit : int, optional
        Only so many rows.
    title : str
        What the data set is called.
    """

    def cut(rows: npt.NDArray[np.int64], margin: bool = False) -> Examples:
        rows = some_rows(rows, limit)
        with Progress(len(rows), "pictures", f"cut {title}") as progress:
            return whole_picture_examples(
                pictures,
                [names[row] for row in rows],
                {group: labels[group][rows] for group in groups},
                input_px=input_px,
                mode=mode,
                margin=margin,
                cache=cache,
                workers=usable_cores(),
                progress=progress.update,
            )

    return cut


def some_rows(rows: npt.NDArray[np.int64], limit: int | None) -> npt.NDArray[np.int64]:
    """Return so many rows, evenly out of all: data often are in the order of their classes."""
    if limit is None or limit >= len(rows):
        return rows
    return rows[np.arange(limit) * len(rows) // limit]


def dropped_rows(rows: Mapping[str, int]) -> dict[str, int]:
    """Return counts of dropped rows as notes of a source."""
    return {f"rows dropped: {reason}": count for reason, count in rows.items() if count}


def undecodable(*parts: Examples) -> dict[str, int]:
    """Count what announces itself as a picture and is none, which shows only when it is cut."""
    count = sum(part.dropped for part in parts)
    return {"pictures that cannot be decoded": count} if count else {}
