"""What a worker that scores photos is told, as plain values, and which functions it runs, by their names.

Nothing here imports a model, an index or a table, so that a command lists photos while its workers still import.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stylematch.engines.named import Named
from stylematch.pipelines import SCORING
from stylematch.pipelines.run_spec import RunSpec

load_state = Named(SCORING, "load_state")
score_partition = Named(SCORING, "score_partition")


@dataclass(frozen=True)
class ScoreJob:
    """All that a worker needs to know; plain values, so that it travels to any process.

    Attributes
    ----------
    spec : RunSpec
        What the run is made of.
    root, listing, staged : pathlib.Path
        The photos' folder, the listing's file, and the folder where the tables are staged.
    run_id : str
        The run's name.
    threads : int
        Threads of one model call or search.
    follow_links : bool
        Whether photos are read through links.
    """

    spec: RunSpec
    root: Path
    listing: Path
    staged: Path
    run_id: str
    threads: int = 1
    follow_links: bool = False

    @property
    def device(self) -> str:
        """Where models run."""
        return self.spec.device
