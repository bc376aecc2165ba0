"""What the workers of test_engine run; apart from it, so that a worker starts without pytest."""

import os
import signal
import time
from pathlib import Path

from stylematch.errors import MissingExtraError, UserError


def load(folder: Path) -> Path:
    (folder / f"loaded-{os.getpid()}").touch()
    return folder


def square(folder: Path, partition: int, advance) -> tuple[int, int]:
    for _ in range(partition % 3):
        advance(1)
    advance(2)
    return partition * partition, os.getpid()


def misbehave(folder: Path, partition: str, advance) -> str:
    if partition == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if partition == "exit":
        os._exit(7)
    if partition == "user":
        raise UserError("row 3 is wrong")
    if partition == "extra":
        raise MissingExtraError("training a model", "train")
    if partition == "odd":
        raise OddError("one", two="two")
    if partition == "slow":
        time.sleep(1)
    if partition == "hang":
        (folder / f"hangs-{os.getpid()}").touch()
        time.sleep(600)
    (folder / f"did-{partition}").touch()
    return partition


def stumble(folder: Path, partition: int, advance) -> int:
    """Partition 3 kills the first worker that has done half of it."""
    advance(2)
    if partition == 3 and not (folder / "stumbled").exists():
        (folder / "stumbled").touch()
        time.sleep(2)  # so that the driver hears of the first half
        os.kill(os.getpid(), signal.SIGKILL)
    advance(2)
    with (folder / f"did-{partition}").open("a") as done:
        done.write("x")
    return partition


class OddError(Exception):
    def __init__(self, one: str, *, two: str) -> None:
        super().__init__(one + two)


def fail_to_load() -> None:
    raise UserError("the bundle is damaged")
