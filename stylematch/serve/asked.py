"""What a request may ask for in its query. Another word there is refused: ``top_k=20``, ignored, would look obeyed."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ScoreQuery(_Query):
    """What ``/score`` adds to its answer."""

    embedding: bool = Field(False, description="also return the faces' embeddings")


class PictureQuery(_Query):
    """Whose picture is wanted."""

    item_id: str = Field(description="as in an answer's items")
