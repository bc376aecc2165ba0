"""pyarrow without what it loads in passing."""

from __future__ import annotations

import contextlib
import sys

from stylematch.tables.hidden import hidden, hide

_ours_alone = False


def claim_process() -> None:
    """Say that nothing but a command of ours is going to run in this process."""
    global _ours_alone  # a fact of the process, known to who begins it
    _ours_alone = True


def is_claimed() -> bool:
    """Say whether nothing but a command of ours is going to run in this process."""
    return _ours_alone


def without_pandas_if_alone() -> None:
    """Have no pandas in this process, whenever pyarrow looks for it; unless somebody else's code may use both."""
    if _ours_alone:
        hide("pandas")


def without_pandas() -> None:
    """Keep pyarrow from importing pandas with its first array, which costs a process 0.3 s and 40 MB.

    For processes that have no use for pandas: pyarrow looks for it twice, in Python and in C++, finds nothing, and does
    not know pandas' values from then on.
    """
    import pyarrow as pa

    if "pandas" not in sys.modules:
        with hidden("pandas"):
            for look in (lambda: pa.scalar(0), lambda: pa.array([0])):
                with contextlib.suppress(Exception):
                    look()
