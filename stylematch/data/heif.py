"""Open HEIF and HEIC pictures with pi_heif, the optional ``heic`` extra.

The extra's C code ends the whole process on one kind of damage, an item type that is no text, so the boxes
that hold item types are looked through beforehand.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from importlib.util import find_spec

from PIL import ImageFile

from stylematch.errors import PhotoRejectedError
from stylematch.tables.contract import Reason


def has_heif() -> bool:
    """Return whether the extra is installed, without loading it."""
    return find_spec("pi_heif") is not None


def open_heif(data: bytes) -> ImageFile.ImageFile:
    """Parse a HEIF file's header; the picture comes upright by the file's own transformations.

    Raises
    ------
    PhotoRejectedError
        With ``unsupported_format``: pi_heif is not installed.
    Exception
        Whatever pi_heif raises on damaged data.
    """
    try:
        from pi_heif.as_plugin import HeifImageFile
    except ImportError as error:
        raise PhotoRejectedError(
            Reason.UNSUPPORTED_FORMAT,
            "HEIC pictures need the 'heic' extra: pip install 'stylematch[heic]'",
            image_format="HEIF",
        ) from error
    _check_item_types(data)
    image: ImageFile.ImageFile = HeifImageFile(io.BytesIO(data), "")
    return image


def heif_ends_early(data: bytes) -> bool:
    """Tell whether the file's last box claims more bytes than there are."""
    return any(end > len(data) for _, _, end in _boxes(data, 0, len(data)))


def _check_item_types(data: bytes) -> None:
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind == b"meta":
            for child, child_start, child_end in _boxes(data, start + 4, min(end, len(data))):
                if child == b"iinf":
                    _check_item_infos(data, child_start, min(child_end, len(data)))


def _check_item_infos(data: bytes, start: int, end: int) -> None:
    count_bytes = 2 if data[start : start + 1] == b"\x00" else 4
    for _, info, info_end in _boxes(data, start + 4 + count_bytes, end):
        id_bytes = 4 if data[info : info + 1] == b"\x03" else 2
        # After version and flags, identity and protection: the type, then names, all of them text.
        data[info + 4 + id_bytes + 2 : info_end].decode("utf-8")


def _boxes(data: bytes, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start of contents and end of the boxes that begin between two positions."""
    while position + 8 <= end:
        length = int.from_bytes(data[position : position + 4], "big")
        header_bytes = 8
        if length == 1:
            length = int.from_bytes(data[position + 8 : position + 16], "big")
            header_bytes = 16
        elif length == 0:  # up to the end
            length = end - position
        if length < header_bytes:
            return
        yield data[position + 4 : position + 8], position + header_bytes, position + length
        position += length
