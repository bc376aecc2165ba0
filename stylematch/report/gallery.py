"""The gallery: a finished run as a page to look at, ``OUT/report/index.html``.

It opens from the file system, with no server and no network. A browser lets such a page read neither JSON nor
modules, so the data are classic scripts that each call one function:

- ``data/summary.js``: counts, styles and reasons, for the overview;
- ``data/page-00001.js`` ...: ``page_size`` photos each, with faces and items, loaded when they are shown;
- ``data/index-00001.js`` ...: path, status and styles of every photo, all that search and filters need.

One pass over the tables writes them all. Memory grows with the number of styles and of different items, never
with the number of photos. Equal tables give equal files.
"""

from __future__ import annotations

import html
import json
import math
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stylematch.errors import UserError
from stylematch.report.join import JoinedFace, JoinedPhoto, Row, read_photos
from stylematch.report.pictures import encode_item_picture, item_picture_name, thumbnail_path
from stylematch.tables.contract import REASON_MEANINGS, Reason, Status

ItemPicture = Callable[[str], NDArray[np.uint8] | None]

_TOP_ATTRIBUTES = 6
_INDEX_PHOTOS = 5000
_STATIC_ASSETS = ("gallery.css", "gallery.js", "icon.svg")
# A data file is ASCII, and holds nothing that could end a script or open a tag, wherever it is pasted.
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def write_gallery(
    run: Path,
    *,
    item_picture: ItemPicture,
    title: str,
    summary: Mapping[str, str] | None = None,
    page_size: int = 60,
) -> Path:
    """Write ``run/report`` from the run's tables and return the path of its ``index.html``.

    Thumbnails are not made here: those that lie at ``thumbnail_path(run / "report", photo_id)`` are shown, a
    photo without one gets a placeholder. All else in ``report`` is replaced; ``index.html`` comes last.

    Parameters
    ----------
    run : Path
        The run's directory, staged or published, with its three tables.
    item_picture : callable
        Takes an item_id, returns its picture as uint8 of shape (28, 28) grey or (height, width, 3) RGB, or
        None where there is none. Called once for every different item.
    title : str
        The page's heading.
    summary : mapping of str to str, optional
        What the page says about the run besides the counts, which it takes from the tables: label and value,
        in order.
    page_size : int
        Photos a page, at least 1.

    Raises
    ------
    UserError
        If ``page_size`` is below 1.
    StylematchError
        If the tables do not belong together.
    """
    if page_size < 1:
        raise UserError(f"page_size must be at least 1, got {page_size}")
    report = run / "report"
    for name in ("data", "items", "assets"):
        shutil.rmtree(report / name, ignore_errors=True)
        (report / name).mkdir(parents=True)
    (report / "index.html").unlink(missing_ok=True)

    writer = _DataWriter(report, item_picture, page_size)
    for photo in read_photos(run, attribute_count=_TOP_ATTRIBUTES):
        writer.add(photo)
    writer.finish(title, summary or {})

    assets = files("stylematch.report") / "assets"
    for name in _STATIC_ASSETS:
        (report / "assets" / name).write_bytes((assets / name).read_bytes())
    page = (assets / "index.html").read_text("utf-8").replace("{{title}}", html.escape(title))
    index = report / "index.html"
    index.write_text(page, "utf-8")
    return index


