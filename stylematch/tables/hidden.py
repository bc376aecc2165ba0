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
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # what an import takes for absent
    try:
        yield
    finally:
        del sys.modules[name]


def hide(name: str) -> None:
    """Have all later imports of a module fail, unless it has been imported: then nothing is hidden."""
    if name not in sys.modules:
        sys.meta_path.insert(0, _Hidden(name))


class _Hidden(MetaPathFinder):
    """Finds no module of one name; None in ``sys.modules``, as above, is more than some compiled code bears."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, fullname: str, *_: Any) -> None:
        """Raise instead of leaving it to those that would find it."""
        if fullname == self._name:
            raise ModuleNotFoundError(f"{fullname} is not for this process", name=fullname)
