"""Pictures in a gallery's data files, many to a file, and out of them again.

A file for every small picture would cost a run of many photos more than making them all. ``thumbs-00001.js`` holds the
thumbnails of a page's photos, in their order (``gallery``); ``pictures-00001.js`` those of items, each with its id, in
the order in which they were first recommended. All are whole JPEG or PNG files in base64.

A list of photos shows the pictures of many items, which lie in many chunks: so these are small.
"""

from __future__ import annotations

import base64
from bisect import bisect_left
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stylematch.report.chunks import CHUNK_ERRORS, ChunkFolder, read_chunk
from stylematch.report.pictures import encode_item_picture
from stylematch.tables.shards import shard_paths
from stylematch.tables.views import refuse_link

_CHUNK_LETTERS = 64 * 1024  # what a browser reads to show one


class ItemPictureChunks:
    """Packs the items' pictures, each once.

    Parameters
    ----------
    chunks : ChunkFolder
        Where the data files go.
    """

    def __init__(self, chunks: ChunkFolder) -> None:
        self._chunks = chunks
        self._places: dict[str, tuple[int, int]] = {}
        self._pending: dict[str, str] = {}
        self._letters = 0

    def add(self, item_id: str, picture: NDArray[np.uint8] | bytes) -> tuple[int, int]:
        """Return in which chunk, and where in it, an item's picture is going to be: a JPEG, (h, w, 3) or (28, 28)."""
        if item_id not in self._places:
            self._places[item_id] = self._chunks.written["pictures"] + 1, len(self._pending)
            data = picture if isinstance(picture, bytes) else encode_item_picture(picture)
            self._pending[item_id] = base64.b64encode(data).decode()
            self._letters += len(self._pending[item_id])
            if self._letters >= _CHUNK_LETTERS:
                self.flush()
        return self._places[item_id]

    def flush(self) -> None:
        """Write what has been packed since the last chunk."""
        if self._pending:
            self._chunks.append("pictures", {"ids": list(self._pending), "pictures": list(self._pending.values())})
        self._pending, self._letters = {}, 0


class GalleryPictures:
    """The pictures of a finished run, out of its gallery; none where there is no gallery. A link in it is refused.

    Parameters
    ----------
    run : Path
        Its directory.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._open: tuple[str, dict[str, Any]] = ("", {})

    def thumbnail(self, photo_id: str) -> bytes | None:
        """Return the thumbnail of a photo as JPEG, None where the gallery has none."""
        if not self._page_size:
            return None
        ids, order = self._sorted
        place = bisect_left(range(len(ids)), photo_id, key=lambda at: ids[at].as_py())
        if place == len(ids) or ids[place].as_py() != photo_id:
            return None
        number, at = divmod(order[place].as_py(), self._page_size)
        return self._picture(f"thumbs-{number + 1:05d}", at)

    def item(self, item_id: str) -> bytes | None:
        """Return the picture of an item as JPEG or PNG, None where the gallery has none."""
        place = self._items.get(item_id)
        return None if place is None else self._picture(*place)

    @cached_property
    def _page_size(self) -> int:
        return int(self._chunk("summary").get("page_size", 0))

    @cached_property
    def _sorted(self) -> tuple[Any, Any]:
        """The photos' ids, sorted, and which photo each is of."""
        shards = [pq.read_table(shard, columns=["photo_id"])["photo_id"] for shard in shard_paths(self._run / "photos")]
        ids = pa.chunked_array([chunk for shard in shards for chunk in shard.chunks], pa.string()).combine_chunks()
        order = pc.sort_indices(ids).slice(0, len(ids) - ids.null_count)  # those without an id come last
        return ids.take(order), order

    @cached_property
    def _items(self) -> dict[str, tuple[str, int]]:
        names = sorted(path.stem for path in (self._run / "report" / "data").glob("pictures-*.js"))
        return {item_id: (name, at) for name in names for at, item_id in enumerate(self._chunk(name).get("ids", ()))}

    def _picture(self, name: str, at: int) -> bytes | None:
        if self._open[0] != name:  # who asks for many asks in their order
            self._open = name, self._chunk(name)
        encoded = self._open[1].get("pictures", [])[at : at + 1]
        return base64.b64decode(encoded[0]) if encoded and encoded[0] is not None else None

    def _chunk(self, name: str) -> dict[str, Any]:
        path = self._run / "report" / "data" / f"{name}.js"
        refuse_link(self._run, path)
        try:
            return read_chunk(path)
        except CHUNK_ERRORS:
            return {}
