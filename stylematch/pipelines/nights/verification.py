"""When a night's verification of all contents (``--verify-content``) began, so that one that was stopped goes on."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from stylematch.tables.disk import write_durably

VERIFYING = "verify-"
"""What the name of the file begins with that says so, for a night."""


def marker_of(work: Path, day: date) -> Path:
    """Return the file that says since when a night verifies."""
    return work / f"{VERIFYING}{day.isoformat()}"


def verified_since(work: Path, day: date, seen: int) -> int:
    """Return from when on a file counts as read by a night: from its first try, which is this one if none was stopped.

    Parameters
    ----------
    work : pathlib.Path
        The folder for what is not finished.
    day : datetime.date
        The night.
    seen : int
        When this try began, in nanoseconds since 1970.
    """
    marker = marker_of(work, day)
    try:
        return int(marker.read_text())
    except (OSError, ValueError):
        write_durably(marker, str(seen).encode())
        return seen
