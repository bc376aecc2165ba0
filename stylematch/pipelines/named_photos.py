"""Photos that somebody names one by one: pictures, and folders to search, each with the path as it was given."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from stylematch.data.photo_file import escape_path, hash_photo
from stylematch.data.photos import FoundPhoto, find_photos, photo_root
from stylematch.errors import PhotoRejectedError, UserError

PathLike: TypeAlias = str | os.PathLike[str]
ROOT = Path("/")
"""What the ``raw_path`` of a named photo is relative to."""


def named_paths(given: PathLike | Iterable[PathLike]) -> Iterator[Path]:
    """Yield one path or several; an empty one would mean the current directory, which nobody says so.

    Raises
    ------
    UserError
        If a path is empty, or something is no path, such as an opened picture.
    """
    if hasattr(given, "columns"):
        raise UserError(
            "give the paths of pictures or folders, not a data frame; without one, recommend() answers for score()"
        )
    paths = given if isinstance(given, Iterable) and not isinstance(given, str | bytes | os.PathLike) else [given]
    for path in paths:
        if not isinstance(path, str | os.PathLike):
            raise UserError(f"give the paths of pictures or folders, not {type(path).__name__}; save a picture first")
        if not os.fspath(path):
            raise UserError("one of the paths is empty; name a picture or a directory")
        yield Path(path)


def named_photos(given: PathLike | Iterable[PathLike], *, follow_links: bool) -> Iterator[FoundPhoto]:
    """Yield the photos, each once, with the path as it was given; a file that was named counts, whatever it is.

    Raises
    ------
    UserError
        If a path is empty, or not there.
    """
    seen: set[bytes] = set()
    for path in named_paths(given):
        root = photo_root(path)
        inside: Iterable[bytes] = [os.fsencode(path)]
        if root == path:
            photos = find_photos(root, follow_links=follow_links)
            inside = (os.path.join(os.fsencode(path), photo.raw_path) for photo in photos)  # noqa: PTH118
        for raw_path in inside:
            if raw_path not in seen:
                seen.add(raw_path)
                whole = os.path.join(os.getcwdb(), raw_path)  # noqa: PTH109, PTH118 - a path need not be text
                yield FoundPhoto(escape_path(raw_path), whole, os.stat(whole).st_size)  # noqa: PTH116


def named_photo_id(photo: FoundPhoto) -> str | None:
    """Return the hash of a named photo's contents; None where it cannot be read: reading it again will say why."""
    try:
        return hash_photo(ROOT, photo.raw_path)
    except PhotoRejectedError:
        return None
