"""A template of workers that starts before it is known what they are to do, and imports meanwhile what they will need.

Importing that takes half a second. A command that will run partitions begins with it, so that it passes while this
process imports its own half and lists the photos.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from stylematch.data.directories import check_answers
from stylematch.engines.template import Template

_waiting: list[Template] = []


@contextlib.contextmanager
def started_early(module: str, photos: Path, limit_s: float | None = None) -> Iterator[None]:
    """Let a template start while the ``with`` block goes on; one that nobody took by its end is ended.

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
    _waiting.append(Template(module))
    try:
        yield
    finally:
        while _waiting:
            _waiting.pop().end()


def take_template() -> Template:
    """Return a template of workers, one that was started early where there is one."""
    return _waiting.pop() if _waiting else Template()
