"""The store's Parquet files by their footers: which of them can be read, each opened once a night.

A truncated file costs a night what it held, never every later night. No file of the store ever changes (names are
never used twice), so what one step of a night saw of it holds for the next.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from stylematch.tables.place import Place
from stylematch.tables.shards import verified_parquet

_OPENED_AT_ONCE = 8
_READ_BYTES = 8 << 20


class Footers:
    """The files of one place whose footers were read.

    Parameters
    ----------
    place : Place
        OUT.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._format = verified_parquet()
        self._fits: dict[str, bool] = {}
        self._fragments: dict[str, Any] = {}

    def damaged(self, files: Sequence[str], schema: pa.Schema) -> set[str]:
        """Return the files that are missing, cut off, or have other columns.

        Parameters
        ----------
        files : sequence of str
            Their names in the place.
        schema : pyarrow.Schema
            What they should hold.

        Raises
        ------
        StylematchError
            If the disk or the server fails, which says nothing of a file.
        """
        self._look([file for file in files if file not in self._fits], schema, keep=False)
        return {file for file in files if not self._fits[file]}

    def left_out(self, file: str) -> bool:
        """Return whether a file is known as damaged."""
        return not self._fits.get(file, True)

    def leave_out(self, files: set[str]) -> None:
        """Count files as damaged from now on, though their footers are whole."""
        self._fits |= dict.fromkeys(files, False)
        self._fragments |= dict.fromkeys(files)

    def dataset(self, files: Sequence[str], schema: pa.Schema, *, without: set[str]) -> tuple[Any, set[str]]:
        """Return the files that can be read as one data set, which keeps their footers, and those that are damaged.

        Parameters
        ----------
        files, schema
            As for ``damaged``.
        without : set of str
            Files that are looked at, but left out of the data set.

        Raises
        ------
        StylematchError
            As for ``damaged``.
        """
        self._look([file for file in files if file not in self._fragments], schema, keep=True)
        damaged = {file for file in files if not self._fits[file]}
        kept = [self._fragments[file] for file in files if file not in damaged | without]
        if not kept:
            return schema.empty_table(), damaged
        return ds.FileSystemDataset(kept, schema, self._format, self._place.filesystem), damaged

    def _look(self, files: Sequence[str], schema: pa.Schema, *, keep: bool) -> None:
        """Read footers; keep them, or only whether they can be read: those of faces are large."""
        with ThreadPoolExecutor(_OPENED_AT_ONCE) as pool:
            for file, fragment in zip(files, pool.map(lambda file: self._open(file, schema), files), strict=True):
                self._fits[file] = fragment is not None
                if keep:
                    self._fragments[file] = fragment

    def _open(self, file: str, schema: pa.Schema) -> Any:
        """Return a file with its footer, None if it is damaged."""
        with self._place.explained("read", file):
            try:
                return self._fragment(file, schema)
            except (FileNotFoundError, pa.ArrowInvalid):
                return None
            except OSError:  # Arrow's also of a footer that is none
                read_through(self._place, file)
            with contextlib.suppress(OSError, pa.ArrowInvalid):
                return self._fragment(file, schema)
            return None

    def _fragment(self, file: str, schema: pa.Schema) -> Any:
        fragment = self._format.make_fragment(self._place.key(file), self._place.filesystem)
        fragment.ensure_complete_metadata()
        return fragment if fragment.physical_schema.equals(schema) else None


def read_through(place: Place, file: str) -> None:
    """Read a file to its end: where Arrow cannot read it though this can be done, twice, it is damaged.

    Raises
    ------
    StylematchError
        The disk or the server fails, which says nothing of the file.
    """
    with place.open(file) as stream, place.explained("read", file):
        while stream.read(_READ_BYTES):
            pass
