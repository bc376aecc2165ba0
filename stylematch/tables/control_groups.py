"""The control groups that limit a process (containers, services): where their files are, in both versions of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def group_folders(controller: str, root: Path = Path("/")) -> Iterator[tuple[Path, int]]:
    """Yield the folder of the process's group, and of those around it, with the version (1 or 2) of what is in it.

    Parameters
    ----------
    controller : str
        What limits: ``cpu``, ``memory``.
    root : pathlib.Path
        Where ``proc`` and ``sys`` are.
    """
    mounted = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        inside = PurePosixPath(group.lstrip("/"))
        # A container may see the machine's name of its group, but only the group itself, where the root would be.
        for place in (inside, *inside.parents):
            if not controllers:
                yield mounted / place, 2
            elif controller in controllers.split(","):
                yield mounted / controllers / place, 1
