"""CelebA's label files and pictures, wherever a folder has them, and what the files say, row by row.

Its authors' files are text (``list_attr_celeba.txt``: a count, a header, white-space separated rows), Kaggle's are CSV
of the same names (``list_attr_celeba.csv``: a header, commas). They lie in the folder, in ``Anno/`` or in ``Eval/``;
the pictures in ``img_align_celeba/`` or ``img_celeba/``, in the folder or in ``Img/`` (or in a folder of the same name
within), or beside the label files. Where there are several, the authors' are read, and of these the first.
"""

from __future__ import annotations

import csv
import itertools
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stylematch.data.picture_table import called_otherwise
from stylematch.data.table_csv import delimiter_of
from stylematch.errors import UserError
from stylematch.tables.shown import shown

ATTRIBUTES_FILE = "list_attr_celeba.txt"
WILD = "img_celeba"
"""The folder of whole photos; what ``img_align_celeba`` holds was cut from them."""
_ALIGNED = "img_align_celeba"
_NAME = "image_id"
_CSV = ".csv"
_LARGEST_PX = 65_535  # no JPEG has more, and one such point would be learned from like any other


def label_file(root: Path, name: str) -> Path | None:
    """Return where a folder has a label file, given as its authors call it (``.txt``), or None where it has none."""
    places = (root, root / "Anno", root / "Eval")
    files = (place / called for called in (name, Path(name).with_suffix(_CSV).name) for place in places)
    # What this user may not look at is absent to him, where Path.is_file would raise.
    return next((file for file in files if os.access(file, os.F_OK) and file.is_file()), None)


def holds_celeba(root: Path) -> bool:
    """Whether a folder has the attribute file, without which it is none of CelebA's."""
    return label_file(root, ATTRIBUTES_FILE) is not None


def attribute_file(root: Path) -> Path:
    """Return a folder's attribute file; raises ``UserError``, which names what was looked for, where there is none."""
    found = label_file(root, ATTRIBUTES_FILE)
    if found is None:
        raise UserError(
            f"{ATTRIBUTES_FILE} is missing in {shown(root)}, its Anno/ and Eval/, and so is Kaggle's "
            f"{Path(ATTRIBUTES_FILE).stem}{_CSV}: this is not a folder in CelebA's layout; name the one that is."
        )
    return found


def picture_folder(root: Path, image_ids: Collection[str], labels_alone: bool = False) -> Path:
    """Return the folder of the pictures; with ``labels_alone`` there need be none, and it is where they would be.

    Raises
    ------
    UserError
        If no folder has any of them.
    """
    known = frozenset(image_ids)
    folders = [
        folder
        for base in (root, root / "Img")
        for name in (_ALIGNED, WILD)
        for folder in (base / name, base / name / name)
    ]
    for folder in (*folders, root / "Img", root):
        if folder.is_dir() and _holds_any(folder, known):
            return folder
    if labels_alone:
        return folders[0]
    raise UserError(
        f"{shown(root)} has none of the pictures that its {attribute_file(root).name} names; put them into "
        f"{_ALIGNED}/ or {WILD}/." + called_otherwise(itertools.chain(*map(_names_in, folders)), image_ids)
    )


def _names_in(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []


def _holds_any(folder: Path, names: frozenset[str]) -> bool:
    try:
        with os.scandir(folder) as entries:  # at once: to ask for each of 202,599 that are not there is slow
            return any(entry.name in names and entry.is_file() for entry in entries)
    except OSError:  # as absent as what may not be looked at
        return False


def label_lines(path: Path) -> list[str]:
    """Return the lines of a label file in UTF-8, of which a byte order mark is no part.

    Raises
    ------
    UserError
        If it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()  # Windows' editors put a mark before it
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}; it has to be text in UTF-8.") from error


def label_cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each line that is not blank; raises ``UserError`` if it cannot be read."""
    lines = label_lines(path)
    is_csv = path.suffix == _CSV
    delimiter = delimiter_of(next((line for line in lines if line.strip()), ""))
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                cells = next(csv.reader([line], delimiter=delimiter, strict=True)) if is_csv else line.split()
            except csv.Error as error:
                raise UserError(f"{path}: line {number} cannot be read ({error}); mend its quotes.") from error
            yield number, [cell.strip() for cell in cells] if is_csv else cells


def read_pairs(path: Path, column: str) -> Iterator[tuple[int, list[str]]]:
    """Yield number, picture and value of each line of a file that has no header as text, and one as CSV.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    column : str
        What the value is called in a CSV.

    Yields
    ------
    tuple of (int, list of str)
        Of a malformed line of a text file there are not two.
    """
    lines = label_cells(path)
    if path.suffix != _CSV:
        yield from lines
        return
    _, header = next(lines, (1, []))
    places = [_place(path, 1, header, name) for name in (_NAME, column)]
    for number, cells in lines:
        yield number, [cells[place] for place in places] if len(cells) == len(header) else cells


def read_list(path: Path, columns: Sequence[str]) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
    """Return image ids, n of them, and the numbers (n, columns) of one of CelebA's list files.

    Raises
    ------
    UserError
        If it cannot be read or is malformed; it names the line.
    """
    is_csv = path.suffix == _CSV
    lines = label_cells(path)
    count = None if is_csv else next(lines, (1, [""]))[1]
    at, header = next(lines, (1 if is_csv else 2, []))
    if not is_csv and header[:1] != [_NAME]:
        header = [_NAME, *header]  # the authors' header names it in some files only
    own, *places = (_place(path, at, header, name) for name in (_NAME, *columns))
    others = [place for place in range(len(header)) if place != own]
    values: dict[str, npt.NDArray[np.float32]] = {}
    for number, cells in lines:
        if len(cells) != len(header):
            raise UserError(f"{path}: line {number} has {len(cells) - 1} values, the header names {len(others)}.")
        image_id = cells[own]
        if image_id in values:
            raise UserError(f"{path}: line {number} names {image_id} a second time.")
        try:
            values[image_id] = np.array([cells[place] for place in places], np.float32)
        except ValueError as error:
            raise UserError(f"{path}: line {number} has a value that is no number.") from error
        if not (np.abs(values[image_id]) <= _LARGEST_PX).all():
            raise UserError(f"{path}: line {number} has a value that is not finite, or over {_LARGEST_PX:,} pixels.")
    if count is not None and count != [str(len(values))]:
        says = " ".join(count)
        raise UserError(f"{path}: line 1 says {says!r} rows, there are {len(values)}; is it cut short?")
    return tuple(values), np.array(list(values.values()), np.float32).reshape(len(values), len(columns))


def read_aligned(path: Path | None, row_of: dict[str, int], columns: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return a file's numbers in the order of ``row_of``, NaN where it has no row or there is no file."""
    result = np.full((len(row_of), len(columns)), np.nan, np.float32)
    if path is not None:
        image_ids, values = read_list(path, columns)
        known = [(row_of[name], row) for row, name in enumerate(image_ids) if name in row_of]
        if known:
            target, source = np.array(known).T
            result[target] = values[source]
    return result


def _place(path: Path, line: int, header: Sequence[str], name: str) -> int:
    if name not in header:
        raise UserError(f"{path}: line {line} does not name the column {name}.")
    return header.index(name)
