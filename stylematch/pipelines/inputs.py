"""What goes into a run over somebody's photos: list them, read one, and say in its row of ``photos`` how that went."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from stylematch.data.decode import DecodedPhoto
from stylematch.data.directories import check_answers
from stylematch.data.listing import Listing, Partition, write_listing
from stylematch.data.photo_file import photo_id_of, read_photo
from stylematch.data.photos import FindCounts, FoundPhoto, find_photos, photo_root
from stylematch.engines.progress import Progress
from stylematch.engines.watch import watched
from stylematch.errors import PhotoRejectedError, StylematchError, UserError
from stylematch.settings.photos import PhotoSettings
from stylematch.tables.contract import Reason, Status
from stylematch.tables.cores import usable_cores
from stylematch.tables.disk import shown
from stylematch.tables.manifest import Stage
from stylematch.tables.out import check_out, output_of

Row = dict[str, Any]
_INT32_MAX = 2**31 - 1


def root_beside(photos: Path, out: Path, photo_timeout_s: float) -> Path:
    """Return the folder that the photos' paths are relative to; OUT may not hold it.

    Raises
    ------
    UserError
        If there are no photos, or OUT cannot take a run.
    StylematchError
        If what the photos lie on does not answer within ``photo_timeout_s``; 0 waits for ever.
    """
    check_answers(photos, photo_timeout_s or None)
    root = photo_root(photos)
    if check_out(out) in (root.resolve(), *root.resolve().parents):
        raise UserError(f"--out {shown(out)} holds the photos, which a run would replace: name another folder")
    return root


def list_inputs(photos: Path, out: Path, listing: Path, settings: PhotoSettings) -> tuple[Listing, FindCounts, Stage]:
    """Find and hash the photos, and write them down.

    Parameters
    ----------
    photos, out : pathlib.Path
        Where they are, and where the run goes (which is no input).
    listing : pathlib.Path
        The file to write.
    settings : PhotoSettings
        Which: larger files than ``max_file_mb`` are rejected without being read; a file that takes longer than
        ``photo_timeout_s`` is rejected and not read again, a directory that does ends the run.

    Raises
    ------
    UserError
        If ``photos`` is a file that is no picture: in a directory it is passed over, but here somebody named it.
    """
    counts, began = FindCounts(), time.perf_counter()
    limit_s = settings.photo_timeout_s or None
    found = find_photos(photos, follow_links=settings.follow_links, counts=counts, skip=output_of(out), limit_s=limit_s)
    with Progress(None, "photos", "list") as progress:
        listed = write_listing(
            islice(found, settings.limit),
            photo_root(photos),
            listing,
            readers=max(2, usable_cores()),
            advance=progress.update,
            max_bytes=int(settings.max_file_mb * 1e6),
            limit_s=limit_s,
        )
    if listed.photos == 0 and photos.is_file():
        why = (
            "cannot be read (check its permissions)"
            if counts.not_looked_at
            else "neither is named nor begins like a picture"
        )
        raise UserError(f"{shown(photos)} {why}: name a picture, or a directory of photos")
    return listed, counts, Stage(time.perf_counter() - began, listed.photos, "photos")


def read_listed(root: Path, photo: FoundPhoto, max_file_mb: float) -> bytes:
    """Read a listed photo's bytes.

    Raises
    ------
    PhotoRejectedError
        If they cannot be read, are too many, or are not those that were listed.
    """
    data = read_photo(root, photo.raw_path, int(max_file_mb * 1e6))
    if photo_id_of(data) != photo.photo_id:
        raise PhotoRejectedError(Reason.CHANGED_DURING_RUN, "the file changed while the run went on: run it again")
    return data


def reader_of_listed(root: Path, partition: Partition, max_file_mb: float) -> Callable[[FoundPhoto], bytes]:
    """Return a function that reads a photo of the partition and raises as ``read_listed``; lost photos are not read."""
    lost = {photo.path: photo for photo in partition.lost}

    def read(photo: FoundPhoto) -> bytes:
        if (given_up := lost.get(photo.path)) is not None:
            raise PhotoRejectedError(given_up.reason, given_up.message)
        return read_listed(root, photo, max_file_mb)

    return read


@contextmanager
def reading(photo: FoundPhoto) -> Iterator[None]:
    """Read one photo in the ``with`` block: the parent process watches meanwhile, and nothing in it ends the run.

    Raises
    ------
    StylematchError
        As the block does, most often a ``PhotoRejectedError``; ``out_of_memory`` where memory ran out, ``crashed`` for
        a fault of the program, which one photo in a million may bring to light.
    """
    try:
        with watched(photo.path):
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
    return _row(photo, size, Status.REJECTED, error.reason, error.message)


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
