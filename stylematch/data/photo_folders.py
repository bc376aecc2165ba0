"""Where photos come from: a folder of this machine or a prefix of a bucket, found, hashed and read alike."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stylematch.data.directories import check_answers
from stylematch.data.looks import Looks
from stylematch.data.object_folder import ObjectFolder
from stylematch.data.photo_file import check_still_there, hash_photo, read_photo
from stylematch.data.photos import FindCounts, FoundPhoto, find_photos, photo_root
from stylematch.tables.place import Place


class PhotoFolder(Protocol):
    """Photos by their raw paths, which only the folder understands."""

    @property
    def name(self) -> str:
        """Its last name, for a title."""

    def find(
        self,
        counts: FindCounts,
        *,
        follow_links: bool = False,
        skip: Callable[[Path], bool] | None = None,
        limit_s: float | None = None,
        looks: Looks | None = None,
    ) -> Iterator[FoundPhoto]:
        """Yield the photos in the order of their paths' bytes, with sizes and stamps; see ``find_photos``."""

    def read(self, raw_path: bytes, max_bytes: int) -> bytes:
        """Return one photo's bytes; see ``read_photo``."""

    def hash(self, raw_path: bytes) -> str:
        """Return one photo's photo_id without holding it in memory; see ``hash_photo``."""


def photo_folder(place: Place, limit_s: float | None = None, *, follow_links: bool = False) -> PhotoFolder:
    """Return the photos of a place.

    Parameters
    ----------
    place : Place
        Where they are.
    limit_s : float, optional
        How long a folder of this machine may take to answer; None waits for ever.
    follow_links : bool
        Whether photos are read through symbolic links.

    Raises
    ------
    UserError
        If nothing is there.
    StylematchError
        If the folder does not answer in time.
    """
    if place.directory is None:
        return ObjectFolder(place)
    check_answers(place.directory, limit_s)
    return LocalFolder(place.directory, follow_links)


@dataclass(frozen=True)
class LocalFolder:
    """A folder of this machine, or one picture, which may be named by a link; links in it are read if that is said."""

    path: Path
    follow_links: bool = False

    def __post_init__(self) -> None:
        _ = self.root  # asked once: what happens to it later is no mistake of the user's

    @functools.cached_property
    def root(self) -> Path:
        """The folder that paths are relative to."""
        return photo_root(self.path)

    @property
    def name(self) -> str:
        """Its last name."""
        return self.path.resolve().name

    def find(
        self,
        counts: FindCounts,
        *,
        follow_links: bool = False,
        skip: Callable[[Path], bool] | None = None,
        limit_s: float | None = None,
        looks: Looks | None = None,
    ) -> Iterator[FoundPhoto]:
        """Yield the photos; see ``find_photos``."""
        check_still_there(self.path)
        return find_photos(self.path, follow_links=follow_links, counts=counts, skip=skip, limit_s=limit_s, looks=looks)

    def read(self, raw_path: bytes, max_bytes: int) -> bytes:
        """Return one photo's bytes; see ``read_photo``."""
        return read_photo(self.root, raw_path, max_bytes, follow_links=self._through_links())

    def hash(self, raw_path: bytes) -> str:
        """Return one photo's photo_id; see ``hash_photo``."""
        return hash_photo(self.root, raw_path, follow_links=self._through_links())

    def _through_links(self) -> bool:
        return self.follow_links or self.root != self.path
