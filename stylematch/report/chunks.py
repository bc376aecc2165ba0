"""Data for a page that is opened from the file system: scripts that each call one function with one JSON object.

A browser lets such a page load scripts and pictures, but read neither JSON nor modules. So each file of a page's
``data`` folder is ``stylematchPage.receive({...});``. A file is ASCII, ``<``, ``>`` and ``&`` are escaped even inside
strings: nothing in it could end a script or open a tag, wherever it is pasted.
"""

from __future__ import annotations

import html
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson

_ESCAPES = {b"<": b"\\u003c", b">": b"\\u003e", b"&": b"\\u0026"}
_CALL = b"stylematchPage.receive"


class ChunkFolder:
    """Writes a page's data files.

    Parameters
    ----------
    folder : Path
        Where they go, such as ``report/data``; what lies there goes first.
    """

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._folder = folder
        self.written: Counter[str] = Counter()
        """How many numbered chunks of each kind there are."""

    def write(self, kind: str, chunk: dict[str, Any]) -> None:
        """Write the only chunk of its kind, ``KIND.js``."""
        self._write(f"{kind}.js", {"kind": kind, **chunk})

    def append(self, kind: str, chunk: dict[str, Any]) -> None:
        """Write the next numbered chunk of a kind, ``KIND-00001.js`` and so on."""
        self.written[kind] += 1
        number = self.written[kind]
        self._write(f"{kind}-{number:05d}.js", {"kind": kind, "number": number, **chunk})

    def append_encoded(self, kind: str, name: str, values: Sequence[str | None]) -> None:
        """Write the next numbered chunk of a kind that holds, under a name, files in base64, or None.

        They are as many bytes as all other chunks together ten times over, and no letter of theirs needs an escape.
        """
        self.written[kind] += 1
        number = self.written[kind]
        listed = ",".join("null" if value is None else f'"{value}"' for value in values)
        self._write_json(
            f"{kind}-{number:05d}.js", f'{{"kind":"{kind}","number":{number},"{name}":[{listed}]}}'.encode()
        )

    def _write(self, name: str, chunk: dict[str, Any]) -> None:
        text = orjson.dumps(chunk)
        if not text.isascii():
            text = json.dumps(orjson.loads(text), separators=(",", ":")).encode("ascii")
        for character, escape in _ESCAPES.items():  # most chunks hold none, which is seen faster than translated
            text = text.replace(character, escape)
        self._write_json(name, text)

    def _write_json(self, name: str, text: bytes) -> None:
        (self._folder / name).write_bytes(b"%b(%b);\n" % (_CALL, text))


CHUNK_ERRORS = (OSError, ValueError)
"""What ``read_chunk`` raises: there is no such file, or it is none of ours."""


def read_chunk(path: Path) -> dict[str, Any]:
    """Return what a data file hands over."""
    text = path.read_bytes()
    chunk: dict[str, Any] = orjson.loads(text.removeprefix(_CALL + b"(").removesuffix(b");\n"))
    return chunk


def write_page(report: Path, name: str, title: str) -> Path:
    """Write ``index.html`` and the files that it loads from ``assets``; return its path.

    The pages have one head: what no page may load, what all need first, the title.

    Parameters
    ----------
    report : Path
        The page's folder.
    name : str
        Which of the package's pages: "gallery" or "compare".
    title : str
        What stands in its heading.
    """
    source = files("stylematch.report") / "page"
    head = (source / "head.html").read_text("utf-8").rstrip()
    page = (source / f"{name}.html").read_text("utf-8").replace("{{head}}", head)
    shutil.rmtree(report / "assets", ignore_errors=True)
    (report / "assets").mkdir(parents=True)
    for asset in sorted(source.iterdir(), key=lambda asset: asset.name):
        if f'"assets/{asset.name}"' in page:
            (report / "assets" / asset.name).write_bytes(asset.read_bytes())
    index = report / "index.html"
    index.write_text(page.replace("{{title}}", html.escape(title)), "utf-8")
    return index
