"""Find the pictures below a directory, name them, read and hash their bytes.

- Depth first, only the listings on the way down (``directories``) in memory, 200 bytes a name; directories sort as if
  their names ended in "/", so that the order is that of the bytes of the whole relative POSIX paths.
- Found is every regular file with a picture's extension or, where the name has none, a picture's first bytes.
  The rest is only counted, by kind. Nothing but a regular file is ever opened.
- Paths are bytes to the file system; in tables they are text, escaped reversibly where they are not UTF-8.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from stylematch.data.directories import Directories, Entry, Ignored, Unlisted
from stylematch.data.looks import Look, Looks
from stylematch.data.magic import HEAD_BYTES, sniff_format
from stylematch.data.readers import Readers
from stylematch.errors import PhotoRejectedError, UserError
from stylematch.tables.contract import Reason

PICTURE_EXTENSIONS = (
    b".jpg",
    b".jpeg",
    b".jpe",
    b".jfif",
    b".png",
    b".webp",
    b".bmp",
    b".dib",
    b".gif",
    b".tif",
    b".tiff",
    b".heic",
    b".heif",
)
PHOTO_ID_HEX_DIGITS = 32

_HASHED_BYTES = 256 * 1024
_ESCAPE = "file-bytes://"  # a relative POSIX path never holds "//", so no plain path begins like this
_EXAMPLES_KEPT = 20


@dataclass
class FindCounts:
    """What a listing met; filled while ``find_photos`` is consumed.

    Attributes
    ----------
    found : int
        Files yielded.
    ignored : Counter of str
        Everything else except directories walked, by a value of ``Ignored``.
    unreadable_directories : list of str
        Escaped paths of the first directories that could not be listed.
    not_looked_at : list of str
        Paths, as they stand in the tables, of all files that are there but could not even be looked at.
    """

    found: int = 0
    ignored: Counter[str] = field(default_factory=Counter)
    unreadable_directories: list[str] = field(default_factory=list)
    not_looked_at: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FoundPhoto:
    """One file that may be a photo.

    Attributes
    ----------
    path : str
        The relative POSIX path as it stands in the tables (``escape_path``).
    raw_path : bytes
        The same path as the file system knows it.
    bytes : int
        The file's size when it was listed.
    photo_id : str or None
        The hash of its contents, None until somebody has computed it.
    stamp : str
        What changes with every write: the time of the last one in nanoseconds, or an object's ETag.
    """

    path: str
    raw_path: bytes
    bytes: int
    photo_id: str | None = None
    stamp: str = ""


def escape_path(raw: bytes) -> str:
    """Return the text for a path: itself if it is UTF-8, else "file-bytes://" and percent-encoded bytes."""
    try:
        path = raw.decode("utf-8")
    except UnicodeDecodeError:
        return _ESCAPE + quote_from_bytes(raw)
    return _ESCAPE + quote_from_bytes(raw) if path.startswith(_ESCAPE) else path


def unescape_path(path: str) -> bytes:
    """Return the path's bytes, the inverse of ``escape_path``."""
    if path.startswith(_ESCAPE):
        return unquote_to_bytes(path.removeprefix(_ESCAPE))
    return path.encode("utf-8")


def photo_root(path: Path) -> Path:
    """Return the directory that found paths are relative to: ``path`` itself, or the parent of a single file.

    Raises
    ------
    UserError
        There is nothing at ``path``, it cannot be reached, or it is neither a directory nor a regular file.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"there is no directory of photos at {str(path)!r}: check the path") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(
            f"the photos at {str(path)!r} cannot be reached ({why}): check the path and its permissions"
        ) from error
    if stat.S_ISDIR(status.st_mode):
        return path
    if stat.S_ISREG(status.st_mode):
        return path.parent
    raise UserError(f"{str(path)!r} is neither a directory nor a file: name a directory of photos")


def find_photos(
    root: Path,
    *,
    follow_links: bool = False,
    counts: FindCounts | None = None,
    skip: Callable[[Path], bool] | None = None,
    limit_s: float | None = None,
    looks: Looks | None = None,
) -> Iterator[FoundPhoto]:
    """Find photos below a directory, sorted by the bytes of their relative paths, streaming.

    Parameters
    ----------
    root : Path
        The directory; or one file, which is then found alone, relative to its parent (``photo_root``).
    follow_links : bool
        Also go through symbolic links, to files and to directories. A directory that was walked already, by
        whatever name, is not walked again, so loops end.
    counts : FindCounts, optional
        Filled as the iterator advances; complete when it is exhausted.
    skip : callable, optional
        Given the real path of each directory below ``root``; those for which it is true (the run's own
        output) are not entered.
    limit_s : float, optional
        How long looking into a file may take whose name does not say that it is a picture; then it counts as
        unreadable. So long may a directory take, too; then the run ends. None waits for ever.
    looks : Looks, optional
        What earlier looks into such files found, and where new ones are kept. A file whose size or time is another
        one is looked into again.

    Returns
    -------
    iterator of FoundPhoto

    Raises
    ------
    UserError
        At once, where ``root`` is missing, cannot be listed, or is no directory or regular file.
    StylematchError
        A directory does not answer in time; of ``root`` at once, of others when their turn comes.
    """
    counts = counts if counts is not None else FindCounts()
    looks = looks if looks is not None else Looks()
    base = photo_root(root)
    if base != root:
        return _found([Entry.of(os.fsencode(root.name), root.stat())], base, counts, limit_s, looks)
    directories = Directories(base, follow_links=follow_links, skip=skip, limit_s=limit_s)
    with directories:
        first = directories.entries(b"", counts.ignored)
    if isinstance(first, Unlisted):
        raise UserError(f"the directory {str(root)!r} cannot be listed ({first.message}): check its permissions")
    return _found(_walk(first, base, directories, follow_links, counts), base, counts, limit_s, looks)


def read_photo(root: Path, raw_path: bytes, max_bytes: int) -> bytes:
    """Read one photo's bytes.

    Parameters
    ----------
    root : Path
        The directory that the path is relative to (``photo_root``).
    raw_path : bytes
        ``FoundPhoto.raw_path``.
    max_bytes : int
        The largest file that is read.

    Raises
    ------
    PhotoRejectedError
        With ``unreadable_file`` (also where the file is no longer a regular one), ``empty_file`` or
        ``file_too_large``.
    """
    try:
        with _open_regular(root, raw_path) as stream:
            size = os.fstat(stream.fileno()).st_size
            # One byte more than it should have tells a growing file without reserving max_bytes for each.
            # None: a file of /proc that waits for news.
            data = b"" if size > max_bytes else stream.read(size + 1) or b""
            if len(data) > size:
                data += stream.read(max_bytes + 1 - len(data))
            size = max(size, len(data))
    except (OSError, ValueError) as error:
        raise _unreadable(error) from error
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
        f"the file has {size_bytes:,} bytes, over the limit of {max_bytes:,}: raise --max-file-mb",
    )


def photo_id_of(data: bytes) -> str:
    """Return the photo_id of a file's contents: the first 32 hexadecimal digits of their SHA-256."""
    return hashlib.sha256(data).hexdigest()[:PHOTO_ID_HEX_DIGITS]


