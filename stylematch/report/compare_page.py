"""A comparison as a page to look at, ``OUT/report/index.html``, made like the gallery (see ``chunks``).

- ``data/summary.js``: the figures;
- ``data/page-00001.js`` ...: 60 changes each, photos first, then faces with their lists of items;
- ``data/index-00001.js`` ...: of every change its path, kind and styles, for search and filters.

Thumbnails and items' pictures are copied from the runs' galleries, where those have them, so the folder can be moved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from stylematch.report.chunks import ChunkFolder, write_page
from stylematch.report.packed import GalleryPictures
from stylematch.report.pictures import item_picture_name, thumbnail_path

_PAGE_CHANGES = 60
_INDEX_CHANGES = 5000
_INDEX_COLUMNS = ("paths", "kinds", "from", "to")
KINDS = (
    "photo added",
    "photo gone",
    "photo renamed",
    "photo status",
    "photo contents",
    "photo faces",
    "face added",
    "face gone",
    "face style",
    "face items",
)
"""What a change is called in the page: a row's kind, and what of it changed."""

Row = dict[str, Any]


def write_compare_page(
    out: Path, figures: Row, galleries: tuple[Path, Path], photos: Iterable[Row], faces: Iterable[Row]
) -> Path:
    """Write ``out/report`` and return the path of its ``index.html``.

    Parameters
    ----------
    out : Path
        Of the comparison.
    figures : dict
        As ``changes.json`` holds them.
    galleries : pair of Path
        The ``report`` folders of the two runs; they may be missing.
    photos : iterable of dict
        Changed photos, rows of ``photos.parquet``.
    faces : iterable of dict
        Changed faces, rows of ``faces.parquet`` and of their photo ``photo_id``, ``photo_width``, ``photo_height``, and
        ``items``: a list of ``item_id``, ``category``, ``rank_a``, ``rank_b``, ``change``.

    Raises
    ------
    UserError
        A run's picture is reached through a link.
    """
    report = out / "report"
    chunks = ChunkFolder(report / "data")
    pictures = _Pictures(report, galleries)
    styles: dict[str, int] = {}
    page: list[Row] = []
    index: list[tuple[str, int, int, int]] = []
    for kind, row in _changes(photos, faces):
        numbers = [
            styles.setdefault(style, len(styles)) if (style := row.get(side)) else -1 for side in ("style_a", "style_b")
        ]
        index.append((row["path"], kind, numbers[0], numbers[1]))
        page.append(_described(row, kind, pictures))
        if len(page) == _PAGE_CHANGES:
            chunks.append("page", {"changes": page})
            page = []
        if len(index) == _INDEX_CHANGES:
            chunks.append("index", _columns(index))
            index = []
    if page:
        chunks.append("page", {"changes": page})
    if index:
        chunks.append("index", _columns(index))
    chunks.write(
        "summary",
        {
            **figures,
            "kinds": list(KINDS),
            "style_names": list(styles),
            "page_size": _PAGE_CHANGES,
            "index_parts": chunks.written["index"],
        },
    )
    return write_page(report, "compare", "stylematch: what changed")


def _changes(photos: Iterable[Row], faces: Iterable[Row]) -> Iterator[tuple[int, Row]]:
    for what, rows in (("photo", photos), ("face", faces)):
        for row in rows:
            yield KINDS.index(f"{what} {row['change']}"), row


def _columns(index: list[tuple[str, int, int, int]]) -> Row:
    return {name: list(column) for name, column in zip(_INDEX_COLUMNS, zip(*index, strict=True), strict=True)}


def _described(row: Row, kind: int, pictures: _Pictures) -> Row:
    if "iou" not in row:
        thumbnail = pictures.thumbnail(row["photo_id_b"] or row["photo_id_a"])
        names = (
            "path",
            "path_a",
            "status_a",
            "status_b",
            "reason_a",
            "reason_b",
            "faces_a",
            "faces_b",
            "width",
            "height",
        )
        return {"kind": kind, "thumbnail": thumbnail, **{name: row[name] for name in names}}
    side = "a" if row["face_b"] is None else "b"
    box = [round(row[f"{name}_{side}"], 1) for name in ("x", "y", "width", "height")]
    kept = ("path", "face_a", "face_b", "style_a", "style_b", "rule_style_a", "rule_style_b", "attribute")
    return {
        "kind": kind,
        "thumbnail": pictures.thumbnail(row["photo_id"]),
        "box": box,
        "width": row["photo_width"],
        "height": row["photo_height"],
        **{name: row[name] for name in kept},
        **{name: _rounded(row[name]) for name in ("style_score_a", "style_score_b", "overlap", "attribute_shift")},
        "items": [{**item, "picture": pictures.item(item["item_id"])} for item in row["items"] or ()],
    }


class _Pictures:
    """Copies pictures from the runs' galleries as they are named; None for one that neither has."""

    def __init__(self, report: Path, galleries: tuple[Path, Path]) -> None:
        self._report = report
        self._galleries = [GalleryPictures(gallery.parent) for gallery in reversed(galleries)]
        self._copied: dict[tuple[str, str], str | None] = {}

    def thumbnail(self, photo_id: str | None) -> str | None:
        if photo_id is None:
            return None
        found = (gallery.thumbnail(photo_id) for gallery in self._galleries)
        return self._copy(("thumbs", photo_id), found, lambda _: thumbnail_path(photo_id))

    def item(self, item_id: str) -> str | None:
        found = (gallery.item(item_id) for gallery in self._galleries)
        return self._copy(("items", item_id), found, lambda data: Path("items") / item_picture_name(item_id, data))

    def _copy(
        self, what: tuple[str, str], found: Iterator[bytes | None], name_of: Callable[[bytes], Path]
    ) -> str | None:
        if what not in self._copied:
            self._copied[what] = None
            if (data := next((data for data in found if data is not None), None)) is not None:
                name = name_of(data)
                (self._report / name).parent.mkdir(parents=True, exist_ok=True)
                (self._report / name).write_bytes(data)
                self._copied[what] = name.as_posix()
        return self._copied[what]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
