"""What a scoring run was asked for."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from stylematch.settings.base import Fraction, Natural, Section, Switch, Weight, Whole
from stylematch.settings.photos import PhotoSettings

DEFAULT_RULES = "wardrobe"
MOST_ITEMS = 1000
"""A face; for each of them all before it are looked at, so ten times as many take a hundred times as long."""
NEUTRAL_RULES = "wardrobe-neutral"


class Ranking(Section):
    """How items are ranked: the score is the weighted mean of three parts, each at most 1; then variety counts.

    The defaults let what an item looks like decide, tags choose among similar ones, and the order of a rule's
    categories settle what is left.

    Attributes
    ----------
    weight_similarity : float
        Of the cosine with the worn clothes, or with the style's prototype.
    weight_tags : float
        Of how well gender, season, usage and colour fit the style, times the style's score.
    weight_category : float
        Of the category's place in the style's rule: 1 for the first, falling to 1/n for the last of n.
    mmr_lambda : float
        Maximal marginal relevance: 1 takes the best scores alone, 0 variety alone.
    """

    weight_similarity: Weight = 0.6
    weight_tags: Weight = 0.3
    weight_category: Weight = 0.1
    mmr_lambda: Fraction = 0.8

    @model_validator(mode="after")
    def _something_counts(self) -> Self:
        if not (self.weight_similarity or self.weight_tags or self.weight_category):
            raise ValueError("weight_similarity: is 0, as the other two weights are; give one of them a value above 0")
        return self


class ScoreSettings(Ranking, PhotoSettings):
    """What ``score`` was asked for; those that change the tables are part of the run's name.

    Attributes
    ----------
    top_k : int
        Items per face.
    rules : str
        A shipped rule set's name or a TOML file. Where none is asked for it is the wardrobe; ``without`` something, the
        wardrobe that asks for neither gender nor age.
    without : tuple of str
        Attributes that are switched off, sorted: no rule may ask for them, no table holds them. One string may name
        several, with commas between.
    faces : {"find", "aligned"}
        Search for faces, or take every picture for a face crop.
    where : str, optional
        Only items that this condition (SQL) over the columns of the item index holds for.
    item_columns : tuple of str
        Columns of the item index that stand beside each recommended item. One string may name several, with commas
        between.
    seed : int
        Varies the choice among near-equal items, for faces whose clothes cannot be seen.
    workers : int
        Processes; 0 is one per core.
    report : bool
        Write the gallery.
    max_reject_share : float, optional
        Over this share of rejected photos the run ends with exit code 4.
    """

    top_k: Annotated[int, Field(ge=1, le=MOST_ITEMS, strict=True)] = 5
    rules: str = DEFAULT_RULES
    without: tuple[str, ...] = ()
    faces: Literal["find", "aligned"] = "find"
    where: str | None = None
    item_columns: tuple[str, ...] = ()
    seed: Whole = 0
    workers: Natural = 0
    report: Switch = True
    max_reject_share: Fraction | None = None

    @model_validator(mode="before")
    @classmethod
    def _choose_rules(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("rules") is not None:
            return values
        return {**values, "rules": NEUTRAL_RULES if values.get("without") else DEFAULT_RULES}

    @field_validator("without", "item_columns", mode="before")
    @classmethod
    def _split_names(cls, names: Any) -> Any:
        return names.split(",") if isinstance(names, str) else names

    @field_validator("without")
    @classmethod
    def _sort_without(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        stripped = {name.strip() for name in names}
        if "" in stripped:  # an unset variable in a script would switch nothing off
            raise ValueError("without: a name is empty; write attributes with commas between, such as Male,Young")
        return tuple(sorted(stripped))

    @field_validator("item_columns")
    @classmethod
    def _each_item_column_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        stripped = [name.strip() for name in names]
        if "" in stripped:
            raise ValueError("item_columns: a name is empty; write columns with commas between, such as title,price")
        return tuple(dict.fromkeys(stripped))

    def naming(self) -> dict[str, object]:
        """Return the settings that change the tables, as plain values; the others leave no trace in them."""
        kept = (
            "top_k",
            "faces",
            "min_face_px",
            "max_megapixels",
            "max_file_mb",
            "limit",
            "seed",
            "follow_links",
            "where",
            "without",
            "item_columns",
            *Ranking.model_fields,
        )
        return {name: getattr(self, name) for name in kept}
