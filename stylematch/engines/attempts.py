"""What becomes of a partition whose worker hangs or dies: it is tried again, without the photos that are to blame.

- A photo that a worker stays on for longer than the limit is lost, and the partition is tried again without it.
- A worker that dies is given a second chance: it may have been the memory of the whole machine. The second try
  goes photo by photo, so that it is clear which one a worker is on. A photo on which a worker dies twice is lost.
- Where no photo is to blame (a worker dies while it loads, or each time elsewhere) the run stops and can be
  gone on with. So it does where most photos of a partition would be lost: that is the machine's fault, not theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from stylematch.data.listing import LostPhoto, too_many_lost
from stylematch.errors import StylematchError
from stylematch.tables.contract import Reason

Partition = TypeVar("Partition")

MAX_UNEXPLAINED_DEATHS = 2


def _none(_: object) -> frozenset[str]:
    return frozenset()


@dataclass(frozen=True)
class Guard(Generic[Partition]):
    """How a run guards itself against photos that hang or crash a worker.

    Attributes
    ----------
    again : callable
        ``again(partition, lost, alone)`` returns the partition to be tried again, without what is ``lost`` and,
        where ``alone`` is true, photo by photo.
    timeout_s : float, optional
        How long a worker may stay on one photo; None for ever.
    known : callable
        ``known(partition)`` returns the photos that were lost in an earlier run, too: that they are lost again says
        nothing of the machine.
    """

    again: Callable[[Partition, tuple[LostPhoto, ...], bool], Partition]
    timeout_s: float | None = None
    known: Callable[[Partition], frozenset[str]] = _none


@dataclass
class Losses:
    """How many photos a run has reached, and how many of these are lost, by which a fault of the machine is known."""

    reached: int = 0
    lost: int = 0


class Attempts(Generic[Partition]):
    """The tries of one partition.

    Parameters
    ----------
    partition : Partition
        As it was handed in.
    guard : Guard, optional
        Without one there is no second try.
    losses : Losses, optional
        Of the whole run, which is counted on.

    Attributes
    ----------
    current : Partition
        What the next worker is to be given.
    lost : tuple of LostPhoto
        So far.
    """

    def __init__(self, partition: Partition, guard: Guard[Partition] | None, losses: Losses | None = None) -> None:
        self.partition = self.current = partition
        self._losses = losses if losses is not None else Losses()
        self.lost: tuple[LostPhoto, ...] = ()
        self._guard = guard
        self._alone = False
        self._suspects: frozenset[str] = frozenset()
        self._unexplained = 0
        self._counted = self._told = 0

    def advance(self, count: int) -> int:
        """Count photos of this try; return how many of them no earlier try had counted: ``count`` itself if none had.

        So a ``Tally`` keeps what was found, and nothing is told twice.
        """
        self._counted += count
        news = max(0, self._counted - self._told)
        self._told += news
        self._losses.reached += news
        return count if news == count else news

    def timed_out(self, key: str | None) -> StylematchError | None:
        """Prepare the next try after a worker was ended for staying on ``key``, or say why there is none.

        None stands for a photo that was done after all when the worker's end came.
        """
        if key is not None and self._guard is not None:
            self._lose(LostPhoto.late(key, self._guard.timeout_s or 0.0))
        return self._next("hung")

    def died(self, how: str, keys: frozenset[str]) -> StylematchError | None:
        """Prepare the next try after a worker died, or say why there is none.

        Parameters
        ----------
        how : str
            Such as "was killed by signal 9".
        keys : frozenset of str
            What it was busy with.
        """
        guilty = self._suspects & keys if self._alone else frozenset()
        self._suspects = (self._suspects | keys) - guilty
        for key in sorted(guilty):
            message = f"reading it ended two worker processes; the last {how}"
            self._lose(LostPhoto(key, str(Reason.CRASHED), message))
        if guilty:
            self._unexplained = 0
        else:
            self._unexplained += 1
        self._alone = True
        limit = MAX_UNEXPLAINED_DEATHS + bool(keys)  # the first death of a suspect explains nothing yet
        if self._guard is None or self._unexplained >= limit:
            return StylematchError(
                f"a worker process {how}; what is finished is kept: run the same command again and it goes on from "
                "there"
            )
        return self._next(how)

    def _lose(self, photo: LostPhoto) -> None:
        self.lost += (photo,)
        if self._guard is None or photo.path not in self._guard.known(self.partition):
            self._losses.lost += 1

    def _next(self, how: str) -> StylematchError | None:
        if too_many_lost(self._losses.lost, self._losses.reached):
            return StylematchError(
                f"{self._losses.lost} photos, most of those reached, ended their worker, which last {how}: that is "
                "hardly the photos' fault; look at the machine's memory and disks and run the same command again: it "
                "goes on"
            )
        self._counted = 0
        if self._guard is not None:
            self.current = self._guard.again(self.partition, self.lost, self._alone)
        return None
