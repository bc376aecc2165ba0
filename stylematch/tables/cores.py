"""How many cores this process may use: those it may run on, and no more than its control group is given time of.

A limit of a container or service (``docker run --cpus``, Kubernetes' ``limits.cpu``, systemd's ``CPUQuota``) is a share
of time on all cores of a machine, so a process for each of those cores would take the memory of all and wait for time.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

from stylematch.tables.control_groups import group_folders


def usable_cores() -> int:
    """Return how many cores this process may use, at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, quota_cores())))


def quota_cores(root: Path = Path("/")) -> float:
    """Return the time that the process's control groups give it, in cores; infinite where nothing limits it.

    Parameters
    ----------
    root : pathlib.Path
        Where ``proc`` and ``sys`` are.
    """
    return min(_quotas(root), default=math.inf)


def _quotas(root: Path) -> Iterator[float]:
    """Yield the limits of the group and of those around it."""
    for folder, version in group_folders("cpu", root):
        with contextlib.suppress(OSError, ValueError):
            if version == 2:
                quota, period = map(float, (folder / "cpu.max").read_text().split())  # or "max"
                yield quota / period
            else:
                quota, period = (float((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
                if quota > 0:
                    yield quota / period
