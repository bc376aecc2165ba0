"""What goes into a run over somebody's photos: find them, hash them, and write them down."""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path

from stylematch.data.directories import check_answers
from stylematch.data.listing import Listing, write_listing
from stylematch.data.photos import FindCounts, find_photos, photo_root
from stylematch.engines.progress import Progress
from stylematch.errors import UserError
from stylematch.settings.photos import PhotoSettings
from stylematch.tables.cores import usable_cores
from stylematch.tables.manifest import Stage
from stylematch.tables.out import check_out, output_of
from stylematch.tables.shown import shown


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


def through_links(photos: Path, settings: PhotoSettings) -> bool:
    """Return whether photos are read through symbolic links: where that is asked for, or one is named itself."""
    return settings.follow_links or photos.is_file()


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
            follow_links=through_links(photos, settings),
        )
    if listed.photos == 0 and photos.is_file():
        why = (
            "cannot be read (check its permissions)"
            if counts.not_looked_at
            else "neither is named nor begins like a picture"
        )
        raise UserError(f"{shown(photos)} {why}: name a picture, or a directory of photos")
    return listed, counts, Stage(time.perf_counter() - began, listed.photos, "photos")
