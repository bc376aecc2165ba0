"""Text from outside, such as paths, cells and errors, as people are shown it; what path or name was meant by one.

File names may hold newlines, terminal codes, and bytes that are no UTF-8: what is told of one goes through ``shown``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_URL = re.compile("[a-z][a-z0-9+.-]+:/")  # a Path has one slash of the two


def shown(text: str | Path) -> str:
    r"""Return ``text`` on one line, the unprintable escaped (``\n``, ``\x1b``, lone surrogates)."""
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def is_utf8(text: str | Path) -> bool:
    """Whether a text can be written as UTF-8: bytes from outside that are none are held as lone surrogates."""
    try:
        str(text).encode()
    except UnicodeEncodeError:
        return False
    return True


def is_url(path: str | Path) -> bool:
    """Whether a path is a URL, such as ``s3://bucket/prefix``, where a folder of this machine is asked for."""
    return _URL.match(str(path)) is not None


def shown_url(url: str | Path) -> str:
    """Return a URL as it was given, though a Path has it."""
    return shown(re.sub(r":/(?=[^/])", "://", str(url), count=1))


def why(error: Exception) -> str:
    """Return an error's own words, on one line: of the system's, what it says and not its number."""
    words = error.strerror if isinstance(error, OSError) else None
    return shown(words or str(error))


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is closest to one that is not, whatever its capitals; None where none is close."""
    import difflib  # wanted only where something is wrong

    by_folded = {other.casefold(): other for other in known}
    close = difflib.get_close_matches(name.casefold(), list(by_folded), n=1)
    return by_folded[close[0]] if close else None
