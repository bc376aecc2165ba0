"""Training examples of whole pictures, such as garments: no face is looked for, the picture is the crop.

Each picture is decoded and resized to the model's square once, by ``read_whole``, which inference calls too,
so both see the same pixels. Its edge is then repeated into a margin, since a whole picture has nothing beyond
it, and the fields are kept in one memory-mapped array as ``stylematch.vision.examples`` keeps its crops.
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from stylematch.data.decode import DecodedPhoto, decode_photo, read_header
from stylematch.errors import PhotoRejectedError, UserError
from stylematch.vision.crops import Square, cut
from stylematch.vision.examples import Examples, Targets, field_px
from stylematch.vision.faces import SlimefaceLocator
from stylematch.vision.garments import cut_garment, cut_torso, torso_square

MODES = ("squash", "pad", "garment")
WORN = "worn"
_FINER = 4  # what is trimmed is decoded so many times larger, or little would be left
# Raised with every change of read_whole that changes its pixels, so that no cached array is mistaken for new.
_VERSION = 1
_CHUNK = 32


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


def decode_whole(data: bytes, size_px: int, mode: str, *, max_megapixels: float = 100.0) -> DecodedPhoto:
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


def read_whole(data: bytes, size_px: int, mode: str, *, max_megapixels: float = 100.0) -> npt.NDArray[np.uint8]:
    """Decode a picture's bytes and resize the whole of it to a square: what the model sees.

    Parameters
    ----------
    data : bytes
        The whole file.
    size_px : int
        Side of the result.
    mode : str
        As in ``resize_whole``.
    max_megapixels : float
        Pictures that claim more are rejected.

    Returns
    -------
    ndarray of uint8, shape (size_px, size_px, 3)

    Raises
    ------
    PhotoRejectedError
        If the bytes are no picture that can be decoded.
    UserError
        If there is no such mode.
    """
    return resize_whole(decode_whole(data, size_px, mode, max_megapixels=max_megapixels).pixels, size_px, mode)


def whole_picture_examples(
    pictures: Path,
    names: Sequence[str],
    targets: Targets,
    *,
    input_px: int,
    mode: str,
    cache: Path,
    ids: Sequence[str] | None = None,
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
        Files in it, n of them.
    targets : dict of str to ndarray, shape (n, ...)
        By label group.
    input_px : int
        Side of the model's input.
    mode : {"squash", "pad", "garment", "worn"}
        As in ``resize_whole``; ``worn`` cuts the clothes below the largest face out of a photo of a person, and leaves
        out pictures without.
    cache : pathlib.Path
        Folder for the array.
    ids : sequence of str, optional
        What the examples are called; their file names by default.
    workers : int
        Processes that decode; changes no result.
    progress : callable
        Told the number of pictures done, one by one.

    Raises
    ------
    UserError
        If there is no such mode, or none of the pictures can be decoded.
    """
    if mode not in (*MODES, WORN):
        raise UserError(f'"{mode}" is no way to make a picture square; choose one of {", ".join((*MODES, WORN))}.')
    stored_px = field_px(input_px)
    recipe = [_VERSION, str(pictures.resolve()), list(names), input_px, stored_px, mode]
    digest = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]
    stored, marker = cache / f"whole-{digest}.npy", cache / f"whole-{digest}-kept.npy"
    if not marker.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        fields = np.lib.format.open_memmap(stored, "w+", np.uint8, (len(names), stored_px, stored_px, 3))
        kept = _fill(fields, [pictures / name for name in names], input_px, mode, workers, progress)
        fields.flush()
        # This file says that the array is whole, so it appears whole or not at all.
        np.save(unfinished := marker.with_suffix(".part.npy"), kept, allow_pickle=False)
        unfinished.replace(marker)
    kept = np.load(marker, allow_pickle=False)
    if not len(kept):
        raise UserError(f"none of the {len(names):,} pictures looked for in {pictures} can be decoded.")
    fields = np.load(stored, mmap_mode="r", allow_pickle=False)
    named = names if ids is None else ids
    return Examples(
        ids=tuple(named[row] for row in kept),
        # Pictures are stored without gaps, so that what is left stays memory-mapped.
        fields=fields[: len(kept)],
        targets={group: values[kept] for group, values in targets.items()},
        dropped=len(names) - len(kept),
    )


def _fill(
    fields: npt.NDArray[np.uint8],
    paths: list[Path],
    input_px: int,
    mode: str,
    workers: int,
    progress: Callable[[int], None],
) -> npt.NDArray[np.int64]:
    """Write the pictures that can be decoded into the first of ``fields`` and return their places in ``paths``."""
    kept: list[int] = []
    with _mapped(partial(_read_one, input_px, fields.shape[1], mode), paths, workers) as read:
        for row, field in enumerate(read):
            if field is not None:
                fields[len(kept)] = field
                kept.append(row)
            progress(1)
    return np.array(kept, np.int64)


def _read_one(input_px: int, stored_px: int, mode: str, path: Path) -> npt.NDArray[np.uint8] | None:
    """Return a field, or None where the file gives none."""
    try:
        data = path.read_bytes()
        if mode == "garment":
            photo = decode_whole(data, input_px, mode)
            return cut_garment(photo.pixels, stored_px, stored_px / input_px)
        if mode == WORN:
            photo = decode_photo(data, max_side_px=640, max_megapixels=100.0)
            faces = SlimefaceLocator().locate(photo).boxes
            square = torso_square(faces[0], photo.width, photo.height) if faces else None
            if square is None:
                return None
            grown = square.grown(stored_px / input_px)
            return cut_torso(photo.pixels, photo.width, photo.height, grown, stored_px)
        square_px = read_whole(data, input_px, mode)
    except (OSError, PhotoRejectedError):
        return None
    spare = stored_px - input_px
    before, after = spare // 2, spare - spare // 2  # as Examples.crops cuts
    return np.pad(square_px, ((before, after), (before, after), (0, 0)), mode="edge")


@contextmanager
def _mapped(
    function: Callable[[Path], npt.NDArray[np.uint8] | None], paths: list[Path], workers: int
) -> Iterator[Iterator[npt.NDArray[np.uint8] | None]]:
    """Apply ``function`` to every path, in order, here or in processes that end with the block."""
    if workers <= 1:
        yield map(function, paths)
        return
    # Spawned, not forked: torch's threads and locks would be copied broken.
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield pool.map(function, paths, chunksize=_CHUNK)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
