"""Which files have to be read tonight, and where the features of all the others stand: joins over Parquet, by DuckDB.

Tonight's listing meets what is known of files (by path, bytes and stamp) and the kept features (by photo_id). DuckDB
spills to disk, so a listing of any length takes a fixed amount of memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from stylematch.data.listing import Listing
from stylematch.pipelines.nights import feature_sql as sql
from stylematch.pipelines.nights.feature_footers import Footers
from stylematch.pipelines.nights.feature_store import FILES, PENDING, FeatureStore, files_schema, photo_features_schema
from stylematch.pipelines.nights.night_lists import PLAN_COLUMNS, TODO_COLUMNS, write_plan, write_todo
from stylematch.tables.contract import LOST, UNSETTLED
from stylematch.tables.disk import explained

_FETCHED_ROWS = 10_000
_MEMORY = "1GB"


@dataclass(frozen=True)
class Changes:
    """How tonight's files differ from those of the last snapshot.

    Attributes
    ----------
    new, changed, kept, gone : int
        Paths that were not there, whose contents differ, whose contents are equal or may not be read tonight, and that
        are no longer there.
    before : int
        Files of the last snapshot.
    """

    new: int
    changed: int
    kept: int
    gone: int
    before: int


class FeaturePlan:
    """What is known of tonight's files.

    Parameters
    ----------
    store : FeatureStore
        What is kept.
    footers : Footers
        What is known of the store's files; the same for all plans of a night.
    found : pathlib.Path
        What ``write_found`` wrote.
    scratch : pathlib.Path
        Where DuckDB may spill.
    thumbnails : bool
        Features without a thumbnail do not count, as the gallery is asked for.
    max_bytes : int
        Larger files are never looked into, as in ``score``: their size is all that is known of them.
    not_looked_at : sequence of str
        Paths of files and folders that are there, but that tonight may not even be looked at. Tonight they are as
        unreadable as in ``score``, but what is known of them, and of what lies in them, and its features are spared,
        for a right that was taken may come back.

    Attributes
    ----------
    damaged : set of str
        Files of the store that cannot be read, which count as not there.
    files_known, files_pending : list of str
        The files of the store that it was made of.
    """

    def __init__(
        self,
        store: FeatureStore,
        footers: Footers,
        found: Path,
        scratch: Path,
        *,
        thumbnails: bool,
        max_bytes: int,
        not_looked_at: Sequence[str] = (),
    ) -> None:
        import duckdb
        import pyarrow.dataset as ds

        self._connection, self._max_bytes = duckdb.connect(), max_bytes
        connection = self._connection
        connection.execute(f"SET memory_limit = '{_MEMORY}'")
        connection.execute("SET temp_directory = $folder", {"folder": str(scratch / "spill")})
        shards = store.shards()
        self.files_known, self.files_pending = _parquet(store, FILES), _parquet(store, PENDING)
        photos, faces = ([f"{store.folder}/{table}/{name}" for name in shards] for table in ("photos", "faces"))
        lost_faces = footers.damaged(faces, store.faces_schema())
        self.damaged = lost_faces.copy()
        # A shard's two files count together or not at all.
        lost = {photo for photo, face in zip(photos, faces, strict=True) if face in lost_faces}
        # A night that failed while it tidied up leaves two: the newer one says all that the older said.
        _, damaged_files = footers.dataset(self.files_known, files_schema(), without=set())
        self.damaged |= damaged_files
        whole = [file for file in self.files_known if file not in damaged_files]
        for name, schema, files in (
            ("files", files_schema(), whole[-1:]),
            ("pending", files_schema(), self.files_pending),
            ("features", photo_features_schema(), photos),
        ):
            data, damaged = footers.dataset(files, schema, without=lost)
            self.damaged |= damaged
            connection.register(name, data)
        connection.register("found", ds.dataset(found))
        connection.execute(sql.KNOWN)
        connection.execute(sql.KEPT, {"thumbnails": thumbnails, "unsettled": sorted(UNSETTLED)})
        connection.execute(sql.PLAN, {"max_bytes": max_bytes, "lost": sorted(LOST)})
        connection.register("not_looked_at", pa.table({"place": pa.array(not_looked_at, pa.string())}))
        for statement in (sql.UNSEEN, sql.SPARED, sql.LIVE):
            connection.execute(statement)

    def __enter__(self) -> FeaturePlan:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def damaged_shards(self) -> list[str]:
        """Return the names of the shards that cannot be read."""
        return sorted({file.rpartition("/")[2] for file in self.damaged if not file.startswith((FILES, PENDING))})

    def gone(self) -> tuple[int, int]:
        """Return how many files of the last snapshot are gone, and how many it had."""
        query = """
            SELECT count(*) FILTER (
                path NOT IN (SELECT path FROM found) AND path NOT IN (SELECT path FROM unseen)), count(*)
            FROM files
        """
        gone, before = self._connection.execute(query).fetchone() or (0, 0)
        return gone, before

    def moved(self) -> int:
        """Return how many of those that are gone stand under another path: equal in bytes and stamp."""
        return (self._connection.execute(sql.MOVED).fetchone() or (0,))[0]

    def last_seen(self) -> int:
        """Return when the last of what is known of files was seen, in nanoseconds since 1970; 0 where nothing is."""
        query = "SELECT coalesce(max(seen), 0) FROM (SELECT seen FROM files UNION ALL SELECT seen FROM pending)"
        return (self._connection.execute(query).fetchone() or (0,))[0]

    def spared(self) -> int:
        """Return how many known photos may not be looked at tonight."""
        return (self._connection.execute("SELECT count(*) FROM spared").fetchone() or (0,))[0]

    def changes(self) -> Changes:
        """Return how the files differ from the last snapshot's, once all contents are known."""
        new, changed, kept = self._connection.execute(sql.CHANGES).fetchone() or (0, 0, 0)
        return Changes(new, changed, kept, *self.gone())

    def files_are_as_before(self) -> bool:
        """Return whether what is known of files is what the last snapshot left, to the stamp."""
        return bool((self._connection.execute(sql.AS_BEFORE).fetchone() or (False,))[0])

    def write_todo(self, path: Path, *, verify_since: int | None) -> Listing:
        """Write the files that have to be read: unknown, changed, without features, or with unsettled ones.

        Parameters
        ----------
        path : pathlib.Path
            The file of lines to write.
        verify_since : int, optional
            Also those that were not read since then (nanoseconds since 1970).
        """
        query = f"SELECT {TODO_COLUMNS} FROM plan WHERE unsettled OR seen < $since ORDER BY number"  # noqa: S608
        return write_todo(self._rows(query, since=verify_since or 0), path)

    def write_known_ids(self, path: Path) -> None:
        """Write the photo_ids that have settled features, sorted, 16 bytes each."""
        with explained("write", path), path.open("wb") as stream:
            for (photo_id,) in self._rows("SELECT photo_id FROM kept WHERE NOT unsettled ORDER BY photo_id"):
                stream.write(bytes.fromhex(photo_id))

    def write_plan(self, path: Path) -> Listing:
        """Write where the features of every photo stand, in the listing's order, with the listing's digest."""
        return write_plan(self._rows(f"SELECT {PLAN_COLUMNS} FROM plan ORDER BY number"), path)  # noqa: S608

    def files(self, seen: int) -> Iterator[dict[str, list[Any]]]:
        """Yield what is known of tonight's files and of the spared ones, in columns of ``files_schema``."""
        names = files_schema().names
        rows = self._rows(
            """
            SELECT path, bytes, stamp, photo_id, reason, message, coalesce(seen, $seen) FROM (
                SELECT * EXCLUDE (shard, "row", unsettled, was_lost) FROM plan
                WHERE path NOT IN (SELECT path FROM spared)
                UNION ALL BY NAME FROM spared)
            ORDER BY number
            """,
            seen=seen,
        )
        while chunk := list(islice(rows, _FETCHED_ROWS)):
            yield {name: list(column) for name, column in zip(names, zip(*chunk, strict=True), strict=True)}

    def unsettled(self) -> int:
        """Return how many photos another night might see otherwise, though nothing has changed."""
        return (self._connection.execute("SELECT count(*) FROM plan WHERE unsettled").fetchone() or (0,))[0]

    def unexplained(self) -> int:
        """Return how many photos have neither features nor a reason why there are none."""
        query = "SELECT count(*) FROM plan WHERE shard IS NULL AND reason IS NULL AND bytes <= $max_bytes"
        return (self._connection.execute(query, {"max_bytes": self._max_bytes}).fetchone() or (0,))[0]

    def live_rows(self) -> dict[str, int]:
        """Return how many different photos of tonight, or spared ones, stand in each shard."""
        query = "SELECT shard, count(DISTINCT photo_id) FROM live GROUP BY shard"
        return dict(self._connection.execute(query).fetchall())

    def rows_of_shards(self) -> dict[str, int]:
        """Return how many photos each shard holds."""
        return dict(self._connection.execute("SELECT shard, count(*) FROM features GROUP BY shard").fetchall())

    def live_in(self, shards: list[str]) -> Iterator[tuple[str, int]]:
        """Yield where tonight's photos and spared ones stand in some shards, in the order of the listing, each once."""
        query = """
            SELECT shard, "row" FROM live WHERE shard IN (SELECT unnest($shards))
            GROUP BY shard, "row" ORDER BY min(number)
        """
        return self._rows(query, shards=shards)

    def _rows(self, query: str, **values: Any) -> Iterator[Any]:
        with self._connection.cursor() as cursor:
            result = cursor.execute(query, values)
            while rows := result.fetchmany(_FETCHED_ROWS):
                yield from rows


def _parquet(store: FeatureStore, folder: str) -> list[str]:
    return [f"{folder}/{name}" for name in store.place.list(folder) if name.endswith(".parquet")]
