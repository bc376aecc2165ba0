"""Photos' thumbnails on their way into the gallery, and out of it again.

A file for every thumbnail would cost a run of many photos more than making them. So the worker that scores a partition
writes its thumbnails into one file, ``report/thumbs/part-NNNNN.jsonl``, one JSON line a photo: ``[path, base64]``. The
gallery puts those of a page's photos into one of its data files; the folder goes when the gallery is written.
"""

from __future__ import annotations

import base64
import json
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stylematch.report.chunks import CHUNK_ERRORS, read_chunk
from stylematch.tables.disk import durable_file, explained
from stylematch.tables.writer import shard_paths

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
    paths : iterator of Path
        The partitions' files, in order; each is read when its first photo is asked for.
    """

    def __init__(self, paths: Iterator[Path]) -> None:
        self._entries = (json.loads(line) for path in paths for line in _lines(path))
        self._next: list[str] | None = None

    def __call__(self, path: str) -> str | None:
        """Return the thumbnail of a photo in base64, None where it has none: a photo that was not decoded."""
        if self._next is None:
            self._next = next(self._entries, None)
        if self._next is None or self._next[0] != path:
            return None
        thumbnail, self._next = self._next[1], None
        return thumbnail


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        yield from stream


class GalleryThumbnails:
    """The thumbnails of a finished run, by photo_id, out of its gallery; none where there is no gallery.

    Parameters
    ----------
    run : Path
        Its directory.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._page: tuple[int, list[str | None]] | None = None

    def jpeg(self, photo_id: str) -> bytes | None:
        """Return the thumbnail of a photo, None where the gallery has none."""
        if not self._page_size:
            return None
        ids, order = self._sorted
        place = bisect_left(range(len(ids)), photo_id, key=lambda at: ids[at].as_py())
        if place == len(ids) or ids[place].as_py() != photo_id:
            return None
        number, at = divmod(order[place].as_py(), self._page_size)
        encoded = self._pictures(number + 1)[at : at + 1]
        return base64.b64decode(encoded[0]) if encoded and encoded[0] else None

    @cached_property
    def _page_size(self) -> int:
        return int((self._chunk("summary") or {}).get("page_size", 0))

    @cached_property
    def _sorted(self) -> tuple[Any, Any]:
        """The photos' ids, sorted, and which photo each is of."""
        shards = [pq.read_table(shard, columns=["photo_id"])["photo_id"] for shard in shard_paths(self._run / "photos")]
        ids = pa.chunked_array([chunk for shard in shards for chunk in shard.chunks], pa.string()).combine_chunks()
        order = pc.sort_indices(ids).slice(0, len(ids) - ids.null_count)
        return ids.take(order), order

    def _pictures(self, number: int) -> list[str | None]:
        if self._page is None or self._page[0] != number:  # who asks for many asks in their order
            self._page = number, (self._chunk(f"thumbs-{number:05d}") or {}).get("pictures", [])
        return self._page[1]

    def _chunk(self, name: str) -> dict[str, Any] | None:
        try:
            return read_chunk(self._run / "report" / "data" / f"{name}.js")
        except CHUNK_ERRORS:
            return None
