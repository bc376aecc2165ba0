"""The pictures that a table names: files in a folder that may not be left, neither by ``..`` nor by a link."""

from __future__ import annotations

import os
from pathlib import Path

from stylematch.data.photos import PICTURE_EXTENSIONS
from stylematch.data.table_rows import RowReason

_EXTENSIONS = tuple(os.fsdecode(extension) for extension in PICTURE_EXTENSIONS)


class TablePictures:
    """Finds pictures' files in a folder that must not be left, unless ``allow_outside``."""

    def __init__(self, folder: Path, allow_outside: bool) -> None:
        self._folder, self._allow_outside = folder, allow_outside
        self._root = os.path.realpath(folder)
        self._within = os.path.join(self._root, "")  # noqa: PTH118 - Path would drop the final slash
        self._by_stem: dict[str, str] | None = None

    def by_path(self, image: str) -> str | tuple[str, str]:
        """Return the path, or reason and message; one that Windows wrote has slashes then."""
        spelled, found = self._spelled(image)
        return spelled if isinstance(found, str) else found

    def in_folder(self, image: str) -> str | tuple[str, str]:
        """Return where the file lies, the same however its path is written, or reason and message."""
        return self._spelled(image)[1]

    def _spelled(self, image: str) -> tuple[str, str | tuple[str, str]]:
        """Return how the path of a file is spelled here, and what ``in_folder`` says of it."""
        found = self._find(image)
        if isinstance(found, str) or "\\" not in image:
            return image, found
        slashed = image.replace("\\", "/")
        there = self._find(slashed)
        is_told = isinstance(there, str) or there[0] == RowReason.OUTSIDE_FOLDER
        return (slashed, there) if is_told else (image, found)

    def _find(self, image: str) -> str | tuple[str, str]:
        if "\0" in image or "://" in image:
            return RowReason.MISSING_PICTURE, "image is no path of a file; download the picture and name the file"
        real = os.path.realpath(os.path.join(self._root, image))  # noqa: PTH118 - Path would drop a final slash
        inside = real.startswith(self._within)
        if not self._allow_outside and not inside:
            return RowReason.OUTSIDE_FOLDER, "the path leaves the pictures' folder; --allow-outside permits that"
        if not os.path.isfile(real):  # noqa: PTH113 - no pathlib object for each of a million rows
            return RowReason.MISSING_PICTURE, "there is no such file in the pictures' folder"
        return real[len(self._within) :] if inside else real

    def by_id(self, item_id: str) -> str | tuple[str, str]:
        """Return the name of the picture that is called as an item, or reason and message."""
        if self._by_stem is None:  # listed once: most rows may have none, and to ask for each is slow
            names = sorted(entry.name for entry in self._folder.iterdir())
            pictures = [name for name in names if name.lower().endswith(_EXTENSIONS)]
            self._by_stem = {name.rpartition(".")[0]: name for name in reversed(pictures)}
        name = self._by_stem.get(item_id)
        if name is None:
            return (
                RowReason.MISSING_PICTURE,
                "the table has no column image, and no picture in the folder is called as the item",
            )
        return self.by_path(name)
