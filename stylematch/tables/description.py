"""Files of JSON that say what lies beside them: ``infos.json``, ``embeddings.json``, ``catalog.json``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from stylematch.errors import StylematchError, UserError
from stylematch.tables.shown import shown


@dataclass(frozen=True)
class DescriptionFile:
    """One such file: what it describes, what it must say, and what to do where it does not.

    Attributes
    ----------
    name : str
        The file's.
    described : str
        What a directory with it is ("an index").
    command : str
        What writes such directories ("index build").
    remedy : str
        What to do about a damaged one ("build the index again").
    needed : mapping of str to type
        Keys that it has, and what each is: ``int``, ``float``, ``str``, ``dict``, or ``list``, which is one of texts.
    needed_of_kind : mapping of str to str
        Where it says under ``kind`` which of several it is: the list that each has besides, by kind.
    """

    name: str
    described: str
    command: str
    remedy: str
    needed: Mapping[str, type]
    needed_of_kind: Mapping[Any, str] = field(default_factory=dict)

    def read(self, directory: Path) -> dict[str, Any]:
        """Read the file of a directory.

        Raises
        ------
        UserError
            It is missing, no JSON, or lacks a key, or a key is something else than it should be.
        """
        path = directory / self.name
        try:
            content = json.loads(path.read_bytes())
        except OSError as error:
            raise UserError(
                f"{shown(directory)} is not {self.described}: {self.name} cannot be read ({error.strerror}). "
                f"Name a directory that 'stylematch-batch {self.command}' wrote."
            ) from error
        except (ValueError, RecursionError) as error:
            raise UserError(f"{shown(path)} is damaged (no JSON); {self.remedy}.") from error
        said = content if isinstance(content, dict) else {}
        needed = {**self.needed, **({"kind": str} if self.needed_of_kind else {})}
        if self.needed_of_kind and "kind" in said:
            kind = said["kind"] if isinstance(said["kind"], str) else None
            if kind not in self.needed_of_kind:
                raise UserError(
                    f"{shown(path)}: 'kind' is {said['kind']!r}, not one of {', '.join(self.needed_of_kind)}; "
                    f"{self.remedy}."
                )
            needed[self.needed_of_kind[kind]] = list
        if missing := [key for key in needed if key not in said]:
            raise UserError(f"{shown(path)} lacks {', '.join(missing)} (damaged, older or foreign); {self.remedy}.")
        if wrong := [key for key, kind in needed.items() if not _is(said[key], kind)]:
            raise UserError(
                f"{shown(path)}: {wrong[0]!r} is {shown(json.dumps(said[wrong[0]])[:60])}, which it cannot be; "
                f"{self.remedy}."
            )
        return said


def _is(value: Any, kind: type) -> bool:
    """Whether a value of JSON is of a kind: true is no number, 3 is a float, too, and a list one of texts."""
    if kind is list:
        return isinstance(value, list) and all(isinstance(entry, str) for entry in value)
    return isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)


def replaced(what: str, directory: Path) -> StylematchError:
    """Return the error for a directory that is no longer the one that a run began with."""
    return StylematchError(f"the {what} {shown(directory)} was replaced while it was used; run the same command again")


class Seen(Protocol):
    """A directory as it was when it was first looked at."""

    def check_same(self) -> None:
        """Raise ``replaced`` if it is another one by now."""
        ...


@contextmanager
def unchanged(seen: Seen) -> Iterator[None]:
    """Load what lies in a directory that was looked at before; while it is being replaced it may look damaged.

    Raises
    ------
    StylematchError
        If it was replaced in between.
    """
    try:
        yield
    except UserError:
        seen.check_same()
        raise
    seen.check_same()
