"""A catalogue of items as somebody keeps it: a CSV or Parquet table, or a directory of pictures, into checked rows.

- Every row of the table is either an item or among the rejected, with a reason; none is lost.
- CSV is UTF-8 with a header; its cells are text, and a column of numbers alone becomes a column of numbers, so that
  ``price < 50`` can be asked. A row that CSV cannot mean is rejected, the rows behind it are read.
- A picture's path is relative to a folder that it may not leave, neither by ``..`` nor by a link.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stylematch.data.photos import PICTURE_EXTENSIONS, find_photos
from stylematch.errors import UserError
from stylematch.tables.disk import shown

KNOWN = ("item_id", "image", "category", "title", "price", "url", "gender", "season", "usage", "baseColour")
"""Columns that mean something here, whatever the case of their letters; all others are kept as they are."""
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]{1,2})?")
_EXTENSIONS = tuple(os.fsdecode(extension) for extension in PICTURE_EXTENSIONS)
_BROKEN_QUOTE = "unexpected end of data"


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
        n rows: ``item_id``, ``image`` (strings; paths are escaped as ``data/photos`` does), those of ``KNOWN`` that the
        table has, and its others.
    numbers : tuple of int
        n of them: where each row stood, as in ``RejectedItem``.
    rejected : tuple of RejectedItem
        The other rows, in their order.
    left_out : tuple of str
        Columns that an index cannot keep, each with why.
    """

    name: str
    images: Path
    columns: pa.Table
    numbers: tuple[int, ...]
    rejected: tuple[RejectedItem, ...]
    left_out: tuple[str, ...] = ()

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
        table, numbers, rejected = _read_parquet(source)
    elif source.suffix.lower() in (".csv", ".tsv"):
        table, numbers, rejected = _read_csv(source)
    else:
        raise UserError(f"{shown(source)} is no .csv, no .parquet and no directory of pictures.")
    table, left_out = _named(table, source, names or {}, reserved)
    if source.suffix.lower() != ".parquet":
        read = [name for name in table.column_names if name == "price" or name not in KNOWN]
        table = pa.table({name: _typed(table[name]) if name in read else table[name] for name in table.column_names})
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
    return ItemTable(
        source.name, folder, kept, tuple(numbers[place] for place in places), tuple(rejected), tuple(left_out)
    )


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
            return ItemReason.MISSING_PICTURE, "no picture in the folder is called as the item"
        return self.by_path(name)


def _why_not(
    item_id: str | None, image: str | None, by_name: bool, seen: set[str], find: _Pictures
) -> str | tuple[str, str]:
    """Return the picture's path, or why the row gives no item."""
    if not item_id:
        return ItemReason.NO_ID, "the row has no item_id"
    if item_id in seen:
        return ItemReason.DUPLICATE_ID, "a row before this one has the same item_id"
    seen.add(item_id)
    if by_name:
        return find.by_id(item_id)
    if not image:
        return ItemReason.NO_IMAGE, "the row names no picture"
    return find.by_path(image)


def _read_directory(source: Path) -> ItemTable:
    paths = pa.array([photo.path for photo in find_photos(source)], pa.string())
    numbers = tuple(range(1, len(paths) + 1))
    return ItemTable(source.resolve().name, source, pa.table({"item_id": paths, "image": paths}), numbers, ())


def _read_parquet(source: Path) -> tuple[pa.Table, list[int], list[RejectedItem]]:
    try:
        with pq.ParquetFile(source) as file:
            table = file.read()
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{shown(source)} cannot be read: {shown(str(error))}.") from error
    return table, list(range(1, table.num_rows + 1)), []


