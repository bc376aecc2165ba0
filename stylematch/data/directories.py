"""Directories, listed in a child process, so that one that does not answer is not waited for for ever.

What lies in one counts whole or not at all: a photo that a listing lacks would look like one that is gone. So a
directory that is late ends the run, unlike a file that is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any

from stylematch.data.readers import LateError, Readers
from stylematch.errors import StylematchError
from stylematch.tables.shown import shown

# So many names are looked at within the limit, so that a large directory that answers slowly, but does, is no late one.
_NAMES_AT_ONCE = 256

_Identity = tuple[int, int]
_Status = tuple[int, int, _Identity | None] | str
_NOTHING_KNOWN_NS = -1
# Of a name that is there but whose status cannot be had: a file, and reading it will say why not; or, where the
# listing that names it says so, a folder, and listing it will.
_NOTHING_KNOWN: _Status = (0, _NOTHING_KNOWN_NS, None)
_NO_IDENTITY = (0, 0)
_UNKNOWN_FOLDER: _Status = (0, _NOTHING_KNOWN_NS, _NO_IDENTITY)
_Question = tuple[bytes, list[bytes] | None]


class Ignored(StrEnum):
    """Why a directory entry is not among the photos, the keys of ``ignored`` in the manifest."""

    NOT_A_PICTURE = "not_a_picture"
    LINK = "link"
    DANGLING_LINK = "dangling_link"
    DIRECTORY_SEEN_BEFORE = "directory_seen_before"
    OWN_OUTPUT = "own_output"
    UNREADABLE_DIRECTORY = "unreadable_directory"
    UNREADABLE_FILE = "unreadable_file"
    VANISHED = "vanished"
    FIFO = "fifo"
    SOCKET = "socket"
    DEVICE = "device"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is kept of one name of a directory, of which there may be a million in memory at once."""

    raw_path: bytes
    size_bytes: int
    mtime_ns: int
    directory: _Identity | None
    """Its device and inode, None of a file."""

    @classmethod
    def of(cls, raw_path: bytes, status: os.stat_result) -> Entry:
        """Return the entry of a regular file."""
        return cls(raw_path, status.st_size, status.st_mtime_ns, None)

    @property
    def nothing_known(self) -> bool:
        """Whether it is there, but not even its status can be had."""
        return self.mtime_ns == _NOTHING_KNOWN_NS

    @property
    def sort_key(self) -> bytes:
        """The path's bytes as they are compared."""
        return self.raw_path if self.directory is None else self.raw_path + b"/"


@dataclass(frozen=True)
class Unlisted:
    """Why a directory has no entries: a value of ``Ignored``, and what the system said."""

    why: Ignored
    message: str = ""


