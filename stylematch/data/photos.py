"""Find the pictures below a directory. What is done with one of them stands in ``photo_file``.

- Depth first, only the listings on the way down (``directories``) in memory, 200 bytes a name; directories sort as if
  their names ended in "/", so that the order is that of the bytes of the whole relative POSIX paths.
- Found is every regular file with a picture's extension or, where the name has none, a picture's first bytes.
  The rest is only counted, by kind.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stylematch.data.directories import Directories, Entry, Ignored, Unlisted
from stylematch.data.looks import Look, Looks
from stylematch.data.magic import HEAD_BYTES, sniff_format
from stylematch.data.photo_file import escape_path, open_regular
from stylematch.data.readers import Readers
from stylematch.errors import StylematchError, UserError

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
    # No decoder here reads these, and their rows say so, damaged or not.
    b".avif",
    b".jp2",
    b".jpx",
    b".j2k",
    b".jxl",
    b".psd",
)
_EXAMPLES_SHOWN = 20
# What a disk or a network says that fails now and may not later.
_PASSING = (
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ENOTCONN,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.EREMOTEIO,
)


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
        Escaped paths of the directories that could not be listed.
    not_looked_at : list of str
        Paths, as they stand in the tables, of all files that are there but could not even be looked at.
    """

    found: int = 0
    ignored: Counter[str] = field(default_factory=Counter)
    unreadable_directories: list[str] = field(default_factory=list)
    not_looked_at: list[str] = field(default_factory=list)

    @property
    def unreadable_examples(self) -> tuple[str, ...]:
        """So many of the directories that could not be listed as people are told by name."""
        return tuple(self.unreadable_directories[:_EXAMPLES_SHOWN])


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


def photo_root(path: Path) -> Path:
    """Return the directory that found paths are relative to: ``path`` itself, or the parent of a single file.

    Raises
    ------
    UserError
        There is nothing at ``path``, it may not be reached, or it is neither a directory nor a regular file.
    StylematchError
        The disk that it is on fails, which may pass.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"there is no directory of photos at {str(path)!r}: check the path") from error
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _PASSING:
            raise StylematchError(
                f"the photos at {str(path)!r} cannot be reached ({error.strerror}): run the same command again once "
                "they can"
            ) from error
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
        return _found([Entry.of(os.fsencode(root.name), root.stat())], base, True, counts, limit_s, looks)
    directories = Directories(base, follow_links=follow_links, skip=skip, limit_s=limit_s)
    with directories:
        first = directories.entries(b"", counts.ignored)
    if isinstance(first, Unlisted):
        raise UserError(f"the directory {str(root)!r} cannot be listed ({first.message}): check its permissions")
    files = _walk(first, base, directories, follow_links, counts)
    return _found(files, base, follow_links, counts, limit_s, looks)


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
                # Without links a tree has no second way to a directory; one of which nothing is known is not entered.
                if follow_links and not entry.nothing_known:
                    if entry.directory in seen:
                        counts.ignored[Ignored.DIRECTORY_SEEN_BEFORE] += 1
                        continue
                    seen.add(entry.directory)
                listed = directories.entries(entry.raw_path, counts.ignored)
                if not isinstance(listed, Unlisted):
                    stack.append(iter(listed))
                    continue
                counts.ignored[listed.why] += 1
                if listed.why == Ignored.UNREADABLE_DIRECTORY:
                    counts.unreadable_directories.append(escape_path(entry.raw_path))


def _found(
    files: Iterable[Entry],
    root: Path,
    follow_links: bool,
    counts: FindCounts,
    limit_s: float | None,
    looks: Looks,
) -> Iterator[FoundPhoto]:
    """Keep the files that are pictures by name or by their first bytes."""
    with Readers(functools.partial(_read_head, root, follow_links), 1, limit_s) as readers:
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
            elif entry.nothing_known:
                counts.not_looked_at.append(escape_path(entry.raw_path))
            counts.found += 1
            yield FoundPhoto(escape_path(entry.raw_path), entry.raw_path, entry.size_bytes, stamp=str(entry.mtime_ns))


def _read_head(root: Path, follow_links: bool, raw_path: bytes) -> bytes:
    with open_regular(root, raw_path, follow_links=follow_links) as stream:
        return stream.read(HEAD_BYTES) or b""  # None: a file of /proc that waits for news
