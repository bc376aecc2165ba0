"""When rows that give no item end a build: where none does, and where so many do not that a folder may be missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from stylematch.data.item_table import RejectedItem
from stylematch.errors import StylematchError, UserError
from stylematch.tables.shown import shown

MAX_REJECT_SHARE = 0.5


def counted(rejected: Sequence[RejectedItem]) -> dict[str, int]:
    """Return how many rows there are of each reason, the most frequent first."""
    return dict(Counter(str(row.reason) for row in rejected).most_common())


def check_rejected(source: Path, rejected: Sequence[RejectedItem], items: int, max_share: float) -> None:
    """Compare the rows of a source that give no item with those that do, or still may.

    Parameters
    ----------
    source : pathlib.Path
        The table or folder.
    rejected : sequence of RejectedItem
        The rows that give none, in their order.
    items : int
        The others.
    max_share : float
        Which share of the rows may give none.

    Raises
    ------
    UserError
        No row gives an item.
    StylematchError
        More than that do not.
    """
    reasons = counted(rejected)
    if not items:
        raise UserError(_none_usable(source, rejected, reasons))
    rows = items + len(rejected)
    if len(rejected) / rows <= max_share:
        return
    main = next(iter(reasons))
    first = next(row for row in rejected if row.reason == main)
    raise StylematchError(
        f"{len(rejected):,} of the {rows:,} rows of {shown(source)} give no item ({len(rejected) / rows:.0%}), over "
        f"--max-reject-share {max_share:g}: nothing is written and nothing replaced. {_told(reasons)}; the first "
        f"{main}, {_named(first)}: {shown(first.message)}. See that the folder "
        "of pictures is whole and is the one that --images names, or raise --max-reject-share"
    )


def _told(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{why} {count:,}" for why, count in reasons.items())


def _named(row: RejectedItem) -> str:
    """Name a row by what it says itself: a wrong path is seen by who reads it."""
    image = f", picture '{shown(row.image)}'" if row.image else ""
    return f"row {row.row:,} ({shown(row.item_id or 'no id')}{image})"


def _none_usable(source: Path, rejected: Sequence[RejectedItem], reasons: Mapping[str, int]) -> str:
    if not rejected:
        held = "pictures" if source.is_dir() else "rows"
        return f"{shown(source)} has no {held}; there is nothing to make items of."
    first = rejected[0]
    return (
        f"None of the {len(rejected):,} rows of {shown(source)} gives an item ({_told(reasons)}). The first, "
        f"{_named(first)}: {shown(first.message)}. --images names the pictures' "
        "folder, --column item_id=... and image=... the columns."
    )
