"""Score photos without a run: the same features and advice as ``score`` gives, as tables in memory.

For whoever asks about a few photos now (a notebook, a service) instead of publishing a folder's tables. Models, indexes
and rules are loaded once; what is said of a photo does not depend on which others it is scored with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stylematch.data.photo_file import photo_id_of
from stylematch.data.photos import FoundPhoto
from stylematch.errors import PhotoRejectedError
from stylematch.pipelines.advice import Adviser
from stylematch.pipelines.face_features import FeatureExtractor, Rows
from stylematch.pipelines.partition_result import PartitionResult
from stylematch.pipelines.run_spec import RunSpec
from stylematch.report.item_pictures import picture_of_items
from stylematch.search.structure import search_with
from stylematch.settings.score import ScoreSettings
from stylematch.tables.contract import Reason, faces_schema, photos_schema, recommendations_schema
from stylematch.tables.cores import usable_cores
from stylematch.tables.writer import to_arrow

Tables = dict[str, pa.Table]


class Scorer:
    """What a run loads, for photos that come by themselves.

    Parameters
    ----------
    settings : ScoreSettings
        How; what concerns a run's folder or its workers is not looked at.
    indexes : sequence of pathlib.Path
        Index directories that replace parts of the default.
    threads : int, optional
        Threads of one model call or search; by default one per usable core.

    Raises
    ------
    UserError
        If a model, index, rule set or setting is wrong.
    """

    def __init__(self, settings: ScoreSettings, indexes: Sequence[Path] = (), *, threads: int | None = None) -> None:
        self.settings = settings
        self.spec = spec = RunSpec.of(settings, indexes)
        self._threads = threads or usable_cores()
        self.extractor = FeatureExtractor(spec, self._threads)
        self.adviser = Adviser(spec, self._threads)
        self.schemas: dict[str, pa.Schema] = {
            "photos": photos_schema(),
            "faces": faces_schema(self.adviser.attribute_names, self.extractor.embedding_dim),
            # Without a run there is no name of one.
            "recommendations": pa.schema(
                [field for field in recommendations_schema(spec.item_fields) if field.name != "run_id"]
            ),
        }

    def score(self, photos: Sequence[FoundPhoto], read: Callable[[FoundPhoto], bytes]) -> Tables:
        """Score one batch.

        Parameters
        ----------
        photos : sequence of FoundPhoto
            Of different paths.
        read : callable
            Returns a photo's bytes, or raises ``PhotoRejectedError``.

        Returns
        -------
        dict of str to pyarrow.Table
            ``photos``, ``faces`` and ``recommendations`` with the columns of a run's tables (``run_id`` aside), in the
            order of the photos.
        """
        search_with(self._threads)  # a service asks from another thread than that which loaded
        result = PartitionResult()
        rows, features = self.extractor.extract(photos, read, result)
        faces, recommendations = self.adviser.advise(features, "", result)
        found = {"photos": rows, "faces": faces, "recommendations": recommendations}
        return {name: self._table(name, columns) for name, columns in found.items()}

    def score_pictures(self, pictures: Sequence[bytes]) -> list[Tables]:
        """Score pictures that are in memory, as one batch.

        Parameters
        ----------
        pictures : sequence of bytes
            Whole files.

        Returns
        -------
        list of dict of str to pyarrow.Table
            Of each picture its tables; ``path`` is its place in ``pictures``.
        """
        photos = [FoundPhoto(str(place), b"", len(data), photo_id_of(data)) for place, data in enumerate(pictures)]
        tables = self.score(photos, lambda photo: self._checked(pictures[int(photo.path)]))
        return [
            {name: table.filter(pc.equal(table["path"], photo.path)) for name, table in tables.items()}
            for photo in photos
        ]

    @cached_property
    def item_picture(self) -> Callable[[str], npt.NDArray[np.uint8] | None]:
        """What shows an item: see ``report.item_pictures.picture_of_items``."""
        return picture_of_items(self.adviser.catalog, self.spec.assets.pictures)

    def _checked(self, data: bytes) -> bytes:
        if len(data) > self.settings.max_file_mb * 1e6:
            limit = int(self.settings.max_file_mb * 1e6)
            message = f"the picture has {len(data):,} bytes, over the limit of {limit:,}"
            raise PhotoRejectedError(Reason.FILE_TOO_LARGE, message)
        return data

    def _table(self, name: str, columns: Rows) -> pa.Table:
        schema = self.schemas[name]
        if not columns:
            return schema.empty_table()
        return pa.table([to_arrow(columns[field.name], field) for field in schema], schema=schema)
