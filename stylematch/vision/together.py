"""Processes that share a training and wait for each other in every step: where one ends before its time, all do.

Else they would wait until the time limit of what connects them, with their GPUs held; and Lightning's own observer ends
the first process by SIGKILL, without a word. Here the first process, which started the others, watches them. Of one
that told its error it takes the exit code; for one that could not it says what happened. The others die with the first.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

from stylematch.errors import StylematchError
from stylematch.tables.spawning import die_with_parent

logger = logging.getLogger(__name__)
_FIRST = "STYLEMATCH_FIRST_PROCESS"  # which process started this one to share a training
_ASK_EVERY_S = 0.2
ALIKE_S = 2.0
"""How long a process that fails waits for the first to say the same and to end it: one sentence is enough."""
_TOLD_S = 5.0  # until the watch has told of a process whose end was an error in this one

_others: list[subprocess.Popen[bytes]] = []
_ending = threading.Event()


def begin_first() -> None:
    """Note that this process is the first, before it starts the others."""
    os.environ[_FIRST] = str(os.getpid())


def watch_others(others: Sequence[subprocess.Popen[bytes]]) -> None:
    """End this process when one of those that it started ends with an error."""
    _others.extend(others)
    threading.Thread(target=_watch, name="watch-processes", daemon=True).start()


def leave_alone() -> None:
    """Let processes that have done their share end as they may: the first goes on without them."""
    _ending.set()


def follow_first() -> None:
    """Die with the first process; of the first itself, or where something else has started all, do nothing."""
    if _is_other():
        die_with_parent()
        if not _is_other():  # it was gone before the system was asked
            os._exit(StylematchError.exit_code)


@contextlib.contextmanager
def ended_together() -> Iterator[None]:
    """Run this process's share of the work in the block; an error in it ends all processes, and is told once."""
    try:
        yield
    except BaseException as error:
        if _is_other():
            time.sleep(ALIKE_S)
        elif _others:
            if not isinstance(error, StylematchError | KeyboardInterrupt):
                time.sleep(_TOLD_S)  # it may only follow from another's end, which is then told
            _ending.set()
            for other in _others:
                other.kill()
        else:
            raise
        code = 130 if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", StylematchError.exit_code)
        atexit.register(_end_now, code)  # in what Python does after that, it may wait for the others for ever
        raise


def _is_other() -> bool:
    return os.environ.get(_FIRST) == str(os.getppid())


def _watch() -> None:
    while not _ending.is_set():
        codes = [other.poll() for other in _others]
        if all(code == 0 for code in codes):
            return
        for place, code in enumerate(codes):
            if code and not _ending.is_set():
                _end_with(place, code)
        time.sleep(_ASK_EVERY_S)


def _end_with(place: int, code: int) -> None:
    """End all as that one has ended: from a thread, for the main one may wait for it in what nothing can interrupt."""
    for other in _others:
        other.kill()
    if code < 0:
        count = 1 + len(_others)
        why = (
            " (as the system does where memory runs out: lower schedule.batch_size)" if code == -signal.SIGKILL else ""
        )
        logger.error(
            "process %d of the %d that share this training was ended by %s%s; the same command goes on from the last "
            "finished epoch",
            place + 2,
            count,
            signal.Signals(-code).name,
            why,
        )
    _end_now(code if code > 0 else StylematchError.exit_code)


def _end_now(code: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
