"""What the gallery of a run is made of: its tables, and what workers, indexes and the model say of what is in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np

from stylematch.pipelines.score_job import ScoreJob
from stylematch.report.gallery import GalleryWriter
from stylematch.report.item_pictures import pictures_to_show
from stylematch.report.join import read_photos
from stylematch.report.kept_votes import KeptVotes
from stylematch.report.page_rows import LabelledFace
from stylematch.report.recommended import ItemFacts, ItemPicture
from stylematch.report.thumbnails import KeptThumbnails
from stylematch.report.votes import votes_path
from stylematch.search.item_rows import StoredItemRows
from stylematch.search.rows_file import read_rows
from stylematch.tables.manifest import Stage

_FACTS = ("title", "price", "url")


class GalleryPages:
    """Writes a run's gallery: ``add`` each partition, in order, then ``finish``.

    Parameters
    ----------
    job : ScoreJob
        The run; its first partition's tables must be there.
    partitions : int
        How many it has.
    """

    def __init__(self, job: ScoreJob, partitions: int) -> None:
        self._job = job
        self._met: dict[int, LabelledFace] = {}
        picture, facts = self._items()
        report = job.staged / "report"
        self._thumbnails = KeptThumbnails(report)
        self._writer = GalleryWriter(
            job.staged,
            item_picture=picture,
            item_facts=facts,
            nearest=KeptVotes((votes_path(report, number) for number in range(partitions)), self._labelled),
            thumbnails=self._thumbnails,
        )

    def add(self, partition: int) -> Iterator[None]:
        """Take the next partition's photos, one at each step."""
        self._thumbnails.turn_to(partition)
        for photo in read_photos(self._job.staged, partition):
            yield
            self._writer.add(photo)

    def finish(self, title: str, facts: Mapping[str, str], stages: Mapping[str, Stage]) -> None:
        """Write what is left; arguments as for ``GalleryWriter.finish``.

        Raises
        ------
        StylematchError
            If an index was replaced meanwhile: what is shown of it need not be what was scored with.
        """
        for index in (self._job.spec.assets.faces, self._job.spec.assets.items):
            index.check_same()
        self._writer.finish(title, facts, stages)

    def close(self) -> None:
        """Close what is read from the partition in hand, where some of it is left."""
        self._thumbnails.close()

    def _items(self) -> tuple[ItemPicture, ItemFacts]:
        catalog = StoredItemRows(self._job.spec.assets.items.directory)

        def facts(item_id: str) -> dict[str, str]:
            values = ((name, catalog.value(name, catalog.position_of[item_id])) for name in _FACTS)
            return {name: value for name, value in values if value}

        return pictures_to_show(catalog, self._job.spec.assets.pictures), facts

    @cached_property
    def _faces(self) -> tuple[list[str], np.ndarray, np.ndarray]:
        """The labelled faces' ids; the attributes that may be shown, and which face has which, bool (n, a)."""
        spec = self._job.spec
        rows = read_rows(spec.assets.faces.directory)
        names = [name for name in spec.assets.attribute_names if name not in spec.settings.without]
        labels = np.empty((rows.num_rows, len(names)), np.bool_)  # also where all that the model knows is hidden
        for place, name in enumerate(names):
            labels[:, place] = rows[name].to_numpy()
        return rows["id"].to_pylist(), np.array(names, object), labels

    def _labelled(self, position: int, style: str) -> LabelledFace:
        if position not in self._met:  # some are near to many
            ids, names, labels = self._faces
            self._met[position] = LabelledFace(ids[position], style, tuple(names[labels[position]].tolist()))
        return self._met[position]
