"""Standard streams that whoever started this process has closed."""

from __future__ import annotations

import os
import sys


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
