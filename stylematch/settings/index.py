"""What ``index build`` can be told."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stylematch.settings.base import Positive, Section


class IndexSettings(Section):
    """How an index is chosen.

    Attributes
    ----------
    kind : {"auto", "exact", "hnsw", "ivf", "ivfpq"}
        Which kind; ``auto`` chooses by count, dimension and memory.
    target_recall : float
        The recall@10 that approximate kinds are tuned to.
    max_memory_gb : float
        In GiB, for the search and for the build, each.
    """

    kind: Literal["auto", "exact", "hnsw", "ivf", "ivfpq"] = "auto"
    target_recall: Annotated[float, Field(gt=0.0, le=1.0, strict=True)] = 0.95
    max_memory_gb: Positive = 8.0
