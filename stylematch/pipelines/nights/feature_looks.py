"""What was learned of files by opening them, such as the ETags of a bucket's objects, kept from night to night.

They are one Parquet file in the folder of the features, since the code that tells pictures by their first bytes is part
of the fingerprint. It is written in the order of the walk and named by its contents, so an equal one is there already.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pyarrow as pa

from stylematch.data.looks import Look, Looks
from stylematch.errors import StylematchError
from stylematch.pipelines.nights.feature_store import FeatureStore
from stylematch.tables.disk import file_sha256
from stylematch.tables.shards import shard_path
from stylematch.tables.writer import ShardWriter

_ROWS = 8192


def looks_schema() -> pa.Schema:
    """Return the schema of kept looks: the attributes of ``Look``."""
    return pa.schema(
        [
            pa.field("raw_path", pa.binary(), nullable=False),
            pa.field("bytes", pa.int64(), nullable=False),
            pa.field("stamp", pa.string(), nullable=False),
            pa.field("is_picture", pa.bool_(), nullable=False),
            pa.field("settled_ns", pa.int64()),
        ]
    )


class KeptLooks:
    """A ``with`` block around a walk that uses ``looks``; after it, ``publish`` keeps them.

    Parameters
    ----------
    store : FeatureStore
        Where they are kept.
    scratch : pathlib.Path
        A folder for what is not finished, on OUT's disk if OUT is on this machine.
    again : bool
        Look into all files, whatever is known.
    """

    def __init__(self, store: FeatureStore, scratch: Path, *, again: bool) -> None:
        self._store, self._scratch = store, scratch / "looks"
        self._folder = f"{store.folder}/looks"
        self._kept = {name: size for name, size in store.place.list(self._folder).items() if name.endswith(".parquet")}
        self._waiting: list[Look] = []
        self._damaged = False
        # A kill between two steps of ``publish`` leaves two files; which one is read is all the same.
        self.looks = Looks(self._read(next(iter(self._kept), None) if not again else None), self._keep)

    def __enter__(self) -> KeptLooks:
        self._writer = ShardWriter(self._scratch, 0, looks_schema(), row_group_rows=_ROWS)
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._write()
        self._writer.__exit__(kind, error, trace)

    def publish(self) -> None:
        """Put tonight's looks in the place of all earlier ones."""
        name, place = None, self._store.place
        if self._writer.rows:
            file = shard_path(self._scratch, 0)
            name = f"{file_sha256(file)[:32]}.parquet"
            if self._damaged or self._kept.get(name) != file.stat().st_size:
                place.take(file, f"{self._folder}/{name}")
        for old in self._kept:
            if old != name:
                place.remove(f"{self._folder}/{old}")

    def _keep(self, look: Look) -> None:
        self._waiting.append(look)
        if len(self._waiting) == _ROWS:
            self._write()

    def _write(self) -> None:
        if not self._waiting:
            return
        names = looks_schema().names
        self._writer.write({name: [getattr(look, name) for look in self._waiting] for name in names})
        self._waiting = []

    def _read(self, name: str | None) -> Iterator[Look]:
        """Yield kept looks; what cannot be read is not known, which costs a look a file."""
        import pyarrow.parquet as pq

        if name is None:
            return
        try:
            with (
                self._store.place.open(f"{self._folder}/{name}") as stream,
                pq.ParquetFile(stream, page_checksum_verification=True) as file,
            ):
                for batch in file.iter_batches(_ROWS):
                    for row in batch.cast(looks_schema()).to_pylist():
                        yield Look(**row)
        except (OSError, ValueError, pa.ArrowException, StylematchError):
            self._damaged = True