def hash_photo(root: Path, raw_path: bytes, max_bytes: int | None = None) -> str:
    """Return the photo_id of a file without holding it in memory; see ``read_photo`` for parameters.

    Raises
    ------
    PhotoRejectedError
        With ``unreadable_file``; with ``file_too_large`` as soon as it has turned out to be, as a file does that never
        ends.
    """
    digest, size, block = hashlib.sha256(), 0, memoryview(bytearray(_HASHED_BYTES))
    try:
        with _open_regular(root, raw_path) as stream:
            while read := stream.readinto(block):
                size += read
                if max_bytes is not None and size > max_bytes:
                    raise too_large(size, max_bytes)
                digest.update(block[:read])
    except (OSError, ValueError) as error:
        raise _unreadable(error) from error
    return digest.hexdigest()[:PHOTO_ID_HEX_DIGITS]


def _walk(
    first: list[Entry], root: Path, directories: Directories, follow_links: bool, counts: FindCounts
) -> Iterator[Entry]:
    """Yield the regular files below ``root`` in order, given its own listing."""
    status = root.stat()
    seen = {(status.st_dev, status.st_ino)}
    stack = [iter(first)]
    with directories:
        while stack:
            entry = next(stack[-1], None)
            if entry is None:
                stack.pop()
            elif entry.directory is None:
                yield entry
            else:
                if follow_links:  # without links a tree has no second way to a directory
                    if entry.directory in seen:
                        counts.ignored[Ignored.DIRECTORY_SEEN_BEFORE] += 1
                        continue
                    seen.add(entry.directory)
                listed = directories.entries(entry.raw_path, counts.ignored)
                if not isinstance(listed, Unlisted):
                    stack.append(iter(listed))
                    continue
                counts.ignored[listed.why] += 1
                if listed.why == Ignored.UNREADABLE_DIRECTORY and len(counts.unreadable_directories) < _EXAMPLES_KEPT:
                    counts.unreadable_directories.append(escape_path(entry.raw_path))


def _found(
    files: Iterable[Entry], root: Path, counts: FindCounts, limit_s: float | None, looks: Looks
) -> Iterator[FoundPhoto]:
    """Keep the files that are pictures by name or by their first bytes."""
    with Readers(functools.partial(_read_head, root), 1, limit_s) as readers:
        for entry in files:
            if not entry.raw_path.lower().endswith(PICTURE_EXTENSIONS):
                look, stamp = looks.find(entry.raw_path), str(entry.mtime_ns)
                if look is None or not look.holds(entry.size_bytes, stamp):
                    (head,) = readers.read([entry.raw_path])
                    if isinstance(head, OSError):
                        counts.ignored[Ignored.UNREADABLE_FILE] += 1
                        counts.not_looked_at.append(escape_path(entry.raw_path))
                        continue
                    # A picture that no decoder here reads becomes a row that says so.
                    is_picture = sniff_format(head) is not None
                    look = Look(entry.raw_path, entry.size_bytes, stamp, is_picture)
                looks.keep(look)
                if not look.is_picture:
                    counts.ignored[Ignored.NOT_A_PICTURE] += 1
                    continue
            counts.found += 1
            yield FoundPhoto(escape_path(entry.raw_path), entry.raw_path, entry.size_bytes, stamp=str(entry.mtime_ns))


def _read_head(root: Path, raw_path: bytes) -> bytes:
    with _open_regular(root, raw_path) as stream:
        return stream.read(HEAD_BYTES) or b""  # None: a file of /proc that waits for news


def _open_regular(root: Path, raw_path: bytes) -> BufferedReader:
    """Open a file; a FIFO or device that took its place since the listing neither blocks nor is read."""
    descriptor = os.open(os.fsencode(root) + b"/" + raw_path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no longer a regular file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _unreadable(error: Exception) -> PhotoRejectedError:
    why = getattr(error, "strerror", None) or str(error)
    return PhotoRejectedError(Reason.UNREADABLE_FILE, f"the file could not be read: {why}")
