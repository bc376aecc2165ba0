"""The folder that a command was given in: whether it is there, and whether workers, which begin by entering it, may."""

from __future__ import annotations

import os
from pathlib import Path

from stylematch.errors import UserError
from stylematch.tables.shown import shown


def current_folder() -> Path:
    """Return the current folder.

    Raises
    ------
    UserError
        It is gone.
    """
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise UserError("the current folder is gone: give the command in another") from error


def check_workers_may_enter() -> None:
    """Refuse a current folder that this user may not enter, such as root's home after ``sudo -u``.

    Raises
    ------
    UserError
        The folder, and what to do.
    """
    folder = current_folder()
    try:
        os.stat(f"{folder}/.")  # noqa: PTH116  # a Path would leave out the dot, which asks for the right to enter
    except OSError as error:
        raise UserError(
            f"the current folder, {shown(folder)}, cannot be entered ({error.strerror}), as each worker has to: "
            "give the command in another"
        ) from error
