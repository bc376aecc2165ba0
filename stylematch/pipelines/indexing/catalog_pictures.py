"""The pictures of a table of items, read in processes: what the model looks at, and what shows an item to people."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from stylematch.data.article_types import may_be_worn_on_torso
from stylematch.data.item_table import ItemTable
from stylematch.data.listing import LostPhoto
from stylematch.data.photo_file import MAX_PICTURE_BYTES, read_photo, unescape_path
from stylematch.engines.attempts import Guard
from stylematch.engines.local import run_partitions
from stylematch.engines.progress import Progress
from stylematch.errors import PhotoRejectedError
from stylematch.pipelines.indexing.item_tags import CATEGORY
from stylematch.pipelines.listed_photos import reading
from stylematch.report.pictures import make_thumbnail
from stylematch.search.rows_file import PICTURE_SIDE_PX
from stylematch.tables.cores import usable_cores
from stylematch.vision.bundle import Bundle, resize_of, sees_clothes
from stylematch.vision.grey import grey
from stylematch.vision.item_picture import ItemPictureReader

_CHUNK_ITEMS = 64
_CHUNKS_A_WORKER = 4  # to start a process takes as long as to read some hundred pictures
_THUMBNAIL_PX = 128


@dataclass(frozen=True)
class _Wanted:
    """Some rows of the table, on their way to a process that reads their pictures, but for those that are lost."""

    number: int
    start: int
    images: tuple[str, ...]
    may_be_worn: tuple[bool, ...]
    lost: tuple[LostPhoto, ...] = ()


def _again(wanted: _Wanted, lost: tuple[LostPhoto, ...], _: bool) -> _Wanted:
    """Return the rows without those on whose pictures a process hung or died; pictures are read one by one anyway."""
    return replace(wanted, lost=lost)


@dataclass
class ReadItems:
    """What became of some rows: crops, pictures and thumbnails of those in ``kept``, and why the others have none."""

    kept: list[int] = field(default_factory=list)
    crops: list[np.ndarray] = field(default_factory=list)
    pictures: list[bytes] = field(default_factory=list)
    thumbnails: list[bytes] = field(default_factory=list)
    torsos: int = 0
    rejected: list[tuple[int, str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Reading:
    """What a reading process has: the pictures' folder, and the reader."""

    images: Path
    reader: ItemPictureReader


def read_in_order(
    table: ItemTable, bundle: Bundle, workers: int, timeout_s: float, take: Callable[[ReadItems], None]
) -> None:
    """Read all pictures in processes and hand them on in the table's order.

    Parameters
    ----------
    table : ItemTable
        The items.
    bundle : Bundle
        The model that will look at them.
    workers : int
        Processes; 0 is one per core.
    timeout_s : float
        How long one picture may take; 0 waits for ever, and few pictures are then read in this process.
    take : callable
        Told what became of the next rows.
    """
    wanted = list(_chunks(table))
    early: dict[int, ReadItems] = {}
    due = 0

    def on_done(part: _Wanted, read: ReadItems) -> None:
        nonlocal due
        early[part.number] = read
        while due in early:
            take(early.pop(due))
            due += 1

    with Progress(len(table), "pictures", "catalog") as progress:
        run_partitions(
            _read_chunk,
            wanted,
            workers=min(workers or usable_cores(), max(1, len(wanted) // _CHUNKS_A_WORKER)),
            setup=functools.partial(
                _reading,
                table.images,
                bundle.input_px,
                bundle.channels,
                torsos=sees_clothes(bundle),
                resize=resize_of(bundle),
            ),
            on_done=on_done,
            on_progress=progress.update,
            guard=Guard(_again, timeout_s) if timeout_s else None,
        )


def _chunks(table: ItemTable) -> Iterator[_Wanted]:
    images = table.columns["image"].to_pylist()
    named = CATEGORY in table.columns.column_names
    categories = table.columns[CATEGORY].to_pylist() if named else [None] * len(images)
    may_be_worn = {name: name is None or may_be_worn_on_torso(name) for name in set(categories)}
    for number, start in enumerate(range(0, len(images), _CHUNK_ITEMS)):
        part = slice(start, start + _CHUNK_ITEMS)
        worn = tuple(may_be_worn[category] for category in categories[part])
        yield _Wanted(number, start, tuple(images[part]), worn)


def _reading(images: Path, input_px: int, channels: int, *, torsos: bool, resize: str) -> _Reading:
    return _Reading(images, ItemPictureReader(input_px, channels, torsos=torsos, resize=resize))


def _read_chunk(state: _Reading, wanted: _Wanted, advance: Callable[[int], None]) -> ReadItems:
    read, lost = ReadItems(), {photo.path: photo for photo in wanted.lost}
    for place, (image, may_be_worn) in enumerate(zip(wanted.images, wanted.may_be_worn, strict=True), wanted.start):
        try:
            if (given_up := lost.get(image)) is not None:
                raise PhotoRejectedError(given_up.reason, given_up.message)
            with reading(image):
                item = state.reader.read(_bytes_of(state.images, image), may_be_worn=may_be_worn)
        except PhotoRejectedError as error:
            read.rejected.append((place, str(error.reason), error.message))
        else:
            read.kept.append(place)
            read.crops.append(item.crop)
            read.pictures.append(_small_grey(item.crop))
            read.thumbnails.append(make_thumbnail(item.photo.pixels, _THUMBNAIL_PX))
            read.torsos += item.shown == "torso"
        advance(1)
    return read


def _bytes_of(images: Path, image: str) -> bytes:
    """Return a picture's bytes; a table may name it by an absolute path, which ``read_photo`` takes no other way."""
    raw_path = unescape_path(image)
    return read_photo(Path("/") if raw_path.startswith(b"/") else images, raw_path, MAX_PICTURE_BYTES)


def _small_grey(crop: np.ndarray) -> bytes:
    """Return the picture by which an index tells which items look alike."""
    picture = Image.fromarray(grey(crop))
    if picture.size != (PICTURE_SIDE_PX, PICTURE_SIDE_PX):
        picture = picture.resize((PICTURE_SIDE_PX, PICTURE_SIDE_PX), Image.Resampling.BILINEAR)
    return picture.tobytes()
