"""Which command a job file is for, where it was given to another one.

A file of another kind breaks every rule at once, and a list of its keys as so many misspellings would hide the one
mistake. Which kind it is, its own keys say.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from stylematch.settings.base import Section
from stylematch.settings.embed import EmbedJob
from stylematch.settings.export import ExportJob
from stylematch.settings.train import TrainJob

COMMANDS: Mapping[type[Section], str] = {TrainJob: "train", EmbedJob: "embed", ExportJob: "export"}


def other_job(kind: type[Section], keys: Collection[str], where: str) -> str | None:
    """Return what to say of a job file of another command, None where it is of this one or of none.

    Parameters
    ----------
    kind : type
        What it was read as.
    keys : collection of str
        Those that stand in it, above and as tables.
    where : str
        The file.
    """
    if kind not in COMMANDS or _required(kind) <= set(keys):
        return None
    for other, command in COMMANDS.items():
        if _required(other) <= set(keys) and _known(other, keys) > _known(kind, keys):
            named = ", ".join(list(keys)[:4])
            return (
                f"{where} looks like a job for '{command}', not for '{COMMANDS[kind]}': it has {named}; run "
                f"'stylematch-batch {command} {where}', or name another file."
            )
    return None


def _required(kind: type[Section]) -> set[str]:
    return {name for name, field in kind.model_fields.items() if field.is_required()}


def _known(kind: type[Section], keys: Collection[str]) -> int:
    return sum(key in kind.model_fields for key in keys)
