"""A scheduler's stop and Ctrl-C end every command alike, by ``KeyboardInterrupt``; and neither is lost.

Python drops an exception that is raised while an object is taken away (in ``__del__``, in a callback of the garbage
collector), and so does compiled code that tries something, such as an import, and takes any failure for an answer. So
the alarm clock looks, until the program ends or says that it has heard, whether somebody is dealing with the interrupt;
where nobody is, it comes again.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

_AGAIN_S = 0.1
_noted: list[int] = []


def note_interrupts() -> None:
    """Note what comes before anybody could say that it was heard, until ``hear_interrupts`` is called."""
    _set_handlers(_note)


def hear_interrupts() -> None:
    """Take SIGTERM as Ctrl-C from here on; to be called by the main thread of a program.

    Raises
    ------
    KeyboardInterrupt
        If one was noted.
    """
    signal.signal(signal.SIGALRM, _look_again)
    _set_handlers(_interrupt)
    sys.unraisablehook = _dropped
    if _noted:
        _interrupt(_noted.pop(), None)


def interrupt_heard() -> None:
    """Say that an interrupt was heard, before the exception is let go: it does not come again."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def ignore_interrupts() -> None:
    """Hear of none any more: what is left is Python's own end, which one would only litter."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


def follows_an_interrupt(error: BaseException | None) -> bool:
    """Whether an interrupt led to it: one that falls into a lock of Python's own leaves it with another error."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _set_handlers(handler: Callable[[int, FrameType | None], None]) -> None:
    signal.signal(signal.SIGTERM, handler)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # else a shell's background job, which hears none
        signal.signal(signal.SIGINT, handler)


def _note(number: int, _: FrameType | None) -> None:
    _noted.append(number)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
    signal.default_int_handler(number, frame)


def _look_again(number: int, frame: FrameType | None) -> None:
    if follows_an_interrupt(sys.exception()):  # in an except or finally, or in the end of a with
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
    else:
        _interrupt(number, frame)


def _dropped(what: Any) -> None:
    if not issubclass(what.exc_type, KeyboardInterrupt):  # which comes again
        sys.__unraisablehook__(what)
