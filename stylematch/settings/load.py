"""Read and validate settings; every error names the file, the key and the fix.

A setting without effect is warned of, not refused: an override may well be what made it idle.
"""

from __future__ import annotations

import functools
import logging
import operator
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from stylematch.errors import UserError
from stylematch.settings.base import Section

logger = logging.getLogger(__name__)
OPTIONS = "options"
# By pydantic's type of a fault: what the value has to be.
_WHOLE, _NUMBER, _SWITCH, _LIST = "a whole number", "a number", "true or false", "a list in square brackets"
_KINDS = {
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "a finite number",
    "bool_type": _SWITCH,
    "bool_parsing": _SWITCH,
    "string_type": "a text in quotes",
    "tuple_type": _LIST,
    "list_type": _LIST,
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
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
_KIND_OF_KEY = ("literal[", "constrained-")  # what pydantic adds to a key that takes values of several kinds
Job = TypeVar("Job", bound=Section)


def load_job(path: Path, kind: type[Job], overrides: Sequence[str] = ()) -> Job:
    """Read and validate a job file.

    Parameters
    ----------
    path : pathlib.Path
        A TOML file.
    kind : type
        The settings class it must satisfy.
    overrides : sequence of str
        ``key=value`` each: a dotted key, and a value as TOML writes it (a plain word is a string).

    Raises
    ------
    UserError
        If the file is missing or not TOML, or a key is unknown, missing or out of range; all such keys are named.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"The job file {path} does not exist.") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"The job file {path} cannot be read: {error}.") from error
    for override in overrides:
        _override(data, override)
    _plain_text_where_wanted(kind, data, overrides)
    job = validated(kind, str(path), **data)
    for sentence in job.without_effect():
        logger.warning("%s: %s.", path, sentence)
    return job


def _plain_text_where_wanted(kind: type[Section], data: dict[str, Any], overrides: Sequence[str]) -> None:
    """Take an override as the text that was typed where a text is wanted: a folder may be called 2024-01-01."""
    texts = {key.strip(): text.strip() for key, _, text in (override.partition("=") for override in overrides)}
    try:
        kind.model_validate(data)
    except ValidationError as error:
        for fault in error.errors():
            where = [str(part) for part in fault["loc"]]
            key = ".".join(where)
            if fault["type"] == "string_type" and key in texts:
                table: dict[str, Any] = functools.reduce(operator.getitem, where[:-1], data)
                table[where[-1]] = texts[key]


def _override(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    *tables, name = key.strip().split(".")
    if not equals or not name or not all(tables):
        raise UserError(f"--set {override}: is no key=value; write for example --set schedule.epochs=3.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for table in tables:
        data = data.setdefault(table, {})
        if not isinstance(data, dict):
            raise UserError(f"--set {override}: {table} is no table of the job.")
    data[name] = value


def validated(kind: type[Job], where: str, /, **values: Any) -> Job:
    """Check values against a settings class.

    Parameters
    ----------
    kind : type
        The settings class.
    where : str
        What an error names as their place: a job file, or ``OPTIONS`` for the command line's.
    **values
        The settings.

    Raises
    ------
    UserError
        If a key is unknown, missing or out of range; all such keys are named.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{where}: {'; '.join(_advice(error, where))}.") from error


def _advice(error: ValidationError, where: str) -> list[str]:
    """Turn pydantic's faults into keys and what to do about each."""
    said: list[str] = []
    wanted: dict[str, tuple[list[str], Any]] = {}  # a key of several kinds has a fault for each
    for fault in error.errors():
        key = ".".join(part for part in map(str, fault["loc"]) if not part.startswith(_KIND_OF_KEY))
        if where == OPTIONS:
            key = f"--{key.partition('.')[0].replace('_', '-')}"
        if fault["type"] == "extra_forbidden":
            said.append(f"{key}: is no setting; remove it or mend its spelling")
        elif fault["type"] == "missing":
            said.append(f"{key}: is missing; set it")
        elif fault["type"] == "value_error":  # raised by a settings class, and names the key itself
            said.append(str(fault["ctx"]["error"]))
        else:
            wanted.setdefault(key, ([], fault["input"]))[0].append(_wanted(dict(fault)))
    for key, (kinds, given) in wanted.items():
        shown = str(given).lower() if isinstance(given, bool) else repr(given)
        said.append(f"{key}: has to be {' or '.join(kinds)}, not {shown}")
    return said


def _wanted(fault: dict[str, Any]) -> str:
    """Say what a value has to be, in a job file's words instead of pydantic's."""
    kind = fault["type"]
    if kind in _KINDS:
        return _KINDS[kind]
    if kind not in _LIMITS:
        return f"otherwise ({fault['msg']})"
    name, phrase = _LIMITS[kind]
    limit = fault["ctx"][name]
    return phrase.format(f"{limit:g}" if isinstance(limit, float) else limit)


def data_root() -> Path:
    """Return the folder of the real data sets: ``$STYLEMATCH_DATA``, or ``../shared/data`` without it."""
    return Path(os.environ.get("STYLEMATCH_DATA", "../shared/data"))
