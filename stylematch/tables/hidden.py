"""Hide a module for a moment from libraries that do without one that they do not find."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def hidden(name: str) -> Iterator[None]:
    """Have imports of a module fail in a ``with`` block, unless it has been imported: then nothing is hidden."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # what an import takes for absent
    try:
        yield
    finally:
        del sys.modules[name]
