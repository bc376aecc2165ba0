"""A folder that is named by a path or a URL: on this machine, or a prefix of an S3 bucket (``s3://bucket/prefix``).

- Everything goes through pyarrow's file systems, so that Parquet is read in place, wherever it lies.
- A file appears whole: on this machine by a rename of a flushed file, in a bucket by one PUT.
- An S3 URL takes what pyarrow takes, as ``s3://bucket/prefix?endpoint_override=host:port&scheme=http&region=...``;
  keys, region and endpoint come from the usual variables (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, ...) without it.
- A place is its URL, so it travels to any process.
"""

from __future__ import annotations

import contextlib
import functools
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from stylematch.errors import StylematchError, UserError
from stylematch.tables.disk import explained, failure, sync_directory, write_durably
from stylematch.tables.shown import shown, why

_COPIED_BYTES = 8 << 20
# A secret may hold a "/", which ends the host of a URL unless it is escaped; a "/" before the ":" is a path's.
_KEYS = re.compile(r"://(?:[^/?]*:.*@|[^/?]*@)", re.DOTALL)
_DENIED = "ACCESS_DENIED"
_NO_BUCKET = re.compile(r"Bucket '[^']*' not found")  # said where Arrow asks for the bucket's region


@dataclass(frozen=True)
class Place:
    """A folder. Names in it are relative POSIX paths.

    Attributes
    ----------
    url : str
        As it was given.
    directory : Path, optional
        Where it is on this machine; None in a bucket.
    """

    url: str
    directory: Path | None = None

    def __str__(self) -> str:
        """Return it for people: on one line, without keys that the URL holds."""
        if self.directory is not None:
            return shown(self.directory)
        parts = urlsplit(without_keys(self.url))
        return shown(f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/"))

    @functools.cached_property
    def _remote(self) -> tuple[Any, str]:
        return _open_url(self.url)

    @property
    def filesystem(self) -> Any:
        """The file system of pyarrow that it lies in."""
        from pyarrow import fs

        return fs.LocalFileSystem() if self.directory is not None else self._remote[0]

    def key(self, name: str = "") -> str:
        """Return what the file system calls ``name``."""
        base = str(self.directory) if self.directory is not None else self._remote[1]
        return f"{base}/{name}" if name else base

    def list(self, folder: str = "") -> dict[str, int | None]:
        """Return the names in a folder, sorted, with sizes in bytes; None for a folder. Empty if it is absent."""
        from pyarrow import fs

        with self.explained("list", folder):
            entries = self.filesystem.get_file_info(fs.FileSelector(self.key(folder), allow_not_found=True))
        sizes = {entry.base_name: entry.size if entry.type == fs.FileType.File else None for entry in entries}
        return dict(sorted(sizes.items()))

    def open(self, name: str) -> Any:
        """Open a file for reading anywhere in it.

        Raises
        ------
        StylematchError
            It cannot be opened.
        """
        with self.explained("read", name):
            return self.filesystem.open_input_file(self.key(name))

    def read(self, name: str) -> bytes | None:
        """Return a small file's bytes; None where there is none."""
        try:
            with self.filesystem.open_input_file(self.key(name)) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failure("read", name, error) from error

    def write(self, name: str, data: bytes) -> None:
        """Write a small file so that either the old or the whole new one is there."""
        if self.directory is not None:
            path = self.directory / name
            with explained("write", path):
                path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, data)
            return
        # One request, which the server carries out or not: where it fails, the old one is still there.
        with self.explained("write", name), self.filesystem.open_output_stream(self.key(name)) as stream:
            stream.write(data)

    def take(self, file: Path, name: str) -> None:
        """Move a finished, flushed file of this machine here; it lies on the same disk if this is a local place."""
        if self.directory is not None:
            path = self.directory / name
            with explained("write", path):
                path.parent.mkdir(parents=True, exist_ok=True)
                file.replace(path)
                sync_directory(path.parent)
            return
        self.copy(file, name)
        with explained("remove", file):
            file.unlink()

    def copy(self, file: Path, name: str) -> None:
        """Upload a file of this machine under a new name; what is broken off, and so cut short, does not stay."""
        with file.open("rb") as source, self.explained("write", name):
            try:
                with self.filesystem.open_output_stream(self.key(name)) as stream:
                    shutil.copyfileobj(source, stream, _COPIED_BYTES)
            except BaseException:
                with contextlib.suppress(OSError):
                    self.filesystem.delete_file(self.key(name))
                raise

    def remove(self, name: str) -> None:
        """Remove a file or a folder with all in it; what is not there is removed already."""
        from pyarrow import fs

        with self.explained("remove", name):
            kind = self.filesystem.get_file_info(self.key(name)).type
            if kind == fs.FileType.Directory:
                self.filesystem.delete_dir(self.key(name))
            elif kind != fs.FileType.NotFound:
                self.filesystem.delete_file(self.key(name))

    @contextmanager
    def explained(self, doing: str, name: str) -> Iterator[None]:
        """Turn an ``OSError`` of the block into a sentence, exit code 3; what a bucket denies is exit code 2."""
        try:
            yield
        except OSError as error:
            raise self._failure(doing, name, error) from error

    def _failure(self, doing: str, name: str, error: OSError) -> StylematchError:
        where = f"{self}/{shown(name)}".rstrip("/")
        if self.directory is None and _DENIED in str(error):  # what a server denies, it denies again
            return UserError(
                f"could not {doing} {where}: {why(error)}: have these credentials allowed to {doing} there, or name "
                "another bucket"
            )
        return failure(doing, where, error)


