"""Decode one photo's bytes to upright RGB pixels, or say why it cannot be done.

- The first bytes choose the one decoder that may see the data; Pillow's rarer plugins never run.
- The header's size is checked before any pixel is decoded.
- A large JPEG is decoded smaller (DCT scaling), which is where the time goes for photos of many megapixels.
- A flawless JPEG is decoded by simplejpeg, in half of Pillow's time and to the same pixels; Pillow sees all others.
- Whatever a decoder raises on bad data becomes a ``PhotoRejectedError`` with a reason code.

Colour profiles are ignored. Channels of more than 8 bits are scaled to 8, transparency is put on white.
"""

from __future__ import annotations

import io
import logging
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from stylematch.data.heif import heif_ends_early, open_heif
from stylematch.data.magic import HEAD_BYTES, READABLE_FORMATS, sniff_format
from stylematch.errors import PhotoRejectedError
from stylematch.tables.contract import Reason

# Pillow logs oddities of TIFF files; without a handler Python prints them on standard error.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_TRANSPOSE_BY_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
PREVIEW_SIDE_PX = 256
_STDERR = threading.Lock()  # of two threads that mute it at once, one would keep the other's nowhere for the real one


@dataclass(frozen=True)
class Header:
    """What a picture says about itself: format ("JPEG", "PNG", ...) and upright size in pixels."""

    format: str
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class DecodedPhoto:
    """A photo's pixels, upright.

    Attributes
    ----------
    pixels : ndarray of uint8, shape (h, w, 3)
        RGB; possibly scaled down.
    width, height : int
        The upright photo's full size in pixels.
    format : str
        "JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF" or "HEIF".
    """

    pixels: npt.NDArray[np.uint8]
    width: int
    height: int
    format: str

    @cached_property
    def image(self) -> Image.Image:
        """The pixels as a Pillow image of mode RGB or RGBX, made once."""
        four = four_channels(self.pixels)
        return Image.fromarray(np.ascontiguousarray(self.pixels)) if four is None else image_of(four)

    @cached_property
    def preview(self) -> Image.Image:
        """The picture with its larger side at most ``PREVIEW_SIDE_PX``, made once, never enlarged."""
        return scaled(self.image, PREVIEW_SIDE_PX)


def four_channels(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8] | None:
    """Return the array (h, w, 4) whose first three channels pixels (h, w, 3) are, as those of a JPEG; else None."""
    four = pixels.base
    if not isinstance(four, np.ndarray) or four.shape != (*pixels.shape[:2], 4) or not four.flags.c_contiguous:
        return None
    return four if pixels.strides == four.strides and pixels.ctypes.data == four.ctypes.data else None


def image_of(four: npt.NDArray[Any]) -> Image.Image:
    """Return four channels, contiguous uint8 (h, w, 4) or uint32 (h, w), as a Pillow image of mode RGBX: no copy."""
    return Image.frombuffer("RGBX", (four.shape[1], four.shape[0]), four, "raw", "RGBX", 0, 1)  # Pillow's own layout


def scaled(image: Image.Image, side_px: int) -> Image.Image:
    """Return a picture whose larger side is at most ``side_px``, never enlarged, antialiased."""
    large = max(image.size)
    if large <= side_px:
        return image
    size = (max(1, round(image.width * side_px / large)), max(1, round(image.height * side_px / large)))
    # By a whole factor first, which is several times faster.
    box = (0, 0, *image.size)
    factor = large // side_px
    return (
        image.resize(size, Image.Resampling.BILINEAR, box, reducing_gap=None)
        if factor < 2
        else image.reduce(factor).resize(size, Image.Resampling.BILINEAR)
    )


def read_header(data: bytes) -> Header:
    """Read a picture's format and upright size without decoding its pixels.

    Parameters
    ----------
    data : bytes
        The whole file. (A PNG whose EXIF stands behind its pixels is turned by ``decode_photo`` alone.)

    Raises
    ------
    PhotoRejectedError
        With ``empty_file``, ``not_a_picture``, ``unsupported_format``, ``truncated`` or ``corrupt``.
    """
    name = _format_of(data)
    with _rejecting(data, name):
        image = _open(data, name)
        return Header(name, *_upright_size(image, name))


