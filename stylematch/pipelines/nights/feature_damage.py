"""Which files of the store are damaged inside, though their footers are whole.

Each page has a checksum, which all that reads the store verifies. A night that meets a page that is not what it was
looks through the store, once, and goes on without the files that are damaged; one that finds none has another fault,
and so has one that then meets damage again: what it has just written does not stay what it was.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from stylematch.errors import StylematchError
from stylematch.pipelines.nights.feature_footers import Footers, read_through
from stylematch.pipelines.nights.feature_store import FILES, PENDING, FeatureStore
from stylematch.search.names import some
from stylematch.tables.place import Place
from stylematch.tables.shown import shown

UNREADABLE = (OSError, ValueError, pa.ArrowException)
"""What Arrow raises of a page that it cannot read."""
_READ_AT_ONCE = 4
Result = TypeVar("Result")


class StoreReadError(StylematchError):
    """A file of the store could not be read: it is damaged, or the disk or the server failed."""


def despite_damage(attempt: Callable[[], Result], store: FeatureStore, footers: Footers) -> Result:
    """Return what ``attempt`` returns; where it meets damage, it is made again without the files that are damaged.

    Parameters
    ----------
    attempt : callable
        Reads the store, but for what is left out in ``footers``.
    store : FeatureStore
        The store.
    footers : Footers
        What is known of its files.

    Raises
    ------
    StylematchError
        If files are damaged that were written after the others had been left out, or the disk or the server fails.
    """
    import duckdb

    looked = False
    while True:
        try:
            return attempt()
        except (duckdb.Error, StoreReadError) as error:
            no_damage = isinstance(error, (duckdb.OutOfMemoryException, duckdb.IOException))
            if no_damage or not (damaged := leave_out_damaged(store, footers)):
                raise
            if looked:  # or a disk that damages all that is written would be written to for ever
                raise StylematchError(
                    f"{shown(some(sorted(damaged)))} cannot be read, moments after being written: this disk, server or "
                    "machine damages what is stored there; mend it, then run the same command again"
                ) from error
            looked = True


def leave_out_damaged(store: FeatureStore, footers: Footers) -> set[str]:
    """Look through all of the store that is not known as damaged; return what is, which counts as not there from now.

    Raises
    ------
    StylematchError
        The disk or the server fails, which says nothing of a file.
    """
    files = [f"{folder}/{name}" for folder in (FILES, PENDING) for name in store.place.list(folder)]
    files += [f"{store.folder}/{table}/{name}" for name in store.shards() for table in ("photos", "faces")]
    files = [file for file in files if file.endswith(".parquet") and not footers.left_out(file)]
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        damaged = {
            file
            for file, bad in zip(files, pool.map(functools.partial(_is_damaged, store.place), files), strict=True)
            if bad
        }
    footers.leave_out(damaged)
    return damaged


def _is_damaged(place: Place, file: str) -> bool:
    if _can_be_read(place, file):
        return False
    read_through(place, file)
    return not _can_be_read(place, file)


def _can_be_read(place: Place, file: str) -> bool:
    try:
        with place.open(file) as stream, pq.ParquetFile(stream, page_checksum_verification=True) as parquet:
            for group in range(parquet.num_row_groups):
                parquet.read_row_group(group)
    except UNREADABLE:
        return False
    return True
