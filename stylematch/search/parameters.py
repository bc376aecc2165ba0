"""``search.json``: how an approximate index was made and is searched."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stylematch.errors import UserError
from stylematch.tables.shown import shown

SEARCH_FILE = "search.json"
MOST_LEFT_OUT = 1000


def left_out(count: int) -> int:
    """Return how many of some vectors a build leaves out at first, to be tuned on as queries that it does not hold."""
    return min(MOST_LEFT_OUT, count // 10)


@dataclass(frozen=True)
class Parameters:
    """How an approximate index is made and searched; unused ones stay 0. Written to ``search.json``.

    Attributes
    ----------
    lists : int
        Inverted lists (IVF).
    links : int
        Links of a node in the graph (HNSW's M).
    build_effort : int
        HNSW's efConstruction.
    code_bytes : int
        Bytes of a product-quantised vector (IVF-PQ).
    effort : int
        What is tuned: lists probed (nprobe) or HNSW's efSearch.
    candidates : int
        Candidates rescored per answer, and tuned for IVF-PQ; 32 more are always taken.
    built_of : int
        Vectors when it was built: later ones have labels from here on. 0 in an index of an earlier version.
    """

    lists: int = 0
    links: int = 0
    build_effort: int = 0
    code_bytes: int = 0
    effort: int = 0
    candidates: int = 1
    built_of: int = 0


def read_search(directory: Path) -> dict[str, Any]:
    """Read ``search.json``.

    Raises
    ------
    UserError
        If it is missing or damaged.
    """
    path = directory / SEARCH_FILE
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{shown(path)} cannot be read ({type(error).__name__}); build the index again.") from error
    names = {"kind", "dim", *Parameters.__dataclass_fields__}
    if isinstance(document, dict):
        document.setdefault("built_of", 0)
    if not isinstance(document, dict) or set(document) != names:
        raise UserError(f"{shown(path)} is damaged or of another version; build the index again.")
    return document
