"""How many of everything a run holds, counted in the tables that were written, so that a manifest agrees with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from stylematch.tables.contract import Status

UNLISTED = ("unreadable_directory", "unreadable_file")
"""Of what a search passed over, what may have held photos."""


@dataclass(frozen=True)
class Counts:
    """How many of everything: ``scored + no_face + rejected == found``.

    ``ignored`` counts files passed over, by why; ``reasons`` photos, by reason code.
    """

    found: int
    scored: int
    no_face: int
    rejected: int
    faces: int
    recommendations: int
    reasons: Mapping[str, int] = field(default_factory=dict)
    ignored: Mapping[str, int] = field(default_factory=dict)

    @property
    def unlisted(self) -> int:
        """Folders and files that could not be looked into: nobody knows what lies there, at least one photo each."""
        return sum(self.ignored.get(why, 0) for why in UNLISTED)

    @property
    def reject_share(self) -> float:
        """The share of photos that were rejected, or must be feared for; 0 where there are none."""
        missed = self.rejected + self.unlisted
        return missed / (self.found + self.unlisted) if missed else 0.0

    def rejected_of_all(self) -> str:
        """Say so for people."""
        and_unlisted = f" or could not be listed ({self.unlisted:,} folders or files)" if self.unlisted else ""
        return (
            f"{self.rejected + self.unlisted:,} of {self.found + self.unlisted:,} photos ({self.reject_share:.1%}) "
            f"were rejected{and_unlisted}"
        )


def are_counts(said: Any) -> bool:
    """Return whether what was read is what ``Counts`` holds, by names and types."""
    if not isinstance(said, dict) or not said.keys() >= {each.name for each in fields(Counts)}:
        return False
    by_why = said["reasons"], said["ignored"]
    if not all(isinstance(counted, dict) for counted in by_why):
        return False
    numbers = [value for value in said.values() if not isinstance(value, dict)]
    return all(type(number) is int for number in [*numbers, *by_why[0].values(), *by_why[1].values()])


def count_tables(root: Path, ignored: Mapping[str, int]) -> Counts:
    """Count what the tables under ``root`` hold, streaming; only two columns are read.

    Parameters
    ----------
    root : Path
        A staged or published run.
    ignored : mapping of str to int
        Files that the search passed over, by why.
    """
    statuses, reasons = count_photos(root)
    return Counts(
        found=statuses.total(),
        scored=statuses[Status.SCORED],
        no_face=statuses[Status.NO_FACE],
        rejected=statuses[Status.REJECTED],
        faces=count_rows(root, "faces"),
        recommendations=count_rows(root, "recommendations"),
        reasons=dict(reasons),
        ignored=dict(ignored),
    )


def count_photos(root: Path) -> tuple[Counter[str], Counter[str]]:
    """Count how many photos under ``root`` have each status, and each reason."""
    import pyarrow.dataset as ds

    statuses: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for batch in ds.dataset(root / "photos", format="parquet").to_batches(columns=["status", "reason"]):
        for column, counter in (("status", statuses), ("reason", reasons)):
            for pair in batch.column(column).value_counts().to_pylist():
                counter[pair["values"]] += pair["counts"]
    return statuses, reasons


def count_rows(root: Path, table: str) -> int:
    """Return how many rows a table under ``root`` has."""
    import pyarrow.dataset as ds

    return int(ds.dataset(root / table, format="parquet").count_rows())
