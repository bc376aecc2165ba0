"""How much memory is free, for this process and its control group, and a limit that keeps a try within it.

Linux gives more memory than there is, and later kills who uses it, or somebody else. Within the limit an allocation
fails at once, which is an error like any other.
"""

from __future__ import annotations

import contextlib
import math
import resource
from collections.abc import Iterator
from pathlib import Path

from stylematch.tables.control_groups import group_folders

_SHARE = 0.9  # the rest is for all other processes
# By version of control groups: the limit, what is used, and how the file cache, which can be given up, is named.
_FILES = {1: ("limit_in_bytes", "usage_in_bytes", "total_"), 2: ("max", "current", "")}


def free_memory(root: Path = Path("/")) -> float:
    """Return how many bytes can still be used without swapping; infinite where nothing tells.

    Parameters
    ----------
    root : pathlib.Path
        Where ``proc`` and ``sys`` are.
    """
    return max(0.0, min(_rooms(root), default=math.inf))


@contextlib.contextmanager
def within_free_memory() -> Iterator[None]:
    """Let allocations of the block fail before they take all that is free; of threads and of later children, too."""
    taken, free = _values(Path("/proc/self/status")).get("VmData"), free_memory()
    if taken is None or free == math.inf:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [taken * 1024 + int(_SHARE * free), *(limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _rooms(root: Path) -> Iterator[float]:
    """Yield what the machine has left, and each control group."""
    if (available := _values(root / "proc/meminfo").get("MemAvailable")) is not None:
        yield available * 1024.0
    for folder, version in group_folders("memory", root):
        limit, used, prefix = _FILES[version]
        with contextlib.suppress(OSError, ValueError):  # no limit is "max"
            left = int((folder / f"memory.{limit}").read_text()) - int((folder / f"memory.{used}").read_text())
            kept = _values(folder / "memory.stat")
            yield float(left + sum(kept.get(f"{prefix}{age}_file", 0) for age in ("active", "inactive")))


def _values(file: Path) -> dict[str, int]:
    """Return the numbers of a file of lines, each a name and a number; none where it cannot be read."""
    try:
        rows = [line.replace(":", " ").split() for line in file.read_text().splitlines()]
    except OSError:
        return {}
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
