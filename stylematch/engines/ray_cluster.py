"""The Ray cluster of a run: the one that is named, or one of its own on this machine, and how many workers it takes."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from stylematch.errors import StylematchError, UserError
from stylematch.tables.shown import shown

_KNOCK_S = 20.0
_HEAD_KNOCK_S = 5.0
# Ray's own setting, and its default: so long after its head is gone Ray ends this process, with a code of its own.
_RAY_GIVES_UP = "RAY_gcs_rpc_server_reconnect_timeout_s"
_RAY_GIVES_UP_S = 60.0
# Nothing but photo counts goes through Ray's object store; it takes no less.
_OBJECT_STORE_BYTES = 100 * 2**20
# Ray's sockets lie up to this much deeper than its folder, and a socket's path may have 107 bytes.
_LONGEST_FOLDER = 40


def crew_shape(nodes: list[dict[str, Any]], workers: int, on_gpus: bool) -> tuple[int, float]:
    """Return how many actors run, and the GPUs of each."""
    have = [node["Resources"] for node in nodes if node["Alive"]]
    if on_gpus:
        have = [resources for resources in have if resources.get("GPU")]
    workers = workers or max(1, int(sum(resources.get("CPU", 0) for resources in have)))
    if not on_gpus:
        return workers, 0
    sharing = math.ceil(workers / (sum(resources["GPU"] for resources in have) or workers))
    return workers, math.floor(10_000 / sharing) / 10_000  # Ray knows four digits of a GPU


@contextlib.contextmanager
def connected(address: str | None, cpus: int) -> Iterator[ModuleType]:
    """Connect to a cluster, or start one on this machine, for as long as the block lasts; nothing is sent outside.

    Raises
    ------
    UserError
        If no cluster answers at the address.
    StylematchError
        If none can be started here.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or it warns of its own future
    import ray

    if ray.is_initialized():
        yield ray
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    with contextlib.ExitStack() as stack:
        options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        if address == "local":
            options |= {
                "num_cpus": cpus,
                "object_store_memory": _OBJECT_STORE_BYTES,
                "include_dashboard": False,
                "_temp_dir": stack.enter_context(_own_folder()),
            }
        handler = signal.getsignal(signal.SIGTERM)
        stack.callback(ray.shutdown)
        try:
            _knock(address, _KNOCK_S)
            ray.init(address=address, **options)
        except Exception as error:  # Ray raises all kinds, Exception itself among them
            if address == "local":
                raise StylematchError(f"Ray could not be started here: {_first_line(error)}") from error
            raise UserError(
                f"no Ray cluster answers at {shown(address)} ({_first_line(error)}): start one with 'ray start --head' "
                "and run this command on a machine of it, with the same Ray and Python, and its head's HOST:PORT"
            ) from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray puts one in its place that exits at once
        yield ray


class Head:
    """A cluster's head, which is asked now and then whether it is still there.

    Parameters
    ----------
    address : str
        Its ``HOST:PORT``.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._patience_s = _ray_gives_up_s() / 2
        self._asked_at = time.monotonic()
        self._gone_at: float | None = None

    def answers(self) -> bool:
        """Ask.

        Raises
        ------
        StylematchError
            It has not answered for half the time after which Ray would end this process.
        """
        self._asked_at = now = time.monotonic()
        try:
            _knock(self._address, _HEAD_KNOCK_S)
        except OSError as error:
            self._gone_at = self._gone_at or now
            if now - self._gone_at < self._patience_s:
                return False
            raise StylematchError(
                f"the head of the Ray cluster at {shown(self._address)} is gone ({shown(str(error))}); what is "
                "finished is kept: start it, run the same command again and it goes on from there"
            ) from error
        self._gone_at = None
        return True

    def check(self) -> None:
        """Ask if the last time is long enough ago; raises as ``answers`` does."""
        if time.monotonic() - self._asked_at >= self._patience_s / 6:
            self.answers()


def _ray_gives_up_s() -> float:
    try:
        return float(os.environ.get(_RAY_GIVES_UP) or _RAY_GIVES_UP_S)
    except ValueError:  # Ray does without it, too
        return _RAY_GIVES_UP_S


def _knock(address: str, limit_s: float) -> None:
    """Raise ``OSError`` where nobody listens; Ray would try for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=limit_s).close()


@contextlib.contextmanager
def _own_folder() -> Iterator[str]:
    """Make a folder for what Ray writes of its own, short enough for its sockets, and remove it at the end."""
    parent = tempfile.gettempdir()
    parent = parent if len(os.fsencode(parent)) + len("/stylematch-12345678") <= _LONGEST_FOLDER else "/tmp"  # noqa: S108
    with tempfile.TemporaryDirectory(prefix="stylematch-", dir=parent, ignore_cleanup_errors=True) as folder:
        yield str(Path(folder).resolve())


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return shown(lines[0]) if lines else type(error).__name__
