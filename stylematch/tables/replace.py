"""Write a whole directory beside its place and let it appear by one rename; replace only one of our own.

A directory is ours if it holds its kind's marker file, and then it may hold nothing that we did not put there, so that
replacing it deletes no file of the user's.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stylematch.errors import UserError
from stylematch.tables.disk import explained, shown, sync_directory
from stylematch.tables.exchange import exchange


def check_replaceable(out: Path, marker: str, is_ours: Callable[[Path, str], bool], what: str) -> Path:
    """Return OUT with links resolved, or say why no ``what`` can be put there.

    Parameters
    ----------
    out : pathlib.Path
        Absent, empty, or a directory of ours.
    marker : str
        The file by which one of ours is known.
    is_ours : callable
        ``is_ours(directory, name)``: whether an entry beside the marker is part of it.
    what : str
        What is to be written, for the sentence: "an index".

    Raises
    ------
    UserError
        OUT is a file, or a non-empty directory that is not ours or holds more than ours.
    """
    real = Path(os.path.realpath(out))
    if not real.exists():
        return real
    if not real.is_dir():
        raise UserError(f"{shown(out)} is a file; name a directory for {what}.")
    entries = {entry.name for entry in real.iterdir()}
    if entries and marker not in entries:
        raise UserError(f"{shown(out)} is not empty and does not hold {what}; name another directory.")
    foreign = sorted(name for name in entries - {marker} if not is_ours(real, name))
    if foreign:
        raise UserError(
            f"{shown(out)} holds {shown(foreign[0])} beside {what}, which replacing it would delete: move it away or "
            "name another directory."
        )
    return real


@contextmanager
def replaced_directory(out: Path, marker: str, is_ours: Callable[[Path, str], bool], what: str) -> Iterator[Path]:
    """Yield an empty directory to fill; when the block ends without an error it becomes OUT.

    Parameters
    ----------
    out, marker, is_ours, what
        As in ``check_replaceable``.

    Raises
    ------
    UserError
        OUT cannot be replaced.
    StylematchError
        OUT cannot be written.
    """
    real = check_replaceable(out, marker, is_ours, what)
    with explained("write", real):
        real.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{real.name}.stylematch-", dir=real.parent) as beside:
            staged = Path(beside) / "new"
            staged.mkdir()
            yield staged
            sync_directory(staged)
            if not (real / marker).is_file():
                staged.rename(real)
            elif not exchange(staged, real):
                old = real.rename(Path(beside) / "old")
                try:
                    staged.rename(real)
                except OSError:
                    old.rename(real)
                    raise
            sync_directory(real.parent)
