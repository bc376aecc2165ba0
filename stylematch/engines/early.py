"""A template of workers that starts before it is known what they are to do, and imports meanwhile what they will need.

Importing that takes a third of a second. A program that will run partitions begins with it (``begin``), so that it
passes while this process imports its own half and lists the photos.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from stylematch.data.directories import check_answers
from stylematch.engines.template import Template

_waiting: list[Template] = []


def begin(module: str) -> None:
    """Let a template start that imports a module; whoever begins one ends what nobody took (``end_waiting``)."""
    _waiting.append(Template(module))


def end_waiting() -> None:
    """End the templates that nobody took."""
    while _waiting:
        _waiting.pop().end()


@contextlib.contextmanager
def started_early(module: str, photos: Path, limit_s: float | None = None) -> Iterator[None]:
    """Let a template start while the ``with`` block goes on, unless one has; one that nobody took by its end is ended.

    Parameters
    ----------
    module : str
        What it imports: the partition function's.
    photos : pathlib.Path
        What is going to be listed.
    limit_s : float, optional
        How long the photos' folder may take to answer.

    Raises
    ------
    StylematchError
        If it does not in time.
    """
    check_answers(photos, limit_s)
    if not _waiting:
        begin(module)
    try:
        yield
    finally:
        end_waiting()


def take_template() -> Template:
    """Return a template of workers, one that was started early where there is one."""
    return _waiting.pop() if _waiting else Template()
