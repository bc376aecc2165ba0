"""Pictures that are copies of each other, under whatever names: told apart by a hash of their contents."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stylematch.data.photo_file import hash_photo
from stylematch.errors import PhotoRejectedError
from stylematch.tables.cores import usable_cores


def contents_of(pictures: Path, names: Sequence[str]) -> list[str]:
    """Return what tells the contents of some files of a folder apart; one that cannot be read goes by its name."""

    def content(name: str) -> str:
        try:
            return hash_photo(pictures, os.fsencode(name))
        except PhotoRejectedError:
            return name

    with ThreadPoolExecutor(usable_cores()) as threads:
        return list(threads.map(content, names))


def first_of_each(contents: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Return which of n contents no earlier one equals, shape (n,).

    A copy that is tested on while its like is learned from would flatter a figure.
    """
    first = np.zeros(len(contents), np.bool_)
    first[list({content: place for place, content in reversed(list(enumerate(contents)))}.values())] = True
    return first


def first_new(contents: Sequence[str], learned: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return which of n contents, shape (n,), equal none that was learned from, nor an earlier one."""
    known = np.array(contents)
    return ~np.isin(known, known[learned]) & first_of_each(contents)
