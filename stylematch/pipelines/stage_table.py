"""The stages of a run side by side: how busy each was, how fast, and what share of the run's own limit it takes.

The limit is the rate at which the run would go if its stages did nothing but follow each other, on all workers without
a wait: photos over the sum, over stages, of busy seconds (divided by the workers where each worker has the stage).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from stylematch.tables.manifest import Stage


@dataclass(frozen=True)
class StageRow:
    """One stage of a run.

    Attributes
    ----------
    stage, unit : str
        Its name, and what it handles.
    busy_s : float
        Seconds it took, summed over the workers.
    items : int
        How many it handled.
    items_per_s : float or None
        Of one worker that does nothing else; None where no time was measured.
    limit_share : float
        Its share of the time that the limit stands for, 0 to 1; the shares of all stages sum to 1.
    """

    stage: str
    busy_s: float
    items: int
    unit: str
    items_per_s: float | None
    limit_share: float


@dataclass(frozen=True)
class StageTable:
    """All stages of a run, and how near it came to its limit.

    Attributes
    ----------
    rows : tuple of StageRow
        In the order of the photo's way, where that is known.
    photos : int
        Photos of this invocation.
    workers : int
        Processes.
    photos_per_s, limit_photos_per_s : float or None
        What was reached, and the limit.
    limit_reached : float or None
        The first over the second.
    """

    rows: tuple[StageRow, ...]
    photos: int
    workers: int
    photos_per_s: float | None
    limit_photos_per_s: float | None
    limit_reached: float | None

    def to_json(self) -> dict[str, object]:
        """Return plain values, rounded, for the manifest."""
        rounded = asdict(self)
        rounded["rows"] = [
            {**asdict(row), "busy_s": round(row.busy_s, 3), "items_per_s": _rounded(row.items_per_s)}
            | {"limit_share": round(row.limit_share, 4)}
            for row in self.rows
        ]
        for name in ("photos_per_s", "limit_photos_per_s", "limit_reached"):
            rounded[name] = _rounded(rounded[name])
        return rounded

    @classmethod
    def of_json(cls, content: Mapping[str, Any]) -> StageTable:
        """Return the table that ``to_json`` gave, with rounded figures."""
        return cls(**{**content, "rows": tuple(StageRow(**row) for row in content["rows"])})

    def lines(self) -> list[str]:
        """Return the table for a person."""
        lines = [f"{'stage':<12}{'busy s':>10}{'items':>12}  {'unit':<8}{'items/s':>12}{'of limit':>10}"]
        for row in self.rows:
            rate = "-" if row.items_per_s is None else f"{row.items_per_s:,.1f}"
            lines.append(
                f"{row.stage:<12}{row.busy_s:>10,.2f}{row.items:>12,}  {row.unit:<8}{rate:>12}{row.limit_share:>10.1%}"
            )
        if self.limit_photos_per_s and self.photos_per_s and self.limit_reached:
            lines.append(
                f"limit {self.limit_photos_per_s:,.1f} photos/s with {self.workers} worker(s), "
                f"reached {self.photos_per_s:,.1f}: {self.limit_reached:.1%}"
            )
        return lines


def stage_table(stages: Mapping[str, Stage], *, photos: int, seconds: float, workers: int) -> StageTable:
    """Put measured stages side by side.

    Parameters
    ----------
    stages : mapping of str to Stage
        From ``run_listing`` and around it; a stage that spans others (``whole``) is left out.
    photos : int
        Photos of this invocation.
    seconds : float
        How long it took in all.
    workers : int
        Processes.
    """
    parts = {name: stage for name, stage in stages.items() if not stage.whole}
    wall = {name: stage.seconds / (workers if stage.per_worker else 1) for name, stage in parts.items()}
    total = sum(wall.values())
    rows = tuple(
        StageRow(
            name,
            stage.seconds,
            stage.items,
            stage.unit,
            stage.items / stage.seconds if stage.seconds > 0 else None,
            wall[name] / total if total else 0.0,
        )
        for name, stage in parts.items()
    )
    reached = photos / seconds if seconds > 0 and photos else None
    limit = photos / total if total and photos else None
    return StageTable(rows, photos, workers, reached, limit, reached / limit if reached and limit else None)


def _rounded(value: object) -> float | None:
    return round(value, 3) if isinstance(value, float) else None
