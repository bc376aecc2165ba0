"""The lists that the steps of a night hand on: what was found, what is to be read, where the features stand.

What was found is Parquet, for DuckDB joins it; the other two are JSON lines, cut into partitions for the workers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from stylematch.data.listing import Listing, Partition, cut_lines, digest_line
from stylematch.data.photo_file import unescape_path
from stylematch.data.photos import FoundPhoto
from stylematch.tables.disk import explained
from stylematch.tables.shards import shard_path
from stylematch.tables.writer import ShardWriter

_WRITTEN_ROWS = 10_000
_FOUND = pa.schema(
    [
        pa.field("number", pa.int64(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("stamp", pa.string(), nullable=False),
    ]
)
TODO_COLUMNS = "path, bytes, stamp, was_lost"
PLAN_COLUMNS = 'path, bytes, photo_id, shard, "row", reason, message'


@dataclass(frozen=True)
class Planned:
    """One photo of the plan: where its features stand, or why it could not be read (unless it is too large)."""

    photo: FoundPhoto
    shard: str | None
    row: int
    reason: str | None
    message: str | None


def write_found(photos: Iterator[FoundPhoto], scratch: Path, advance: Any) -> tuple[Path, int]:
    """Write down what was found, not read; return the file and how many photos it has."""
    number = 0
    with ShardWriter(scratch / "found", 0, _FOUND) as writer:
        while chunk := list(islice(photos, _WRITTEN_ROWS)):
            writer.write(
                {
                    "number": list(range(number, number + len(chunk))),
                    "path": [photo.path for photo in chunk],
                    "bytes": [photo.bytes for photo in chunk],
                    "stamp": [photo.stamp for photo in chunk],
                }
            )
            number += len(chunk)
            advance(len(chunk))
    return shard_path(scratch / "found", 0), number


def write_todo(rows: Iterable[Any], path: Path) -> Listing:
    """Write rows of ``TODO_COLUMNS``, the files to read; their listing has no digest."""
    with explained("write", path), path.open("wb") as stream:
        count = sum(stream.write(json.dumps(row).encode() + b"\n") > 0 for row in rows)
    return Listing(path, count, "", tuple(cut_lines(path, count)))


def read_todo(path: Path, partition: Partition) -> Iterator[FoundPhoto]:
    """Read one partition of what ``write_todo`` wrote."""
    for name, size, stamp, _ in _lines(path, partition):
        yield FoundPhoto(name, unescape_path(name), size, stamp=stamp)


def lost_before(path: Path, partition: Partition) -> frozenset[str]:
    """Return the photos of one partition of what ``write_todo`` wrote on which a worker hung or died before tonight."""
    return frozenset(name for name, _, _, was_lost in _lines(path, partition) if was_lost)


def write_plan(rows: Iterable[Any], path: Path) -> Listing:
    """Write rows of ``PLAN_COLUMNS``, all photos of a night in order, with the digest that ``score`` gives them."""
    digest, count = hashlib.sha256(), 0
    with explained("write", path), path.open("wb") as stream:
        for row in rows:
            digest.update(digest_line(row[0], row[2], row[1]))
            stream.write(json.dumps(row).encode() + b"\n")
            count += 1
    return Listing(path, count, digest.hexdigest(), tuple(cut_lines(path, count)))


def read_plan(path: Path, partition: Partition) -> Iterator[Planned]:
    """Read one partition of what ``write_plan`` wrote."""
    for name, size, photo_id, shard, row, reason, message in _lines(path, partition):
        yield Planned(FoundPhoto(name, unescape_path(name), size, photo_id), shard, row, reason, message)


def _lines(path: Path, partition: Partition) -> Iterator[Any]:
    with path.open("rb") as stream:
        stream.seek(partition.offset_bytes)
        yield from map(json.loads, islice(stream, partition.photos))
