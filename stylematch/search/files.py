"""Reading and writing the vectors of an index: FAISS's own file, and whole arrays."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import faiss
import numpy as np
import numpy.typing as npt

from stylematch.errors import StylematchError, UserError
from stylematch.tables.disk import durable_file
from stylematch.tables.shown import shown

INDEX_FILE = "index.faiss"


def write_faiss(index: Any, directory: Path) -> None:
    """Write ``index.faiss`` without a second copy in memory.

    Raises
    ------
    StylematchError
        The file cannot be written.
    """
    path = directory / INDEX_FILE
    with durable_file(path) as file:
        try:
            faiss.write_index(index, _name_of(file))
        except RuntimeError as error:  # FAISS's word for a full disk
            raise StylematchError(f"could not write {shown(path)}: {error}; make room and run it again") from error


def read_faiss(directory: Path, *, mapped: bool) -> Any:
    """Read ``index.faiss``; ``mapped`` leaves its arrays on disk, to be paged in as they are used.

    Raises
    ------
    UserError
        If it is missing or damaged.
    """
    path = directory / INDEX_FILE
    try:
        with path.open("rb") as file:
            return faiss.read_index(_name_of(file), faiss.IO_FLAG_MMAP_IFC if mapped else 0)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{shown(path)} cannot be read ({type(error).__name__}); build the index again.") from error


def write_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write an array as ``.npy``."""
    with durable_file(path) as file:
        np.save(file, np.ascontiguousarray(array), allow_pickle=False)


def read_array(path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike, *, mapped: bool) -> npt.NDArray[Any]:
    """Read an array of a known shape and kind.

    Raises
    ------
    UserError
        If it is missing, damaged or another one.
    """
    try:
        array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{shown(path)} cannot be read ({type(error).__name__}); build the index again.") from error
    if array.shape != shape or array.dtype != dtype:
        raise UserError(
            f"{shown(path)} holds {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}; build the index again."
        )
    return array


def _name_of(file: IO[bytes]) -> str:
    # FAISS opens UTF-8 names only; a path may be any bytes.
    return f"/dev/fd/{file.fileno()}"


def halves_of(stored: Any) -> npt.NDArray[np.float16]:
    """Return a view (n, d) of the half floats that a FAISS ``IndexScalarQuantizer`` holds; they are its codes."""
    size = stored.ntotal * stored.d * 2
    halves = faiss.rev_swig_ptr(stored.codes.data(), size).view(np.float16).reshape(stored.ntotal, stored.d)
    halves.flags.writeable = False
    return halves
