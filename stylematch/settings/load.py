"""Read and validate settings; every error names the file, the key and the fix.

A setting without effect is warned of, not refused: an override may well be what made it idle.
"""

from __future__ import annotations

import functools
import logging
import operator
import os
import tomllib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from stylematch.errors import UserError
from stylematch.settings.base import Section
from stylematch.settings.faults import place_of, told
from stylematch.settings.toml_lines import KeyLines

logger = logging.getLogger(__name__)
DATA_VARIABLE = "STYLEMATCH_DATA"
"""The environment variable that says where the real data sets are."""
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
        If the file is missing or not TOML, or a key is unknown, missing or out of range; all such keys are named,
        with the line where they stand. Of a file for another command that is said instead.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows' editors put a mark before it
        data = tomllib.loads(text)
    except FileNotFoundError as error:
        raise UserError(f"The job file {path} does not exist; name one, such as those in jobs/.") from error
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"The job file {path} cannot be read: {why}; mend that, or name another.") from error
    # Among the ValueErrors are bytes that are no UTF-8, what is no TOML, and Python's own limit on a number's digits.
    except (ValueError, RecursionError) as error:
        raise UserError(f"The job file {path} cannot be read: {error}; mend it, it has to be TOML in UTF-8.") from error
    keys = list(data)
    for override in overrides:
        _override(data, override)
    _plain_text_where_wanted(kind, data, overrides)
    overridden = {override.partition("=")[0].strip() for override in overrides}
    try:
        job = _checked(kind, str(path), data, overridden, text)
    except UserError as error:
        from stylematch.settings.other_job import other_job  # which knows all kinds; wanted only where one is wrong

        if said := other_job(kind, keys, str(path)):
            raise UserError(said) from error
        raise
    if idle := job.without_effect():
        lines = KeyLines(text)
        for sentence in idle:
            key = sentence.partition(":")[0].split(".")
            logger.warning("%s: %s.", place_of(key, str(path), overridden, lines), sentence)
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
    except (ValueError, RecursionError):  # no TOML, or a number too long for Python: the setting says what it wants
        value = text.strip()
    for depth, table in enumerate(tables, start=1):
        data = data.setdefault(table, {})
        if isinstance(data, list):
            whole = ".".join(tables[:depth])
            raise UserError(f"--set {override}: {whole} is a list, which is set as a whole: --set '{whole}=[...]'.")
        if not isinstance(data, dict):
            raise UserError(
                f"--set {override}: {table} is no table of the job, but a value; leave out what follows it."
            )
    data[name] = value


def validated(kind: type[Job], where: str, /, **values: Any) -> Job:
    """Check values against a settings class.

    Parameters
    ----------
    kind : type
        The settings class.
    where : str
        What an error names as their place: a job file, or ``settings.faults.OPTIONS`` for the command line's.
    **values
        The settings.

    Raises
    ------
    UserError
        If a key is unknown, missing or out of range; all such keys are named.
    """
    return _checked(kind, where, values)


def _checked(
    kind: type[Job], where: str, values: dict[str, Any], overridden: Collection[str] = (), text: str | None = None
) -> Job:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = None if text is None else KeyLines(text)  # looked for only where something is wrong
        raise UserError(f"{told(error, where, kind, overridden, lines)}.") from error


def data_root() -> Path:
    """Return the folder of the real data sets: ``$STYLEMATCH_DATA``, or ``../shared/data`` without it."""
    return Path(os.environ.get(DATA_VARIABLE, "../shared/data"))


def cache_folder() -> Path:
    """Return the folder of what may be fetched or made again: ``$XDG_CACHE_HOME/stylematch``, or that of ``~/.cache``.

    Raises
    ------
    UserError
        This user, as that of a container or a service may be, has no home folder.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stylematch"
    except RuntimeError as error:
        raise UserError("this user has no home folder: set XDG_CACHE_HOME to a folder that it may write to") from error


def usual_folder(name: str) -> Path:
    """Return the folder of a data set for which nobody has named another one.

    Parameters
    ----------
    name : str
        What it is called among the real data sets.

    Raises
    ------
    UserError
        If it is not there; it names the variable that says where to look.
    """
    folder = data_root() / name
    if folder.is_dir():
        return folder
    told = os.environ.get(DATA_VARIABLE)
    why = f"{DATA_VARIABLE} is {told}" if told else f"{DATA_VARIABLE} is not set"
    raise UserError(
        f"The data set's folder {folder} does not exist ({why}): set {DATA_VARIABLE} to the folder that holds {name}/, "
        "or name the data set's own place (data.root in a training job, root in an embedding's)."
    )
