"""A program's arguments before any command has read them; imports next to nothing, since it is asked first of all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from stylematch.settings.home import is_unwritten_home

LogFormat = Literal["text", "json"]
OPTION = "--log-format"


def command_of(arguments: Sequence[str]) -> str:
    """Return the command among them, wherever ``--log-format X`` stands; "" where there is none."""
    return next((word for word in arguments if not word.startswith("-") and word not in get_args(LogFormat)), "")


def unwritten_home(arguments: Sequence[str]) -> str | None:
    """Return the first argument that counts on a shell for its ``~``: as a path it would be a folder of that name.

    Shells leave it as it is in quotes and behind ``--out=``; systemd, cron's own variables and containers know none.
    """
    values = {word: word.partition("=")[2] if word.startswith("--") else word for word in arguments}
    return next((word for word, value in values.items() if is_unwritten_home(value)), None)


def format_first(arguments: Sequence[str]) -> list[str]:
    """Return a command's arguments with ``--log-format X`` in front, where the program looks for it.

    It may then stand anywhere, as people write it.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    front: list[str] = []
    rest: list[str] = []
    position = 0
    while position < end:
        argument = arguments[position]
        if argument == OPTION and position + 1 < end:
            front += arguments[position : position + 2]
            position += 1
        elif argument == OPTION or argument.startswith(f"{OPTION}="):
            front.append(argument)
        else:
            rest.append(argument)
        position += 1
    return [*front, *rest, *arguments[end:]]