def place_of(text: str, what: str) -> Place:
    """Return the place that a path or URL names.

    Parameters
    ----------
    text : str
        A path, ``file:///path`` or ``s3://bucket/prefix``.
    what : str
        What names it, for errors: the key of a job.

    Raises
    ------
    UserError
        If it is empty, its scheme is unknown, there is no such bucket, or it may not be read.
    StylematchError
        If the server does not answer or fails, which another try may mend.
    """
    if not text:
        raise UserError(f"{what} is empty: name a folder or a URL.")
    scheme, separator, _ = text.partition("://")
    if not separator:
        return Place(text, Path.cwd() / text)
    for sign, escape in (("#", "%23"), ("?", "%3F")):  # else what follows would be no part of the name
        if sign in text and (sign == "#" or scheme == "file"):
            raise UserError(f"{what}: '{shown(without_keys(text))}' has a {sign} in it; write {escape} for it.")
    if scheme == "file":
        path = unquote(urlsplit(text).path)
        if urlsplit(text).netloc not in ("", "localhost") or not path.startswith("/"):
            raise UserError(f"{what}: '{shown(text)}' is no file of this machine; write file:///path.")
        return Place(text, Path(path))
    if scheme != "s3":
        raise UserError(f"{what}: {shown(scheme)}:// is not known; name a path, a file:// or an s3:// URL.")
    place = Place(text)
    from pyarrow import fs

    try:
        filesystem, base = place._remote
        bucket = base.partition("/")[0]
        reached = bool(bucket) and filesystem.get_file_info(bucket).type != fs.FileType.NotFound
    except (OSError, ValueError) as error:
        sentence = f"{what}: {place} cannot be reached: {shown(without_keys(str(error)))}"
        # Arrow's own invalid-argument errors are ValueErrors. What a server refuses, it refuses again.
        if isinstance(error, ValueError) or _DENIED in str(error) or _NO_BUCKET.search(str(error)):
            raise UserError(sentence) from error
        raise StylematchError(f"{sentence}; run the same command again once it can be") from error
    if not bucket:
        raise UserError(f"{what}: {shown(without_keys(text))} names no bucket; write s3://bucket/prefix.")
    if not reached:
        raise UserError(f"{what}: there is no bucket '{shown(bucket)}'; make it, or mend the URL {place}.")
    return place


def without_keys(text: str) -> str:
    """Return a URL, or a sentence with one, without the keys in it."""
    return _KEYS.sub("://", text)


def _open_url(url: str) -> tuple[Any, str]:
    from pyarrow import fs

    try:
        # So a small file is one PUT instead of an upload in parts, which takes three requests.
        joint = "&" if "?" in url else "?"
        filesystem, base = fs.FileSystem.from_uri(f"{url}{joint}allow_delayed_open=true")
    except ValueError:  # a pyarrow that does not know it, or a mistake in the URL, which is told now
        filesystem, base = fs.FileSystem.from_uri(url)
    return filesystem, base.rstrip("/")
