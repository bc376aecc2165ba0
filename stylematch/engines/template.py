"""A process that has imported what workers need, and from which they are forked: imports are paid once, not by each.

- It imports, and does nothing else. So none of the threads and locks of ONNX Runtime, FAISS or torch are there to be
  copied broken: these come with models, indexes and searches, which a worker loads and does itself. (numpy's and
  pyarrow's libraries, which have a thread from the start, stop or mend it around a fork.)
- It is spawned, so it has none of the threads and locks of the process that starts it, either.
- Its BLAS keeps to one core: each worker has its share of them, and products that took them all would wait for each
  other, twice as long as alone.
- It ends with that process, and the workers end with it.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import recv_handle, send_handle
from typing import NoReturn

from stylematch.data.memory import keep_freed_memory, never_collected
from stylematch.engines.current_folder import check_workers_may_enter
from stylematch.tables.arrow import without_pandas
from stylematch.tables.spawning import blas_on_one_core, die_with_parent, main_unseen

STOP_S = 3.0
_REAP_S = 1.0
_ASK_EVERY_S = 0.002


class Template:
    """The process, and this end of its pipe.

    Parameters
    ----------
    module : str, optional
        What it imports at once; a fork may name more.
    """

    def __init__(self, module: str | None = None) -> None:
        self._start(module)

    def _start(self, module: str | None) -> None:
        check_workers_may_enter()
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=_serve, args=(theirs, module), name="stylematch-template", daemon=True
        )
        resource_tracker.ensure_running()  # starting it would take both signals off the mask again
        # Ctrl-C reaches the whole terminal's group. The process inherits the mask, so that it ends by our hand
        # only and prints no traceback of its own; nor may an interrupt by either signal leave it half started.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            with main_unseen(), blas_on_one_core():
                self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()

    def fork(self, target: Callable[..., None], descriptors: Sequence[int], module: str) -> Forked:
        """Start a process; a template that is gone (killed, out of memory) is started again.

        Parameters
        ----------
        target : callable
            Top-level; what the new process runs, with its own numbers of the descriptors.
        descriptors : sequence of int
            What it gets of this one's open files.
        module : str
            What is imported before, unless it has been.

        Raises
        ------
        OSError
            The system gives no process, or no descriptor, now.
        """
        try:
            return self._fork(target, descriptors, module)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self.end()
            self._start(module)
            return self._fork(target, descriptors, module)

    def _fork(self, target: Callable[..., None], descriptors: Sequence[int], module: str) -> Forked:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        with theirs:  # which closes with the last process that holds it, the new one
            handles = [theirs.fileno(), *descriptors]
            self._pipe.send((target, len(handles), module))
            for handle in handles:
                send_handle(self._pipe, handle, self.process.pid)
            answer = self._pipe.recv()
            if isinstance(answer, OSError):
                ours.close()
                raise answer
            return Forked(self, answer, ours)

    def exit_code(self, pid: int) -> int | None:
        """Return how one of its processes ended, None where that cannot be known."""
        deadline = time.monotonic() + STOP_S
        with contextlib.suppress(EOFError, OSError):
            while time.monotonic() < deadline:
                self._pipe.send(pid)
                if (code := self._pipe.recv()) is not None:
                    return int(code)
                time.sleep(_ASK_EVERY_S)
        return None

    def end(self, *, at_once: bool = True) -> None:
        """End it, and with it what was forked from it and still goes on.

        Parameters
        ----------
        at_once : bool
            If not, it first hears how its processes ended, so that what they used is counted as this one's children's.
        """
        self._pipe.close()
        if not at_once:
            self.process.join(STOP_S)
        self.process.kill()
        self.process.join(STOP_S)


class Forked:
    """One process that was forked from a template.

    Parameters
    ----------
    template : Template
        Its parent.
    pid : int
        Its number, which stays its own until it is asked how it ended.
    held : Connection
        What it alone holds the other end of.
    """

    def __init__(self, template: Template, pid: int, held: Connection) -> None:
        self._template, self.pid, self._held = template, pid, held

    def join(self, timeout_s: float) -> bool:
        """Wait for its end; say whether that came."""
        return self._held.closed or bool(wait([self._held], timeout_s))

    def is_alive(self) -> bool:
        """Say whether it goes on."""
        return not self.join(0)

    def signal(self, number: int) -> None:
        """Send it a signal, if it goes on."""
        if self.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def exit_code(self) -> int | None:
        """Return how it ended, as ``subprocess`` says it; None where that cannot be known."""
        return self._template.exit_code(self.pid)

    def close(self) -> None:
        """Think no more of it."""
        self._held.close()


def _serve(pipe: Connection, module: str | None) -> None:
    """Fork until the parent closes the pipe or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # it came blocked
    die_with_parent()
    keep_freed_memory()
    with never_collected():  # and so not written to by a worker's collector, which would copy the page
        without_pandas()
        if module is not None:
            _import(module)
    _answer(pipe)
    deadline = time.monotonic() + _REAP_S
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0] or time.monotonic() < deadline:
            time.sleep(_ASK_EVERY_S)
    os._exit(0)  # taking all modules apart would take as long as importing some


def _answer(pipe: Connection) -> None:
    """Fork, and say how what was forked ended, as long as there is somebody to ask."""
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            asked = pipe.recv()
            if isinstance(asked, int):
                pipe.send(_exit_code_of(asked))
                continue
            target, count, module = asked
            handles = [recv_handle(pipe) for _ in range(count)]
            _import(module)
            template = os.getpid()
            answer = _fork()
            if answer == 0:
                pipe.close()
                _run(target, handles[1:], template)
            for handle in handles:
                os.close(handle)
            pipe.send(answer)


def _fork() -> int | OSError:
    """Return 0 in the new process, its number in this one, or why there is none; those that were go on."""
    try:
        with warnings.catch_warnings():  # Python 3.12 counts threads that mend themselves, too
            warnings.simplefilter("ignore", DeprecationWarning)
            return os.fork()
    except OSError as error:
        return OSError(error.errno, f"no worker can be started: {error.strerror}")


def _import(module: str) -> None:
    with contextlib.suppress(Exception):  # what is wrong with it is said when it is needed
        importlib.import_module(module)


def _exit_code_of(pid: int) -> int | None:
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if ended else None


def _run(target: Callable[..., None], descriptors: list[int], template: int) -> NoReturn:
    code = 1
    try:
        die_with_parent()
        if os.getppid() == template:  # else it was gone before the system was asked
            target(*descriptors)
            code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
