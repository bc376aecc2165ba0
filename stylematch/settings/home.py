"""A ``~`` that no shell has written out."""

from __future__ import annotations


def is_unwritten_home(text: str) -> bool:
    """Return whether a path begins with a ``~`` that a shell was to write out: as it is, it is a folder's name."""
    return text == "~" or text.startswith("~/")