def _read_csv(source: Path) -> tuple[pa.Table, list[int], list[RejectedItem]]:
    try:
        text = source.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise UserError(f"{shown(source)} cannot be read: {error.strerror}.") from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    rows = _csv_rows(source, text, delimiter)
    header = next(rows, None)
    if header is None or header[1] is None:
        raise UserError(f"{shown(source)} has no header; its first line must name the columns.")
    names = [name.strip() for name in header[1]]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{shown(source)}: line 1 names the column {shown(doubled)!r} twice; rename one of them.")
    columns: list[list[str | None]] = [[] for _ in names]
    numbers: list[int] = []
    rejected: list[RejectedItem] = []
    for line, cells in rows:
        if cells == []:
            continue
        if cells is None or len(cells) != len(names) or any("\ufffd" in cell for cell in cells):
            found = "unbalanced quotes" if cells is None else f"{len(cells)} cells, the header has {len(names)}"
            if cells is not None and len(cells) == len(names):
                found = "bytes that are no UTF-8"
            rejected.append(RejectedItem(line, None, None, ItemReason.MALFORMED_ROW, f"the row has {found}"))
            continue
        numbers.append(line)
        for column, cell in zip(columns, cells, strict=True):
            column.append(cell.strip() or None)
    table = pa.table({name: pa.array(column, pa.string()) for name, column in zip(names, columns, strict=True)})
    return table, numbers, rejected


def _csv_rows(source: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str] | None]]:
    """Yield every row with the line it begins in; None where it cannot be read."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if _BROKEN_QUOTE in str(error):
                raise UserError(
                    f"{shown(source)}: a quotation mark that is opened in the row of line {line} is never closed, so "
                    "what follows cannot be read; close it."
                ) from error
            yield line, None


def _typed(column: pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return a column of numbers where all cells are numbers, else of text."""
    cells = column.to_pylist()
    there = [cell for cell in cells if cell is not None]
    if there and all(_WHOLE.fullmatch(cell) for cell in there):
        return pa.array([None if cell is None else int(cell) for cell in cells], pa.int64())
    if there and all(_NUMBER.fullmatch(cell) for cell in there):
        return pa.array([None if cell is None else float(cell) for cell in cells], pa.float64())
    return column


def _named(
    table: pa.Table, source: Path, names: Mapping[str, str], reserved: Sequence[str]
) -> tuple[pa.Table, list[str]]:
    """Give the known columns their names and types, and leave out what an index cannot keep."""
    if unknown := [name for name in names if name not in KNOWN]:
        raise UserError(f"--column {shown(unknown[0])}=...: the columns that can be named are {', '.join(KNOWN)}.")
    origin: dict[str, str] = {}
    for known in KNOWN:
        if known in names:
            found = [names[known]]
            if names[known] not in table.column_names:
                raise UserError(f"{shown(source)} has no column {shown(names[known])!r}; {_has(table)}")
        else:
            found = [name for name in table.column_names if name.lower() == known.lower()]
        if len(found) > 1:
            raise UserError(
                f"{shown(source)} has the columns {shown(' and '.join(found))}; say --column {known}=WHICH."
            )
        if found:
            origin[known] = found[0]
    if "item_id" not in origin:
        if "id" not in table.column_names:
            raise UserError(f"{shown(source)} has no column item_id; {_has(table)} Say --column item_id=WHICH.")
        origin["item_id"] = "id"
    columns: dict[str, Any] = {}
    for known, name in origin.items():
        column = table[name]
        columns[known] = column if known == "price" else _text(column, name, source)
    left_out: list[str] = []
    taken = {name.lower() for name in (*reserved, *columns, "id")}
    for name in table.column_names:
        if name in origin.values():
            continue
        kind = table.schema.field(name).type
        if name.lower() in taken:
            left_out.append(f"{name} (the index has a column of this name)")
        elif pa.types.is_nested(kind) or pa.types.is_null(kind) or pa.types.is_binary(kind):
            left_out.append(f"{name} ({kind})")
        else:
            taken.add(name.lower())
            columns[name] = table[name].cast(kind.value_type) if pa.types.is_dictionary(kind) else table[name]
    return pa.table(columns), left_out


def _text(column: pa.ChunkedArray, name: str, source: Path) -> pa.ChunkedArray:
    try:
        return column.cast(pa.string())
    except pa.ArrowException as error:
        raise UserError(f"{shown(source)}: column {shown(name)!r} is {column.type}, which is no text.") from error


def _has(table: pa.Table) -> str:
    return f"its columns are {shown(', '.join(table.column_names))}."
