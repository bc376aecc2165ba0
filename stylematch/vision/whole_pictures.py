"""Training examples of whole pictures, such as garments: no face is looked for, the picture is the crop.

Each picture is decoded and resized to the model's square once, by ``read_whole``, which inference calls too,
so both see the same pixels. For a training that moves it, its edge is repeated into a margin, since a whole picture has
nothing beyond it; the fields are kept in one memory-mapped array as ``stylematch.vision.examples`` keeps its crops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from stylematch.data.decode import DecodedPhoto, decode_photo, read_header
from stylematch.errors import PhotoRejectedError, UserError
from stylematch.vision.crops import Square, cut
from stylematch.vision.cut_cache import Cut, cut_once
from stylematch.vision.examples import Examples, Targets, field_px
from stylematch.vision.face_reader import FINDER_SIDE_PX
from stylematch.vision.faces import YunetLocator
from stylematch.vision.garments import cut_garment, cut_torso

MODES = ("squash", "pad", "garment")
WORN = "worn"
LABELLED_MEGAPIXELS = 100.0
"""Labelled pictures that claim more are rejected."""
_FINER = 4  # what is trimmed is decoded so many times larger, or little would be left
# Raised with every change of read_whole that changes its pixels, so that no cached array is mistaken for new.
_VERSION = 3


def resize_whole(pixels: npt.NDArray[np.uint8], size_px: int, mode: str) -> npt.NDArray[np.uint8]:
    """Resize a whole picture to a square, antialiased.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (h, w, 3)
        The picture.
    size_px : int
        Side of the result.
    mode : {"squash", "pad", "garment"}
        Stretch the shorter side, or keep the shape and repeat the picture's edge on both sides of it, or as
        ``stylematch.vision.garments`` cuts shop pictures.

    Returns
    -------
    ndarray of uint8, shape (size_px, size_px, 3)

    Raises
    ------
    UserError
        If there is no such mode.
    """
    height, width = pixels.shape[:2]
    if mode == "pad":
        side = float(max(width, height))
        return cut(pixels, width, height, Square((width - side) / 2, (height - side) / 2, side), size_px)
    if mode == "garment":
        return cut_garment(pixels, size_px)
    if mode != "squash":
        raise UserError(f'"{mode}" is no way to make a picture square; choose one of {", ".join(MODES)}.')
    return np.asarray(Image.fromarray(pixels).resize((size_px, size_px), Image.Resampling.BILINEAR))


def decode_whole(data: bytes, size_px: int, mode: str, *, max_megapixels: float = LABELLED_MEGAPIXELS) -> DecodedPhoto:
    """Decode a picture so large that nothing of it has to be enlarged to ``size_px``, if it is that large at all.

    Raises
    ------
    PhotoRejectedError
        If the bytes are no picture that can be decoded, or claim more than ``max_megapixels``.
    """
    header = read_header(data)
    short, long = sorted((header.width, header.height))
    wanted_px = size_px * (_FINER if mode == "garment" else 1)
    return decode_photo(data, max_side_px=math.ceil(wanted_px * long / max(short, 1)), max_megapixels=max_megapixels)


def read_whole(data: bytes, size_px: int, mode: str) -> npt.NDArray[np.uint8]:
    """Decode a picture's bytes and resize the whole of it to a square: what the model sees.

    Parameters
    ----------
    data : bytes
        The whole file.
    size_px : int
        Side of the result.
    mode : str
        As in ``resize_whole``.

    Returns
    -------
    ndarray of uint8, shape (size_px, size_px, 3)

    Raises
    ------
    PhotoRejectedError
        If the bytes are no picture that can be decoded, or claim more than ``LABELLED_MEGAPIXELS``.
    UserError
        If there is no such mode.
    """
    return resize_whole(decode_whole(data, size_px, mode).pixels, size_px, mode)


def whole_picture_examples(
    pictures: Path,
    names: Sequence[str],
    targets: Targets,
    *,
    input_px: int,
    mode: str,
    margin: bool = False,
    cache: Path,
    workers: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> Examples:
    """Read whole pictures once into a memory-mapped array.

    Pictures that cannot be decoded are left out and counted in ``dropped``. One call per split keeps every
    split's array memory-mapped.

    Parameters
    ----------
    pictures : pathlib.Path
        The folder of the pictures.
    names : sequence of str
        Files in it, n of them; the examples are called by them.
    targets : dict of str to ndarray, shape (n, ...)
        By label group.
    input_px : int
        Side of the model's input.
    mode : {"squash", "pad", "garment", "worn"}
        As in ``resize_whole``; ``worn`` cuts the clothes below the largest face out of a photo of a person, and leaves
        out pictures without.
    margin : bool
        Keep what lies around the crops, to move them in a training.
    cache : pathlib.Path
        Folder for the array.
    workers : int
        Processes that decode; changes no result.
    progress : callable
        Told the number of pictures done, one by one.

    Raises
    ------
    UserError
        If there is no such mode, or none of the pictures can be decoded. No names are no error.
    """
    if mode not in (*MODES, WORN):
        raise UserError(f'"{mode}" is no way to make a picture square; choose one of {", ".join((*MODES, WORN))}.')
    stored_px = field_px(input_px) if margin else input_px
    files = [pictures / name for name in names]
    cuts = cut_once(
        partial(_cut_one, input_px, stored_px, mode),
        files,
        stored_px,
        files=files,
        cache=cache,
        name="whole",
        recipe=[_VERSION, str(pictures.resolve()), list(names), input_px, mode],
        workers=workers,
        progress=progress,
    )
    if names and not len(cuts.rows) and mode != WORN:  # a shop may well show nobody
        raise UserError(
            f"none of the {len(names):,} pictures looked for in {pictures} can be decoded; name the folder that holds "
            "them."
        )
    return Examples(
        ids=tuple(names[row] for row in cuts.rows),
        fields=cuts.fields,
        targets={group: values[cuts.rows] for group, values in targets.items()},
        crop_px=input_px,
        dropped=len(names) - len(cuts.rows),
    )


def _cut_one(input_px: int, stored_px: int, mode: str, path: Path) -> Cut | None:
    """Return a field, or None where the file gives none."""
    growth, whole = stored_px / input_px, Square(0.0, 0.0, float(input_px))
    try:
        data = path.read_bytes()
        if mode == "garment":
            photo = decode_whole(data, input_px, mode)
            return cut_garment(photo.pixels, stored_px, growth), whole
        if mode == WORN:
            photo = decode_photo(data, max_side_px=FINDER_SIDE_PX, max_megapixels=LABELLED_MEGAPIXELS)
            faces = YunetLocator().locate(photo).boxes
            torso = cut_torso(photo, faces[0], stored_px, growth) if faces else None
            return None if torso is None else (torso, whole)
        seen = read_whole(data, input_px, mode)
    except (OSError, PhotoRejectedError):
        return None
    spare = stored_px - input_px
    before, after = spare // 2, spare - spare // 2  # as Examples.crops cuts
    return np.pad(seen, ((before, after), (before, after), (0, 0)), mode="edge"), whole
