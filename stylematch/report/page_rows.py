"""Rows of the tables as the gallery's page reads them: short numbers, and what repeats named once.

Sentences, items and labelled faces repeat within a page, so a page's photos refer to them by number. Boxes and points
stay in pixels of the upright photo; attributes are thousandths in the table's order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stylematch.report.join import JoinedFace, JoinedItem, JoinedPhoto, Row
from stylematch.report.recommended import RecommendedItems
from stylematch.tables.contract import LANDMARKS, REASON_MEANINGS, Reason

STRIP_ITEMS = 5
"""How many of a face's items a list shows."""


@dataclass(frozen=True)
class LabelledFace:
    """A face of the gallery that votes: its id, the style of its true labels, and the attributes that it shows."""

    id: str
    style: str
    shows: tuple[str, ...]


@dataclass(frozen=True)
class NearestFaces:
    """The vote on one face.

    Attributes
    ----------
    shares : sequence of (str, float)
        Styles and what the vote gives them, the largest first.
    faces : sequence of (LabelledFace, float)
        The nearest and their cosine similarities, the nearest first.
    """

    shares: Sequence[tuple[str, float]]
    faces: Sequence[tuple[LabelledFace, float]]


Nearest = Callable[[Sequence[JoinedFace]], Sequence[NearestFaces]]


class PageRows:
    """Describes photos.

    Parameters
    ----------
    items : RecommendedItems
        Knows the items.
    names : tuple of str
        The attributes, in the table's order.
    nearest : callable, optional
        As ``GalleryWriter`` takes it.
    """

    def __init__(self, items: RecommendedItems, names: tuple[str, ...], nearest: Nearest | None) -> None:
        self._items, self._nearest = items, nearest
        self._number_of = {name: number for number, name in enumerate(names)}
        self._labelled_rows: dict[str, Row] = {}

    def describe(self, photos: Sequence[JoinedPhoto], drawn: Sequence[bool], items: Sequence[Sequence[int]]) -> Row:
        """Return the chunk of one page.

        Parameters
        ----------
        photos : sequence of JoinedPhoto
            Those of the page.
        drawn : sequence of bool
            Which of them have a thumbnail.
        items : sequence of sequence of int
            The numbers of each face's items, in the order of the photos' faces.
        """
        faces = [face for photo in photos for face in photo.faces]
        votes: Sequence[NearestFaces | None] = [None] * len(faces)
        if self._nearest is not None and faces:
            votes = self._nearest(faces)
        tables: dict[str, _Numbered] = {name: _Numbered() for name in ("texts", "items", "labelled")}
        probabilities = np.array([face.probabilities for face in faces])
        thousandths = np.rint(np.nan_to_num(probabilities) * 1000).astype(int).tolist()
        known = zip(faces, thousandths, votes, items, strict=True)
        described = iter([self._face(face, attributes, vote, own, tables) for face, attributes, vote, own in known])
        rows = [
            self._photo(photo, thumbnail, [next(described) for _ in photo.faces])
            for photo, thumbnail in zip(photos, drawn, strict=True)
        ]
        return {"photos": rows, **{name: table.values for name, table in tables.items()}}

    def tiles(self, photos: Sequence[JoinedPhoto], drawn: Sequence[bool], items: Sequence[Sequence[int]]) -> Row:
        """Return the light chunk of one page: what a list of photos shows of them; arguments as for ``describe``."""
        names = ("path", "width", "height", "status", "reason")
        shown, short, of_faces = _Numbered(), self._items.short, iter(items)
        return {
            "photos": [
                {
                    **{name: photo.row[name] for name in names},
                    "thumbnail": thumbnail,
                    "faces": [
                        {
                            "box": _box(face.row),
                            "style": face.row["style"],
                            "score": face.row["style_score"],
                            "items": [shown.number(item, short, item) for item in next(of_faces)[:STRIP_ITEMS]],
                        }
                        for face in photo.faces
                    ],
                }
                for photo, thumbnail in zip(photos, drawn, strict=True)
            ],
            "items": shown.values,
        }

    def _photo(self, photo: JoinedPhoto, thumbnail: bool, faces: list[Row]) -> Row:
        row = photo.row
        names = ("path", "bytes", "width", "height", "format", "status", "reason", "message")
        return {
            **{name: row[name] for name in names},
            "thumbnail": thumbnail,
            "faces": faces,
        }

    def _face(
        self,
        face: JoinedFace,
        thousandths: list[int],
        vote: NearestFaces | None,
        items: Sequence[int],
        tables: Mapping[str, _Numbered],
    ) -> Row:
        row = face.row
        described = {
            "box": _box(row),
            "points": [row[name] for name in LANDMARKS],
            "detection": row["detection_score"],
            "style": row["style"],
            "score": row["style_score"],
            "margin": row["style_margin"],
            "rule_style": row["rule_style"],
            "rule_score": row["rule_score"],
            "neighbour_style": row["neighbour_style"],
            "neighbour_score": row["neighbour_score"],
            "rule": tables["texts"].text(row["rule"]),
            "why": tables["texts"].text(row["why"]),
            "attributes": thousandths,
            "items": [self._item(item, number, tables) for item, number in zip(face.items, items, strict=True)],
        }
        if vote is not None:
            described["shares"] = [[style, round(share, 4)] for style, share in vote.shares]
            described["nearest"] = [
                [tables["labelled"].number(known.id, self._labelled, known), round(similarity, 4)]
                for known, similarity in vote.faces
            ]
        return described

    def _item(self, item: JoinedItem, known: int, tables: Mapping[str, _Numbered]) -> list[Any]:
        """Return item, score, similarity, tag fit, query and reason; five a face, so without names."""
        texts = tables["texts"].text
        number = tables["items"].number(known, self._items.row, known)
        return [number, item.score, item.similarity, item.tag_fit, texts(item.query), texts(item.reason)]

    def _labelled(self, known: LabelledFace) -> Row:
        """Return what every page says of a labelled face, made when it is first met."""
        if known.id not in self._labelled_rows:
            numbers = [self._number_of[name] for name in known.shows if name in self._number_of]
            self._labelled_rows[known.id] = {"id": known.id, "style": known.style, "shows": numbers}
        return self._labelled_rows[known.id]


class _Numbered:
    """Values in the order in which they were first met."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._numbers: dict[object, int] = {}

    def number(self, key: object, make: Callable[[Any], Any], of: object) -> int:
        """Return the number of what ``make`` makes of something where the key is new."""
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.values)
            self.values.append(make(of))
        return number

    def text(self, text: str) -> int:
        """Return the number of a text, which is its own key."""
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self.values)
            self.values.append(text)
        return number


def meaning(reason: str) -> str:
    """Return what a reason code means, "" for one that the contract does not know."""
    return REASON_MEANINGS[Reason(reason)] if reason in set(Reason) else ""


def _box(face: Row) -> list[float | None]:
    return [face["x"], face["y"], face["width"], face["height"]]
