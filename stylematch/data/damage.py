"""Decoders' errors and messages: what a picture is rejected for that failed to decode, and no noise from it."""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from stylematch.data.heif import heif_ends_early
from stylematch.errors import PhotoRejectedError
from stylematch.tables.contract import Reason

_STDERR = threading.Lock()  # of two threads that mute it at once, one would keep the other's nowhere for the real one


@contextmanager
def rejecting(data: bytes, name: str) -> Iterator[list[tuple[int, int]]]:
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
def silent_libtiff() -> Iterator[None]:
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
