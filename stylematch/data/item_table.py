"""A catalogue of items as somebody keeps it: a CSV or Parquet table, or a directory of pictures, into checked rows.

- Every row of the table is either an item or among the rejected, with a reason; none is lost.
- CSV is UTF-8 with a header; its cells are text, and a column of numbers alone becomes a column of numbers. A line that
  CSV cannot mean is rejected, the lines behind it are read. A price is a number or null, whatever the table is.
- A picture's path is relative to a folder that it may not leave, neither by ``..`` nor by a link.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from stylematch.data.item_columns import KNOWN, name_columns
from stylematch.data.item_csv import read_csv
from stylematch.data.item_numbers import prices, typed
from stylematch.data.item_remarks import remark, strange_words
from stylematch.data.photos import PICTURE_EXTENSIONS, find_photos
from stylematch.errors import UserError
from stylematch.tables.disk import shown

_EXTENSIONS = tuple(os.fsdecode(extension) for extension in PICTURE_EXTENSIONS)


class ItemReason(StrEnum):
    """Why a row gave no item, besides the codes of ``stylematch.tables.contract.Reason`` for unreadable pictures."""

    MALFORMED_ROW = "malformed_row"
    NO_ID = "no_id"
    DUPLICATE_ID = "duplicate_id"
    NO_IMAGE = "no_image"
    MISSING_PICTURE = "missing_picture"
    OUTSIDE_FOLDER = "outside_folder"


@dataclass(frozen=True)
class RejectedItem:
    """A row that gave no item: its number (a CSV's line, else counted from 1), what it named, and why not."""

    row: int
    item_id: str | None
    image: str | None
    reason: str
    message: str


@dataclass(frozen=True)
class ItemTable:
    """The rows of a catalogue that have an id of their own and a picture's file.

    Attributes
    ----------
    name : str
        Of the file or folder, without where it lies.
    images : pathlib.Path
        The folder that ``image`` is relative to.
    columns : pyarrow.Table
        n rows: ``item_id``, ``image`` (strings; escaped as ``data/photo_file`` does), those of ``KNOWN`` that the
        table has, and its others.
    numbers : tuple of int
        n of them: where each row stood, as in ``RejectedItem``.
    rejected : tuple of RejectedItem
        The other rows, in their order.
    left_out : tuple of str
        Columns that an index cannot keep, each with why.
    remarks : tuple of str
        Of columns that are kept, what could not be read in them.
    """

    name: str
    images: Path
    columns: pa.Table
    numbers: tuple[int, ...]
    rejected: tuple[RejectedItem, ...]
    left_out: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of rows that may become items."""
        return len(self.numbers)


def read_items(
    source: Path,
    *,
    images: Path | None = None,
    names: Mapping[str, str] | None = None,
    reserved: Sequence[str] = (),
    allow_outside: bool = False,
) -> ItemTable:
    """Read a catalogue.

    Parameters
    ----------
    source : pathlib.Path
        A ``.csv`` or ``.parquet`` file with a column ``item_id`` (or ``id``), or a directory of pictures, whose paths
        are then the ids.
    images : pathlib.Path, optional
        The folder that ``image`` is relative to; by default the table's. Where the table has no column ``image``, the
        picture of an item is the file in it that is called as the item.
    names : mapping of str to str, optional
        By a name of ``KNOWN`` the table's name for that column.
    reserved : sequence of str
        Names of columns that the index fills itself.
    allow_outside : bool
        Pictures may lie outside the folder.

    Raises
    ------
    UserError
        If the table cannot be read, has no column of ids, or names a column twice.
    """
    if source.is_dir():
        if images or names:
            raise UserError(f"{shown(source)} is a directory of pictures: --images and --column are for tables.")
        return _read_directory(source)
    if not source.is_file():
        raise UserError(f"There is no table and no directory of pictures at {shown(source)}; check the path.")
    if images is not None and not images.is_dir():
        raise UserError(f"--images {shown(images)} is no directory; name the folder of the pictures.")
    if source.suffix.lower() == ".parquet":
        read = _read_parquet(source)
    elif source.suffix.lower() in (".csv", ".tsv"):
        read = _read_csv(source)
    else:
        raise UserError(f"{shown(source)} is no .csv, no .parquet and no directory of pictures.")
    table, left_out = name_columns(read.table, source, names or {}, reserved)
    if read.counted == "line":  # a CSV's cells are all text
        others = {name: table[name] if name in KNOWN else typed(table[name]) for name in table.column_names}
        table = pa.table(others)
    numbers, rejected = read.numbers, list(read.rejected)
    folder = images or source.parent
    places: list[int] = []
    paths: list[str] = []
    seen: set[str] = set()
    find = _Pictures(folder, allow_outside)
    cells = table["image"].to_pylist() if "image" in table.column_names else [None] * table.num_rows
    by_name = "image" not in table.column_names
    for place, (item_id, image) in enumerate(zip(table["item_id"].to_pylist(), cells, strict=True)):
        found = _why_not(item_id, image, by_name, seen, find)
        if isinstance(found, str):
            places.append(place)
            paths.append(found)
        else:
            rejected.append(RejectedItem(numbers[place], item_id, image, *found))
    kept = table.take(pa.array(places, pa.int64()))
    image_column = pa.array(paths, pa.string())
    if by_name:
        kept = kept.append_column("image", image_column)
    else:
        kept = kept.set_column(kept.column_names.index("image"), "image", image_column)
    rejected.sort(key=lambda row: row.row)
    numbers = [numbers[place] for place in places]
    remarks = strange_words(kept, numbers, read.counted)
    if "price" in kept.column_names and pa.types.is_string(kept.schema.field("price").type):
        price, unread = prices(kept["price"], decimal_comma=read.decimal_comma)
        if unread:
            first = f"{read.counted} {numbers[unread[0]]:,}"
            remarks = (remark("price", kept["price"], unread, first, "number"), *remarks)
        kept = kept.set_column(kept.column_names.index("price"), "price", price)
    return ItemTable(source.name, folder, kept, tuple(numbers), tuple(rejected), tuple(left_out), remarks)


class _Pictures:
    """Finds pictures' files in a folder that must not be left."""

    def __init__(self, folder: Path, allow_outside: bool) -> None:
        self._folder, self._allow_outside = folder, allow_outside
        self._root = os.path.realpath(folder)
        self._by_stem: dict[str, str] | None = None

    def by_path(self, image: str) -> str | tuple[str, str]:
        """Return the path, or reason and message."""
        if "\0" in image or "://" in image:
            return ItemReason.MISSING_PICTURE, "image is no path of a file; download the picture and name the file"
        real = os.path.realpath(os.path.join(self._root, image))  # noqa: PTH118 - Path would drop a final slash
        if not self._allow_outside and not real.startswith(os.path.join(self._root, "")):  # noqa: PTH118
            return ItemReason.OUTSIDE_FOLDER, "the path leaves the pictures' folder; --allow-outside permits that"
        if not os.path.isfile(real):  # noqa: PTH113 - no pathlib object for each of a million rows
            return ItemReason.MISSING_PICTURE, "there is no such file in the pictures' folder"
        return image

    def by_id(self, item_id: str) -> str | tuple[str, str]:
        """Return the name of the picture that is called as an item, or reason and message."""
        if self._by_stem is None:  # listed once: most rows may have none, and to ask for each is slow
            names = sorted(entry.name for entry in self._folder.iterdir())
            pictures = [name for name in names if name.lower().endswith(_EXTENSIONS)]
            self._by_stem = {name.rpartition(".")[0]: name for name in reversed(pictures)}
        name = self._by_stem.get(item_id)
        if name is None:
            return (
                ItemReason.MISSING_PICTURE,
                "the table has no column image, and no picture in the folder is called as the item",
            )
        return self.by_path(name)


def _why_not(
    item_id: str | None, image: str | None, by_name: bool, seen: set[str], find: _Pictures
) -> str | tuple[str, str]:
    """Return the picture's path, or why the row gives no item."""
    if not item_id:
        return ItemReason.NO_ID, "the row has no item_id"
    if item_id in seen:
        return ItemReason.DUPLICATE_ID, "a row before this one, which has a picture, has the same item_id"
    if by_name:
        found = find.by_id(item_id)
    elif not image:
        return ItemReason.NO_IMAGE, "the row names no picture"
    else:
        found = find.by_path(image)
    if isinstance(found, str):  # a row without a picture takes its id from no other
        seen.add(item_id)
    return found


def _read_directory(source: Path) -> ItemTable:
    paths = pa.array([photo.path for photo in find_photos(source)], pa.string())
    numbers = tuple(range(1, len(paths) + 1))
    return ItemTable(source.resolve().name, source, pa.table({"item_id": paths, "image": paths}), numbers, ())


@dataclass(frozen=True)
class _Rows:
    """A table as it was read, and what its rows are called and counted by."""

    table: pa.Table
    numbers: Sequence[int]
    rejected: tuple[RejectedItem, ...] = ()
    decimal_comma: bool = False
    counted: Literal["row", "line"] = "row"


def _read_parquet(source: Path) -> _Rows:
    try:
        with pq.ParquetFile(source) as file:
            table = file.read()
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{shown(source)} cannot be read: {shown(str(error))}.") from error
    names = table.column_names
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{shown(source)} has the column {shown(doubled)!r} twice; rename one of them.")
    return _Rows(table, range(1, table.num_rows + 1))


def _read_csv(source: Path) -> _Rows:
    read = read_csv(source)
    columns = {
        name: pa.array([row[place].strip() or None for row in read.rows], pa.string())
        for place, name in enumerate(read.names)
    }
    rejected = tuple(
        RejectedItem(line, None, None, ItemReason.MALFORMED_ROW, f"the row has {why}") for line, why in read.damaged
    )
    return _Rows(pa.table(columns), read.lines, rejected, read.delimiter == ";", "line")
