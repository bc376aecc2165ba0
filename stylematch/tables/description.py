"""Files of JSON that say what lies beside them: ``infos.json``, ``embeddings.json``, ``catalog.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stylematch.errors import UserError
from stylematch.tables.disk import shown


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
    needed : tuple of str
        Keys that it has.
    needed_of_kind : mapping of str to str
        Where it says under ``kind`` which of several it is: the key that each has besides, by kind.
    """

    name: str
    described: str
    command: str
    remedy: str
    needed: tuple[str, ...]
    needed_of_kind: Mapping[Any, str] = field(default_factory=dict)

    def read(self, directory: Path) -> dict[str, Any]:
        """Read the file of a directory.

        Raises
        ------
        UserError
            It is missing, no JSON, or lacks a key.
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
        needed = [*self.needed, *(("kind",) if self.needed_of_kind else ())]
        if self.needed_of_kind and "kind" in said:
            kind = said["kind"] if isinstance(said["kind"], str) else None
            if kind not in self.needed_of_kind:
                raise UserError(
                    f"{shown(path)}: 'kind' is {said['kind']!r}, not one of {', '.join(self.needed_of_kind)}; "
                    f"{self.remedy}."
                )
            needed.append(self.needed_of_kind[kind])
        if missing := [key for key in needed if key not in said]:
            raise UserError(f"{shown(path)} lacks {', '.join(missing)} (damaged, older or foreign); {self.remedy}.")
        return said
