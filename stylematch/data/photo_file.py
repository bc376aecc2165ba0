"""One photo's file: its path as text, its bytes, and the hash that is its ``photo_id``.

- Paths are bytes to the file system; in tables they are text, escaped reversibly where they are not UTF-8.
- Nothing but a regular file is ever opened, whatever has taken its place since it was found; where links are not
  followed, no link that has taken the place of a file or of a folder above it is, either.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from io import BufferedReader
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from stylematch.errors import PhotoRejectedError, StylematchError
from stylematch.tables.contract import Reason
from stylematch.tables.shown import shown

PHOTO_ID_HEX_DIGITS = 32
MAX_PICTURE_BYTES = 200_000_000
"""The largest file that is read of pictures that are learned from, embedded or catalogued."""

_HASHED_BYTES = 256 * 1024
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_PASS = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_ESCAPE = "file-bytes://"  # a relative POSIX path never holds "//", so no plain path begins like this


def escape_path(raw: bytes) -> str:
    """Return the text for a path: itself if it is UTF-8, else "file-bytes://" and percent-encoded bytes."""
    try:
        path = raw.decode("utf-8")
    except UnicodeDecodeError:
        return escape_bytes(raw)
    return escape_bytes(raw) if path.startswith(_ESCAPE) else path


def escape_bytes(raw: bytes) -> str:
    """Return the text for a path that is not UTF-8."""
    return _ESCAPE + quote_from_bytes(raw)


def unescape_path(path: str) -> bytes:
    """Return the path's bytes, the inverse of ``escape_path``."""
    if path.startswith(_ESCAPE):
        return unquote_to_bytes(path.removeprefix(_ESCAPE))
    return path.encode("utf-8")


def read_photo(root: Path, raw_path: bytes, max_bytes: int, *, follow_links: bool = True) -> bytes:
    """Read one photo's bytes.

    Parameters
    ----------
    root : Path
        The directory that the path is relative to (``photo_root``).
    raw_path : bytes
        ``FoundPhoto.raw_path``.
    max_bytes : int
        The largest file that is read.
    follow_links : bool
        Whether the path may lead through links; where it was found without any, none may have come since.

    Raises
    ------
    StylematchError
        The directory itself is no longer there.
    PhotoRejectedError
        With ``unreadable_file`` (also where the file is no longer a regular one), ``empty_file`` or
        ``file_too_large``.
    """
    try:
        with open_regular(root, raw_path, follow_links=follow_links) as stream:
            size = os.fstat(stream.fileno()).st_size
            # One byte more than it should have tells a growing file without reserving max_bytes for each.
            # None: a file of /proc that waits for news.
            data = b"" if size > max_bytes else stream.read(size + 1) or b""
            if len(data) > size:
                data += stream.read(max_bytes + 1 - len(data))
            size = max(size, len(data))
    except (OSError, ValueError) as error:
        raise _unreadable(error, root) from error
    return whole_photo(data, size, max_bytes)


def whole_photo(data: bytes, size_bytes: int, max_bytes: int) -> bytes:
    """Return what was read of a photo, wherever it lies; refuse what is empty or, by its size, was not read.

    Raises
    ------
    PhotoRejectedError
        With the reason.
    """
    if size_bytes > max_bytes:
        raise too_large(size_bytes, max_bytes)
    if not data:
        raise PhotoRejectedError(Reason.EMPTY_FILE, "the file has no bytes")
    return data


def too_large(size_bytes: int, max_bytes: int) -> PhotoRejectedError:
    """Return what is said of a file that is not read, for its size."""
    return PhotoRejectedError(
        Reason.FILE_TOO_LARGE,
        f"the file has {size_bytes:,} bytes, over the limit of {max_bytes:,}",
        advice="raise --max-file-mb",
    )


def photo_id_of(data: bytes) -> str:
    """Return the photo_id of a file's contents: the first 32 hexadecimal digits of their SHA-256."""
    return hashlib.sha256(data).hexdigest()[:PHOTO_ID_HEX_DIGITS]


def hash_photo(root: Path, raw_path: bytes, max_bytes: int | None = None, *, follow_links: bool = True) -> str:
    """Return the photo_id of a file without holding it in memory; see ``read_photo`` for parameters.

    Raises
    ------
    PhotoRejectedError
        With ``unreadable_file``; with ``file_too_large`` as soon as it has turned out to be, as a file does that never
        ends.
    """
    digest, size, block = hashlib.sha256(), 0, memoryview(bytearray(_HASHED_BYTES))
    try:
        with open_regular(root, raw_path, follow_links=follow_links) as stream:
            while read := stream.readinto(block):
                size += read
                if max_bytes is not None and size > max_bytes:
                    raise too_large(size, max_bytes)
                digest.update(block[:read])
    except (OSError, ValueError) as error:
        raise _unreadable(error, root) from error
    return digest.hexdigest()[:PHOTO_ID_HEX_DIGITS]


def open_regular(root: Path, raw_path: bytes, *, follow_links: bool = True) -> BufferedReader:
    """Open a file; a FIFO or device that took its place since the listing neither blocks nor is read."""
    if follow_links:
        descriptor = os.open(os.fsencode(root) + b"/" + raw_path, _READ)
    else:
        try:
            descriptor = _open_without_links(os.fsencode(root), raw_path)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise OSError(errno.ELOOP, "a link has taken its place, or a folder's above it") from error
            raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no longer a regular file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _open_without_links(root: bytes, raw_path: bytes) -> int:
    """Open a file below a folder, itself and every folder on the way being no link, and return its descriptor."""
    *folders, name = raw_path.split(b"/")
    if not folders:
        return os.open(root + b"/" + name, _READ | os.O_NOFOLLOW)
    above = os.open(root, _PASS)
    try:
        for folder in folders:
            below = os.open(folder, _PASS | os.O_NOFOLLOW, dir_fd=above)
            os.close(above)
            above = below
        return os.open(name, _READ | os.O_NOFOLLOW, dir_fd=above)
    finally:
        os.close(above)


def check_still_there(root: Path) -> None:
    """Say that photos which were there have gone away: that is no mistake, and says nothing of any one of them.

    Raises
    ------
    StylematchError
        They are gone, or their disk fails.
    """
    try:
        root.stat()
    except OSError as gone:
        raise StylematchError(
            f"the photos' folder {shown(root)} is no longer there ({gone.strerror}): run the same command again once "
            "it is"
        ) from gone


def _unreadable(error: Exception, root: Path) -> PhotoRejectedError:
    check_still_there(root)
    why = getattr(error, "strerror", None) or str(error)
    return PhotoRejectedError(Reason.UNREADABLE_FILE, f"the file could not be read: {why}")
