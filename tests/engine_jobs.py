"""What the workers of test_engine and test_ray_engine run; apart from it, so that a worker starts without pytest."""

import ctypes
import os
import signal
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

from stylematch.data.listing import LostPhoto
from stylematch.engines.watch import watched
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


@dataclass(frozen=True)
class Photos:
    """A partition whose photos' names say what reading them does."""

    names: tuple[str, ...]
    lost: tuple[LostPhoto, ...] = ()
    alone: bool = False


def again(photos: Photos, lost: tuple[LostPhoto, ...], alone: bool) -> Photos:
    return replace(photos, lost=lost, alone=alone)


def read_all(folder: Path, photos: Photos, advance) -> dict[str, str]:
    lost = {photo.path: photo.reason for photo in photos.lost}
    with (folder / "tries").open("a") as log:
        log.write(f"{len(lost)} {photos.alone}\n")
    if "loses-heart" in photos.names:
        os._exit(9)
    if "threads" in photos.names:
        return read_in_threads(folder)
    for name in photos.names:
        if name not in lost:
            with watched(name):
                read_one(folder, name)
        advance(1)
    return {name: lost.get(name, "ok") for name in photos.names}


def read_one(folder: Path, name: str) -> None:
    if name.startswith("hangs"):
        time.sleep(600)
    if name.startswith("locks up"):
        ctypes.PyDLL(None).sleep(600)  # as a decoder that keeps Python's lock
    if name.startswith("dies"):
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("once") and not (folder / name).exists():
        (folder / name).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("slow"):
        time.sleep(0.3)


def read_in_threads(folder: Path) -> dict[str, str]:
    """Twenty photos at once, one of which hangs in the first try."""
    if (folder / "hung").exists():
        return {}

    def read(number: int) -> None:
        with watched(f"thread {number}"):
            time.sleep(600 if number == 7 else 0.02)

    (folder / "hung").touch()
    threads = [threading.Thread(target=read, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    raise AssertionError("not reached")
