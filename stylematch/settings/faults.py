"""What pydantic finds wrong with settings, in this project's words: where, what it has to be, and what to do.

Pydantic tells each fault by a type and a place. Every type that a settings class can meet has its own words here; a key
that takes values of several kinds has a fault for each, which become one sentence. A fault of a job file also has the
line of its key, or of the table that lacks it.
"""

from __future__ import annotations

import difflib
import itertools
import operator
from collections.abc import Collection, Sequence
from datetime import date, time
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from stylematch.settings.base import NAME_PATTERN
from stylematch.settings.toml_lines import KeyLines

OPTIONS = "options"
"""What stands for the command line where the place of a setting is asked for."""

# By pydantic's type of a fault: what the value has to be.
_WHOLE, _NUMBER, _SWITCH, _LIST, _TABLE = (
    "a whole number",
    "a number",
    "true or false",
    "a list in square brackets",
    "a table",
)
_KINDS = {
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": f"{_WHOLE} of fewer digits",
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "a finite number",
    "bool_type": _SWITCH,
    "bool_parsing": _SWITCH,
    "string_type": "a text in quotes",
    "string_unicode": "a text in UTF-8",
    "path_type": "a path",
    "tuple_type": _LIST,
    "list_type": _LIST,
    "dict_type": _TABLE,
    "model_type": _TABLE,
    "model_attributes_type": _TABLE,
}
# By pydantic's type: the name of the limit that it tells, and what to say of it.
_LIMITS = {
    "greater_than": ("gt", "greater than {}"),
    "greater_than_equal": ("ge", "at least {}"),
    "less_than": ("lt", "less than {}"),
    "less_than_equal": ("le", "at most {}"),
    "literal_error": ("expected", "{}"),
    "string_pattern_mismatch": ("pattern", "a text that matches {}"),
    "string_too_short": ("min_length", "a text, its length at least {}"),
    "too_short": ("min_length", "a list, its length at least {}"),
}
_PATTERNS = {NAME_PATTERN: "a text of letters from A to Z, digits, dots, hyphens and underscores alone"}
_KIND_OF_KEY = ("literal[", "constrained-")  # what pydantic adds to a key that takes values of several kinds
_LONGEST_SHOWN = 60


def told(
    error: ValidationError,
    where: str,
    kind_of_job: type[BaseModel],
    overridden: Collection[str] = (),
    lines: KeyLines | None = None,
) -> str:
    """Return what is wrong, without a full stop: each key that is wrong behind its place.

    Parameters
    ----------
    error : pydantic.ValidationError
        What pydantic says.
    where : str
        The place of the settings, ``OPTIONS`` for the command line's.
    kind_of_job : type
        The settings class, whose closest name is proposed for one that is unknown.
    overridden : collection of str
        Dotted keys whose values were given with ``--set``.
    lines : KeyLines, optional
        Of the job file, for ``FILE:LINE``.
    """
    # By line, as whoever mends the file goes through it; those without a line keep pydantic's order, before them.
    sentences = sorted(
        _sentences(error, where, kind_of_job, overridden, lines),
        key=lambda said: int(said[0].removeprefix(f"{where}:") if said[0] != where else 0),
    )
    places = itertools.groupby(sentences, key=operator.itemgetter(0))
    return "; ".join(f"{place}: {'; '.join(sentence for _, sentence in said)}" for place, said in places)


def place_of(key: Sequence[str | int], where: str, overridden: Collection[str], lines: KeyLines | None) -> str:
    """Return ``FILE:LINE`` of a key of a job file, or the file alone where the key does not stand in it."""
    if lines is None or _is_overridden([str(part) for part in key if not isinstance(part, int)], overridden):
        return where
    found = lines.nearest(*key)
    return f"{where}:{lines.line(*found)}" if found else where


