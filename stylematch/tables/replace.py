"""Write a whole directory beside its place and let it appear by one rename; replace only one of our own.

A directory is ours if it holds its kind's marker file, and then it may hold nothing that we did not put there, so that
replacing it deletes no file of the user's.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stylematch.errors import UserError
from stylematch.tables.disk import check_writable, explained, is_url, shown, sync_directory
from stylematch.tables.exchange import exchange


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
            OUT is a URL, a file, a non-empty directory that is not of this kind or holds more, or may not be
            written.
        """
        if is_url(out):
            raise UserError(f"{shown(out)} is a URL: {self.what} goes into a folder of this machine; name one.")
        real = Path(os.path.realpath(out))
        check_writable(real.parent)
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

    @contextmanager
    def replaced(self, out: Path) -> Iterator[Path]:
        """Yield an empty directory to fill; when the block ends without an error it becomes OUT.

        Raises
        ------
        UserError
            OUT cannot be replaced.
        StylematchError
            OUT cannot be written.
        """
        real = self.check(out)
        with explained("write", real):
            real.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{real.name}.stylematch-", dir=real.parent) as beside:
                staged = Path(beside) / "new"
                staged.mkdir()
                yield staged
                sync_directory(staged)
                if not (real / self.marker).is_file():
                    staged.rename(real)
                elif not exchange(staged, real):
                    old = real.rename(Path(beside) / "old")
                    try:
                        staged.rename(real)
                    except OSError:
                        old.rename(real)
                        raise
                sync_directory(real.parent)
