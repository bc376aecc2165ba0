"""The photos below a prefix of a bucket, found, hashed and read as a folder's.

A bucket is walked folder by folder in the order of its keys' bytes, as a directory is. Keys are what paths are to a
file system; they are escaped the same way. What changes with every write of an object is its ETag, which takes one
HEAD request, many at a time; an object whose size and time are those of an earlier look is not asked again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import compress, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from stylematch.data.directories import Ignored
from stylematch.data.looks import Look, Looks
from stylematch.data.magic import HEAD_BYTES, sniff_format
from stylematch.data.photo_file import PHOTO_ID_HEX_DIGITS, escape_path, whole_photo
from stylematch.data.photos import PICTURE_EXTENSIONS, FindCounts, FoundPhoto
from stylematch.errors import PhotoRejectedError, StylematchError, UserError
from stylematch.tables.contract import Reason
from stylematch.tables.place import Place
from stylematch.tables.shown import shown

_REQUESTS_AT_ONCE = 32
_HASHED_BYTES = 8 << 20
# A bucket's times may be whole seconds, and of its own clock, which may go some minutes before or after ours. What is
# written later than this after an object has another time than the object.
_SETTLED_AFTER_NS = 20 * 60 * 10**9
# What says that this one object cannot be read, where everything else is the network's or the server's trouble.
_DENIED = ("ACCESS_DENIED", "INVALID_OBJECT_STATE")


@dataclass(frozen=True, slots=True)
class _Listed:
    """What a listing says of an object: its size and when it was written, or neither of a prefix."""

    raw_path: bytes
    bytes: int | None = None
    written_ns: int | None = None


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
                known = [looks.find(listed.raw_path) for listed in chunk]
                settled = list(map(_settled, chunk, known))
                # To hand one to a thread costs more than all that is done for an object of which nothing is asked.
                asks = [still is None for still in settled]
                asked = pool.map(partial(self._look, counts), compress(chunk, asks), compress(known, asks))
                for listed, still in zip(chunk, settled, strict=True):
                    photo, why, look = next(asked) if still is None else _told(listed, still)
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

    def _walk(self, first: list[_Listed], counts: FindCounts, skip: Callable[[Path], bool] | None) -> Iterator[_Listed]:
        stack = [iter(first)]
        while stack:
            entry = next(stack[-1], None)
            if entry is None:
                stack.pop()
            elif entry.bytes is not None:
                yield entry
            elif skip is not None and skip(Path(entry.raw_path.decode())):
                counts.ignored[Ignored.OWN_OUTPUT] += 1
            else:
                stack.append(iter(self._list(entry.raw_path, counts)))

    def _list(self, raw_path: bytes, counts: FindCounts) -> list[_Listed]:
        """Return what lies right below a prefix, sorted as a directory's."""
        from pyarrow import fs

        key = self.place.key(raw_path.decode())
        with self.place.explained("list", raw_path.decode()):
            infos = self.place.filesystem.get_file_info(fs.FileSelector(key, allow_not_found=True))
        entries: list[tuple[bytes, _Listed]] = []
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
                entries.append((raw, _Listed(path, info.size, info.mtime_ns)))
            else:
                entries.append((raw + b"/", _Listed(path)))
        entries.sort(key=itemgetter(0))
        return [listed for _, listed in entries]

    def _look(
        self, counts: FindCounts, listed: _Listed, known: Look | None
    ) -> tuple[FoundPhoto, str | None, Look | None]:
        """Ask for an object; return it with its ETag, why it is passed over, if it is, and the look that told."""
        try:
            return _told(listed, self._ask(listed, known))
        except PhotoRejectedError:
            raw_path = listed.raw_path
            path = escape_path(raw_path)
            counts.not_looked_at.append(path)
            is_one = raw_path.lower().endswith(PICTURE_EXTENSIONS)
            return FoundPhoto(path, raw_path, listed.bytes or 0), None if is_one else Ignored.UNREADABLE_FILE, None

    def _ask(self, listed: _Listed, known: Look | None) -> Look:
        """Ask for one object's ETag, and for its first bytes where neither its name nor ``known`` says what it is."""
        raw_path = listed.raw_path
        with self._opened(raw_path) as stream:
            headers = {name: _text(value) for name, value in (stream.metadata() or {}).items()}
            written = headers.get("Last-Modified", "")
            stamp = headers.get("ETag") or written
            if raw_path.lower().endswith(PICTURE_EXTENSIONS):
                is_picture = True
            elif known is not None and known.holds(stream.size(), stamp):
                is_picture = known.is_picture
            else:
                is_picture = sniff_format(stream.read(HEAD_BYTES)) is not None
            return Look(raw_path, stream.size(), stamp, is_picture, _settled_ns(listed.written_ns, written))

    def _opened(self, raw_path: bytes) -> _Opened:
        return _Opened(self.place, raw_path)


def _settled(listed: _Listed, known: Look | None) -> Look | None:
    """Return an earlier look where the listing alone tells that its object is as it was."""
    return known if known is not None and known.still_holds(listed.bytes or 0, listed.written_ns) else None


def _told(listed: _Listed, look: Look) -> tuple[FoundPhoto, str | None, Look]:
    """Return what a look tells of an object: the photo, why it is passed over, if it is, and the look."""
    photo = FoundPhoto(escape_path(listed.raw_path), listed.raw_path, look.bytes, stamp=look.stamp)
    return photo, None if look.is_picture else Ignored.NOT_A_PICTURE, look


def _settled_ns(listed_ns: int | None, written: str) -> int | None:
    """Return the time of a listing if the answer to a later question is of the same write, and late enough."""
    if listed_ns is None or listed_ns <= 0 or time.time_ns() - listed_ns <= _SETTLED_AFTER_NS:
        return None
    # The object may have been written again since it was listed, and a copy of the server may lag behind.
    try:
        asked_s = datetime.fromisoformat(written).timestamp()
    except ValueError:
        return None
    return listed_ns if int(asked_s) == listed_ns // 10**9 else None


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


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
