"""Hide a module, for a moment or for good, from libraries that do without one that they do not find."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from importlib.abc import MetaPathFinder
from typing import Any


@contextlib.contextmanager
def hidden(name: str) -> Iterator[None]:
    """Have imports of a module fail in a ``with`` block, unless it has been imported: then nothing is hidden."""
    finder = hide(name)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def hide(name: str) -> MetaPathFinder:
    """Have imports of a module fail from here on, unless it has been imported: then nothing is hidden.

    Returns
    -------
    importlib.abc.MetaPathFinder
        What hides it, as long as it stands in ``sys.meta_path``.
    """
    finder = _Hidden(name)
    sys.meta_path.insert(0, finder)
    return finder


class _Hidden(MetaPathFinder):
    """Finds no module of one name; None in ``sys.modules`` would do for Python, but compiled code may trip over it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, fullname: str, *_: Any) -> None:
        """Raise instead of leaving it to those that would find it."""
        if fullname == self._name:
            raise ModuleNotFoundError(f"{fullname} is not for this process", name=fullname)
