"""A photo of the listing: read it, and say in its row of ``photos`` how that went."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stylematch.data.decode import DecodedPhoto
from stylematch.data.listing import Partition
from stylematch.data.photo_file import photo_id_of, read_photo
from stylematch.data.photos import FoundPhoto
from stylematch.engines.watch import watched
from stylematch.errors import PhotoRejectedError, StylematchError
from stylematch.tables.contract import Reason, Status
from stylematch.tables.shown import shown

Row = dict[str, Any]
_INT32_MAX = 2**31 - 1


def read_listed(root: Path, photo: FoundPhoto, max_file_mb: float, *, follow_links: bool = True) -> bytes:
    """Read a listed photo's bytes; ``follow_links`` as for ``read_photo``.

    Raises
    ------
    PhotoRejectedError
        If they cannot be read, are too many, or are not those that were listed.
    """
    data = read_photo(root, photo.raw_path, int(max_file_mb * 1e6), follow_links=follow_links)
    if photo_id_of(data) != photo.photo_id:
        raise PhotoRejectedError(Reason.CHANGED_DURING_RUN, "the file changed while the run went on: run it again")
    return data


def reader_of_listed(
    root: Path, partition: Partition, max_file_mb: float, *, follow_links: bool
) -> Callable[[FoundPhoto], bytes]:
    """Return a function that reads a photo of the partition and raises as ``read_listed``; lost photos are not read."""
    lost = {photo.path: photo for photo in partition.lost}

    def read(photo: FoundPhoto) -> bytes:
        if (given_up := lost.get(photo.path)) is not None:
            raise PhotoRejectedError(given_up.reason, given_up.message)
        return read_listed(root, photo, max_file_mb, follow_links=follow_links)

    return read


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Read one photo in the ``with`` block: the parent process watches meanwhile, and nothing in it ends the run.

    Parameters
    ----------
    path : str
        By which the photo is known.

    Raises
    ------
    StylematchError
        As the block does, most often a ``PhotoRejectedError``; ``out_of_memory`` where memory ran out, ``crashed`` for
        a fault of the program, which one photo in a million may bring to light.
    """
    try:
        with watched(path):
            yield
    except StylematchError:  # of the photo; or of the network or a disk, which is no fault of this photo's
        raise
    except MemoryError as error:
        raise PhotoRejectedError(Reason.OUT_OF_MEMORY, "reading it needs more memory than there was") from error
    except Exception as error:
        said = shown(f"{type(error).__name__}: {error}"[:200])
        raise PhotoRejectedError(Reason.CRASHED, f"reading it met a fault of this program ({said})") from error


def rejected_row(photo: FoundPhoto, error: PhotoRejectedError) -> Row:
    """Return the row of a photo that could not be read."""
    size = {
        # A damaged header may claim more than the table's columns hold; the message says what it claimed.
        "width": error.width if error.width is not None and 0 <= error.width <= _INT32_MAX else None,
        "height": error.height if error.height is not None and 0 <= error.height <= _INT32_MAX else None,
        "format": error.image_format,
    }
    return _row(photo, size, Status.REJECTED, error.reason, error.sentence)


def no_face_row(photo: FoundPhoto, decoded: DecodedPhoto, too_small: int, min_face_px: int) -> Row:
    """Return the row of a photo without a face that counts; ``too_small`` faces were under ``min_face_px``."""
    if not too_small:
        return read_row(photo, decoded, Status.NO_FACE, Reason.NO_FACE_FOUND)
    message = f"{too_small} found, all under {min_face_px} px: lower --min-face-px"
    return read_row(photo, decoded, Status.NO_FACE, Reason.FACE_TOO_SMALL, message)


def read_row(
    photo: FoundPhoto, decoded: DecodedPhoto, status: str, reason: str = Reason.OK, message: str | None = None
) -> Row:
    """Return the row of a photo that was read."""
    size = {"width": decoded.width, "height": decoded.height, "format": decoded.format}
    return _row(photo, size, status, reason, message)


def _row(photo: FoundPhoto, size: Row, status: str, reason: str, message: str | None) -> Row:
    named = {"path": photo.path, "photo_id": photo.photo_id, "bytes": photo.bytes}
    return {**named, **size, "status": status, "reason": reason, "message": message}
