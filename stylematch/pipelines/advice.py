"""Features to answers: the style of every face, and the items for it, as rows of the tables.

What is known of a face goes in, whether a model has just said it or it was kept from another night; rules, gallery and
items alone decide what comes out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from stylematch.pipelines.face_features import FaceFeatures, Rows
from stylematch.pipelines.judging import load_judge
from stylematch.pipelines.partition_result import PartitionResult
from stylematch.pipelines.run_spec import RunSpec
from stylematch.recommend import FaceQuery, Recommender
from stylematch.recommend.for_whom import MALE, genders_of
from stylematch.search.catalog import ItemCatalog
from stylematch.search.directory import StoredIndex, load_index_directory
from stylematch.search.infos import IndexFolder
from stylematch.style.judge import Judgement
from stylematch.style.neighbours import Vote
from stylematch.tables.description import unchanged

# The columns of recommendations that are the face's, and those that are the item's.
_OF_FACE = ("path", "photo_id", "face", "style", "style_score", "rule")
_OF_ITEM = ("rank", "item_id", "category", "score", "similarity", "query", "tag_fit", "reason")


class Adviser:
    """Rules, gallery and items, loaded once for a process.

    Parameters
    ----------
    spec : RunSpec
        Which rules and indexes, which items may be recommended and how they are ranked, and where is searched.
    threads : int
        Threads of one search.

    Attributes
    ----------
    attribute_names : tuple of str
        The attributes that the faces table holds: the model's, but for those that are switched off.
    gallery, items : StoredIndex
        The labelled faces, and the catalogue's items.
    item_fields : tuple of pyarrow.Field
        The catalogue's columns that the recommendations table holds.

    Raises
    ------
    UserError
        If an index is damaged.
    StylematchError
        If an index is no longer the one that ``spec`` was made of.
    """

    def __init__(self, spec: RunSpec, threads: int) -> None:
        settings, assets, rules = spec.settings, spec.assets, spec.rules
        gallery, items = (_loaded(index, spec.device, threads) for index in (assets.faces, assets.items))
        self.without = frozenset(settings.without)
        self.attribute_names = tuple(name for name in assets.attribute_names if name not in self.without)
        self.gallery, self.items = gallery, items
        self.item_fields = spec.item_fields
        self.catalog = ItemCatalog(items, spec.allowed_items)
        self.judge = load_judge(rules, gallery, spec.fit)
        self.recommender = Recommender(
            self.catalog,
            {style: rules.items(style) for style in rules.styles},
            tags_of_style={style: rules.tags(style) for style in rules.styles},
            top_k=settings.top_k,
            seed=settings.seed,
            ranking=settings,
        )

    def advise(
        self,
        faces: FaceFeatures,
        run_id: str,
        result: PartitionResult,
        on_vote: Callable[[Rows, Vote], None] | None = None,
    ) -> tuple[Rows, Rows]:
        """Return the rows of faces and of recommendations.

        Parameters
        ----------
        faces : FaceFeatures
            Of some photos.
        run_id : str
            The run's name.
        result : PartitionResult
            Where the time of each stage is counted.
        on_vote : callable, optional
            Told the faces' columns and what the nearest labelled faces say of them.
        """
        if not len(faces):
            return {}, {}
        judgement = self._judged(faces, result, on_vote)
        known = {name: column for name, column in faces.columns.items() if name not in self.without}
        rows = {**known, **self._style_columns(judgement), "embedding": faces.embedding}
        with result.timed("items", len(faces), "faces"):
            return rows, self._item_rows(rows, faces.worn, run_id)

    def vote(self, faces: FaceFeatures, result: PartitionResult, on_vote: Callable[[Rows, Vote], None]) -> None:
        """Ask the nearest labelled faces alone, of faces whose rows are known; arguments as for ``advise``."""
        if len(faces):
            self._judged(faces, result, on_vote)

    def _judged(
        self, faces: FaceFeatures, result: PartitionResult, on_vote: Callable[[Rows, Vote], None] | None
    ) -> Judgement:
        with result.timed("style", len(faces), "faces"):
            judgement = self.judge.judge(faces.attributes, faces.embedding)
            if on_vote is not None:
                on_vote(faces.columns, judgement.vote)
        return judgement

    def _style_columns(self, judgement: Judgement) -> Rows:
        styles = self.judge.rules.styles
        columns: dict[str, Any] = {
            "style": [styles[index] for index in judgement.style],
            "style_score": judgement.style_score,
            "style_margin": judgement.style_margin,
            "rule_style": [styles[index] for index in judgement.rule_style],
            "rule_score": judgement.rule_score,
            "neighbour_style": [styles[index] for index in judgement.neighbour_style],
            "neighbour_score": judgement.neighbour_score,
            "rule": judgement.rule,
            "why": judgement.why,
        }
        return columns

    def _item_rows(self, faces: Rows, worn: list[npt.NDArray[np.float32] | None], run_id: str) -> Rows:
        keys = list(zip(*(faces[name] for name in _OF_FACE), strict=True))
        tells_apart = MALE in self.judge.rules.attributes
        genders = genders_of(np.asarray(faces[MALE]) if tells_apart else None, len(keys))
        queries = [
            FaceQuery(photo_id, face, style, float(style_score), rule, clothes, made_for)
            for (_, photo_id, face, style, style_score, rule), clothes, made_for in zip(
                keys, worn, genders, strict=True
            )
        ]
        answers = self.recommender.recommend_all(queries)
        items = [item for of_face in answers for item in of_face]
        owners = [key for key, of_face in zip(keys, answers, strict=True) for _ in of_face]
        positions = [item.position for item in items]
        return {
            "run_id": [run_id] * len(items),
            **{name: [owner[place] for owner in owners] for place, name in enumerate(_OF_FACE)},
            **{name: [getattr(item, name) for item in items] for name in _OF_ITEM},
            **{field.name: self.catalog.cells(field.name, positions) for field in self.item_fields},
        }


def _loaded(folder: IndexFolder, device: str, threads: int) -> StoredIndex:
    with unchanged(folder):
        return load_index_directory(folder.directory, device=device, threads=threads)
