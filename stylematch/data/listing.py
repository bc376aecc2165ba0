"""A run's listing: every photo found, hashed, in order, as a file of lines, so that memory stays flat.

One JSON line a photo: path, bytes, photo_id. The listing's digest is that of paths and contents alone
(neither times nor sizes on disk), and partitions follow from its length alone; both are what makes a run
repeatable. Hashing reads every file once, in child processes. A file that takes too long is listed, but never read
again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from stylematch.data.photo_file import hash_photo, unescape_path
from stylematch.data.photos import FoundPhoto
from stylematch.data.readers import LateError, Readers
from stylematch.errors import StylematchError
from stylematch.tables.contract import Reason

# A partition costs as much as four photos (its shards and its part of the gallery take 25 ms, a photo 7), so many small
# ones are slow, and few large ones lose more by a kill and keep fewer workers busy. A short listing has 8, which share
# it among as many workers; a longer one has more where each still has 128 photos, up to 32. With five partitions of
# 120 photos two workers would wait for the last one: their number is a multiple of four where there are four.
MIN_PARTITION_PHOTOS, MAX_PARTITION_PHOTOS = 32, 4096
FEW_PARTITIONS, WORTHWHILE_PHOTOS, WANTED_PARTITIONS = 8, 128, 32
# So many photos may be lost, however few there are; more only where they are a minority of those reached.
MAX_LOST = 16
_HASH_CHUNK = 512


@dataclass(frozen=True)
class LostPhoto:
    """A listed photo that is given up without being read once more, since reading it hung or crashed a process.

    Attributes
    ----------
    path : str
        As listed.
    reason : str
        A value of ``stylematch.tables.contract.Reason``.
    message : str
        One sentence for a person.
    """

    path: str
    reason: str
    message: str

    @classmethod
    def late(cls, path: str, limit_s: float) -> LostPhoto:
        """Return one that took longer than ``limit_s``."""
        message = f"reading it took longer than {limit_s:g} s: raise --photo-timeout-s to wait"
        return cls(path, str(Reason.TIMED_OUT), message)


@dataclass(frozen=True)
class Partition:
    """A run of consecutive photos of the listing.

    Attributes
    ----------
    number : int
        From 0, also the shard's number.
    offset_bytes : int
        Where its first line starts.
    photos : int
        How many lines it has.
    lost : tuple of LostPhoto
        Which of them are not to be read, found out while they were listed or in an earlier try.
    alone : bool
        Photos are to be read one by one, so that it is clear which one ends a process. Changes no result.
    """

    number: int
    offset_bytes: int
    photos: int
    lost: tuple[LostPhoto, ...] = ()
    alone: bool = False


@dataclass(frozen=True)
class Listing:
    """What ``write_listing`` wrote: the file, how many photos, their digest and the partitions."""

    path: Path
    photos: int
    sha256: str
    partitions: tuple[Partition, ...]


def write_listing(
    photos: Iterable[FoundPhoto],
    root: Path,
    path: Path,
    *,
    readers: int,
    advance: Callable[[int], None],
    max_bytes: int | None = None,
    limit_s: float | None = None,
    follow_links: bool = True,
) -> Listing:
    """Hash photos and write them down.

    Parameters
    ----------
    photos : iterable of FoundPhoto
        Sorted.
    root : pathlib.Path
        What their paths are relative to.
    path : pathlib.Path
        The file to write.
    readers : int
        How many files are read at once.
    advance : callable
        Told how many more photos are listed.
    max_bytes : int, optional
        Larger files, which no run would read, are not hashed: a sparse file may claim terabytes.
    limit_s : float, optional
        How long hashing one photo may take; after that it is lost to the run. None waits for ever.
    follow_links : bool
        As for ``read_photo``.

    Raises
    ------
    StylematchError
        If most photos take too long.
    """

    def hashed(photo: FoundPhoto) -> str | None:
        if max_bytes is not None and photo.bytes > max_bytes:
            return None
        return hash_photo(root, photo.raw_path, max_bytes, follow_links=follow_links)

    digest, count, waiting = hashlib.sha256(), 0, iter(photos)
    lost: dict[int, LostPhoto] = {}
    with path.open("wb") as stream, Readers(hashed, readers, limit_s) as pool:
        while chunk := list(islice(waiting, _HASH_CHUNK)):
            for number, (photo, answer) in enumerate(zip(chunk, pool.read(chunk), strict=True), start=count):
                if isinstance(answer, LateError):
                    lost[number] = LostPhoto.late(photo.path, limit_s or 0.0)
                    _check_lost(len(lost), number + 1)
                # What could not be read fails alike when it is read for scoring, which says why.
                photo_id = None if isinstance(answer, OSError) else answer
                digest.update(digest_line(photo.path, photo_id, photo.bytes))
                stream.write(json.dumps([photo.path, photo.bytes, photo_id]).encode() + b"\n")
            count += len(chunk)
            advance(len(chunk))
    return Listing(path, count, digest.hexdigest(), tuple(_without(lost, cut_lines(path, count))))


def _check_lost(lost: int, reached: int) -> None:
    if too_many_lost(lost, reached):
        raise StylematchError(
            f"{lost} of the first {reached} photos took too long to be read: that is hardly the photos' fault; look at "
            "the disk or network that they lie on and run the same command again"
        )


def too_many_lost(lost: int, reached: int) -> bool:
    """Say whether so many of the photos that were reached are lost that it is the machine's fault, not theirs."""
    return lost >= MAX_LOST and 2 * lost > reached


def _without(lost: dict[int, LostPhoto], partitions: Iterable[Partition]) -> Iterator[Partition]:
    """Yield partitions that know which of their photos are lost, given by their place in the listing."""
    first = 0
    for partition in partitions:
        last = first + partition.photos
        yield replace(partition, lost=tuple(photo for number, photo in lost.items() if first <= number < last))
        first = last


def digest_line(path: str, photo_id: str | None, size_bytes: int) -> bytes:
    """Return what one photo adds to a listing's digest; of a file that is not hashed the tables hold the size."""
    named = [path, photo_id] if photo_id is not None else [path, None, size_bytes]
    return json.dumps(named).encode() + b"\n"


def read_listing(path: Path, partition: Partition) -> Iterator[FoundPhoto]:
    """Read one partition's photos."""
    with path.open("rb") as stream:
        stream.seek(partition.offset_bytes)
        for line in islice(stream, partition.photos):
            name, size, photo_id = json.loads(line)[:3]  # a night's lists say more
            yield FoundPhoto(name, unescape_path(name), size, photo_id)


def partition_sizes(count: int) -> list[int]:
    """Return how many photos each partition has, as even as can be: a function of the listing's length."""
    if count == 0:
        return [0]
    short = min(count // MIN_PARTITION_PHOTOS, FEW_PARTITIONS)
    number = max(1, short, min(count // WORTHWHILE_PHOTOS, WANTED_PARTITIONS), -(-count // MAX_PARTITION_PHOTOS))
    if number >= 4:
        number = max(number - number % 4, -(-count // MAX_PARTITION_PHOTOS))
    return [count * (k + 1) // number - count * k // number for k in range(number)]


def cut_lines(path: Path, count: int) -> Iterator[Partition]:
    """Cut a file of ``count`` lines, one a photo, into partitions."""
    offset = 0
    with path.open("rb") as stream:
        for number, photos in enumerate(partition_sizes(count)):
            yield Partition(number, offset, photos)
            offset += sum(len(line) for line in islice(stream, photos))
