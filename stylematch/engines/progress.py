"""Progress for whoever watches: a bar on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import contextlib
import sys
import time
from types import TracebackType
from typing import Any, TextIO


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
        stream: TextIO | None = None,
        every_s: float = 10.0,
    ) -> None:
        self.total = total
        self.unit = unit
        self.description = description
        self.done = initial
        self._initial = initial
        self._stream = stream if stream is not None else sys.stderr
        self._every_s = every_s
        self._bar: Any = None

    def __enter__(self) -> Progress:
        self._started = self._last = time.monotonic()
        if self._stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=self.total,
                desc=self.description,
                unit=f" {self.unit}",
                initial=self.done,
                file=self._stream,
                dynamic_ncols=True,
            )
        return self

    def update(self, count: int = 1) -> None:
        """Count ``count`` more."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
        elif time.monotonic() - self._last >= self._every_s:
            self._last = time.monotonic()
            self._write_line()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self.total or self.done > self._initial:
            self._write_line()

    def _write_line(self) -> None:
        seconds = time.monotonic() - self._started
        rate = (self.done - self._initial) / seconds if seconds > 0 else 0.0
        of = f" of {self.total:,} ({self.done / self.total:.0%})" if self.total else ""
        line = f"{self.description}: {self.done:,}{of} {self.unit}, {rate:,.1f} a second"
        with contextlib.suppress(OSError):  # a log that nobody reads any more is no reason to stop
            self._stream.write(line + "\n")
            self._stream.flush()
