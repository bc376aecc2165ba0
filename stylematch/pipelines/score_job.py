"""A run that scores photos, as plain values: what a worker is told, and what is asked before there are workers.

Nothing here imports a model, an index or a table, so that a command knows what to do while its workers still import.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stylematch.engines.named import Named
from stylematch.errors import UserError
from stylematch.pipelines import SCORING
from stylematch.pipelines.assets import Assets
from stylematch.settings.score import ScoreSettings
from stylematch.tables.shown import shown

if TYPE_CHECKING:
    import pyarrow as pa

load_state = Named(SCORING, "load_state")
score_partition = Named(SCORING, "score_partition")


@dataclass(frozen=True)
class ScoreJob:
    """All that a worker needs to know; plain values, so that it travels to any process.

    Attributes
    ----------
    settings : ScoreSettings
        What was asked for.
    assets : Assets
        Models and indexes.
    root, listing, staged : pathlib.Path
        The photos' folder, the listing's file, and the folder where the tables are staged.
    run_id : str
        The run's name.
    device : str
        "cpu", "cpu-bf16" or "cuda".
    threads : int
        Threads of one model call or search.
    allowed_items : ndarray of int64, optional
        The positions of the items that may be recommended; None for all.
    follow_links : bool
        Whether photos are read through links.
    """

    settings: ScoreSettings
    assets: Assets
    root: Path
    listing: Path
    staged: Path
    run_id: str
    device: str
    threads: int
    allowed_items: npt.NDArray[np.int64] | None = None
    follow_links: bool = False


def allowed_items(where: str | None, items: Path) -> npt.NDArray[np.int64] | None:
    """Ask once which items may be recommended, so that all workers know the same, whatever the condition asks.

    Parameters
    ----------
    where : str, optional
        The condition; without one the answer is None, which is all.
    items : pathlib.Path
        The index of items.

    Raises
    ------
    UserError
        If the condition cannot be read, or holds for no item.
    """
    if where is None:
        return None
    from stylematch.search.rows_file import read_rows

    return rows_allowed(where, read_rows(items), items)


def rows_allowed(where: str, rows: pa.Table, items: Path) -> npt.NDArray[np.int64]:
    """Return ``allowed_items`` of an index whose rows have been read."""
    from stylematch.search.where import positions_where

    allowed = positions_where(rows, where)
    if not len(allowed):
        raise UserError(
            f"--where '{shown(where)}' holds for none of the items of {shown(items)}; ask for less (capitals count)."
        )
    return allowed
