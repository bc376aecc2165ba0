"""A TOML text -> its document; where it is no TOML, the error names the line and the key."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from stylematch.settings.toml_lines import statements, text_lines
from stylematch.tables.shown import shown

DEEPEST = 50
"""Tables and lists may be nested so far: walking and printing what is deeper could end Python's stack."""

LONGEST_KEY = 60
"""So much of a key is said where its statement cannot be read."""


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
    lines = text_lines(text)
    told = re.search(r"\(at line (\d+), column \d+\)$", why)
    # What stands behind the line that is told cannot have broken it; where none is told, the error may be anywhere.
    anywhere = told is None and not why.endswith("(at end of document)")
    found = list(statements(lines[: int(told[1])] if told else lines)) or [(1, "", None)]
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
