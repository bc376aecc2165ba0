"""A text file of ids, one a line: which items a command is about, and which of them are nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stylematch.errors import UserError
from stylematch.search.names import some
from stylematch.tables.shown import shown


def read_ids_file(path: Path) -> list[str]:
    """Return the ids of a file, each once, in its order; empty lines do not matter.

    Raises
    ------
    UserError
        If the file cannot be read as UTF-8, or names none.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows' editors put a mark before it
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{shown(path)} cannot be read ({error}); give a text file of one id a line.") from error
    ids = list(dict.fromkeys(line for line in text.split("\n") if line.strip()))
    if not ids:
        raise UserError(f"{shown(path)} names no id; give a text file of one id a line.")
    return ids


def told_missing(path: Path, ids: Sequence[str], missing: Sequence[str], directory: Path) -> str:
    """Return which of a file's ids are not in an index, as the beginning of a sentence."""
    return f"{shown(path)}: {len(missing)} of {len(ids)} ids are not in {shown(directory)}: {shown(some(missing))}"
