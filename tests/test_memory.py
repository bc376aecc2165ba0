"""What is freed is not taken from the system again, page by page."""

import platform
import subprocess
import sys

import pytest

LOOP = """
import resource
from stylematch.data.memory import keep_freed_memory
{before}
def faults():
    for _ in range(20):
        blocks = [b"x" * {size} for _ in range(3)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
first = faults()
print(faults() - first)
"""


def page_faults(before, size):
    code = LOOP.format(before=before, size=size)
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
@pytest.mark.parametrize(
    ("call", "size"), [("keep_freed_memory()", 5_000_000), ("keep_freed_memory(of_any_size=True)", 70_000_000)]
)
def test_pages_are_kept(call, size):
    given_back = page_faults("", size)
    kept = page_faults(call, size)
    assert given_back > 1000
    assert kept < given_back / 20, (kept, given_back)
