"""What the service answers: models that OpenAPI describes, made from a picture's tables.

Names are those of the tables' columns, and so are the values: what stands here for a picture stands in the Parquet that
``score`` writes for it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal
from urllib.parse import urlencode

import pyarrow as pa
from pydantic import BaseModel, Field

from stylematch.tables.contract import COLUMN_MEANINGS, LANDMARKS, Reason, Status

ITEM_PICTURE = "items/picture"


class Refusal(StrEnum):
    """Why the service does not answer, where the picture is not to blame; else it is a reason of the tables."""

    MALFORMED_REQUEST = "malformed_request"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    UPLOAD_TIMED_OUT = "upload_timed_out"
    BUSY = "busy"
    TIMED_OUT = "timed_out"
    INTERNAL_ERROR = "internal_error"


def _meaning(table: str, column: str) -> Any:
    return Field(description=COLUMN_MEANINGS[table][column])


class Problem(BaseModel):
    """Why there is no answer."""

    reason: Reason | Refusal = Field(description="a code: one of the photos table, or one of the service")
    message: str = Field(description="one sentence a person can read")


class Photo(BaseModel):
    """The picture; the columns of the photos table."""

    photo_id: str = _meaning("photos", "photo_id")
    bytes: int = _meaning("photos", "bytes")
    width: int = _meaning("photos", "width")
    height: int = _meaning("photos", "height")
    format: str = _meaning("photos", "format")
    status: Status = _meaning("photos", "status")
    reason: Reason = _meaning("photos", "reason")
    message: str | None = _meaning("photos", "message")


class Box(BaseModel):
    """A face's box in pixels of the upright photo."""

    x: float = _meaning("faces", "x")
    y: float = _meaning("faces", "y")
    width: float = _meaning("faces", "width")
    height: float = _meaning("faces", "height")


class Style(BaseModel):
    """A face's style and why it has it."""

    style: str = _meaning("faces", "style")
    style_score: float = _meaning("faces", "style_score")
    style_margin: float = _meaning("faces", "style_margin")
    rule_style: str = _meaning("faces", "rule_style")
    rule_score: float = _meaning("faces", "rule_score")
    neighbour_style: str = _meaning("faces", "neighbour_style")
    neighbour_score: float = _meaning("faces", "neighbour_score")
    rule: str = _meaning("faces", "rule")
    why: str = _meaning("faces", "why")


class Item(BaseModel):
    """One item for a face."""

    rank: int = _meaning("recommendations", "rank")
    item_id: str = _meaning("recommendations", "item_id")
    category: str = _meaning("recommendations", "category")
    score: float = _meaning("recommendations", "score")
    similarity: float | None = _meaning("recommendations", "similarity")
    query: Literal["worn", "style"] = _meaning("recommendations", "query")
    tag_fit: float | None = _meaning("recommendations", "tag_fit")
    reason: str = _meaning("recommendations", "reason")
    columns: dict[str, Any] = Field(description="of the catalogue, those that the service was told to give")
    picture: str = Field(description="where its picture is, relative to the service's address")


class Face(BaseModel):
    """One face."""

    face: int = _meaning("faces", "face")
    box: Box
    detection_score: float = _meaning("faces", "detection_score")
    landmarks: dict[str, float] = Field(description="lefteye_x to rightmouth_y, in pixels of the upright photo")
    attributes: dict[str, float] = Field(description="the probability of every attribute")
    style: Style
    items: list[Item]
    embedding: list[float] | None = Field(None, description="L2-normalised; only where it was asked for")


class Answer(BaseModel):
    """What was found in a picture."""

    photo: Photo
    faces: list[Face] = Field(description="largest first; none where status is no_face")


class Health(BaseModel):
    """Whether the service lives, or takes pictures."""

    status: Literal["alive", "ready", "closing"]


class Info(BaseModel):
    """What the service is made of, and what it takes."""

    version: str
    rules: str = Field(description="the rule set's name")
    styles: list[str]
    attributes: list[str]
    max_file_bytes: int
    max_megapixels: float
    gallery: bool = Field(description="whether gallery/ shows a run")


def answer_of(tables: dict[str, pa.Table], attribute_names: tuple[str, ...]) -> Answer:
    """Put one picture's tables together.

    Parameters
    ----------
    tables : dict of str to pyarrow.Table
        As ``Scorer.score_pictures`` returns them for a picture that was not rejected.
    attribute_names : tuple of str
        The attributes' columns.
    """
    items = [_item(row) for row in tables["recommendations"].to_pylist()]
    faces = []
    for row in tables["faces"].to_pylist():
        mine = [item for face, item in items if face == row["face"]]
        faces.append(
            Face(
                **{name: row[name] for name in ("face", "detection_score", "embedding")},
                box=Box(**{name: row[name] for name in Box.model_fields}),
                landmarks={name: row[name] for name in LANDMARKS},
                attributes={name: row[name] for name in attribute_names},
                style=Style(**{name: row[name] for name in Style.model_fields}),
                items=mine,
            )
        )
    photo = tables["photos"].to_pylist()[0]
    return Answer(photo=Photo(**{name: photo[name] for name in Photo.model_fields}), faces=faces)


def _item(row: dict[str, Any]) -> tuple[int, Item]:
    own = {name: row[name] for name in Item.model_fields if name not in ("columns", "picture")}
    columns = {name: value for name, value in row.items() if name not in COLUMN_MEANINGS["recommendations"]}
    picture = f"{ITEM_PICTURE}?{urlencode({'item_id': row['item_id']})}"
    return row["face"], Item(**own, columns=columns, picture=picture)