def decode_photo(data: bytes, *, max_side_px: int | None, max_megapixels: float) -> DecodedPhoto:
    """Decode a picture.

    Parameters
    ----------
    data : bytes
        The whole file.
    max_side_px : int or None
        How large the larger side has to be for the caller. A larger photo may come scaled down, to at least
        this and less than twice this; a smaller one comes as it is. None: full size.
    max_megapixels : float
        The most pixels, in millions, that the header may claim.

    Returns
    -------
    DecodedPhoto
        The first frame or page.

    Raises
    ------
    PhotoRejectedError
        With ``empty_file``, ``not_a_picture``, ``unsupported_format``, ``truncated``, ``corrupt``,
        ``too_large`` or ``out_of_memory``; width, height and format where the header gave them.
    """
    name = _format_of(data)
    with _rejecting(data, name) as seen:
        image = _open(data, name)
        width, height = _upright_size(image, name)
        seen.append((width, height))
        if width * height > max_megapixels * 1e6:
            raise PhotoRejectedError(
                Reason.TOO_LARGE,
                f"the header claims {width:,} x {height:,} pixels, over the limit of {max_megapixels:g} "
                "megapixels: raise --max-megapixels",
                width=width,
                height=height,
                image_format=name,
            )
        if name == "JPEG" and (pixels := _decode_jpeg(data, image, max_side_px)) is not None:
            return DecodedPhoto(_upright(pixels, _orientation(image)), width, height, name)
        drafted = max_side_px is not None and _draft(image, max_side_px)
        with _silent_libtiff() if name == "TIFF" else nullcontext():
            image.load()
        orientation = _orientation(image)
        full_size = seen[-1]
        if not drafted:  # a decoder may correct the header, and an EXIF chunk may come behind the pixels
            full_size = _turned(image.size, orientation)
        rgb = _to_rgb(image)
        if max_side_px is not None and max(rgb.size) >= 2 * max_side_px:
            rgb = rgb.reduce(max(rgb.size) // max_side_px)
        if orientation in _TRANSPOSE_BY_ORIENTATION:
            rgb = rgb.transpose(_TRANSPOSE_BY_ORIENTATION[orientation])
        return DecodedPhoto(np.asarray(rgb, dtype=np.uint8), *full_size, name)


def _format_of(data: bytes) -> str:
    if not data:
        raise PhotoRejectedError(Reason.EMPTY_FILE, "the file has no bytes")
    name = sniff_format(data[:HEAD_BYTES])
    if name is None:
        raise PhotoRejectedError(Reason.NOT_A_PICTURE, "the contents are no picture that is known by its first bytes")
    if name not in READABLE_FORMATS:
        raise PhotoRejectedError(
            Reason.UNSUPPORTED_FORMAT,
            f"{name} pictures are not read: convert it to JPEG or PNG",
            image_format=name,
        )
    return name


def _open(data: bytes, name: str) -> ImageFile.ImageFile:
    """Parse the header with the format's own plugin.

    Not with ``Image.open``: its check for decompression bombs hides the size that the photos table shows; the
    caller checks with the user's limit instead.
    """
    opener: Callable[..., ImageFile.ImageFile]
    match name:
        case "JPEG":
            opener = JpegImagePlugin.jpeg_factory
        case "PNG":
            opener = PngImagePlugin.PngImageFile
        case "GIF":
            opener = GifImagePlugin.GifImageFile
        case "WEBP":
            opener = WebPImagePlugin.WebPImageFile
        case "BMP":
            opener = BmpImagePlugin.BmpImageFile
        case "DIB":
            opener = BmpImagePlugin.DibImageFile
        case "TIFF":
            opener = TiffImagePlugin.TiffImageFile
        case _:
            return open_heif(data)
    return opener(io.BytesIO(data), "")


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 where there is none or it cannot be read.

    TIFF and HEIF decoders turn the picture themselves and leave none behind.
    """
    try:
        # PngImageFile.getexif would decode all pixels of a picture whose size is not checked yet.
        exif = Image.Image.getexif(image)
        if behind_pixels := image.info.get("exif"):  # where loading met it only now; else this does nothing
            exif.load(behind_pixels)
        value = exif.get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1
    return value if value in _TRANSPOSE_BY_ORIENTATION else 1


def _upright_size(image: ImageFile.ImageFile, name: str) -> tuple[int, int]:
    # A TIFF's size is upright from the start, though its orientation tag is still there.
    return image.size if name == "TIFF" else _turned(image.size, _orientation(image))


def _turned(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    return (size[1], size[0]) if orientation in _SIDEWAYS else size


def _decode_jpeg(data: bytes, image: ImageFile.ImageFile, max_side_px: int | None) -> npt.NDArray[np.uint8] | None:
    """Decode a flawless JPEG in colour to (h, w, 4), the last channel without meaning; None where Pillow has to.

    Whatever is wrong with the data is Pillow's to judge, so that there is one judge.
    """
    if image.mode != "RGB":
        return None
    divisor = 1 if max_side_px is None else _divisor(max(image.size), max_side_px)
    least = {} if divisor == 1 else {"min_width": -(-image.width // divisor), "min_height": -(-image.height // divisor)}
    try:
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, "RGBX", fastdct=False, fastupsample=False, strict=True, **least
        )
    except ValueError:
        return None
    large = max(pixels.shape[:2])
    return None if max_side_px is not None and large >= 2 * max_side_px else pixels


def _upright(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Turn (h, w, 4) upright and return its view (h, w, 3)."""
    match orientation:
        case 2:
            pixels = pixels[:, ::-1]
        case 3:
            pixels = pixels[::-1, ::-1]
        case 4:
            pixels = pixels[::-1]
        case 5:
            pixels = pixels.swapaxes(0, 1)
        case 6:
            pixels = np.rot90(pixels, -1)
        case 7:
            pixels = pixels[::-1, ::-1].swapaxes(0, 1)
        case 8:
            pixels = np.rot90(pixels)
    return np.ascontiguousarray(pixels)[..., :3]


def _divisor(large_px: int, max_side_px: int) -> int:
    """Return by how much a JPEG may be decoded smaller, so that its larger side keeps at least ``max_side_px``."""
    return next((divisor for divisor in (8, 4, 2) if -(-large_px // divisor) >= max_side_px), 1)


def _draft(image: ImageFile.ImageFile, max_side_px: int) -> bool:
    """Let a JPEG decode at 1/2, 1/4 or 1/8, so that its larger side keeps at least ``max_side_px``."""
    width, height = image.size
    divisor = _divisor(max(width, height), max_side_px)
    if divisor == 1:
        return False
    return image.draft(None, (max(1, width // divisor), max(1, height // divisor))) is not None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _from_wide(np.asarray(image)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_wide(values: npt.NDArray[np.generic]) -> Image.Image:
    """Scale one channel of 16 or 32 bits, integer or float, to 8 bits.

    Integers are read as 8-bit or 16-bit values where they fit, floats as 0 to 1 or 0 to 255; anything else is
    stretched from its least to its greatest value.
    """
    wide = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = float(wide.min()), float(wide.max())
    is_integer = np.issubdtype(values.dtype, np.integer)
    if values.dtype.itemsize == 2:
        scaled = wide / 257
    elif low >= 0 and high <= 1 and not is_integer:
        scaled = wide * 255
    elif low >= 0 and high <= 255:
        scaled = wide
    elif low >= 0 and high <= 65535 and is_integer:
        scaled = wide / 257
    else:
        scaled = (wide - low) * (255 / (high - low)) if high > low else wide * 0
    return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))


@contextmanager
def _rejecting(data: bytes, name: str) -> Iterator[list[tuple[int, int]]]:
    """Turn whatever a decoder raises into a ``PhotoRejectedError``, and keep its warnings to itself.

    Yields a list for the size, once it is known.
    """
    seen: list[tuple[int, int]] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield seen
    except PhotoRejectedError:
        raise
    except Exception as error:
        reason, message = _why(error, data, name)
        width, height = seen[-1] if seen else (None, None)
        raise PhotoRejectedError(reason, message, width=width, height=height, image_format=name) from error


@contextmanager
def _silent_libtiff() -> Iterator[None]:
    """Mute the process's standard error meanwhile: libtiff prints there what it also reports to Pillow."""
    with _STDERR:
        try:
            kept = os.dup(2)
        except OSError:  # the process has none
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)


def _why(error: Exception, data: bytes, name: str) -> tuple[Reason, str]:
    # Some messages of Pillow hold a repr with an address, which would make two runs' tables differ.
    detail = re.sub(r"<[^>]*>", "", str(error))
    detail = "".join(letter if letter.isprintable() else " " for letter in detail[:200]).strip()
    detail = detail or type(error).__name__
    if isinstance(error, MemoryError):
        return Reason.OUT_OF_MEMORY, f"decoding this {name} picture needs more memory than there was"
    if isinstance(error, Image.DecompressionBombError):
        return Reason.TOO_LARGE, f"this {name} picture is larger than its decoder allows: {detail}"
    if isinstance(error, EOFError) or "truncated" in detail.lower() or _ends_early(data, name):
        return Reason.TRUNCATED, f"the {name} data end before the picture does ({detail})"
    return Reason.CORRUPT, f"the {name} data are damaged ({detail})"


def _ends_early(data: bytes, name: str) -> bool:
    """Tell whether a picture that failed to decode lacks its end: its end mark or stated length."""
    match name:
        case "JPEG":
            return b"\xff\xd9" not in data[-64:]
        case "PNG":
            return b"IEND" not in data[-64:]
        case "GIF":
            return not data.rstrip(b"\x00").endswith(b";")
        case "WEBP":
            return len(data) < 8 + int.from_bytes(data[4:8], "little")
        case "BMP":
            return len(data) < int.from_bytes(data[2:6], "little")
        case "HEIF":
            return heif_ends_early(data)
    return False
