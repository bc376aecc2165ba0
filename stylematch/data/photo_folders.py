"""Where photos come from: a folder of this machine or a prefix of a bucket, found, hashed and read alike.

A bucket is walked folder by folder in the order of its keys' bytes, as a directory is. Keys are what paths are to a
file system; they are escaped the same way. What changes with every write of an object is its ETag, which takes one
HEAD request an object, many at a time.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from stylematch.data.directories import Ignored, check_answers
from stylematch.data.looks import Look, Looks
from stylematch.data.magic import HEAD_BYTES, sniff_format
from stylematch.data.photo_file import (
    PHOTO_ID_HEX_DIGITS,
    check_still_there,
    escape_path,
    hash_photo,
    read_photo,
    whole_photo,
)
from stylematch.data.photos import PICTURE_EXTENSIONS, FindCounts, FoundPhoto, find_photos, photo_root
from stylematch.errors import PhotoRejectedError, StylematchError, UserError
from stylematch.tables.contract import Reason
from stylematch.tables.place import Place
from stylematch.tables.shown import shown

_REQUESTS_AT_ONCE = 32
_HASHED_BYTES = 8 << 20
# What says that this one object cannot be read, where everything else is the network's or the server's trouble.
_DENIED = ("ACCESS_DENIED", "INVALID_OBJECT_STATE")


class PhotoFolder(Protocol):
    """Photos by their raw paths, which only the folder understands."""

    @property
    def name(self) -> str:
        """Its last name, for a title."""

    def find(
        self,
        counts: FindCounts,
        *,
        follow_links: bool = False,
        skip: Callable[[Path], bool] | None = None,
        limit_s: float | None = None,
        looks: Looks | None = None,
    ) -> Iterator[FoundPhoto]:
        """Yield the photos in the order of their paths' bytes, with sizes and stamps; see ``find_photos``."""

    def read(self, raw_path: bytes, max_bytes: int) -> bytes:
        """Return one photo's bytes; see ``read_photo``."""

    def hash(self, raw_path: bytes) -> str:
        """Return one photo's photo_id without holding it in memory; see ``hash_photo``."""


def photo_folder(place: Place, limit_s: float | None = None, *, follow_links: bool = False) -> PhotoFolder:
    """Return the photos of a place.

    Parameters
    ----------
    place : Place
        Where they are.
    limit_s : float, optional
        How long a folder of this machine may take to answer; None waits for ever.
    follow_links : bool
        Whether photos are read through symbolic links.

    Raises
    ------
    UserError
        If nothing is there.
    StylematchError
        If the folder does not answer in time.
    """
    if place.directory is None:
        return ObjectFolder(place)
    check_answers(place.directory, limit_s)
    return LocalFolder(place.directory, follow_links)


@dataclass(frozen=True)
class LocalFolder:
    """A folder of this machine, or one picture, which may be named by a link; links in it are read if that is said."""

    path: Path
    follow_links: bool = False

    def __post_init__(self) -> None:
        _ = self.root  # asked once: what happens to it later is no mistake of the user's

    @functools.cached_property
    def root(self) -> Path:
        """The folder that paths are relative to."""
        return photo_root(self.path)

    @property
    def name(self) -> str:
        """Its last name."""
        return self.path.resolve().name

    def find(
        self,
        counts: FindCounts,
        *,
        follow_links: bool = False,
        skip: Callable[[Path], bool] | None = None,
        limit_s: float | None = None,
        looks: Looks | None = None,
    ) -> Iterator[FoundPhoto]:
        """Yield the photos; see ``find_photos``."""
        check_still_there(self.path)
        return find_photos(self.path, follow_links=follow_links, counts=counts, skip=skip, limit_s=limit_s, looks=looks)

    def read(self, raw_path: bytes, max_bytes: int) -> bytes:
        """Return one photo's bytes; see ``read_photo``."""
        return read_photo(self.root, raw_path, max_bytes, follow_links=self._through_links())

    def hash(self, raw_path: bytes) -> str:
        """Return one photo's photo_id; see ``hash_photo``."""
        return hash_photo(self.root, raw_path, follow_links=self._through_links())

    def _through_links(self) -> bool:
        return self.follow_links or self.root != self.path


