"""Dated snapshots below one place, and a pointer to the latest that always names a whole one.

- ``snapshots/YYYY-MM-DD`` is a finished run; ``manifest.json`` makes it one, and comes last.
- On this machine a snapshot appears by one rename, and ``latest`` is a link that is replaced by one rename.
- In a bucket it is uploaded under its dated prefix, or, where that night has been published before, under
  ``YYYY-MM-DD.RUN``; then one PUT of ``latest.json`` names it, and what it replaced is removed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

from stylematch.errors import StylematchError, UserError
from stylematch.tables.contract import TABLES
from stylematch.tables.disk import NOT_ALLOWED, explained, sync_directory, temporary_path
from stylematch.tables.manifest import MANIFEST, TOOL, parse_manifest, parse_object
from stylematch.tables.night_names import SNAPSHOTS, night_of
from stylematch.tables.place import Place
from stylematch.tables.shards import DONE_DIRECTORY, parse_sidecar
from stylematch.tables.shown import shown
from stylematch.tables.summary import SUMMARY, parse_summary

LATEST, MARKER = "latest", "export.json"
_PARTS = {MANIFEST, SUMMARY, "report", *TABLES}
_LAYOUT = {"tool": TOOL, "layout": 1}
REQUESTS_AT_ONCE = 8


class Snapshots:
    """The snapshots of one place.

    Parameters
    ----------
    place : Place
        OUT.
    """

    def __init__(self, place: Place) -> None:
        self.place = place

    def claim(self) -> None:
        """Make OUT, or see that it is ours.

        Raises
        ------
        UserError
            It holds other things, or nothing can be written there.
        """
        directory = self.place.directory
        if directory is not None:
            try:
                directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f"out: {self.place} cannot be made: {error.strerror}; name another folder.") from error
            link = directory / LATEST
            if link.exists() and not link.is_symlink():
                raise UserError(
                    f"out: {shown(link)} is no link to the newest night: move it away, for that goes there."
                )
        there = self.place.list()  # before the marker is read: another first night may be writing it
        marker = self.place.read(MARKER)
        layout = parse_object(marker)
        if marker is not None and not layout:
            raise UserError(
                f"out: {self.place}/{MARKER} is damaged: if an export made that folder, put the line "
                f"{json.dumps(_LAYOUT, sort_keys=True)} there; else name a folder of its own."
            )
        if marker is not None and layout != _LAYOUT:
            raise UserError(
                f"out: {self.place} holds an {MARKER} of another tool, or of another version of this one: name a "
                "folder of its own."
            )
        if marker is None:
            # lost+found is of the root of a volume, not of anybody.
            if foreign := [name for name in there if not name.startswith(".") and name != "lost+found"]:
                raise UserError(
                    f"out: {self.place} holds {shown(foreign[0])} and no earlier export: name a folder of its own."
                )
            try:
                self.place.write(MARKER, (json.dumps(_LAYOUT, sort_keys=True) + "\n").encode())
            except StylematchError as error:
                if isinstance(error.__cause__, OSError) and error.__cause__.errno in NOT_ALLOWED:
                    raise UserError(f"out: {error}; name a folder that you may write to.") from error
                raise

    def finished(self, day: date | None = None) -> dict[str, str]:
        """Return the finished snapshots, of one night or of all, sorted: folder name and date.

        In a bucket that is a request for each of them.
        """
        nights = {name: night for name in self.place.list(SNAPSHOTS) if (night := night_of(name))}
        return {
            name: night.isoformat()
            for name, night in nights.items()
            if day in (None, night) and self._has_manifest(name)
        }

    def _has_manifest(self, name: str) -> bool:
        return MANIFEST in self.place.list(f"{SNAPSHOTS}/{name}")

    def without_manifest(self, finished: Collection[str]) -> list[str]:
        """Return the nights beside ``finished`` that have all but a manifest, which no upload can have left here."""
        if self.place.directory is None:  # where the manifest comes last, so that a night without one never was
            return []
        rows = {
            name: [self._rows(f"{SNAPSHOTS}/{name}/{table}") for table in TABLES]
            for name in self.place.list(SNAPSHOTS)
            if night_of(name) and name not in finished
        }
        return [name for name, counts in rows.items() if any(counts) and None not in counts]

    def summary(self, name: str) -> dict[str, Any]:
        """Return the summary of a snapshot; empty where there is none, or it is damaged."""
        return parse_summary(self.place.read(f"{SNAPSHOTS}/{name}/{SUMMARY}"))

    def manifest(self, name: str) -> dict[str, Any]:
        """Return the manifest of a snapshot; empty where there is none, or it is damaged."""
        return parse_manifest(self.place.read(f"{SNAPSHOTS}/{name}/{MANIFEST}")) or {}

    def is_whole(self, name: str) -> bool:
        """Return whether all that a snapshot's manifest names is there, and of each table every shard in its size."""
        folder, manifest = f"{SNAPSHOTS}/{name}", self.manifest(name)
        if not set(manifest.get("outputs", ())) <= self.place.list(folder).keys():
            return False
        counts = manifest.get("counts", {})
        return all(
            self._rows(f"{folder}/{table}") == counts.get("found" if table == "photos" else table) for table in TABLES
        )

    def _rows(self, table: str) -> int | None:
        """Return how many rows a table has by its sidecars; None where a shard is not what its own says."""
        sizes = self.place.list(table)
        sidecars = [name for name in self.place.list(f"{table}/{DONE_DIRECTORY}") if not name.startswith(".")]
        rows = 0
        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            read = pool.map(lambda name: self.place.read(f"{table}/{DONE_DIRECTORY}/{name}"), sidecars)
            for name, info in zip(sidecars, map(parse_sidecar, read), strict=True):
                if info is None or sizes.get(f"{name.removesuffix('.json')}.parquet") != info.bytes:
                    return None
                rows += info.rows
        return rows

    def is_damaged(self, name: str) -> bool:
        """Return whether what lies in a snapshot's place is one without a manifest that can be read.

        Raises
        ------
        UserError
            It is not of an export, or holds what no export wrote.
        """
        entries = self._entries(name)
        if not entries or self.run_id(name) is not None:
            return False
        if not self._is_ours(name):
            raise UserError(f"{self.place}/{SNAPSHOTS}/{name} is no snapshot: move it away, for tonight's goes there")
        if foreign := sorted(entries - _PARTS):
            raise UserError(
                f"{self.place}/{SNAPSHOTS}/{name} holds {shown(foreign[0])} beside a damaged snapshot, which tonight's "
                "would delete: move it away"
            )
        return True

    def _entries(self, name: str) -> set[str]:
        return {entry for entry in self.place.list(f"{SNAPSHOTS}/{name}") if not entry.startswith(".")}

    def _is_ours(self, name: str) -> bool:
        """Return whether an export made a folder, by its manifest, or, where none can be read, by what lies there."""
        if manifest := parse_object(self.place.read(f"{SNAPSHOTS}/{name}/{MANIFEST}")):
            return manifest.get("tool") == TOOL
        return set() < self._entries(name) <= _PARTS

    def run_id(self, name: str) -> str | None:
        """Return the name of a snapshot's run."""
        return self.manifest(name).get("run_id")

    def latest(self) -> str | None:
        """Return the snapshot that the pointer names."""
        if self.place.directory is not None:
            link = self.place.directory / LATEST
            return link.readlink().name if link.is_symlink() else None
        name = parse_object(self.place.read(f"{LATEST}.json")).get("snapshot")
        return name if isinstance(name, str) else None

    def point_to(self, name: str) -> str | None:
        """Let the pointer name a snapshot, unless it names a later night's; return the one that it keeps then."""
        now = self.latest()
        if now == name:
            return None
        if now is not None and now[:10] > name[:10] and self._has_manifest(now):
            return now
        if self.place.directory is None:
            content = {
                "snapshot": name,
                "snapshot_date": name[:10],
                "path": f"{SNAPSHOTS}/{name}",
                "run_id": self.run_id(name),
            }
            self.place.write(f"{LATEST}.json", (json.dumps(content, sort_keys=True) + "\n").encode())
            return None
        link = self.place.directory / LATEST
        temporary = temporary_path(link)
        with explained("write", link):
            try:
                temporary.symlink_to(Path(SNAPSHOTS) / name)
                temporary.replace(link)
            finally:
                temporary.unlink(missing_ok=True)
            sync_directory(link.parent)
        return None

    def upload(self, staged: Path, day: date, run_id: str) -> str:
        """Upload a finished run and return its name; a reader sees it whole or not, by its manifest.

        What is published already stays until ``retire``, whatever its run: the same run may come with a gallery now.

        Parameters
        ----------
        staged : pathlib.Path
            The run's folder on this machine.
        day : datetime.date
            The night.
        run_id : str
            The run's name.
        """
        of_the_day = self.finished(day)
        name, suffix = day.isoformat(), run_id
        while of_the_day and (name == day.isoformat() or name in of_the_day):
            name = f"{day.isoformat()}.{suffix[:8]}"
            suffix = hashlib.sha256(suffix.encode()).hexdigest()
        self.place.remove(f"{SNAPSHOTS}/{name}")  # what an upload that was cut off left
        files = sorted(path for path in staged.rglob("*") if path.is_file())

        def send(path: Path) -> None:
            relative = path.relative_to(staged).as_posix()
            self.place.copy(path, f"{SNAPSHOTS}/{name}/{relative}")

        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            list(pool.map(send, (path for path in files if path.name != MANIFEST or path.parent != staged)))
        send(staged / MANIFEST)
        return name

    def retire(self, keep: int, current: str) -> list[str]:
        """Remove all but the newest ``keep`` nights, and what ``current`` replaced; return what was removed.

        What an upload that was cut off left, of any night, is removed as well: nothing would ever finish it. A folder
        that no export made stays, whatever it is called, and so does a night that lost its manifest alone.
        """
        finished = self.finished()
        nights = sorted(set(finished.values()))[-keep:]
        spared = {current, self.latest()}
        removed = [
            name
            for name, when in finished.items()
            if name not in spared and (when not in nights or when == current[:10])
        ]
        stay = {*finished, *self.without_manifest(finished), current}
        removed += [name for name in self.place.list(SNAPSHOTS) if night_of(name) and name not in stay]
        removed = [name for name in removed if self._is_ours(name)]
        for name in removed:
            self.place.remove(f"{SNAPSHOTS}/{name}")
        return removed
