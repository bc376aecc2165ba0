"""For notebooks: photos in, data frames out, with the same features and advice as ``stylematch-batch score``.

``Stylematch.load()`` reads models, indexes and rules once. ``score`` and ``recommend`` return the rows that a run would
write, ``similar`` those of ``stylematch-batch similar``; ``neighbours`` and ``explain`` look behind them
(``pipelines/explain``).
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd  # type: ignore[import-untyped]
import pyarrow as pa

from stylematch.data.photos import FoundPhoto
from stylematch.engines.progress import Progress
from stylematch.errors import UserError
from stylematch.pipelines.explain import Explanation, explain, neighbour_rows
from stylematch.pipelines.indexing.item_neighbours import Neighbourhood, pairs_of
from stylematch.pipelines.listed_photos import read_listed
from stylematch.pipelines.named_photos import ROOT, PathLike, named_paths, named_photo_id, named_photos
from stylematch.pipelines.run_spec import rows_allowed
from stylematch.pipelines.scorer import Scorer
from stylematch.search.units import has_direction
from stylematch.settings.base import Natural
from stylematch.settings.load import validated
from stylematch.settings.score import ScoreSettings
from stylematch.settings.similar import SimilarSettings
from stylematch.tables.contract import TABLES
from stylematch.tables.shown import shown

__all__ = ["Explanation", "Stylematch"]

Face: TypeAlias = Mapping[Any, Any] | pd.Series
_PROGRESS_FROM_PHOTOS = 200


class _LoadSettings(ScoreSettings):
    """Those of a run, and what is asked for in a notebook alone."""

    threads: Natural | None = None


@dataclass(frozen=True)
class _Seen:
    """Where the rows of one face are."""

    faces: pd.DataFrame
    items: pd.DataFrame
    place: int


class Stylematch:
    """Scores photos into data frames; made by ``load``.

    Attributes
    ----------
    photos : pandas.DataFrame
        Of the last call of ``score``: one row per file, with its ``status`` and, where it has no faces, the ``reason``.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._judge = scorer.adviser.judge
        self.photos = _frame(scorer.schemas["photos"].empty_table())
        self._recommendations = _frame(scorer.schemas["recommendations"].empty_table())
        self._seen: dict[tuple[str, int], _Seen] = {}

    @classmethod
    def load(
        cls,
        index: PathLike | Sequence[PathLike] | None = None,
        *,
        rules: PathLike | None = None,
        without: str | Iterable[str] = (),
        device: Literal["auto", "cpu", "cpu-bf16", "cuda"] = "auto",
        faces: Literal["find", "aligned"] = "find",
        top_k: int = 5,
        where: str | None = None,
        item_columns: str | Iterable[str] = (),
        seed: int = 0,
        weight_similarity: float = 0.6,
        weight_tags: float = 0.3,
        weight_category: float = 0.1,
        mmr_lambda: float = 0.8,
        min_face_px: int = 24,
        max_megapixels: float = 200.0,
        max_file_mb: float = 200.0,
        follow_links: bool = False,
        batch_size: int = 64,
        threads: int | None = None,
    ) -> Stylematch:
        """Load models, indexes and rules. The options are those of ``stylematch-batch score``.

        Parameters
        ----------
        index : path or sequence of paths, optional
            Index directories or collections that replace parts of the default, which is what None means.
        rules : str or path, optional
            A shipped rule set's name, or a TOML file; by default the wardrobe, or ``wardrobe-neutral`` where
            ``without`` names something.
        without : str or iterable of str
            Attributes to switch off, ``"Male,Young"`` or ``["Male", "Young"]``: in no rule, no data frame, no
            explanation.
        device : {"auto", "cpu", "cpu-bf16", "cuda"}
            Where the models run; "cpu-bf16" is the CPU in bfloat16, which "auto" never is.
        faces : {"find", "aligned"}
            Search for faces, or take each picture for a face crop.
        top_k : int
            Items per face.
        where : str, optional
            Only items that this condition (SQL) over the columns of the item index holds for.
        item_columns : str or iterable of str
            Columns of the catalogue to stand beside each item, ``"title,price"`` or ``["title", "price"]``.
        seed : int
            Another seed, another choice among near-equal items.
        weight_similarity, weight_tags, weight_category, mmr_lambda : float
            How items are ranked.
        min_face_px : int
            Smallest face that counts, in pixels of the upright photo.
        max_megapixels, max_file_mb : float
            Larger photos are rejected.
        follow_links : bool
            Follow symbolic links in directories.
        batch_size : int
            Photos a batch; changes no result.
        threads : int, optional
            Threads of one model call or search; by default one per usable core. Changes no result.

        Raises
        ------
        UserError
            If an option, index or rule set is wrong; the sentence says which.
        """
        given: dict[str, Any] = {
            "rules": os.fspath(rules) if isinstance(rules, os.PathLike) else rules,
            "without": _names(without),
            "device": device,
            "faces": faces,
            "top_k": top_k,
            "where": where,
            "item_columns": _names(item_columns),
            "seed": seed,
            "weight_similarity": weight_similarity,
            "weight_tags": weight_tags,
            "weight_category": weight_category,
            "mmr_lambda": mmr_lambda,
            "min_face_px": min_face_px,
            "max_megapixels": max_megapixels,
            "max_file_mb": max_file_mb,
            "follow_links": follow_links,
            "batch_size": batch_size,
            "threads": threads,
        }
        # What is computed in a notebook is often numpy's number, which a strict setting does not take for Python's.
        plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()}
        settings = validated(_LoadSettings, "Stylematch.load", **plain)
        return cls(Scorer(settings, [] if index is None else list(named_paths(index)), threads=settings.threads))

    @property
    def styles(self) -> tuple[str, ...]:
        """The styles of the rule set, in its order."""
        return self._judge.rules.styles

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes that the model gives probabilities of, each a column of ``score``; none of ``without``."""
        return self._scorer.adviser.attribute_names

    def score(self, paths: PathLike | Iterable[PathLike]) -> pd.DataFrame:
        """Find and judge the faces in photos.

        Parameters
        ----------
        paths : path or iterable of paths
            Pictures, and directories, which are searched recursively. What is named twice is scored once.

        Returns
        -------
        pandas.DataFrame
            One row per face with the columns of the faces table: keys, box, landmarks, one probability per attribute,
            style and why, embedding. ``path`` is the path as it was given (for a directory, continued). Photos without
            a face have no row here but one in ``photos``.

        Raises
        ------
        UserError
            If a path is not there.
        """
        photos = list(named_photos(paths, follow_links=self._scorer.settings.follow_links))
        parts: dict[str, list[pa.Table]] = {name: [self._scorer.schemas[name].empty_table()] for name in TABLES}
        waiting = iter(photos)
        long = len(photos) >= _PROGRESS_FROM_PHOTOS
        with Progress(len(photos), "photos", "score") if long else nullcontext() as progress:
            while batch := list(islice(waiting, self._scorer.settings.batch_size)):
                listed = [replace(photo, photo_id=named_photo_id(photo)) for photo in batch]
                for name, table in self._scorer.score(listed, self._read).items():
                    parts[name].append(table)
                if progress is not None:
                    progress.update(len(batch))
        frames = {name: _frame(pa.concat_tables(tables)) for name, tables in parts.items()}
        faces, items = frames["faces"], frames["recommendations"]
        self.photos, self._recommendations = frames["photos"], items
        for place, key in enumerate(zip(faces["photo_id"], faces["face"], strict=True)):
            self._seen[key] = _Seen(faces, items, place)
        return faces.copy()

    def recommend(self, paths: PathLike | Iterable[PathLike] | None = None) -> pd.DataFrame:
        """Return the items for the faces in photos.

        Parameters
        ----------
        paths : path or iterable of paths, optional
            As for ``score``; without them, the items for the faces of the last call of ``score``.

        Returns
        -------
        pandas.DataFrame
            One row per (path, face, rank), with the columns of the recommendations table but ``run_id``.

        Raises
        ------
        UserError
            If a path is not there.
        """
        if paths is not None:
            self.score(paths)
        return self._recommendations.copy()

    def neighbours(self, face: Face | npt.ArrayLike, k: int = 10) -> pd.DataFrame:
        """Return the labelled faces of the gallery that are nearest to a face.

        Parameters
        ----------
        face : row of ``score``, or array_like of float, shape (d,)
            A row with its ``embedding`` (``faces.iloc[0]``), or an embedding.
        k : int
            How many, at least 1.

        Returns
        -------
        pandas.DataFrame
            Nearest first: ``rank``, ``id`` of the face in the gallery, ``similarity`` (cosine), ``style`` (of its true
            labels by the rules), and its labels, a column of booleans per attribute.

        Raises
        ------
        UserError
            If that is no embedding of this model, or ``k`` is no whole number of at least 1.
        """
        index = self._scorer.adviser.gallery.index
        try:
            embedding = np.asarray(face.get("embedding") if isinstance(face, Mapping | pd.Series) else face)
        except ValueError:  # rows of several lengths
            embedding = np.empty(0)
        if embedding.shape != (index.dim,) or embedding.dtype.kind not in "fiu":
            raise UserError(
                f"neighbours takes one row of score(), or one embedding of {index.dim} numbers, not an array of shape "
                f"{embedding.shape}; take a row with faces.iloc[0]"
            )
        if not has_direction(embedding[None].astype(np.float64)).all():
            raise UserError("the embedding given to neighbours is zero or not finite; take a row with faces.iloc[0]")
        if (count := _whole("k", k)) < 1:
            raise UserError(f"k is {count}; ask for at least 1 neighbour")
        hits = index.search(embedding[None], min(count, len(index)))
        return neighbour_rows(self._scorer.adviser, hits.positions[0], hits.scores[0])

    def explain(self, photo_id: str, face: int = 0) -> Explanation:
        """Say why a face has its style and its items.

        Parameters
        ----------
        photo_id : str
            Of a photo that this object has scored.
        face : int
            The face's number in the photo; 0 is the largest.

        Raises
        ------
        UserError
            If no such face was scored.
        """
        number = _whole("face", face)
        if not isinstance(photo_id, str):
            raise UserError(f"explain takes a photo_id, not {type(photo_id).__name__}: explain(row.photo_id, row.face)")
        if (found := self._seen.get((photo_id, number))) is None:
            raise UserError(
                f"photo '{shown(photo_id)}' has no face {number} that was scored here: call score() with the "
                "photo first, and look in .photos whether a face was found"
            )
        row = found.faces.iloc[found.place]
        items = found.items[(found.items["path"] == row["path"]) & (found.items["face"] == row["face"])]
        return explain(self._scorer.adviser, row, items)

    def similar(
        self,
        items: str | Iterable[str],
        top_k: int = 10,
        *,
        same: str | Iterable[str] = (),
        where: str | None = None,
    ) -> pd.DataFrame:
        """Return the items of the catalogue that look most like some of them, as ``stylematch-batch similar`` does.

        Parameters
        ----------
        items : str or iterable of str
            An ``item_id``, or several; a whole number, as pandas reads such ids, counts as its digits.
        top_k : int
            Items for each item, 1 to 1000; fewer where fewer may be offered.
        same : str or iterable of str
            Columns of the catalogue in which an item and those that it is offered are equal, ``"category,gender"`` or
            ``["category", "gender"]``.
        where : str, optional
            Only items that this condition (SQL) holds for are offered; by default the condition of ``load``.

        Returns
        -------
        pandas.DataFrame
            One row per (item_id, rank): ``item_id``, ``rank`` (1 is the nearest), ``similar_item_id``, ``similarity``
            (cosine). An item is not among its own.

        Raises
        ------
        UserError
            If there is no such item or column, or the condition is wrong.
        """
        options = {"top_k": _whole("top_k", top_k), "same": _names(same), "where": where}
        settings = validated(SimilarSettings, "Stylematch.similar", **options)
        spec, stored = self._scorer.spec, self._scorer.adviser.items
        allowed = spec.allowed_items if where is None else rows_allowed(where, stored.rows, spec.assets.items.directory)
        names = _item_ids(items)
        return _frame(pairs_of(stored, names, Neighbourhood(stored.rows, settings.same, allowed), settings.top_k))

    def item_picture(self, item_id: str) -> npt.NDArray[np.uint8] | None:
        """Return an item's picture.

        Parameters
        ----------
        item_id : str
            As in the rows of ``recommend``.

        Returns
        -------
        ndarray of uint8 or None
            Shape (h, w, 3), or (28, 28) in grey; None where the catalogue has none, or no such item.
        """
        return self._scorer.item_picture(item_id)

    def forget(self) -> None:
        """Drop what ``explain`` knows of the faces scored so far (some KB each)."""
        self._seen.clear()

    def _read(self, photo: FoundPhoto) -> bytes:
        return read_listed(ROOT, photo, self._scorer.settings.max_file_mb)


def _item_ids(items: Any) -> list[str]:
    """Return one item's id, or several; pandas reads some as numbers."""
    given = _names(items)
    if isinstance(given, tuple):
        return [str(item) for item in given]
    if not isinstance(given, str | int | np.integer):
        raise UserError(f"similar takes an item_id, or several, not {type(given).__name__}")
    return [str(given)]


def _names(given: Any) -> Any:
    """Return names as a setting takes them: of an iterable a tuple, all else as it is."""
    return tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else given


def _whole(name: str, value: Any) -> int:
    """Return a whole number of Python's, numpy's or pandas's as Python's."""
    try:
        # A row of a data frame has its whole numbers as floats where it has others beside them.
        whole = isinstance(value, float) and value.is_integer()
        return int(value) if whole else operator.index(value)
    except TypeError:
        raise UserError(f"{name} has to be a whole number, not {shown(repr(value))}") from None


def _frame(table: pa.Table) -> pd.DataFrame:
    """Return a data frame; a column of whole numbers with gaps, such as a photo's width, stays one."""
    gaps = {pa.int32(): pd.Int32Dtype()} if "status" in table.column_names else {}
    return table.to_pandas(types_mapper=gaps.get)