@dataclass(frozen=True)
class ObjectFolder:
    """The objects below a prefix of a bucket."""

    place: Place

    @property
    def name(self) -> str:
        """The prefix's last name."""
        return self.place.key().rpartition("/")[2]

    def find(
        self,
        counts: FindCounts,
        *,
        follow_links: bool = False,  # noqa: ARG002  # a bucket has no links
        skip: Callable[[Path], bool] | None = None,
        limit_s: float | None = None,  # noqa: ARG002  # requests have limits of their own
        looks: Looks | None = None,
    ) -> Iterator[FoundPhoto]:
        """Yield the photos; there are no links, and ``skip`` is asked with the relative path of every folder.

        Raises
        ------
        UserError
            If there is nothing below the prefix.
        StylematchError
            If the bucket cannot be listed.
        """
        looks = looks if looks is not None else Looks()
        first = self._list(b"", counts)
        if not first and not counts.ignored:
            raise UserError(f"there are no photos at {self.place}: check the URL")
        files = self._walk(first, counts, skip)
        with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
            while chunk := list(islice(files, 16 * _REQUESTS_AT_ONCE)):
                known = [
                    None if raw_path.lower().endswith(PICTURE_EXTENSIONS) else looks.find(raw_path)
                    for raw_path, _ in chunk
                ]
                for photo, why, look in pool.map(lambda entry, known: self._look(entry, known, counts), chunk, known):
                    if look is not None:
                        looks.keep(look)
                    if why is None:
                        counts.found += 1
                        yield photo
                    else:
                        counts.ignored[why] += 1

    def read(self, raw_path: bytes, max_bytes: int) -> bytes:
        """Return one photo's bytes; see ``read_photo``."""
        with self._opened(raw_path) as stream:
            size = stream.size()
            data = b"" if size > max_bytes else bytes(stream.read())
        return whole_photo(data, size, max_bytes)

    def hash(self, raw_path: bytes) -> str:
        """Return one photo's photo_id; see ``hash_photo``."""
        digest = hashlib.sha256()
        with self._opened(raw_path) as stream:
            while block := stream.read(_HASHED_BYTES):
                digest.update(block)
        return digest.hexdigest()[:PHOTO_ID_HEX_DIGITS]

    def _walk(
        self, first: list[tuple[bytes, int | None]], counts: FindCounts, skip: Callable[[Path], bool] | None
    ) -> Iterator[tuple[bytes, int]]:
        stack = [iter(first)]
        while stack:
            entry = next(stack[-1], None)
            if entry is None:
                stack.pop()
            elif entry[1] is not None:
                yield entry[0], entry[1]
            elif skip is not None and skip(Path(entry[0].decode())):
                counts.ignored[Ignored.OWN_OUTPUT] += 1
            else:
                stack.append(iter(self._list(entry[0], counts)))

    def _list(self, raw_path: bytes, counts: FindCounts) -> list[tuple[bytes, int | None]]:
        """Return what lies right below a prefix, sorted as a directory's: raw path, and size or None for a prefix."""
        from pyarrow import fs

        key = self.place.key(raw_path.decode())
        with self.place.explained("list", raw_path.decode()):
            infos = self.place.filesystem.get_file_info(fs.FileSelector(key, allow_not_found=True))
        entries: list[tuple[bytes, bytes, int | None]] = []
        for info in infos:
            # An object whose key has an empty part ("a//b") is no file to pyarrow: told, never silently lost.
            name = info.path.removeprefix(f"{key}/")
            if name in ("", info.path) or name.endswith("/"):
                counts.ignored[Ignored.UNREADABLE_DIRECTORY] += 1
                counts.unreadable_directories.append(escape_path(raw_path + b"//"))
                continue
            raw = name.encode()
            path = raw_path + b"/" + raw if raw_path else raw
            if info.type == fs.FileType.File:
                entries.append((raw, path, info.size))
            else:
                entries.append((raw + b"/", path, None))
        return [(path, size) for _, path, size in sorted(entries)]

    def _look(
        self, entry: tuple[bytes, int], known: Look | None, counts: FindCounts
    ) -> tuple[FoundPhoto, str | None, Look | None]:
        """Ask for one object's ETag; return it with why it is passed over, if it is, and the look that told."""
        raw_path, size = entry
        photo = FoundPhoto(escape_path(raw_path), raw_path, size)
        try:
            with self._opened(raw_path) as stream:
                etag = (stream.metadata() or {}).get("ETag", b"")
                stamp = etag.decode() if isinstance(etag, bytes) else str(etag)
                photo = FoundPhoto(photo.path, raw_path, stream.size(), stamp=stamp)
                if raw_path.lower().endswith(PICTURE_EXTENSIONS):
                    return photo, None, None
                if known is None or not known.holds(photo.bytes, stamp):
                    known = Look(raw_path, photo.bytes, stamp, sniff_format(stream.read(HEAD_BYTES)) is not None)
                return photo, None if known.is_picture else Ignored.NOT_A_PICTURE, known
        except PhotoRejectedError:
            counts.not_looked_at.append(photo.path)
            if not raw_path.lower().endswith(PICTURE_EXTENSIONS):
                return photo, Ignored.UNREADABLE_FILE, None
            return photo, None, None

    def _opened(self, raw_path: bytes) -> _Opened:
        return _Opened(self.place, raw_path)


class _Opened:
    """An object while it is read: what is wrong with this one object rejects it, anything else ends the run."""

    def __init__(self, place: Place, raw_path: bytes) -> None:
        self._place, self._name = place, raw_path.decode()
        self._stream: Any = None

    def __enter__(self) -> Any:
        try:
            self._stream = self._place.filesystem.open_input_file(self._place.key(self._name))
        except OSError as error:
            self._explain(error)
        return self._stream

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._stream.close()
        if isinstance(error, OSError):
            self._explain(error)

    def _explain(self, error: OSError) -> None:
        why = shown(error.strerror or str(error))
        if isinstance(error, FileNotFoundError | PermissionError) or any(code in str(error) for code in _DENIED):
            raise PhotoRejectedError(Reason.UNREADABLE_FILE, f"the file could not be read: {why}") from error
        raise StylematchError(
            f"could not read {self._place}/{shown(self._name)}: {why}; run the same command again: it goes on where "
            "it stopped"
        ) from error