class _DataWriter:
    """Turns photos into the data files, one page and one part of the index at a time."""

    def __init__(self, report: Path, item_picture: ItemPicture, page_size: int) -> None:
        self._report, self._item_picture, self._page_size = report, item_picture, page_size
        self._page: list[Row] = []
        self._index: list[tuple[str, int, list[int]]] = []
        self._written: Counter[str] = Counter()
        self._found = 0
        # Numbered in the order of appearance, so that the index can name them before all are known.
        self._styles: dict[str, int] = {}
        self._kinds: dict[tuple[str, str], int] = {}
        self._faces_of_style: Counter[str] = Counter()
        self._photos_of_kind: Counter[tuple[str, str]] = Counter()
        self._item_files: dict[str, str | None] = {}

    def add(self, photo: JoinedPhoto) -> None:
        """Take the next photo."""
        row = photo.row
        kind = (row["status"], row["reason"])
        styles = [face.row["style"] for face in photo.faces]
        self._found += 1
        self._photos_of_kind[kind] += 1
        self._faces_of_style.update(styles)
        style_numbers = sorted({self._styles.setdefault(style, len(self._styles)) for style in styles})
        self._index.append((row["path"], self._kinds.setdefault(kind, len(self._kinds)), style_numbers))
        self._page.append(self._describe(photo))
        if len(self._page) == self._page_size:
            self._flush_page()
        if len(self._index) == _INDEX_PHOTOS:
            self._flush_index()

    def finish(self, title: str, facts: Mapping[str, str]) -> None:
        """Write what is left, and the summary."""
        if self._page:
            self._flush_page()
        if self._index:
            self._flush_index()
        statuses: Counter[str] = Counter()
        for (status, _), count in self._photos_of_kind.items():
            statuses[status] += count
        chunk = {
            "title": title,
            "facts": [[label, value] for label, value in facts.items()],
            "counts": {"found": self._found, **{s.value: statuses[s] for s in Status}}
            | {"faces": self._faces_of_style.total()},
            "styles": [{"name": name, "faces": self._faces_of_style[name]} for name in self._styles],
            "kinds": [
                {
                    "status": kind[0],
                    "reason": kind[1],
                    "photos": self._photos_of_kind[kind],
                    "meaning": _meaning(kind[1]),
                }
                for kind in self._kinds
            ],
            "page_size": self._page_size,
            "index_parts": self._written["index"],
        }
        self._write("summary.js", {"kind": "summary", **chunk})

    def _describe(self, photo: JoinedPhoto) -> Row:
        row = photo.row
        names = ("path", "bytes", "width", "height", "format", "status", "reason", "message")
        return {
            **{name: row[name] for name in names},
            "meaning": _meaning(row["reason"]),
            "thumbnail": self._thumbnail(row["photo_id"]),
            "faces": [self._describe_face(face, row["width"], row["height"]) for face in photo.faces],
        }

    def _describe_face(self, face: JoinedFace, photo_width: int | None, photo_height: int | None) -> Row:
        row = face.row
        return {
            "number": row["face"] + 1,
            "box": _percent_box(row, photo_width, photo_height),
            "style": row["style"],
            "score": _rounded(row["style_score"]),
            "why": row["why"],
            "attributes": [[name, _rounded(probability)] for name, probability in face.attributes],
            "items": [
                {
                    "id": item["item_id"],
                    "picture": self._item_file(item["item_id"]),
                    "category": item["category"],
                    "similarity": _rounded(item["similarity"]),
                    "reason": item["reason"],
                }
                for item in face.items
            ],
        }

    def _thumbnail(self, photo_id: str | None) -> str | None:
        if photo_id is None:
            return None
        path = thumbnail_path(self._report, photo_id)
        return path.relative_to(self._report).as_posix() if path.is_file() else None

    def _item_file(self, item_id: str) -> str | None:
        """Return the item's picture relative to the report, written when the item is first met."""
        if item_id not in self._item_files:
            pixels = self._item_picture(item_id)
            if pixels is not None:
                name = f"items/{item_picture_name(item_id)}"
                (self._report / name).write_bytes(encode_item_picture(pixels))
            self._item_files[item_id] = None if pixels is None else name
        return self._item_files[item_id]

    def _flush_page(self) -> None:
        self._flush("page", {"photos": self._page})
        self._page = []

    def _flush_index(self) -> None:
        paths, kinds, styles = (list(column) for column in zip(*self._index, strict=True))
        self._flush("index", {"paths": paths, "kinds": kinds, "styles": styles})
        self._index = []

    def _flush(self, kind: str, chunk: Row) -> None:
        self._written[kind] += 1
        number = self._written[kind]
        self._write(f"{kind}-{number:05d}.js", {"kind": kind, "number": number, **chunk})

    def _write(self, name: str, chunk: Row) -> None:
        text = json.dumps(chunk, ensure_ascii=True, allow_nan=False, separators=(",", ":")).translate(_ESCAPES)
        (self._report / "data" / name).write_text(f"stylematchGallery({text});\n", "ascii")


def _meaning(reason: str) -> str:
    return REASON_MEANINGS[Reason(reason)] if reason in set(Reason) else ""


def _rounded(value: float | None) -> float | None:
    """Return a figure as the page shows it: four decimals; None where there is none."""
    return None if value is None or not math.isfinite(value) else round(value, 4)


def _percent_box(face: Mapping[str, Any], photo_width: int | None, photo_height: int | None) -> list[float] | None:
    """Return left, top, width and height in percent of the upright photo, cut at its edges."""
    if not photo_width or not photo_height:
        return None
    left, right = (min(max(x / photo_width, 0.0), 1.0) for x in (face["x"], face["x"] + face["width"]))
    top, bottom = (min(max(y / photo_height, 0.0), 1.0) for y in (face["y"], face["y"] + face["height"]))
    return [round(100 * share, 2) for share in (left, top, right - left, bottom - top)]
