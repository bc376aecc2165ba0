"""A TOML text -> its document, and the line on which each of its keys stands, which ``tomllib`` does not tell.

A TOML statement (a header, or a key with its value) ends at the first line end at which it is TOML on its own, so
the text is cut there, and ``tomllib`` itself says which keys each piece holds.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any

from stylematch.tables.disk import shown

DEEPEST = 50
"""Tables and lists may be nested so far: walking and printing what is deeper could end Python's stack."""

LONGEST_KEY = 60
"""So much of a key is said where its statement cannot be read."""

KeyPath = tuple[str | int, ...]
"""Keys from the top; the tables of an array are counted from 0: ``("rules", 2, "items", "Male")``."""


class BrokenTomlError(ValueError):
    """A text that is no TOML; the message names the line and, where there is one, the key."""


def load_document(text: str) -> dict[str, Any]:
    """Return what a TOML text holds.

    Raises
    ------
    BrokenTomlError
        The text is no TOML, or holds what Python cannot read: a number too long, or nested too deeply.
    """
    try:
        document = tomllib.loads(text)
        if _depth(document) <= DEEPEST:
            return document
        why = f"it is nested more than {DEEPEST} deep"
    except RecursionError:
        why = "it is nested too deeply"
    except ValueError as error:  # TOMLDecodeError is one; a whole number too long is one of Python's own
        why = str(error)
    raise BrokenTomlError(f"{_place(text, why)}: this is not valid TOML: {why}")


def _place(text: str, why: str) -> str:
    """Return the line and the key of the statement that an error is about."""
    lines = _lines(text)
    told = re.search(r"\(at line (\d+), column \d+\)$", why)
    # What stands behind the line that is told cannot have broken it; where none is told, the error may be anywhere.
    anywhere = told is None and not why.endswith("(at end of document)")
    found = list(_statements(lines[: int(told[1])] if told else lines)) or [(1, "", None)]
    too_deep = (one for one in found if anywhere and one[2] is not None and _depth(one[2]) > DEEPEST)
    number, statement, _ = next(too_deep, found[-1])
    header = re.match(r"\s*\[+([^\]\n]+)\]", statement)
    named = header or re.match(r"([^=\n]+)=", statement)
    key = shown(named[1].strip())[:LONGEST_KEY] if named else ""
    return f"line {number}" + (f", key {key}" if key else "")


def _depth(value: object) -> int:
    """Return how many tables and lists are nested."""
    level, depth = [value], 0
    while level := [inner for outer in level for inner in _inner(outer)]:
        depth += 1
    return depth


def _inner(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


class KeyLines:
    """The lines of a text's keys.

    Parameters
    ----------
    text : str
        Valid TOML; arrays of tables are known at the top level.
    """

    def __init__(self, text: str) -> None:
        self._lines: dict[KeyPath, int] = {(): 1}
        self._arrays: dict[str, int] = {}
        table: KeyPath = ()
        for number, statement, keys in _statements(_lines(text)):
            if keys is None:
                raise ValueError(f"line {number} begins no TOML")
            if statement.lstrip().startswith("["):
                table = self._open(keys, number)
            else:
                self._note(table, keys, number)

    def line(self, *path: str | int) -> int:
        """Return the line of a key, or of the nearest table around it where the key is not there (from 1)."""
        while path not in self._lines:
            path = path[:-1]
        return self._lines[path]

    def _open(self, keys: dict[str, Any], number: int) -> KeyPath:
        """Enter the table of a header and return its path."""
        (name,) = keys
        path: KeyPath = (name,)
        inner = keys[name]
        if isinstance(inner, list):
            self._lines.setdefault(path, number)
            self._arrays[name] = self._arrays.get(name, -1) + 1
            inner = inner[0]
        if name in self._arrays:
            path = (name, self._arrays[name])
        self._lines.setdefault(path, number)
        while inner:
            (name,) = inner
            inner = inner[name][0] if isinstance(inner[name], list) else inner[name]
            path = (*path, name)
            self._lines.setdefault(path, number)
        return path

    def _note(self, table: KeyPath, keys: dict[str, Any], number: int) -> None:
        for name, value in keys.items():
            self._lines.setdefault((*table, name), number)
            if isinstance(value, dict):
                self._note((*table, name), value, number)


def _lines(text: str) -> list[str]:
    """Return the lines as ``tomllib`` counts them."""
    return text.replace("\r\n", "\n").split("\n")


def _statements(lines: list[str]) -> Iterator[tuple[int, str, dict[str, Any] | None]]:
    """Cut TOML into its statements, each with its first line's number and its keys; without blanks and comments.

    Only the last one may have None for its keys: it cannot be read, and nothing tells where it ends.
    """
    start, held = 1, ""
    for number, line in enumerate(lines, start=1):
        held = f"{held}\n{line}" if held else line
        try:
            keys = tomllib.loads(held)
        except tomllib.TOMLDecodeError:
            continue
        except (ValueError, RecursionError):
            break  # of what is in it already, which no further line mends
        if keys:
            yield start, held, keys
        start, held = number + 1, ""
    if held:
        yield start, held, None
