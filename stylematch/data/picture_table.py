"""What data sets of a table and a folder of pictures share: the table's lines, and which files can be pictures."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from stylematch.data.magic import HEAD_BYTES, READABLE_FORMATS, sniff_format
from stylematch.errors import UserError
from stylematch.tables.shown import shown

NO_LABEL = frozenset({"", "NA", "N/A", "NaN", "nan"})
"""Cells by which such a table says that a picture has no label, or that were made of one when it was written again."""


def read_lines(table: Path, what: str) -> list[str]:
    """Return the lines of a table in UTF-8, the header first; bytes that are none become U+FFFD.

    Raises
    ------
    UserError
        If it is missing (``what`` says what its folder should be) or cannot be read.
    """
    try:
        text = table.read_bytes().decode("utf-8-sig", errors="replace")
    except FileNotFoundError as error:
        raise UserError(f"{table} is missing: this is not a folder of {what}.") from error
    except OSError as error:
        raise UserError(f"{table} cannot be read: {error.strerror}; mend that.") from error
    return text.replace("\r\n", "\n").split("\n")


def picture_files(folder: Path) -> dict[str, Path]:
    """List the regular files of a folder by name, at once: most rows of the table have none, and to ask is slow.

    Raises
    ------
    UserError
        If the folder is missing or cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            return {entry.name: Path(entry.path) for entry in entries if entry.is_file()}
    except FileNotFoundError as error:
        raise UserError(f"{folder} is missing; the pictures belong there.") from error
    except OSError as error:
        raise UserError(f"{folder} cannot be listed: {error.strerror}; mend that.") from error


def why_no_picture(path: Path | None) -> str | None:
    """Return why a file cannot be a picture that is read here, or None; only its first bytes are looked at.

    Returns
    -------
    {"no_picture", "unreadable_picture", "not_a_picture"} or None
    """
    if path is None:
        return "no_picture"
    try:
        with path.open("rb", buffering=0) as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return "unreadable_picture"
    return None if sniff_format(head) in READABLE_FORMATS else "not_a_picture"


def called_otherwise(files: Iterable[str], wanted: Iterable[str]) -> str:
    """Return a sentence of the first wanted picture that is there under another ending, or nothing.

    Whoever stored a data set's pictures anew, say as PNG, has files that its labels do not name.
    """
    by_stem = {Path(name).stem: name for name in sorted(files)}
    for name in wanted:
        if (there := by_stem.get(Path(name).stem, name)) != name:
            return (
                f" {shown(there)} is there, and {shown(name)} is named: call the files as the labels do "
                "(what a picture's format is, its bytes say), or the labels as the files."
            )
    return ""
