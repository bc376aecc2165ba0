"""Photos' thumbnails on their way from the workers into the gallery.

A file for every thumbnail would cost a run of many photos more than making them. So the worker that scores a partition
writes its thumbnails into one file, ``report/thumbs/part-NNNNN.jsonl``, one JSON line a photo: ``[path, base64]``. The
gallery puts those of a page's photos into one of its data files; the folder goes when the run is published.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from stylematch.tables.disk import BUFFER_BYTES, durable_file, explained

THUMBNAILS_FOLDER = "thumbs"


def thumbnails_path(report: Path, partition: int) -> Path:
    """Return where a partition's thumbnails lie while its run goes on."""
    return report / THUMBNAILS_FOLDER / f"part-{partition:05d}.jsonl"


class ThumbnailKeeper:
    """A ``with`` block that keeps a partition's thumbnails; the file exists only from ``write`` on.

    Parameters
    ----------
    report : Path
        The gallery's folder.
    partition : int
        The partition's number.
    """

    def __init__(self, report: Path, partition: int) -> None:
        self._path = thumbnails_path(report, partition)
        self._open = ExitStack()

    def __enter__(self) -> ThumbnailKeeper:
        with explained("write", self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._open.enter_context(durable_file(self._path))
        return self

    def keep(self, path: str, jpeg: bytes) -> None:
        """Append the thumbnail of the next photo."""
        self._file.write(b'[%b,"%b"]\n' % (json.dumps(path).encode(), base64.b64encode(jpeg)))

    def write(self) -> None:
        """Make the file appear."""
        self._open.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)


class KeptThumbnails:
    """Hands out the thumbnails of a run that goes on, photo after photo as its tables have them.

    Parameters
    ----------
    report : Path
        The gallery's folder.
    """

    def __init__(self, report: Path) -> None:
        self._report = report
        self._lines: Generator[bytes, None, None] | None = None
        self._next: tuple[str, str] | None = None

    def turn_to(self, partition: int) -> None:
        """Go on with a partition, once it is scored: what follows its last thumbnail may not be there yet."""
        self.close()
        self._lines = _kept_lines(thumbnails_path(self._report, partition))
        self._next = None

    def close(self) -> None:
        """Close the file of the partition in hand, where some of it is left: nobody goes on."""
        if self._lines is not None:
            self._lines.close()

    def __call__(self, path: str) -> str | None:
        """Return the thumbnail of a photo in base64, None where it has none: a photo that was not decoded."""
        if self._next is None and self._lines is not None and (line := next(self._lines, None)) is not None:
            self._next = _parsed(line)
        if self._next is None or self._next[0] != path:
            return None
        thumbnail, self._next = self._next[1], None
        return thumbnail


def _parsed(line: bytes) -> tuple[str, str]:
    """Return what a line holds, of which only the path may need more than a look at its ends."""
    head, _, thumbnail = line.removesuffix(b'"]\n').rpartition(b',"')
    return json.loads(head.removeprefix(b"[")), thumbnail.decode("ascii")


def _kept_lines(path: Path) -> Generator[bytes, None, None]:
    """Yield a file's lines; it is closed with the last one, which nobody may ask beyond."""
    with path.open("rb", buffering=BUFFER_BYTES) as stream:
        following = stream.readline()
        while line := following:
            following = stream.readline()
            if not following:
                stream.close()
            yield line