def _sentences(
    error: ValidationError,
    where: str,
    kind_of_job: type[BaseModel],
    overridden: Collection[str],
    lines: KeyLines | None,
) -> list[tuple[str, str]]:
    """Return a place and a sentence for each key that is wrong."""
    said: list[tuple[str, str]] = []
    wanted: dict[tuple[str, str], tuple[list[str], Any]] = {}
    for fault in error.errors():
        kind, given = fault["type"], fault["input"]
        place = [part for part in fault["loc"] if not str(part).startswith(_KIND_OF_KEY)]
        if kind == "value_error":  # raised by a settings class, which names the key from where it stands
            name, _, what = str(fault["ctx"]["error"]).partition(": ")
            place = [*(place[:-1] if place[-1:] == [name] else place), *name.split(".")]
            at, key = place_of(place, where, overridden, lines), _key(place, where, overridden)
            said.append((at, f"{key}: {what}"))
            continue
        at, key = place_of(place, where, overridden, lines), _key(place, where, overridden)
        if kind == "extra_forbidden":
            close = _proposed(kind_of_job, place)
            said.append((at, f"{key}: is no setting; remove it or mend its spelling{close}"))
        elif kind == "missing":
            said.append((at, f"{key}: is missing; set it"))
        elif kind != "too_short" or not given:  # else it counts only what is right in the list, and says so of the rest
            kinds = wanted.setdefault((at, key), ([], given))[0]
            kinds += [words for words in [_wanted(dict(fault))] if words not in kinds]
    for (at, key), (kinds, given) in wanted.items():
        said.append((at, f"{key}: has to be {' or '.join(kinds)}, not {_shown(given)}"))
    return said


def _proposed(kind: type[BaseModel], place: Sequence[str | int]) -> str:
    """Return the end of a sentence: a setting of this name in another table, or the closest one of its own, if any."""
    *tables, name = (part for part in place if isinstance(part, str))
    if elsewhere := _elsewhere(kind, name):
        return f" (did you mean {elsewhere}?)"
    for table in tables:
        sections = _sections(kind.model_fields[table].annotation) if table in kind.model_fields else []
        if len(sections) != 1:
            return ""
        kind = sections[0]
    close = difflib.get_close_matches(name, list(kind.model_fields), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _elsewhere(kind: type[BaseModel], name: str) -> str | None:
    """Return where a job has a setting of this name, outside of all tables first."""
    if name in kind.model_fields:
        return f"{name}, above all tables"
    for table, field in kind.model_fields.items():
        if any(name in section.model_fields for section in _sections(field.annotation)):
            return f"{table}.{name}"
    return None


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """Return the tables that a setting may hold, alone or as entries of a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for inner in get_args(annotation) for section in _sections(inner)]


def _key(place: Sequence[str | int], where: str, overridden: Collection[str]) -> str:
    """Name a setting as whoever gave it would write it."""
    names = [str(part) for part in place if not isinstance(part, int)]
    if where == OPTIONS:
        return f"--{names[0].partition('.')[0].replace('_', '-')}" if names else OPTIONS
    entries = [f" (entry {part + 1})" for part in place if isinstance(part, int)]  # people count from 1
    return f"{'--set ' * _is_overridden(names, overridden)}{'.'.join(names)}{''.join(entries)}"


def _is_overridden(names: Sequence[str], overridden: Collection[str]) -> bool:
    """Return whether a key, a table around it, or something in it was given with ``--set``."""
    around = {".".join(names[:count]) for count in range(1, len(names) + 1)}
    return any(key in around or key.startswith(f"{'.'.join(names)}.") for key in overridden)


def _wanted(fault: dict[str, Any]) -> str:
    """Say what a value has to be, in a job file's words instead of pydantic's."""
    kind = fault["type"]
    if kind in _KINDS:
        return _KINDS[kind]
    if kind not in _LIMITS:
        return f"otherwise ({fault['msg']})"
    name, phrase = _LIMITS[kind]
    limit = fault["ctx"][name]
    if limit in _PATTERNS:
        return _PATTERNS[limit]
    return phrase.format(f"{limit:g}" if isinstance(limit, float) else limit)


def _shown(value: Any) -> str:
    """Return a value as TOML writes it, or nearly so, cut where it is long."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, date | time):  # a datetime is a date, too
        return value.isoformat()
    if isinstance(value, dict):
        return "a table" if value else "an empty table"
    if isinstance(value, list | tuple):
        text = f"[{', '.join(map(_shown, value[:_LONGEST_SHOWN]))}]"
    elif isinstance(value, int) and abs(value) >= 10**_LONGEST_SHOWN:  # Python refuses to write the longest out
        return f"a number of more than {_LONGEST_SHOWN} digits"
    else:
        text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
