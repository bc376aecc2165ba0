"""A function that is known by its name, so that a process can hand it on without what it imports."""

from __future__ import annotations

import importlib
from typing import Any


class Named:
    """Calls a top-level function, whose module is imported only then; travels to other processes by the name.

    Parameters
    ----------
    module, name : str
        Where it is, and what it is called there.
    """

    def __init__(self, module: str, name: str) -> None:
        self.__module__, self.__name__ = module, name  # as a function has them

    def __call__(self, *args: Any) -> Any:
        """Call it."""
        return getattr(importlib.import_module(self.__module__), self.__name__)(*args)
