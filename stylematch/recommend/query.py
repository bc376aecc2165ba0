"""What a recommender is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from stylematch.recommend.reasons import Query


@dataclass(frozen=True, eq=False)
class FaceQuery:
    """One face that wants items.

    Attributes
    ----------
    photo_id : str
        The photo's key.
    face : int
        The face's number in the photo.
    style : str
        One of the recommender's styles.
    style_score : float
        How sure the style is, 0 to 1.
    rule : str
        The style's rule in words ("Young"), for the reason.
    worn : ndarray of float32, shape (d,), optional
        The embedding of the clothes below the face, by the model that made the catalogue.
    genders : tuple of str
        What items may be made for, where the style does not say; all where there is none.
    """

    photo_id: str
    face: int
    style: str
    style_score: float
    rule: str
    worn: npt.NDArray[np.float32] | None = None
    genders: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recommendation:
    """One item for one face.

    Attributes
    ----------
    rank : int
        1 is best.
    item_id, category : str
        The item and what its catalogue calls it.
    score : float
        What the list is ranked by.
    similarity : float or None
        Cosine of the item with the query; None where clothes are seen that say nothing of the item: of shoes, bags and
        trousers a torso does not.
    query : {"worn", "style"}
        The clothes in the photo, or the style's prototype of the category.
    tag_fit : float or None
        How well the item's tags fit the style, 0 to 1; None where the style asks for none.
    reason : str
        One sentence a person can read.
    position : int
        The item's place in the catalogue.
    """

    rank: int
    item_id: str
    category: str
    score: float
    similarity: float | None
    query: Query
    tag_fit: float | None
    reason: str
    position: int = field(compare=False)
