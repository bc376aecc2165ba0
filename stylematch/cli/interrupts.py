"""A scheduler's stop and Ctrl-C end every command alike, by ``KeyboardInterrupt``; and neither is lost.

Python drops an exception that is raised while an object is taken away (in ``__del__``, in a callback of the garbage
collector). An interrupt that falls there comes again a moment later, by the alarm clock, until it is heard.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Any, NoReturn

_AGAIN_S = 0.02


def hear_interrupts() -> None:
    """Take SIGTERM as Ctrl-C from here on; to be called by the main thread of a program."""
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, _interrupt)
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:  # else a shell's background job, which hears none
        signal.signal(signal.SIGINT, _interrupt)
    sys.unraisablehook = _come_again


def ignore_interrupts() -> None:
    """Hear of none any more: what is left is Python's own end, which one would only litter."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    signal.setitimer(signal.ITIMER_REAL, 0)  # this is the one that is heard
    signal.default_int_handler(number, frame)


def _come_again(dropped: Any) -> None:
    if issubclass(dropped.exc_type, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
    else:
        sys.__unraisablehook__(dropped)
