"""Which files of the store cannot be read: a truncated one costs a night what it held, never every later night."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from stylematch.tables.place import Place

_OPENED_AT_ONCE = 8


def damaged_files(place: Place, files: Sequence[str], schema: pa.Schema) -> set[str]:
    """Return the Parquet files that are missing, cut off, or have other columns, by their footers.

    Parameters
    ----------
    place : Place
        OUT.
    files : sequence of str
        Their names in it.
    schema : pyarrow.Schema
        What they should hold.

    Raises
    ------
    StylematchError
        If the disk or the server fails, which says nothing of a file.
    """
    with ThreadPoolExecutor(_OPENED_AT_ONCE) as pool:
        fits = pool.map(lambda file: _fits(place, file, schema), files)
        return {file for file, fit in zip(files, fits, strict=True) if not fit}


def _fits(place: Place, file: str, schema: pa.Schema) -> bool:
    import pyarrow.parquet as pq

    with place.explained("read", file):
        try:
            with place.filesystem.open_input_file(place.key(file)) as stream:
                return bool(pq.read_schema(stream).equals(schema))
        except (FileNotFoundError, pa.ArrowInvalid):
            return False
        except OSError as error:
            if "thrift" in str(error).lower():  # Parquet's word for a footer that is no footer
                return False
            raise
