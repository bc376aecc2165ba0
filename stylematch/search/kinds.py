"""Every kind of index by its name, and a stored one of whichever kind."""

from __future__ import annotations

from pathlib import Path

from stylematch.errors import UserError
from stylematch.search.approximate import ApproximateIndex
from stylematch.search.base import SearchIndex
from stylematch.search.exact import VectorIndex
from stylematch.search.hnsw import HnswIndex
from stylematch.search.ivf import IvfIndex, IvfPqIndex
from stylematch.search.parameters import SEARCH_FILE, read_search
from stylematch.tables.shown import shown

APPROXIMATE: dict[str, type[ApproximateIndex]] = {kind.kind: kind for kind in (HnswIndex, IvfIndex, IvfPqIndex)}


def is_approximate(directory: Path) -> bool:
    """Return whether an index on disk is of a kind that may miss a neighbour."""
    return (directory / SEARCH_FILE).exists()


def load_index(
    directory: Path, *, device: str = "cpu", threads: int | None = None, mapped: bool = False
) -> SearchIndex:
    """Load an index of any kind; the parameters are those of ``VectorIndex.load``.

    Raises
    ------
    UserError
        If a file is missing, damaged or of no kind that is known.
    """
    if not is_approximate(directory):
        return VectorIndex.load(directory, device=device, threads=threads, mapped=mapped)
    name = str(read_search(directory)["kind"])
    if name not in APPROXIMATE:
        raise UserError(
            f"{shown(directory / SEARCH_FILE)} is of an index of kind {shown(name)}, which this version does not know; "
            "build it again, or install the version that wrote it."
        )
    return APPROXIMATE[name].load(directory, device=device, threads=threads, mapped=mapped)
