"""A lease of a bucket: of runs on any machines, one at a time writes there.

pyarrow passes no condition on with a PUT (``If-None-Match``; apache/arrow issue 44281), so the lock cannot be one
object that only one run can make. Instead each run has an object of its own, and writes it before it looks for others':

- Of two that come at once, the one that wrote later sees the other, for a bucket lists all that was written before.
- Who sees one that holds the lease, or asks for it under an earlier name, takes its own object back and is refused; who
  sees one that asks under a later name waits until that one has seen it, or holds the lease after all.
- The holder writes its object again every ``RENEWED_S``. One that is not written again for ``LEFT_S`` was left by a run
  that was killed: the next one goes on without it. Nobody's clock is compared with another's.

What remains: a holder that stands still for that long (a machine that is paused, or cut off) is taken for dead. It
finds that out where it asks (``still_held``), and stops; what it sends between asking and sending is not held back.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stylematch.errors import StylematchError, UserError
from stylematch.tables.disk import write_durably
from stylematch.tables.place import Place
from stylematch.tables.shown import shown

RENEWED_S, LEFT_S = 10.0, 120.0
_LOOKED_S = 1.0
_log = logging.getLogger(__name__)


@contextmanager
def leased(place: Place, folder: str, mark: Path, what: str) -> Iterator[Callable[[], None]]:
    """Hold the lease of a place while the block lasts.

    Parameters
    ----------
    place : Place
        A bucket's.
    folder : str
        Where in it the objects of the lease lie, and nothing else.
    mark : pathlib.Path
        A file of this machine that says which object was the last run's here, which has ended: whoever calls holds a
        lock of this machine.
    what : str
        What holds it, for people: "export".

    Yields
    ------
    callable
        ``still_held``: raises a ``StylematchError`` (exit code 3) where another run has taken the lease over.

    Raises
    ------
    UserError
        Another run holds it, and is alive.
    """
    lease = _Lease(place, folder, mark, what)
    ended = threading.Event()
    renewing = threading.Thread(target=lease.renew_until, args=(ended,), daemon=True, name="lease")
    try:
        lease.acquire()
        renewing.start()
        yield lease.check
    finally:
        ended.set()
        if renewing.is_alive():
            renewing.join()
        with suppress(StylematchError):  # it is taken over once it is old
            lease.give_back()


class _Lease:
    def __init__(self, place: Place, folder: str, mark: Path, what: str) -> None:
        self._place, self._folder, self._what = place, folder, what
        # Of two that ask at once, the earlier is let in; their clocks may be wrong, and all the same only one is.
        self._name = f"{time.time_ns():020}-{secrets.token_hex(4)}.json"
        self._me = {
            "host": platform.node(),
            "process": os.getpid(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._writes, self._written_at = 0, _now()
        self._left: dict[str, bytes] = {}
        self._last_here = mark.read_text() if mark.exists() else ""
        write_durably(mark, self._name.encode())

    def acquire(self) -> None:
        while True:
            self._write(holds=False)
            others = self._others()
            if not others:
                break
            name, content = min(others.items(), key=lambda other: (not _said_in(other[1])["holds"], other[0]))
            in_the_way = _said_in(content)["holds"] or name < self._name
            if in_the_way:
                self._remove(self._name)
                _log.info(
                    "%s is held by %s: waiting until it gives a sign of life, is done, or has given none for %g s",
                    self._place,
                    self._called(content),
                    LEFT_S,
                )
            self._await_change(name, content, in_the_way)
        self._write(holds=True)
        for name, content in self._left.items():
            self._remove(name)
            _log.warning("%s is taken over from %s, which ended without a word", self._place, self._called(content))

    def _await_change(self, name: str, content: bytes, in_the_way: bool) -> None:
        """Return when another's object is gone, or can be passed over."""
        until = _now() + LEFT_S
        while (now := self._read(name)) == content:
            if _now() >= until:
                self._left[name] = content
                return
            time.sleep(_LOOKED_S)
        if in_the_way and now is not None:
            raise UserError(f"{self._called(now)} into {self._place} is under way: wait for it or stop it")

    def renew_until(self, ended: threading.Event) -> None:
        while not ended.wait(RENEWED_S) and not self._is_old():
            with suppress(StylematchError):  # tried again while there is time
                if self._read(self._name) is None:
                    return
                self._write(holds=True)

    def check(self) -> None:
        """Raise where another run may write by now."""
        if (
            self._is_old()
            or self._read(self._name) is None
            or any(_said_in(content)["holds"] for content in self._others().values())
        ):
            raise StylematchError(
                f"this {self._what} has lost {self._place} to another one, since it gave no sign of life for "
                f"{LEFT_S:g} s: is this machine paused or cut off at times? Run the same command again"
            )

    def give_back(self) -> None:
        self._remove(self._name)

    def _others(self) -> dict[str, bytes]:
        """Return what others' objects hold, but for those that were left."""
        from pyarrow import fs

        with self._place.explained("list", self._folder):
            selected = fs.FileSelector(self._place.key(self._folder), allow_not_found=True)
            entries = self._place.filesystem.get_file_info(selected)
        names = {entry.base_name for entry in entries if entry.type == fs.FileType.File} - {self._name}
        read = {name: self._read(name) for name in names}
        there = {name: content for name, content in read.items() if content is not None}
        last = there.get(self._last_here)
        if last is not None and _said_in(last)["host"] == self._me["host"]:
            self._left[self._last_here] = last
        return {name: content for name, content in there.items() if self._left.get(name) != content}

    def _read(self, name: str) -> bytes | None:
        """Return what an object holds; it may go away between Arrow's question for its size and that for its bytes."""
        with suppress(StylematchError):
            return self._place.read(self._key(name))
        return self._place.read(self._key(name))

    def _write(self, *, holds: bool) -> None:
        # From when it was begun: whoever sees it starts to count later than that.
        begun, self._writes = _now(), self._writes + 1
        # Always of one length: Arrow asks for an object's size first, and then for that many bytes.
        content = self._me | {"holds": int(holds), "writes": f"{self._writes:09}"}
        self._place.write(self._key(self._name), (json.dumps(content) + "\n").encode())
        self._written_at = begun

    def _is_old(self) -> bool:
        return _now() - self._written_at >= LEFT_S

    def _remove(self, name: str) -> None:
        with self._place.explained("remove", self._key(name)), suppress(FileNotFoundError):
            self._place.filesystem.delete_file(self._place.key(self._key(name)))

    def _key(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def _called(self, content: bytes) -> str:
        said = _said_in(content)
        return shown(f"another {self._what} ({said['host']}, process {said['process']}, since {said['since']})")


def _said_in(content: bytes) -> dict[str, Any]:
    """Return what a run says of itself; one that cannot be read holds the lease, until it is old."""
    unknown = {"host": "unknown", "process": "unknown", "since": "unknown", "holds": True}
    try:
        said = json.loads(content)
    except ValueError:
        return unknown
    return unknown | said if isinstance(said, dict) else unknown


def _now() -> float:
    """Return seconds by a clock that goes on while the machine is suspended, where the system has one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
