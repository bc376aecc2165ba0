"""Writing files so that a kill or a full disk never leaves half of one, and saying plainly what went wrong.

- ``durable_file``, ``write_durably``: temporary name beside the target, fsync, rename, fsync of the directory.
- ``explained``: a block whose ``OSError`` becomes one sentence that names the path (exit code 3: the run can
  go on).
- ``sync_file``, ``sync_directory``, ``sync_tree``: to have on the disk what is written already.
- ``link_or_copy``, ``give_second_name``: a file as it is under another name, too.
- ``unnamed_file``: a temporary file that is gone with its process, however that ends.
- ``check_writable``: whether a folder takes files, asked before work whose results it is to hold.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from stylematch.errors import StylematchError, UserError
from stylematch.tables.shown import shown, why

NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)
"""What the same command meets again: somebody has to allow it first."""
BUFFER_BYTES = 2**18  # some dozen thumbnails: a call to the system takes as long as making one's text
TEMPORARY_SUFFIX = ".tmp"


def check_writable(folder: Path) -> None:
    """Refuse a folder that this user may not write to; of one that is still to be made, the nearest that is there.

    Raises
    ------
    UserError
        The folder, and what to do.
    """
    # os.path's, not a Path's own, which raises where this user may not even ask.
    there = next((path for path in (folder, *folder.parents) if os.path.exists(path)), folder)  # noqa: PTH110
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"cannot write to {shown(there)}: name a folder that you may write to")


@contextlib.contextmanager
def explained(doing: str, path: Path) -> Iterator[None]:
    """Turn an ``OSError`` of the block into a sentence: "could not DOING PATH: why".

    Raises
    ------
    StylematchError
        Exit code 3. Shards that are done stay done, so the advice is to mend the cause and run again.
    """
    try:
        yield
    except OSError as error:
        raise failure(doing, shown(path), error) from error


def failure(doing: str, where: str, error: OSError) -> StylematchError:
    """Return what says that something could not be done: what, where, why, and that the same command goes on."""
    return StylematchError(f"could not {doing} {where}: {why(error)}; mend that and run the same command again")


def sync_file(path: Path) -> None:
    """Make a file's bytes durable, those of its mapped memory, too; other threads run meanwhile."""
    _sync(path)


def sync_directory(directory: Path) -> None:
    """Make the names in ``directory`` durable (fsync of the directory itself)."""
    _sync(directory, os.O_DIRECTORY)


def _sync(path: Path, flags: int = 0) -> None:
    descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(root: Path) -> None:
    """Make what lies in and below a folder durable.

    Where the system can (Linux's ``syncfs``), by one call for the whole file system: one for each of hundreds of
    folders takes many times as long.
    """
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        for path in [root, *root.rglob("*")]:
            if path.is_dir() or (path.is_file() and not path.is_symlink()):
                _sync(path)
        return
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if syncfs(descriptor):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(root))
    finally:
        os.close(descriptor)


def temporary_path(path: Path) -> Path:
    """Return a hidden name beside ``path`` under which it is written before the rename.

    Another one at each call: two that write one file at once, on one host or on two, do not get into each other's way.
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}{TEMPORARY_SUFFIX}")


@contextlib.contextmanager
def durable_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file to fill; after the block either the old or the whole new ``path`` is there, whenever power fails.

    Raises
    ------
    StylematchError
        The disk is full, read-only or broken; the temporary file is removed.
    """
    with _replaced(path) as temporary, temporary.open("wb", buffering=BUFFER_BYTES) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """Give a temporary name for a file that lies on the disk at the block's end, and then comes to its place."""
    temporary = temporary_path(path)
    with explained("write", path):
        try:
            yield temporary
            temporary.replace(path)
            sync_directory(path.parent)
        finally:
            temporary.unlink(missing_ok=True)  # also after a rename of a name of the same file, which does nothing


def write_durably(path: Path, data: bytes | memoryview) -> None:
    """Write ``data`` to ``path``; see ``durable_file``."""
    with durable_file(path) as file:
        file.write(data)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Put a file that is replaced and never rewritten into another folder, too.

    By a second name where the file system has them: gigabytes then need neither time nor room, and lie on the disk
    already. What is a link to somewhere else is copied, as whoever keeps that may rewrite it.

    Raises
    ------
    OSError
        There is no such file, or it can be neither linked nor copied.
    """
    old, new = Path(source), Path(target)  # shutil.copytree hands over texts
    if not old.is_symlink():
        with contextlib.suppress(OSError):
            new.hardlink_to(old)
            return
    with old.open("rb") as from_file, new.open("xb") as to_file:
        shutil.copyfileobj(from_file, to_file, BUFFER_BYTES)
        to_file.flush()
        os.fsync(to_file.fileno())


def give_second_name(source: Path, target: Path) -> None:
    """Put a file that is replaced and never rewritten in the place of ``target``, too; see ``link_or_copy``.

    Raises
    ------
    StylematchError
        The disk is full, read-only or broken; what was at ``target`` is still there.
    """
    with _replaced(target) as temporary:
        link_or_copy(source, temporary)


@contextlib.contextmanager
def unnamed_file() -> Iterator[Path]:
    """Yield a path by which this process and its children open a temporary file that has no name in any folder.

    The system frees it with its last user, so a killed process leaves nothing behind.
    """
    with tempfile.TemporaryFile(prefix="stylematch-") as file:
        yield Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
