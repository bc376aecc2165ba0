"""Write a whole directory beside its place and let it appear by one rename; replace only one of our own.

- A directory is ours if it holds its kind's marker file, and then it may hold nothing that we did not put there, so
  that replacing it deletes no file of the user's.
- Beside OUT stand, hidden, ``.OUT.stylematch-lock``, which one command holds at a time, and ``.OUT.stylematch-new``,
  where it writes; what a kill left of that is removed by the next, after what it had taken away was put back.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stylematch.errors import UserError
from stylematch.tables.disk import check_writable, explained, sync_directory, sync_tree
from stylematch.tables.exchange import exchange
from stylematch.tables.lock import held
from stylematch.tables.out import hidden_prefix, replaceable
from stylematch.tables.shown import is_url, shown, shown_url


@dataclass(frozen=True)
class DirectoryKind:
    """A kind of directory that is written whole.

    Attributes
    ----------
    what : str
        What it holds, for sentences: "an index".
    marker : str
        The file by which one is known.
    is_part : callable
        ``is_part(directory, name)``: whether an entry beside the marker is part of it.
    """

    what: str
    marker: str
    is_part: Callable[[Path, str], bool]

    def check(self, out: Path) -> Path:
        """Return OUT with links resolved, or say why nothing of this kind can be put there; changes nothing.

        Parameters
        ----------
        out : pathlib.Path
            Absent, empty, or a directory of this kind.

        Raises
        ------
        UserError
            OUT is a URL, a file, a non-empty directory that is not of this kind or holds more, may not be
            written, or is what no folder can take the place of (see ``replaceable``).
        """
        if is_url(out):
            raise UserError(f"{shown_url(out)} is a URL: {self.what} goes into a folder of this machine; name one.")
        check_writable(Path(os.path.realpath(out)).parent)
        real = replaceable(out, shown(out))
        if not real.exists():
            return real
        if not real.is_dir():
            raise UserError(f"{shown(out)} is a file; name a directory for {self.what}.")
        entries = {entry.name for entry in real.iterdir()}
        if entries and self.marker not in entries:
            raise UserError(f"{shown(out)} is not empty and does not hold {self.what}; name another directory.")
        foreign = sorted(name for name in entries - {self.marker} if not self.is_part(real, name))
        if foreign:
            raise UserError(
                f"{shown(out)} holds {shown(foreign[0])} beside {self.what}, which replacing it would delete: move it "
                "away or name another directory."
            )
        return real

    def is_half_replaced(self, out: Path) -> bool:
        """Return whether a kill came while OUT was being replaced; ``locked`` has OUT back."""
        real = Path(os.path.realpath(out))
        return not real.exists() and _old(_beside(real, "new")).is_dir()

    @contextmanager
    def locked(self, out: Path) -> Iterator[Path]:
        """Keep other commands from writing OUT while the block lasts; yields it with links resolved.

        A change of what is there has to be locked from before it is read: of two that read the same, the second
        to write would take back what the first had written.

        Raises
        ------
        UserError
            OUT cannot be replaced, or another command is writing it.
        """
        real = self.check(out)
        with explained("write", real):
            real.parent.mkdir(parents=True, exist_ok=True)
            with held(
                _beside(real, "lock"), f"another command is writing {shown(out)}: wait for it or name another folder"
            ):
                _put_back(_beside(real, "new"), real)
                yield real

    @contextmanager
    def staged(self, out: Path) -> Iterator[Path]:
        """Yield an empty directory to fill; when the block ends without an error it becomes OUT, which is locked.

        Raises
        ------
        UserError
            OUT cannot be replaced.
        StylematchError
            OUT cannot be written.
        """
        with explained("write", out):
            real = self.check(out)
            beside = _beside(real, "new")
            _put_back(beside, real)
            staged = beside / "new"
            staged.mkdir(parents=True)
            try:
                yield staged
                sync_tree(staged)  # whoever filled it may have copied files, which waits for no disk
                if not (real / self.marker).is_file():
                    staged.rename(real)
                elif not exchange(staged, real):
                    real.rename(_old(beside))
                    staged.rename(real)
                sync_directory(real.parent)
            finally:
                _put_back(beside, real)

    @contextmanager
    def replaced(self, out: Path) -> Iterator[Path]:
        """Yield an empty directory to fill; when the block ends without an error it becomes OUT.

        Raises
        ------
        UserError
            OUT cannot be replaced, or another command is writing it.
        StylematchError
            OUT cannot be written.
        """
        with self.locked(out), self.staged(out) as staged:
            yield staged


def _beside(real: Path, what: str) -> Path:
    return real.with_name(f"{hidden_prefix(real)}{what}")


def _old(beside: Path) -> Path:
    return beside / "old"


def _put_back(beside: Path, real: Path) -> None:
    """Remove what is left beside OUT, after OUT is there again if the end came between two renames."""
    if _old(beside).is_dir() and not real.exists():
        _old(beside).rename(real)
    if beside.is_symlink():
        beside.unlink()
    elif beside.exists():
        shutil.rmtree(beside, ignore_errors=True)
