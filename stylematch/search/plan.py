"""Which kind of index, how large, and what it will need: arithmetic alone, equal on every machine.

- Up to a million vectors the search is exact. Above, the graph (HNSW) up to two million, since one thread builds
  it; then inverted lists of half floats, then of product-quantised codes with their exact refinement on disk.
- The first of these whose search and whose build both stay within the memory that is allowed is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

from stylematch.errors import UserError
from stylematch.search.base import IndexKind
from stylematch.search.ivf import CODE_VALUES, TRAINING_ROWS_CODES, TRAINING_ROWS_PER_LIST
from stylematch.search.parameters import Parameters

EXACT_UP_TO = 1_000_000
HNSW_UP_TO = 2_000_000
LINKS = 16
BUILD_EFFORT = 64
KINDS: tuple[IndexKind, ...] = get_args(IndexKind)
GIB = 2**30
_FIXED_BYTES = 256 * 2**20  # the program itself and blocks in flight
_ID_BYTES = 40  # an id of 20 characters as Arrow and parquet's writer hold it
_LABEL_BYTES = 8  # label -> position, position -> label
_POINTER_BYTES = 8  # FAISS's id in a list, an offset in the graph


@dataclass(frozen=True)
class Plan:
    """What is to be built.

    Attributes
    ----------
    kind : {"exact", "hnsw", "ivf", "ivfpq"}
        The kind of index.
    count, dim : int
        Of the vectors.
    parameters : Parameters
        How it is built; untuned.
    search_bytes, build_bytes, disk_bytes : int
        Expected memory while searching and while building, and files without ``rows.parquet``.
        Columns of ``rows.parquet`` besides the id come on top.
    """

    kind: IndexKind
    count: int
    dim: int
    parameters: Parameters
    search_bytes: int
    build_bytes: int
    disk_bytes: int

    def lines(self) -> list[str]:
        """Return what to expect, for a person."""
        return [
            f"{self.count:,} vectors of {self.dim} dimensions: {self.kind}{self._details()}",
            f"expected: {_gib(self.build_bytes)} of memory to build, {_gib(self.search_bytes)} to search "
            f"({self.search_bytes / self.count:,.0f} bytes per vector), {_gib(self.disk_bytes)} on disk",
        ]

    def _details(self) -> str:
        p = self.parameters
        if self.kind == "hnsw":
            return f", {p.links} links, efConstruction {p.build_effort}"
        if self.kind == "ivf":
            return f", {p.lists} lists of half floats"
        return f", {p.lists} lists of {p.code_bytes}-byte codes, refined from disk" if self.kind == "ivfpq" else ""


def make_plan(count: int, dim: int, *, max_memory_bytes: int, kind: IndexKind | None = None) -> Plan:
    """Choose and size an index.

    Parameters
    ----------
    count, dim : int
        Of the vectors.
    max_memory_bytes : int
        For the search and for the build, each.
    kind : {"exact", "hnsw", "ivf", "ivfpq"}, optional
        Take this kind; by default the first that fits, in the order of the module's description.

    Raises
    ------
    UserError
        If nothing fits; the memory that would do is named.
    """
    plans = [_sized(name, count, dim, size) for name, size in _choices(count, dim, kind)]
    for plan in plans:
        if max(plan.search_bytes, plan.build_bytes) <= max_memory_bytes:
            return plan
    smallest = min(plans, key=lambda plan: max(plan.search_bytes, plan.build_bytes))
    least = max(smallest.search_bytes, smallest.build_bytes)
    raise UserError(
        f"{count:,} vectors of {dim} dimensions do not fit --max-memory-gb {max_memory_bytes / GIB:g}: "
        f"{smallest.kind} needs {_gib(least)}. Allow {math.ceil(100 * least / GIB) / 100:g} or more"
        f"{', leave --kind out' if kind else ''}, or split the embeddings into several indexes."
    )


def lists_for(count: int) -> int:
    """Return the number of inverted lists: the power of two nearest twice the root of the count.

    A list then holds some thousand vectors at ten million; no list has fewer than 39 on average, on which
    FAISS's k-means insists.
    """
    lists = 1
    while lists * lists * 2 <= 4 * count and lists * 2 * 39 <= count:
        lists *= 2
    return lists


def _choices(count: int, dim: int, kind: IndexKind | None) -> list[tuple[IndexKind, int]]:
    codes = [size for size in range(dim // 2 or 1, 0, -1) if dim % size == 0 and size * 16 >= dim] or [1]
    order: list[tuple[IndexKind, int]] = []
    if kind == "exact" or (kind is None and count <= EXACT_UP_TO):
        order.append(("exact", 0))
    if kind == "hnsw" or (kind is None and EXACT_UP_TO < count <= HNSW_UP_TO):
        order.append(("hnsw", 0))
    if kind in (None, "ivf"):
        order.append(("ivf", 0))
    if kind == "ivfpq" or (kind is None and count >= CODE_VALUES):
        order += [("ivfpq", size) for size in codes]
    return order


def _sized(kind: IndexKind, count: int, dim: int, code_bytes: int) -> Plan:
    halves, ids = 2 * dim * count, _ID_BYTES * count
    if kind == "exact":
        # Stored halves, their float32 and FAISS's copy of these lie side by side while it is built.
        return Plan(kind, count, dim, Parameters(), 2 * halves + ids, 5 * halves + ids + _FIXED_BYTES, halves)
    if kind == "hnsw":
        parameters = Parameters(links=LINKS, build_effort=BUILD_EFFORT)
        # The bottom layer has 2 M links, each higher one M for 1 / M of the nodes below; 4 bytes a link and a level.
        graph = count * (4 * 2 * LINKS + 4 * LINKS // (LINKS - 1) + 4 + _POINTER_BYTES)
        index = halves + graph
        # FAISS's vectors grow by doubling.
        building = halves + 2 * index
        stored = index
    else:
        lists = lists_for(count)
        parameters = Parameters(lists=lists, code_bytes=code_bytes)
        row = code_bytes if kind == "ivfpq" else 2 * dim
        index = count * (row + _POINTER_BYTES) + lists * dim * 8
        sample = min(count, max(lists * TRAINING_ROWS_PER_LIST, TRAINING_ROWS_CODES))
        building = halves + max(index * 3 // 2, 4 * dim * sample * 2)
        stored = index + halves
    labels = _LABEL_BYTES * count
    # The embeddings as they were read lie beside the normalised halves at first.
    build = max(building, 2 * halves) + labels + 2 * ids + _FIXED_BYTES
    return Plan(kind, count, dim, parameters, index + labels + ids, build, stored + labels // 2)


def _gib(size: int) -> str:
    return f"{size / GIB:.2f} GiB"
