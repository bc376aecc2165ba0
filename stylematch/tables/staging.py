"""A run's folder before it is published: all is written beside OUT and appears there by one rename.

- Beside ``out`` stand, hidden, ``.out.stylematch-staging-RUN`` (the run being written),
  ``.out.stylematch-old-RUN`` (what it replaced, about to be removed) and ``.out.stylematch-lock`` (held by
  one run at a time, gone at its end).
- ``check`` decides from what is there: start, resume, or nothing to do. What is not ours is refused, never
  touched.
- ``prepare`` keeps the shards whose sidecars hold (size and sha256) and drops everything else in the staging
  folder.
- ``publish`` swaps the folders: one rename where OUT is absent or empty, Linux's exchange of two names where
  OUT holds a finished run, or, on a file system without it, two renames; a kill between those two is mended
  by the next ``with``.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from types import TracebackType

from stylematch.errors import StylematchError, UserError
from stylematch.tables.contract import TABLES
from stylematch.tables.disk import NOT_ALLOWED, TEMPORARY_SUFFIX, explained, sync_directory, sync_tree
from stylematch.tables.exchange import exchange
from stylematch.tables.lock import acquire_lock, release_lock
from stylematch.tables.manifest import MANIFEST, read_manifest
from stylematch.tables.out import check_out, hidden_prefix, replaceable
from stylematch.tables.shards import is_done, is_whole, shard_path, sidecar_path
from stylematch.tables.shown import shown

_WRONG_PLACE = (*NOT_ALLOWED, errno.ENAMETOOLONG, errno.ENOTDIR, errno.ENOENT)


class Decision(StrEnum):
    """What is to be done for a run, seen from what OUT and its neighbours hold."""

    START = "start"
    RESUME = "resume"
    NOTHING = "nothing"


def nothing_to_do(out: Path, run_id: str) -> str:
    """Return what a person is told of ``Decision.NOTHING``."""
    return f"Nothing to do: {shown(out)} already holds this run ({run_id}); --overwrite repeats it."


def put_back(out: Path) -> None:
    """Undo the first of the two renames that ``publish`` may take, if a kill came before the second."""
    if not out.exists():
        for old in _siblings(out, "old-"):
            if read_manifest(old) is not None:
                with explained("put back", out):
                    old.rename(out)
                return


def _siblings(out: Path, kind: str) -> list[Path]:
    prefix = hidden_prefix(out) + kind
    return sorted(path for path in out.parent.iterdir() if path.name.startswith(prefix))


class Staging:
    """The staging folder of one run, locked while the ``with`` block lasts.

    Parameters
    ----------
    out : Path
        Where the run will be published. A link to a folder is followed. Its parents are made.
    run_id : str
        Two runs with an equal ``run_id`` write equal tables, so the second goes on where the first stopped.
    overwrite : bool
        Write the run again even if OUT holds it, finished.
    over_damaged : bool
        OUT holds a run of ours whose manifest cannot be read, as the caller has seen; it is replaced as a finished one.

    Raises
    ------
    UserError
        OUT cannot take a run (see ``check_out``), its parent is not writable, or another run into it is under
        way.
    """

    def __init__(self, out: Path, run_id: str, *, overwrite: bool = False, over_damaged: bool = False) -> None:
        self._over_damaged = over_damaged
        self.out = self._check_out(out)
        self.run_id = run_id
        self.overwrite = overwrite
        self._prefix = hidden_prefix(self.out)
        self.directory = self.out.with_name(f"{self._prefix}staging-{run_id[:16]}")
        self._old = self.out.with_name(f"{self._prefix}old-{run_id[:16]}")
        self._lock_path = self.out.with_name(f"{self._prefix}lock")
        self._done: frozenset[int] = frozenset()

    def __enter__(self) -> Staging:
        try:
            with explained("make", self.out):
                self.out.parent.mkdir(parents=True, exist_ok=True)
                self._lock = self._acquire_lock()
        except StylematchError as error:
            # A full disk is not the user's mistake; a folder that cannot be written to is.
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno in _WRONG_PLACE:
                raise UserError(
                    f"cannot write to {shown(self.out.parent)}, where --out goes: {cause.strerror}: "
                    "name a folder that you may write to"
                ) from error
            raise
        try:
            put_back(self.out)
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        release_lock(self._lock_path, self._lock)

    def _check_out(self, out: Path) -> Path:
        return replaceable(out, f"--out {shown(out)}") if self._over_damaged else check_out(out)

    def _acquire_lock(self) -> int:
        busy = f"another run is writing to {shown(self.out)}: wait for it or choose another --out"
        return acquire_lock(self._lock_path, busy)

    def _siblings(self, kind: str) -> list[Path]:
        return _siblings(self.out, kind)

    def table(self, name: str) -> Path:
        """Return the folder in which table ``name``'s shards are staged."""
        return self.directory / name

    def check(self) -> Decision:
        """Say what is to be done; a finished run of which a shard is missing or has another size is made again.

        Removes nothing but what lies over beside a finished OUT.
        """
        self._check_out(self.out)
        manifest = read_manifest(self.out)
        is_this = manifest is not None and manifest["run_id"] == self.run_id
        if is_this and not self.overwrite and is_whole(self.out, (manifest or {}).get("outputs", ())):
            self._remove(self._siblings("staging-") + self._siblings("old-"))
            return Decision.NOTHING
        return Decision.RESUME if self.directory.is_dir() else Decision.START

    def prepare(self, tables: Iterable[str] = TABLES, *, keep: Iterable[str] = ()) -> frozenset[int]:
        """Make the staging folder fit to write to and return the numbers of the partitions that are done.

        A partition is done when each table's shard is. Other files of the staging folder, torn shards among
        them, and the staging folders of other runs into this OUT are removed; what lies under the folders in
        ``keep`` (relative) stays.

        Raises
        ------
        StylematchError
            The folder cannot be made or cleaned.
        """
        tables = tuple(tables)
        self._remove([path for path in self._siblings("staging-") if path != self.directory])
        with explained("write", self.directory):
            for name in tables:
                self.table(name).mkdir(parents=True, exist_ok=True)
            numbers = {int(p.stem[5:]) for p in self.table(tables[0]).glob("part-*.parquet") if p.stem[5:].isdigit()}
            self._done = frozenset(n for n in numbers if all(is_done(self.table(t), n) for t in tables))
            kept = {shard_path(self.table(t), n) for t in tables for n in self._done}
            kept |= {sidecar_path(self.table(t), n) for t in tables for n in self._done}
            spared = [self.directory / name for name in keep]
            for path in [p for p in self.directory.rglob("*") if p.is_symlink() or not p.is_dir()]:
                if path not in kept and not any(path.is_relative_to(folder) for folder in spared):
                    path.unlink()
        return self._done

    def publish(self) -> None:
        """Make the staged folder, which holds its manifest, appear as OUT; a finished run is replaced.

        Raises
        ------
        StylematchError
            The rename failed; what was in OUT is still there, or comes back with the next run.
        UserError
            Something that is not ours came into OUT meanwhile.
        """
        if not (self.directory / MANIFEST).is_file():
            raise ValueError(f"{self.directory} has no {MANIFEST}: only a finished run is published")
        self._check_out(self.out)
        with explained("publish", self.out):
            for unfinished in list(self.directory.rglob(f".*{TEMPORARY_SUFFIX}")):  # of a worker that died on its way
                unfinished.unlink(missing_ok=True)
            sync_tree(self.directory)
            if not self.out.exists() or not any(self.out.iterdir()):
                self.directory.rename(self.out)
            elif not exchange(self.directory, self.out):
                self._remove([self._old])
                self.out.rename(self._old)
                self.directory.rename(self.out)
            sync_directory(self.out.parent)
        self._remove(self._siblings("staging-") + self._siblings("old-"))

    def _remove(self, paths: Iterable[Path]) -> None:
        for path in paths:
            with explained("remove", path):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
