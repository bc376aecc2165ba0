"""The gallery: a finished run as a page to look at, ``OUT/report/index.html``.

It opens from the file system, with no server and no network (see ``chunks`` for how). Its data are:

- ``data/summary.js``: counts, styles, reasons, names and the items that most faces have, for overview and filters;
- ``data/timing.js``: how long each step took;
- ``data/tiles-00001.js`` ...: ``page_size`` photos each, what a list shows of them;
- ``data/page-00001.js`` ...: the same photos with all that is known of their faces, for a person's page;
- ``data/thumbs-00001.js`` ...: the same photos' thumbnails; ``data/pictures-00001.js`` ...: items' (``packed``);
- ``data/index-00001.js`` ...: what search and filters need of every photo (``finding``), ``data/items-00001.js`` ...:
  of every recommended item (``recommended``).

One pass over the tables writes them all. Memory grows with the number of styles and of different items, never
with the number of photos. Equal tables give equal files, but for ``timing.js``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from stylematch.errors import UserError
from stylematch.report.chunks import ChunkFolder, write_page
from stylematch.report.finding import LIKELY, FindingColumns
from stylematch.report.join import JoinedPhoto, Row, attribute_names
from stylematch.report.packed import ItemPictureChunks
from stylematch.report.page_rows import Nearest, PageRows, meaning
from stylematch.report.recommended import ItemFacts, ItemPicture, RecommendedItems
from stylematch.tables.contract import Status
from stylematch.tables.manifest import Stage

Thumbnails = Callable[[str], str | None]


class GalleryWriter:
    """Writes ``run/report`` as the photos come, in their order: ``add`` each, then ``finish``.

    At least the first partition's tables must be there. What lies in ``report/data`` and ``report/assets`` is replaced;
    ``index.html`` comes last.

    Parameters
    ----------
    run : pathlib.Path
        The run's directory, staged or published.
    item_picture : callable
        Takes an item_id, returns its picture as a whole JPEG file, as uint8 of shape (28, 28) grey or
        (height, width, 3) RGB, or None where there is none. Called once for every different item and category.
    item_facts : callable, optional
        Takes an item_id, returns what else the catalogue says of it: any of ``title``, ``price`` and ``url``.
    nearest : callable, optional
        Takes faces, returns for each the labelled faces nearest to it; without it the page shows none.
    thumbnails : callable, optional
        Takes a photo's path, returns its thumbnail in base64, or None where there is none: then the page shows a
        placeholder. Asked for each photo once, in their order.
    page_size : int
        Photos a page, at least 1.

    Raises
    ------
    UserError
        If ``page_size`` is below 1.
    """

    def __init__(
        self,
        run: Path,
        *,
        item_picture: ItemPicture,
        item_facts: ItemFacts | None = None,
        nearest: Nearest | None = None,
        thumbnails: Thumbnails | None = None,
        page_size: int = 60,
    ) -> None:
        if page_size < 1:
            raise UserError(f"page_size must be at least 1, got {page_size}")
        self._report = run / "report"
        (self._report / "index.html").unlink(missing_ok=True)
        names = attribute_names(run)
        self._chunks = ChunkFolder(self._report / "data")
        self._pictures = ItemPictureChunks(self._chunks)
        items = RecommendedItems(self._pictures, item_picture, item_facts)
        rows = PageRows(items, names, nearest)
        self._data = _DataWriter(self._chunks, rows, items, names, page_size, thumbnails)

    def add(self, photo: JoinedPhoto) -> None:
        """Take the next photo."""
        self._data.add(photo)

    def finish(self, title: str, summary: Mapping[str, str], stages: Mapping[str, Stage]) -> Path:
        """Write what is left; return the path of ``index.html``.

        Parameters
        ----------
        title : str
            The page's heading.
        summary : mapping of str to str
            What the page says about the run besides the counts, which follow from the photos: label and value, in
            order.
        stages : mapping of str to Stage
            How long the run's steps took.
        """
        self._data.finish(title, summary)
        self._pictures.flush()
        self._chunks.write("timing", {"stages": [_described(name, stage) for name, stage in stages.items()]})
        return write_page(self._report, "gallery", title)


class _DataWriter:
    """Turns photos into the data files, one page and one part of the index at a time."""

    def __init__(
        self,
        chunks: ChunkFolder,
        rows: PageRows,
        items: RecommendedItems,
        names: tuple[str, ...],
        page_size: int,
        thumbnails: Thumbnails | None,
    ) -> None:
        self._chunks, self._rows, self._names, self._page_size = chunks, rows, names, page_size
        self._items = items
        self._thumbnails = thumbnails
        self._page: list[JoinedPhoto] = []
        self._pictures: list[str | None] = []
        self._numbers: list[list[int]] = []  # of the items of the page's faces
        self._finding = FindingColumns(len(names))
        self._found = 0
        # Numbered in the order of appearance, so that the index can name them before all are known.
        self._styles: dict[str, int] = {}
        self._kinds: dict[tuple[str, str], int] = {}
        self._faces_of_style: Counter[str] = Counter()
        self._photos_of_kind: Counter[tuple[str, str]] = Counter()

    def add(self, photo: JoinedPhoto) -> None:
        """Take the next photo."""
        kind = (photo.row["status"], photo.row["reason"])
        self._found += 1
        self._photos_of_kind[kind] += 1
        faces = []
        for face in photo.faces:
            style = face.row["style"]
            self._faces_of_style[style] += 1
            number = self._styles.setdefault(style, len(self._styles))
            items = self._items.count(face.items)
            self._numbers.append(items)
            faces.append((number, face.row["style_score"], face.probabilities, items))
        self._flush_index(self._finding.add(photo.row["path"], self._kinds.setdefault(kind, len(self._kinds)), faces))
        self._page.append(photo)
        self._pictures.append(self._thumbnails(photo.row["path"]) if self._thumbnails else None)
        if len(self._page) == self._page_size:
            self._flush_page()

    def finish(self, title: str, facts: Mapping[str, str]) -> None:
        """Write what is left, and the summary."""
        if self._page:
            self._flush_page()
        self._flush_index(self._finding.take())
        for part in self._items.chunks():
            self._chunks.append("items", part)
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
                {"status": status, "reason": reason, "photos": count, "meaning": meaning(reason)}
                for (status, reason), count in self._photos_of_kind.items()
            ],
            "attributes": list(self._names),
            "likely": LIKELY,
            "attribute_words": self._finding.words,
            "categories": self._items.categories(),
            "items": self._items.different(),
            "most": self._items.most(),
            "page_size": self._page_size,
            "index_parts": self._chunks.written["index"],
            "items_parts": self._chunks.written["items"],
        }
        self._chunks.write("summary", chunk)

    def _flush_page(self) -> None:
        drawn = [picture is not None for picture in self._pictures]
        self._chunks.append("tiles", self._rows.tiles(self._page, drawn, self._numbers))
        self._chunks.append("page", self._rows.describe(self._page, drawn, self._numbers))
        self._chunks.append_encoded("thumbs", "pictures", self._pictures)
        self._page, self._pictures, self._numbers = [], [], []

    def _flush_index(self, chunk: Row | None) -> None:
        if chunk is not None:
            self._chunks.append("index", chunk)


def _described(name: str, stage: Stage) -> Row:
    return {
        "name": name,
        "seconds": round(stage.seconds, 3),
        "items": stage.items,
        "unit": stage.unit,
        "per_worker": stage.per_worker,
    }
