"""A TOML text -> the line on which each of its keys stands, which ``tomllib`` does not tell.

A TOML statement (a header, or a key with its value) ends at the first line end at which it is TOML on its own, so
the text is cut there, and ``tomllib`` itself says which keys each piece holds.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

KeyPath = tuple[str | int, ...]
"""Keys from the top; the tables of an array are counted from 0: ``("rules", 2, "items", "Male")``."""


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
        for number, statement, keys in statements(text_lines(text)):
            if keys is None:
                raise ValueError(f"line {number} begins no TOML")
            if statement.lstrip().startswith("["):
                table = self._open(keys, number)
            else:
                self._note(table, keys, number)

    def line(self, *path: str | int) -> int:
        """Return the line of a key, or of the nearest table around it where the key is not there (from 1)."""
        return self._lines[self.nearest(*path)]

    def nearest(self, *path: str | int) -> KeyPath:
        """Return the key, or the nearest table around it where the key is not there: ``()`` is the whole text."""
        while path not in self._lines:
            path = path[:-1]
        return path

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


def text_lines(text: str) -> list[str]:
    """Return the lines as ``tomllib`` counts them."""
    return text.replace("\r\n", "\n").split("\n")


def statements(lines: list[str]) -> Iterator[tuple[int, str, dict[str, Any] | None]]:
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
