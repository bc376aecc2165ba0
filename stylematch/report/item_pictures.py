"""``pictures.parquet`` of a catalogue: small JPEGs of its items, read one by one when they are shown.

They lie beside the index, not in it, so that scoring never loads them. An item without one is shown by the small grey
picture that the index holds for the garment encoder's sake.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from stylematch.errors import UserError
from stylematch.search.item_rows import ItemRows
from stylematch.tables.disk import explained
from stylematch.tables.shown import shown

PICTURES_SCHEMA = pa.schema(
    [pa.field("item_id", pa.string(), nullable=False), pa.field("picture", pa.binary(), nullable=False)]
)
"""Of ``pictures.parquet``."""
GROUP_ROWS = 256  # some hundred KB: what is read to show one
_Picture = TypeVar("_Picture", bytes, NDArray[np.uint8])


class ItemPicturesWriter:
    """A ``with`` block that writes the file, in any batches; equal pictures give equal bytes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ids: list[str] = []
        self._pictures: list[bytes] = []

    def __enter__(self) -> ItemPicturesWriter:
        with explained("write", self._path):
            self._file: BinaryIO = self._path.open("wb")
        self._writer = pq.ParquetWriter(self._file, PICTURES_SCHEMA, compression="none", use_dictionary=False)
        return self

    def write(self, item_ids: Sequence[str], pictures: Sequence[bytes]) -> None:
        """Append pictures, each a whole JPEG file."""
        self._ids += item_ids
        self._pictures += pictures
        while len(self._ids) >= GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        group = pa.table([self._ids[:GROUP_ROWS], self._pictures[:GROUP_ROWS]], schema=PICTURES_SCHEMA)
        del self._ids[:GROUP_ROWS], self._pictures[:GROUP_ROWS]
        with explained("write", self._path):
            self._writer.write_table(group)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file, explained("write", self._path):
            if kind is None and self._ids:
                self._flush()
            self._writer.close()
            self._file.flush()
            os.fsync(self._file.fileno())


class ItemPictures:
    """Reads the file.

    Parameters
    ----------
    path : pathlib.Path
        Of ``pictures.parquet``.

    Raises
    ------
    UserError
        If it is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = pq.ParquetFile(path)
            ids = self._file.read(columns=["item_id"])["item_id"].to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{shown(path)} cannot be read ({error}); build the catalogue again.") from error
        self._place = {item_id: place for place, item_id in enumerate(ids)}

        self._group: tuple[int, pa.ChunkedArray] | None = None

    def jpeg(self, item_id: str) -> bytes | None:
        """Return an item's picture as the JPEG file that it is, or None where there is none of it."""
        place = self._place.get(item_id)
        if place is None:
            return None
        group, row = divmod(place, GROUP_ROWS)
        if self._group is None or self._group[0] != group:  # who asks for all of them asks in their order
            self._group = group, self._file.read_row_group(group, columns=["picture"])["picture"]
        return bytes(self._group[1][row].as_py())

    def __call__(self, item_id: str) -> NDArray[np.uint8] | None:
        """Return an item's picture, uint8 (height, width, 3), or None where there is none of it."""
        data = self.jpeg(item_id)
        if data is None:
            return None
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
            return np.asarray(picture.convert("RGB"))


def write_pictures_of(item_ids: Sequence[str], of: Sequence[ItemPictures], path: Path) -> None:
    """Write the file for some items, the picture of each from the first that has one of it."""
    with ItemPicturesWriter(path) as writer:
        for item_id in item_ids:
            data = next((data for pictures in of if (data := pictures.jpeg(item_id)) is not None), None)
            if data is not None:
                writer.write([item_id], [data])


def pictures_to_show(catalog: ItemRows, pictures: Path | None) -> Callable[[str], bytes | NDArray[np.uint8] | None]:
    """Return what shows an item, as ``picture_of_items`` does, but the JPEG file as it is where there is one."""
    return _in_colour_or_grey(catalog, ItemPictures(pictures).jpeg if pictures else None)


def picture_of_items(catalog: ItemRows, pictures: Path | None) -> Callable[[str], NDArray[np.uint8] | None]:
    """Return what shows an item: its picture in colour where there is one, else that of the index.

    Parameters
    ----------
    catalog : ItemRows
        The items.
    pictures : pathlib.Path, optional
        Their ``pictures.parquet``.

    Returns
    -------
    callable
        Takes an item_id, returns uint8 (height, width, 3), uint8 (28, 28) grey, or None where there is no picture or
        no such item.
    """
    return _in_colour_or_grey(catalog, ItemPictures(pictures) if pictures else None)


def _in_colour_or_grey(
    catalog: ItemRows, in_colour: Callable[[str], _Picture | None] | None
) -> Callable[[str], _Picture | NDArray[np.uint8] | None]:
    def picture(item_id: str) -> _Picture | NDArray[np.uint8] | None:
        position = catalog.position_of.get(item_id)
        if position is None:
            return None
        found = None if in_colour is None else in_colour(item_id)
        return catalog.picture(position) if found is None else found

    return picture
