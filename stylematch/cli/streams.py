"""Standard streams that whoever started this process has closed, does not read, or cannot hold all letters."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO


def open_closed_streams() -> None:
    """Open the null device for each standard stream that is closed.

    Python has None for such a stream, which nobody can write to; and the next file that is opened would get its number,
    and with it what libraries print.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
            os.set_inheritable(descriptor, descriptor == number)
            stream = os.fdopen(descriptor, "w" if number else "r", encoding="utf-8", errors="backslashreplace")
            setattr(sys, name, stream)


def write_any_letter() -> None:
    """Let standard output escape what its encoding does not hold: a name is no reason to fail, once all is done."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def write_utf8() -> None:
    """Let standard output take all letters as they are: data are not to be escaped, whatever the terminal shows."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="strict")


@contextlib.contextmanager
def whether_heard_or_not(stream: TextIO) -> Iterator[None]:
    """Tell of an end on a stream; where nobody reads that any more, or its disk is full, the exit code stays."""
    try:
        yield
    except (OSError, ValueError):
        to_nowhere(stream)


def to_nowhere(stream: TextIO) -> None:
    """Let what a stream still holds go nowhere, or Python would try once more at its end, and exit with 120."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
