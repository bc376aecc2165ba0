"""How much memory is free, and that a try stays within it."""

import math
import subprocess
import sys

import pytest
from test_cores import machine

from stylematch.tables import free_memory

MACHINE = {"proc/meminfo": "MemTotal:  900 kB\nMemAvailable:  100 kB\n"}
V1 = "sys/fs/cgroup/memory"
STAT = "anon 9\nactive_file 1000\ninactive_file 500\ntotal_active_file 10\ntotal_inactive_file 5\n"
GIB = 2**30


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", MACHINE, 102_400),
        ("0::/a\n", {"sys/fs/cgroup/a/memory.max": "max\n", "sys/fs/cgroup/a/memory.current": "1\n"}, math.inf),
        (
            "0::/a/b\n",
            {
                **MACHINE,
                "sys/fs/cgroup/a/memory.max": "9000\n",
                "sys/fs/cgroup/a/memory.current": "6000\n",
                "sys/fs/cgroup/a/memory.stat": STAT,
            },
            4500,
        ),
        (
            "4:memory:/pod\n3:cpu:/pod\n",
            {
                **MACHINE,
                f"{V1}/memory.limit_in_bytes": "9000\n",
                f"{V1}/memory.usage_in_bytes": "6000\n",
                f"{V1}/memory.stat": STAT,
            },
            3015,
        ),
        ("0::/\n", {"sys/fs/cgroup/memory.max": "5\n", "sys/fs/cgroup/memory.current": "9\n"}, 0),
        ("0::/\n", {}, math.inf),
    ],
)
def test_what_is_free(tmp_path, groups, files, expected):
    assert free_memory.free_memory(machine(tmp_path, groups, **files)) == expected


# In a process of its own: one that has trained asks the system for half a GiB more than it needs (data.memory).
TRY = f"""
import numpy as np
from stylematch.tables import free_memory
free_memory.free_memory = lambda: {GIB}
def fits(size):
    try:
        np.empty(size, np.uint8)
    except MemoryError:
        return False
    return True
with free_memory.within_free_memory():
    print(fits({GIB} // 2), fits({GIB}))
print(fits({GIB}))
"""


def test_what_is_more_than_free_fails_in_the_block_and_not_after_it():
    done = subprocess.run([sys.executable, "-c", TRY], capture_output=True, text=True, check=True)
    assert done.stdout == "True False\nTrue\n"
