"""Decode one photo's bytes to upright RGB pixels, or say why it cannot be done.

- The first bytes choose the one decoder that may see the data; Pillow's rarer plugins never run.
- The header's size is checked before any pixel is decoded.
- A large JPEG is decoded smaller (DCT scaling), which is where the time goes for photos of many megapixels.
- A flawless JPEG is decoded by simplejpeg, in half of Pillow's time and to the same pixels; Pillow sees all others.
- Whatever a decoder raises on bad data becomes a ``PhotoRejectedError`` with a reason code.

Colour profiles are ignored.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from stylematch.data.damage import rejecting, silent_libtiff
from stylematch.data.heif import open_heif
from stylematch.data.magic import HEAD_BYTES, READABLE_FORMATS, sniff_format
from stylematch.data.preview import PREVIEW_SIDE_PX, Smaller, smaller, whole
from stylematch.data.rgb import to_rgb
from stylematch.data.upright import orientation_of, upright_image, upright_pixels, upright_size
from stylematch.errors import PhotoRejectedError
from stylematch.tables.contract import Reason

# Pillow logs oddities of TIFF files; without a handler Python prints them on standard error.
logging.getLogger("PIL").addHandler(logging.NullHandler())


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

    @property
    def preview(self) -> Image.Image:
        """The picture with its larger side at most ``PREVIEW_SIDE_PX``, made once, never enlarged; RGB or RGBX.

        Of a larger picture that side is at least three quarters of ``PREVIEW_SIDE_PX``.
        """
        return self._preview.image

    def seen_at(self, size: tuple[int, int]) -> Image.Image:
        """Return the picture at a size (width, height), of mode RGB: antialiased where that is smaller, else enlarged.

        It is made of the preview where that is large enough, which is faster.
        """
        preview = self._preview
        is_enough = size[0] <= preview.image.width and size[1] <= preview.image.height
        return (preview if is_enough else whole(self.image)).resized(size)

    @cached_property
    def _preview(self) -> Smaller:
        return smaller(self.image, PREVIEW_SIDE_PX)


def four_channels(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8] | None:
    """Return the array (h, w, 4) whose first three channels pixels (h, w, 3) are, as those of a JPEG; else None."""
    four = pixels.base
    if not isinstance(four, np.ndarray) or four.shape != (*pixels.shape[:2], 4) or not four.flags.c_contiguous:
        return None
    return four if pixels.strides == four.strides and pixels.ctypes.data == four.ctypes.data else None


def image_of(four: npt.NDArray[Any]) -> Image.Image:
    """Return four channels, contiguous uint8 (h, w, 4) or uint32 (h, w), as a Pillow image of mode RGBX: no copy."""
    return Image.frombuffer("RGBX", (four.shape[1], four.shape[0]), four, "raw", "RGBX", 0, 1)  # Pillow's own layout


def rgb_image_of(four: npt.NDArray[Any]) -> Image.Image:
    """Return a copy of what ``image_of`` takes, of mode RGB."""
    return Image.frombytes("RGB", (four.shape[1], four.shape[0]), four.data.cast("B"), "raw", "RGBX", 0, 1)


def rgb_of(four: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    """Return the first three of four channels, contiguous: uint8 (h, w, 3) from uint32 (h, w)."""
    pixels = np.empty((*four.shape, 3), np.uint8)
    channels = four.view(np.uint8).reshape(*four.shape, 4)
    for channel in range(3):  # a seventh of the time that numpy takes for all three at once
        pixels[..., channel] = channels[..., channel]
    return pixels


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
    with rejecting(data, name):
        image = _open(data, name)
        return Header(name, *_stated_size(image, name))


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
    with rejecting(data, name) as seen:
        image = _open(data, name)
        width, height = _stated_size(image, name)
        seen.append((width, height))
        if width * height > max_megapixels * 1e6:
            raise PhotoRejectedError(
                Reason.TOO_LARGE,
                f"the header claims {width:,} x {height:,} pixels, over the limit of {max_megapixels:g} megapixels",
                advice="raise --max-megapixels",
                width=width,
                height=height,
                image_format=name,
            )
        if name == "JPEG" and (pixels := _decode_jpeg(data, image, max_side_px)) is not None:
            return DecodedPhoto(upright_pixels(pixels, orientation_of(image)), width, height, name)
        drafted = max_side_px is not None and _draft(image, max_side_px)
        with silent_libtiff() if name == "TIFF" else nullcontext():
            image.load()
        orientation = orientation_of(image)
        full_size = seen[-1]
        if not drafted:  # a decoder may correct the header, and an EXIF chunk may come behind the pixels
            full_size = upright_size(image.size, orientation)
        rgb = to_rgb(image)
        if max_side_px is not None and max(rgb.size) >= 2 * max_side_px:
            rgb = rgb.reduce(max(rgb.size) // max_side_px)
        pixels = np.asarray(upright_image(rgb, orientation), dtype=np.uint8)
        return DecodedPhoto(pixels, *full_size, name)


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


def _stated_size(image: ImageFile.ImageFile, name: str) -> tuple[int, int]:
    # A TIFF's size is upright from the start, though its orientation tag is still there.
    return image.size if name == "TIFF" else upright_size(image.size, orientation_of(image))


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
