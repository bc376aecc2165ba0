"""A CSV file as people keep it, into cells: every line is part of a record that is read, or is listed with why not.

One stray quotation mark opens a cell that swallows the lines behind it, until another one happens to close it. So a
record that cannot be read, or one over several lines that has not as many cells as the header, costs the line it begins
in; reading goes on with the next line, not where the CSV module stopped.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stylematch.errors import UserError
from stylematch.tables.shown import shown

MAX_CELL_CHARACTERS = 1_000_000
MAX_RECORD_LINES = 1000
"""How far a cell may be followed. Without an end, n lines that each open one would take n times as long to read."""
_UNREADABLE = "\ufffd"
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UTF_8 = "utf-8-sig"  # spreadsheets put a mark before it


@dataclass(frozen=True)
class CsvCells:
    """What a CSV file says.

    Attributes
    ----------
    names : tuple of str
        The header.
    rows : tuple of list of str
        The n records that can be read, each with a cell for every name.
    lines : tuple of int
        n of them: the line that each begins in.
    damaged : tuple of (int, str)
        The other lines but for empty ones, each with why it cannot be read.
    delimiter : str
        What stands between cells: of comma, semicolon and tab the one that the header has most of.
    """

    names: tuple[str, ...]
    rows: tuple[list[str], ...]
    lines: tuple[int, ...]
    damaged: tuple[tuple[int, str], ...]
    delimiter: str


def read_csv(source: Path, encoding: str | None = None) -> CsvCells:
    """Read a CSV file whose first line is the header.

    Parameters
    ----------
    source : pathlib.Path
        The file.
    encoding : str, optional
        What its letters are written in, as Python calls it, such as ``cp1252``; UTF-8 for who asks nobody.

    Raises
    ------
    UserError
        If the file or its header cannot be read, or names a column twice.
    """
    codec = _codec(encoding)
    try:
        data = source.read_bytes()
    except OSError as error:
        raise UserError(f"{shown(source)} cannot be read: {error.strerror}.") from error
    if codec == _UTF_8 and data.startswith(_UTF_16):  # what spreadsheets call "Unicode text"
        raise UserError(f"{shown(source)} is in UTF-16; save it as CSV in UTF-8{_or_say('utf-16', encoding)}.")
    text = data.decode(codec, errors="replace")
    some_unreadable, no_letters = _UNREADABLE in text, _no_letters(codec, encoding)
    lines = list(io.StringIO(text, newline=""))  # ends of lines as the CSV module sees them; splitlines knows more
    header = next((line for line in lines if line.strip()), "")  # empty lines may come before it
    delimiter = delimiter_of(header)
    rows: list[list[str]] = []
    numbers: list[int] = []
    damaged: list[tuple[int, str]] = []
    names: tuple[str, ...] = ()
    with _long_cells():
        for line, found in _records(lines, delimiter):
            if not names:
                names = _header(source, line, found, no_letters)
            elif isinstance(found, str):
                damaged.append((line, found))
            elif some_unreadable and any(_UNREADABLE in cell for cell in found):
                damaged.append((line, no_letters))
            else:
                rows.append(found)
                numbers.append(line)
    if not names:
        raise UserError(f"{shown(source)} has no header; its first line must name the columns.")
    return CsvCells(names, tuple(rows), tuple(numbers), tuple(damaged), delimiter)


def delimiter_of(header: str) -> str:
    """Return what stands between cells: of comma, semicolon and tab the one that the header has most of."""
    return max(",;\t", key=header.count)


def _codec(encoding: str | None) -> str:
    """Return a codec of letters by the name that somebody gave."""
    try:
        name = codecs.lookup(encoding or _UTF_8).name
        b"a".decode(name, errors="replace")  # some of Python's codecs are of bytes, or know no replacement
    except (LookupError, ValueError) as error:
        raise UserError(
            f"--encoding {shown(encoding or '')} is none that is known; name one such as utf-8, cp1252 (Windows), "
            "iso-8859-15 or utf-16."
        ) from error
    return _UTF_8 if name == "utf-8" else name


def _no_letters(codec: str, encoding: str | None) -> str:
    """Return what is said of bytes that the codec does not know."""
    if codec != _UTF_8:
        return f"bytes that are no {codec}; --encoding names what the table is in"
    return f"bytes that are no UTF-8; save the table as UTF-8{_or_say('cp1252', encoding)}"


def _or_say(codec: str, encoding: str | None) -> str:
    """Return what else can be done by who may name an encoding."""
    return f", or say --encoding {codec}" if encoding else ""


def _header(source: Path, line: int, found: list[str] | str, no_letters: str) -> tuple[str, ...]:
    if isinstance(found, str):
        raise UserError(f"{shown(source)}: the header, which names the columns, has {found}; mend it.")
    names = tuple(name.strip() for name in found)
    if any(_UNREADABLE in name for name in names):
        raise UserError(f"{shown(source)}: the header, which names the columns, has {no_letters}.")
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{shown(source)}: line {line} names the column '{shown(doubled)}' twice; rename one of them.")
    return names


class _Lines(Iterator[str]):
    """Hands out the lines of one record after another, from a place that can be set back."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines
        self.begin = self.at = 0

    def __next__(self) -> str:
        """Return the next line; there is none behind the longest record."""
        if self.at == len(self._lines) or self.at - self.begin == MAX_RECORD_LINES:
            raise StopIteration
        self.at += 1
        return self._lines[self.at - 1]


def _records(lines: Sequence[str], delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """Yield, with the line that each begins in, the header's cells, then records of as many cells, or why not."""
    source = _Lines(lines)
    reader = csv.reader(source, delimiter=delimiter, strict=True)  # every record starts afresh, also behind an error
    width = 0
    while source.at < len(lines):
        source.begin = source.at
        try:
            found: list[str] | str = next(reader)
        except csv.Error as error:
            found = "unbalanced quotes"
            if source.at - source.begin == 1 and "field limit" in str(error):
                found = f"a cell of more than {MAX_CELL_CHARACTERS:,} characters"
        if not found or (not width and isinstance(found, list) and not any(map(str.strip, found))):
            continue  # nothing stands there, whatever the header has
        if isinstance(found, list) and width and len(found) != width:
            several = source.at - source.begin > 1
            found = "unbalanced quotes" if several else f"{len(found)} cells, the header has {width}"
        if isinstance(found, str):
            source.at = source.begin + 1
        elif not width:
            width = len(found)
        yield source.begin + 1, found


@contextlib.contextmanager
def _long_cells() -> Iterator[None]:
    """Let cells be longer than the CSV module's 131,072 characters, which a description with its markup can pass."""
    before = csv.field_size_limit(MAX_CELL_CHARACTERS)
    try:
        yield
    finally:
        csv.field_size_limit(before)
