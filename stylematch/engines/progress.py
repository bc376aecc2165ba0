"""Progress for whoever watches: a bar on a terminal, a plain line now and then in a log, or a JSON object a line."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

_json_lines = False


def write_json_lines(wanted: bool) -> None:
    """Say whether every later ``Progress`` of this process writes JSON, on a terminal too."""
    global _json_lines  # how this process speaks, decided once by its command line
    _json_lines = wanted


class Tally(int):
    """A number of things done that knows what was found in them; a plain number for all who do not ask.

    Parameters
    ----------
    count : int
        Things done.
    **found : int
        What was in them, by name ("faces", "rejected").
    """

    found: dict[str, int]

    def __new__(cls, count: int, **found: int) -> Tally:
        """Make the number."""
        tally = super().__new__(cls, count)
        tally.found = found
        return tally


class Progress:
    """Count things done and show it on ``stream`` while the ``with`` block lasts.

    On a terminal tqdm draws a bar. Anywhere else a line is written at most every ``every_s`` seconds, and one
    at the end, unless there was nothing to do.

    Parameters
    ----------
    total : int or None
        How many things there are; None where it is not known.
    unit : str
        What is counted, in the plural ("photos").
    description : str
        What is being done ("scoring").
    initial : int
        How many were done by an earlier run; they do not count in the rate.
    found : mapping of str to int, optional
        What was found in these.
    stream : text stream, optional
        Standard error by default.
    every_s : float
        Seconds between two lines in a log.
    """

    def __init__(
        self,
        total: int | None,
        unit: str,
        description: str,
        *,
        initial: int = 0,
        found: Mapping[str, int] | None = None,
        stream: TextIO | None = None,
        every_s: float = 10.0,
    ) -> None:
        self.total = total
        self.unit = unit
        self.description = description
        self.done = initial
        self.found: Counter[str] = Counter(found or {})
        self._initial = initial
        self._stream = stream if stream is not None else sys.stderr
        self._every_s = every_s
        self._bar: Any = None

    def __enter__(self) -> Progress:
        self._started = self._last = time.monotonic()
        if self._stream.isatty() and not _json_lines:
            from tqdm import tqdm

            self._bar = tqdm(
                total=self.total,
                desc=self.description,
                unit=f" {self.unit}",
                initial=self.done,
                file=self._stream,
                dynamic_ncols=True,
            )
        elif self._initial:
            self._write_line(ended=False)
        return self

    def update(self, count: int = 1) -> None:
        """Count ``count`` more; of a ``Tally`` also what was found."""
        self.done += int(count)
        if isinstance(count, Tally):
            self.found.update(count.found)
        if self._bar is not None:
            if self.found:
                self._bar.set_postfix_str(self._found_text(), refresh=False)
            self._bar.update(int(count))
        elif time.monotonic() - self._last >= self._every_s:
            self._last = time.monotonic()
            self._write_line(ended=False)

    def found_at_least(self, **found: int) -> None:
        """Show at least these numbers: an engine that passes on no tallies tells them partition by partition."""
        for name, number in found.items():
            self.found[name] = max(self.found[name], number)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            if self.found:
                self._bar.set_postfix_str(self._found_text(), refresh=True)
            self._bar.close()
        elif self.done > self._initial or (self.total and (_json_lines or not self._initial)):
            self._write_line(ended=True)  # that all was done before is said at the start

    def _write_line(self, *, ended: bool) -> None:
        seconds = time.monotonic() - self._started
        rate = (self.done - self._initial) / seconds if seconds > 0 else 0.0
        left_s = (self.total - self.done) / rate if self.total and rate > 0 and not ended else None
        line = self._as_json(rate, left_s, ended) if _json_lines else self._as_text(rate, left_s)
        with contextlib.suppress(OSError):  # a log that nobody reads any more is no reason to stop
            self._stream.write(line + "\n")
            self._stream.flush()

    def _as_text(self, rate: float, left_s: float | None) -> str:
        of = f" of {self.total:,} ({self.done / self.total:.0%})" if self.total else ""
        if 0 < self.done == self._initial:
            return f"{self.description}: {self.done:,}{of} {self.unit} were done before"
        parts = [f"{self.description}: {self.done:,}{of} {self.unit}", f"{rate:,.1f} a second"]
        if self.found:
            parts.append(self._found_text())
        if left_s is not None:
            parts.append(f"{_clock(left_s)} left")
        return ", ".join(parts)

    def _as_json(self, rate: float, left_s: float | None, ended: bool) -> str:
        values = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": "info",
            "kind": "progress",
            "stage": self.description,
            "unit": self.unit,
            "done": self.done,
            "total": self.total,
            "per_second": round(rate, 3),
            "seconds_left": None if left_s is None else round(left_s, 1),
            "ended": ended,
            **self.found,
        }
        return json.dumps(values)

    def _found_text(self) -> str:
        return ", ".join(f"{number:,} {name}" for name, number in self.found.items())


def _clock(seconds: float) -> str:
    """Return a duration as 0:07, 12:34 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
