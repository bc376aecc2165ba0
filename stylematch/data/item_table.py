"""A catalogue of items as somebody keeps it: a CSV or Parquet table, or a directory of pictures, into checked rows.

- Every row of the table is either an item or among the rejected, with a reason; none is lost.
- CSV is UTF-8, unless its encoding is said, with a header; its cells are text, and a column of numbers alone becomes a
  column of numbers. A line that CSV cannot mean is rejected, the lines behind it are read. A price is a number or null,
  whatever the table is.
- A picture's path is relative to a folder that it may not leave, neither by ``..`` nor by a link.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from stylematch.data.item_cells import ItemReading, read_cells, with_prices
from stylematch.data.photos import find_photos
from stylematch.data.table_pictures import TablePictures
from stylematch.data.table_rows import RowReason
from stylematch.errors import UserError
from stylematch.tables.shown import shown


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
    source: Path, *, images: Path | None = None, reading: ItemReading | None = None, allow_outside: bool = False
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
    reading : ItemReading, optional
        What a table's columns are called and its words mean.
    allow_outside : bool
        Pictures may lie outside the folder.

    Raises
    ------
    UserError
        If the table cannot be read, has no column of ids, or names a column twice.
    """
    reading = reading or ItemReading()
    if source.is_dir():
        if images or reading.mapping:
            raise UserError(
                f"{shown(source)} is a directory of pictures: --images, --column and --value are for tables."
            )
        return _read_directory(source)
    if not source.is_file():
        raise UserError(f"There is no table and no directory of pictures at {shown(source)}; check the path.")
    if images is not None and not images.is_dir():
        raise UserError(f"--images {shown(images)} is no directory; name the folder of the pictures.")
    cells = read_cells(source, reading)
    read, table = cells.read, cells.columns
    numbers = read.numbers
    rejected = [RejectedItem(line, None, None, RowReason.MALFORMED_ROW, why) for line, why in read.damaged]
    folder = images or source.parent
    places: list[int] = []
    paths: list[str] = []
    seen: set[str] = set()
    find = TablePictures(folder, allow_outside)
    named = table["image"].to_pylist() if "image" in table.column_names else [None] * table.num_rows
    by_name = "image" not in table.column_names
    for place, (item_id, image) in enumerate(zip(table["item_id"].to_pylist(), named, strict=True)):
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
    kept, remarks = with_prices(kept, numbers, read)
    return ItemTable(
        source.name, folder, kept, tuple(numbers), tuple(rejected), cells.left_out, (*cells.remarks, *remarks)
    )


def _why_not(
    item_id: str | None, image: str | None, by_name: bool, seen: set[str], find: TablePictures
) -> str | tuple[str, str]:
    """Return the picture's path, or why the row gives no item."""
    if not item_id:
        return RowReason.NO_ID, "the row has no item_id"
    if item_id in seen:
        return RowReason.DUPLICATE_ID, "a row before this one, which has a picture, has the same item_id"
    if by_name:
        found = find.by_id(item_id)
    elif not image:
        return RowReason.NO_IMAGE, "the row names no picture"
    else:
        found = find.by_path(image)
    if isinstance(found, str):  # a row without a picture takes its id from no other
        seen.add(item_id)
    return found


def _read_directory(source: Path) -> ItemTable:
    paths = pa.array([photo.path for photo in find_photos(source)], pa.string())
    numbers = tuple(range(1, len(paths) + 1))
    return ItemTable(source.resolve().name, source, pa.table({"item_id": paths, "image": paths}), numbers, ())
