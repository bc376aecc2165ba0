"""``summary.json``, what a night says of itself, as later nights read it."""

from __future__ import annotations

from typing import Any

from stylematch.tables.counts import are_counts
from stylematch.tables.manifest import parse_object

SUMMARY = "summary.json"
_CHANGES = ("new", "changed", "kept", "gone", "before", "read")


def parse_summary(data: bytes | None) -> dict[str, Any]:
    """Return what the bytes of a summary say; nothing if they are damaged.

    So they are if they lack what a night asks of itself or of an earlier one: the night writes its summary again, and
    others pass it over.
    """
    content = parse_object(data)
    return content if _is_whole(content) else {}


def _is_whole(content: dict[str, Any]) -> bool:
    changes, styles, drift = (content.get(name) for name in ("changes", "styles", "drift"))
    return (
        all(isinstance(content.get(name), str) for name in ("snapshot_date", "run_id"))
        and isinstance(content.get("seconds"), int | float)
        and are_counts(content.get("photos"))
        and isinstance(changes, dict)
        and all(type(changes.get(name)) is int for name in _CHANGES)
        and isinstance(styles, dict)
        and all(map(_is_style, styles.values()))
        and "drift" in content
        and (drift is None or _is_drift(drift))
        and isinstance(content.get("warnings"), list)
        and all(isinstance(warning, str) for warning in content["warnings"])
    )


def _is_style(part: Any) -> bool:
    return (
        isinstance(part, dict)
        and type(part.get("faces")) is int
        and isinstance(part.get("share"), int | float)
        and isinstance(part.get("share_before", ""), int | float | None)
    )


def _is_drift(drift: Any) -> bool:
    return (
        isinstance(drift, dict)
        and isinstance(drift.get("against"), str)
        and isinstance(drift.get("psi", ""), int | float | None)
    )
