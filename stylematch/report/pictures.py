"""The gallery's pictures: a photo's thumbnail, made while the photo is scored, and an item's picture.

Thumbnails are JPEGs, and so are items' pictures in colour; the grey ones of an index are PNGs (``packed`` says where
they lie). Where a comparison has them as files they are named by a hash, so that no name from a catalogue becomes a
file's name. No photo's file is read.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stylematch.data.decode import four_channels

_PHOTO_ID = re.compile(r"[0-9a-f]{8,128}")
_JPEG_QUALITY = 82
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def make_thumbnail(pixels: NDArray[np.uint8], side_px: int = 256) -> bytes:
    """Return the photo as a small JPEG, its longer side at most ``side_px``; a smaller photo keeps its size.

    Parameters
    ----------
    pixels : uint8 array, shape (height, width, 3)
        The upright photo in RGB, possibly already scaled down. It is not changed.
    side_px : int
        The longer side's limit in pixels.

    Returns
    -------
    bytes
        A baseline JPEG without metadata; equal pixels give equal bytes.
    """
    import simplejpeg
    from PIL import Image

    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"expected uint8 pixels of shape (height, width, 3), got {pixels.dtype} {pixels.shape}")
    if max(pixels.shape[:2]) > side_px:
        picture = Image.fromarray(np.ascontiguousarray(pixels))
        # The gap lets Pillow shrink large photos by whole factors first: 5 times faster, no visible difference.
        picture.thumbnail((side_px, side_px), Image.Resampling.LANCZOS, reducing_gap=2.0)
        pixels = np.asarray(picture)
    four, layout = four_channels(pixels), "RGBX"
    if four is None:
        four, layout = np.ascontiguousarray(pixels), "RGB"
    encoded: bytes = simplejpeg.encode_jpeg(four, _JPEG_QUALITY, layout, "420", fastdct=False)
    return encoded


def thumbnail_path(photo_id: str) -> Path:
    """Return where a comparison's page has a photo's thumbnail: ``thumbs/<first two digits>/<photo_id>.jpg``."""
    if not _PHOTO_ID.fullmatch(photo_id):
        raise ValueError(f"a photo_id is 8 to 128 lower-case hex digits, got {photo_id!r}")
    return Path("thumbs", photo_id[:2], f"{photo_id}.jpg")


def item_picture_name(item_id: str, picture: bytes) -> str:
    """Return the file name of an item's picture: 16 hex digits of its id's SHA-256, then ``.png`` or ``.jpg``."""
    suffix = ".png" if picture.startswith(_PNG_MAGIC) else ".jpg"
    return hashlib.sha256(item_id.encode()).hexdigest()[:16] + suffix


def encode_item_picture(pixels: NDArray[np.uint8]) -> bytes:
    """Return an item's picture, uint8 (height, width) grey or (height, width, 3) RGB, as PNG bytes."""
    height, width = pixels.shape[:2]
    lines = np.zeros((height, 1 + pixels[0].size), np.uint8)  # each begins with its filter: none
    lines[:, 1:] = pixels.reshape(height, -1)
    colours = 0 if pixels.ndim == 2 else 2
    # Written here, since Pillow takes ten times as long for a picture of 28 pixels as packing it does.
    parts = (
        (b"IHDR", struct.pack(">2I5B", width, height, 8, colours, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines.tobytes())),
        (b"IEND", b""),
    )
    chunks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
    return _PNG_MAGIC + b"".join(chunks)