class Directories:
    """A ``with`` block in which directories below a root are listed.

    Parameters
    ----------
    root : Path
        What their paths are relative to.
    follow_links : bool
        Take what links lead to for what they are.
    skip : callable, optional
        Given the real path of a directory below the root; those for which it is true are not listed.
    limit_s : float, optional
        How long a directory, or so many of its names, may take to answer. None waits for ever, in this process.
    """

    def __init__(
        self, root: Path, *, follow_links: bool, skip: Callable[[Path], bool] | None, limit_s: float | None
    ) -> None:
        self._root, self._follow_links, self._skip, self._limit_s = root, follow_links, skip, limit_s
        self._readers = None if limit_s is None else Readers(self._answer, 1, limit_s)

    def __enter__(self) -> Directories:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._readers is not None:
            self._readers.__exit__(kind, error, trace)

    def entries(self, raw_path: bytes, ignored: Counter[str]) -> list[Entry] | Unlisted:
        """Return one directory's sub-directories and regular files, sorted; count the rest.

        Raises
        ------
        StylematchError
            It does not answer in time.
        """
        answer = self._ask((raw_path, None))
        if isinstance(answer, Unlisted):
            return answer
        names, statuses = answer
        entries: list[Entry] = []
        blocks = [names[first : first + _NAMES_AT_ONCE] for first in range(0, len(names), _NAMES_AT_ONCE)]
        for block in blocks:
            if block is not blocks[0]:
                statuses = self._ask((raw_path, block))
            for name, status in zip(block, statuses, strict=True):
                if isinstance(status, str):
                    ignored[status] += 1
                else:
                    entries.append(Entry(raw_path + b"/" + name if raw_path else name, *status))
        entries.sort(key=lambda entry: entry.sort_key)
        return entries

    def _ask(self, question: _Question) -> Any:
        if self._readers is None:
            return self._answer(question)
        (answer,) = self._readers.read([question])
        path = self._root / os.fsdecode(question[0])
        if isinstance(answer, LateError):
            raise _late(path, self._limit_s or 0.0)
        if isinstance(answer, OSError):
            raise StylematchError(
                f"the process that listed the directory {shown(path)} ended before its time "
                f"({shown(str(answer)) or 'killed'}); run the same command again"
            )
        return answer

    def _answer(self, question: _Question) -> Unlisted | tuple[list[bytes], list[_Status]] | list[_Status]:
        raw_path, names = question
        path = os.fsencode(self._root) + b"/" + raw_path
        if names is not None:
            return self._statuses(path, names)
        if raw_path and self._skip is not None and self._skip(Path(os.path.realpath(os.fsdecode(path)))):
            return Unlisted(Ignored.OWN_OUTPUT)
        try:
            with os.scandir(path) as entries:
                names = [entry.name for entry in entries]
        except OSError as error:
            return Unlisted(Ignored.UNREADABLE_DIRECTORY, error.strerror or str(error))
        return names, self._statuses(path, names[:_NAMES_AT_ONCE])

    def _statuses(self, path: bytes, names: Sequence[bytes]) -> list[_Status]:
        statuses = [_status(path + b"/" + name, self._follow_links) for name in names]
        if _NOTHING_KNOWN not in statuses:
            return statuses
        try:
            with os.scandir(path) as entries:
                folders = {entry.name for entry in entries if entry.is_dir(follow_symlinks=False)}
        except OSError:
            return statuses
        return [
            _UNKNOWN_FOLDER if status is _NOTHING_KNOWN and name in folders else status
            for name, status in zip(names, statuses, strict=True)
        ]


def check_answers(path: Path, limit_s: float | None) -> None:
    """Wait until the file system answers at a path, whatever it answers.

    Raises
    ------
    StylematchError
        It does not within ``limit_s``; None asks nothing.
    """
    if limit_s is not None:
        with Readers(_look, 1, limit_s) as readers:
            if isinstance(readers.read([path])[0], LateError):
                raise _late(path, limit_s)


def _look(path: Path) -> None:
    with contextlib.suppress(OSError, ValueError):
        os.path.realpath(path)
        if stat.S_ISDIR(path.stat().st_mode):
            with os.scandir(path) as entries:
                next(entries, None)


def _late(path: Path, limit_s: float) -> StylematchError:
    return StylematchError(
        f"the directory {shown(path)}, or what lies in it, did not answer within {limit_s:g} s: look at the disk or "
        "network that it lies on and run the same command again, or raise photo_timeout_s (--photo-timeout-s) to wait"
    )


def _status(path: bytes, follow_links: bool) -> _Status:
    """Return what is kept of a directory's, a regular file's or a followed link's status; else why it is ignored."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return Ignored.VANISHED
    except OSError:  # it is there: a folder without the right to enter it, a path that is too long, a broken disk
        return _NOTHING_KNOWN
    if stat.S_ISLNK(status.st_mode):
        try:
            status = os.stat(path)  # noqa: PTH116  # bytes, of which a Path would make text a million times
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):  # the last of a link to itself
                return Ignored.DANGLING_LINK
            return _NOTHING_KNOWN if follow_links else Ignored.LINK
        if not follow_links:
            return Ignored.LINK
    if stat.S_ISDIR(status.st_mode):
        return status.st_size, status.st_mtime_ns, (status.st_dev, status.st_ino)
    if stat.S_ISREG(status.st_mode):
        return status.st_size, status.st_mtime_ns, None
    if stat.S_ISFIFO(status.st_mode):
        return Ignored.FIFO
    return Ignored.SOCKET if stat.S_ISSOCK(status.st_mode) else Ignored.DEVICE
