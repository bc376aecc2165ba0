"""What the garment encoder says of items, as columns of their index: which category, gender, season, usage, colour.

A tag that the catalogue gives stands as it is given; the others are predicted, and ``TAG_probability`` says how sure
the model is (null where the tag was given). No colour is predicted of a grey picture: it stays null, and a rule set
that asks for one counts the item as unknown. ``category_predicted`` is the one of the model's categories that an item
looks like, so that a rule set that names those finds items whose category is the catalogue's own; null for a watch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stylematch.data.article_types import OTHER_ARTICLE_TYPES, fashion_mnist_category
from stylematch.data.item_numbers import SAYS_NOTHING
from stylematch.data.item_words import TAGS
from stylematch.data.labels import CategoricalGroup
from stylematch.vision.bundle import Bundle
from stylematch.vision.runtime import Predictions

CATEGORY, ARTICLE_TYPE, COLOUR = "category", "articleType", "baseColour"
CATEGORY_PREDICTED = "category_predicted"
LIKE_A_CATEGORY = 0.5
"""How probable a predicted category has to be for an item of another name to be taken for one of it."""
UNLIKE_ALL = 0.9
"""How probable it has to be that an item without a category is no garment; at 0.5 too many grey garments are lost."""
GREY_BELOW = 8
"""A picture whose channels never differ by this much, of 255, is a grey one: there is no colour to be seen in it."""
Cells = Sequence[str | None]


def probability_of(name: str) -> str:
    """Return the name of the column that says how sure a predicted tag is."""
    return f"{name}_probability"


def tag_names(bundle: Bundle) -> tuple[str, ...]:
    """Return what a bundle predicts of an item besides its category."""
    groups = bundle.schema.groups
    return tuple(group.name for group in groups if isinstance(group, CategoricalGroup) and group.name != CATEGORY)


def reserved_names(bundle: Bundle) -> tuple[str, ...]:
    """Return the columns of an index that no table gives: the index fills them."""
    tags = tuple(dict.fromkeys((*tag_names(bundle), *TAGS)))
    guessed = [name for name in tags if name not in TAGS]
    return (
        *(CATEGORY_PREDICTED, "picture", "embedding", *guessed),
        *(probability_of(name) for name in (*tags, CATEGORY_PREDICTED)),
    )


def tag_fields(names: Sequence[str]) -> list[pa.Field]:
    """Return the columns of some tags: each a string, and its probability."""
    return [
        field for name in names for field in (pa.field(name, pa.string()), pa.field(probability_of(name), pa.float32()))
    ]


def tag_columns(
    bundle: Bundle, predictions: Predictions, crops: npt.NDArray[np.uint8], given: Mapping[str, Cells] | None = None
) -> dict[str, Any]:
    """Return the columns of ``tag_fields`` for n items.

    Parameters
    ----------
    bundle : Bundle
        Of the model.
    predictions : Predictions
        What it says of the n items.
    crops : ndarray of uint8, shape (n, side, side, channels)
        What it looked at. Where that is grey no colour is predicted.
    given : mapping of str to sequence of str or None, length n
        By tag what the catalogue says; also tags that the model knows nothing of.
    """
    columns: dict[str, Any] = {}
    predicted = tag_names(bundle)
    for name in dict.fromkeys((*predicted, *(given or {}))):
        known = (given or {}).get(name) or [None] * len(predictions.embedding)
        values: list[str | None] = [as_spelled(name, cell) for cell in known]
        probabilities: list[float | None] = [None] * len(values)
        if name in predicted:
            labels, chances = _best(bundle, predictions, name)
            told = _has_colour(crops) if name == COLOUR else np.ones(len(values), np.bool_)
            for row, value in enumerate(values):
                if value is None and told[row]:
                    values[row], probabilities[row] = labels[row], chances[row]
        columns[name], columns[probability_of(name)] = values, probabilities
    return columns


def category_columns(bundle: Bundle, predictions: Predictions, given: Cells) -> dict[str, Any]:
    """Return ``category``, ``category_predicted`` and its probability for n items.

    Parameters
    ----------
    bundle, predictions
        As for ``tag_columns``; the model has a head ``category``.
    given : sequence of str or None, length n
        The catalogue's own categories. Where it has none, the category is the predicted one, or the article type
        where that says that the item is none of the garments which the categories can name, such as a watch.
    """
    labels, chances = _best(bundle, predictions, CATEGORY)
    own = {name.lower(): name for name in bundle.schema.group(CATEGORY).labels}
    like, otherwise = _like_a_garment(bundle, predictions)
    columns: dict[str, Any] = {CATEGORY: [], CATEGORY_PREDICTED: [], probability_of(CATEGORY_PREDICTED): []}
    for row, cell in enumerate(given):
        predicted: str | None = labels[row]
        chance: float | None = chances[row]
        category = labels[row] if cell is None else own.get(cell.lower(), cell)
        if cell is None:
            if round(1.0 - float(like[row]), 2) >= UNLIKE_ALL:
                category, predicted = otherwise[row], None
        else:
            known, is_told = told_by_name(cell, own)
            if is_told:
                predicted, chance = known, None
            elif round(float(like[row]) * chances[row], 2) < LIKE_A_CATEGORY:
                predicted = None
        for column, value in zip(columns.values(), (category, predicted, chance), strict=True):
            column.append(value)
    return columns


def told_by_name(category: str, own: Mapping[str, str]) -> tuple[str | None, bool]:
    """Return which of a model's categories a given one is by its name, and whether the name tells: of a watch, none.

    Parameters
    ----------
    category : str
        The catalogue's own.
    own : mapping of str to str
        The model's categories, by their names in lower case.
    """
    known = own.get(category.lower()) or fashion_mnist_category(category)
    return known, known is not None or category in OTHER_ARTICLE_TYPES


def category_fields() -> list[pa.Field]:
    """Return the columns of ``category_columns``."""
    return [pa.field(CATEGORY, pa.string(), nullable=False), *tag_fields([CATEGORY_PREDICTED])]


def _best(bundle: Bundle, predictions: Predictions, name: str) -> tuple[list[str], list[float]]:
    """Return the most probable label of a head for each item, and its probability to two places."""
    labels = bundle.schema.group(name).labels
    head = predictions.heads[name]
    best = head.argmax(axis=1)
    chances = np.round(head[np.arange(len(head)), best].astype(np.float64), 2)
    return [labels[place] for place in best], chances.tolist()


def _has_colour(crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return bool (n,): in which pictures there is any colour."""
    # Channel by channel: numpy takes twelve times as long to reduce an axis of three.
    channels = [crops[..., channel] for channel in range(crops.shape[-1])]
    chroma = reduce(np.maximum, channels) - reduce(np.minimum, channels)
    return np.asarray(chroma.max(axis=(1, 2)) >= GREY_BELOW)


def _like_a_garment(bundle: Bundle, predictions: Predictions) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Return how probable it is that an item is of a kind that the ten categories can name, and else of which kind."""
    count = len(predictions.embedding)
    labels = bundle.schema.group(ARTICLE_TYPE).labels if ARTICLE_TYPE in predictions.heads else ()
    others = [place for place, label in enumerate(labels) if label in OTHER_ARTICLE_TYPES]
    if not others:
        return np.ones(count), [""] * count
    heads = predictions.heads[ARTICLE_TYPE][:, others].astype(np.float64)
    return 1.0 - heads.sum(axis=1), [labels[others[place]] for place in heads.argmax(axis=1)]


def as_spelled(name: str, cell: str | None) -> str | None:
    """Return a given tag as the rule sets spell it; None where it says nothing."""
    if cell is None or cell.strip().lower() in SAYS_NOTHING:
        return None
    spelled = {value.lower(): value for value in TAGS.get(name, ())}
    return spelled.get(cell.strip().lower(), cell)
