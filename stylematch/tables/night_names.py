"""How the snapshots of nights are called, for those that write them and those that read them."""

from __future__ import annotations

import re
from datetime import date

SNAPSHOTS = "snapshots"
"""The folder that they lie in."""
# A night that was published twice in a bucket has its run's first digits behind its date.
_NAME = re.compile(r"(\d{4}-\d{2}-\d{2})(\.[0-9a-f]{8})?")


def night_of(name: str) -> date | None:
    """Return the night that a snapshot of this name is of; None where no snapshot is called so."""
    match = _NAME.fullmatch(name)
    try:
        return date.fromisoformat(match[1]) if match else None
    except ValueError:
        return None
