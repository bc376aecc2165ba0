"""One rule of a rule set, and what rules may name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from stylematch.style.diagram import Condition

Tags = tuple[tuple[str, tuple[str, ...]], ...]
"""Pairs of a tag and the values that it may have."""


CONDITION_KEYS = ("all", "any", "not")
"""The keys of a rule that ask for attributes."""


@dataclass(frozen=True)
class Rule:
    """One rule: its conditions and the one or two styles it ends in.

    Attributes
    ----------
    all, any, none : tuple of str
        Attributes that must all be present, of which at least one must be present, that must all be absent (the
        key ``not``); an empty one asks for nothing. The last rule has none and always holds.
    split : str or None
        Attribute whose presence chooses between the two styles.
    styles : tuple of str
        One style, or with a split two: first where the split's attribute is present, then where it is absent.
    items : tuple of tuple of str
        The categories to recommend, one tuple per style.
    weights : tuple of float
        How much more the style counts in the soft evaluation, one number per style.
    tags : tuple of tuple of (str, tuple of str)
        What the items should be tagged with, one tuple of (tag, values) per style.
    """

    all: tuple[str, ...]
    any: tuple[str, ...]
    none: tuple[str, ...]
    split: str | None
    styles: tuple[str, ...]
    items: tuple[tuple[str, ...], ...]
    weights: tuple[float, ...]
    tags: tuple[Tags, ...]

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What each of the styles asks for, the split included."""
        if self.split is None:
            return (Condition(self.all, self.any, self.none),)
        return (
            Condition((*self.all, self.split), self.any, self.none),
            Condition(self.all, self.any, (*self.none, self.split)),
        )


@dataclass(frozen=True)
class Vocabulary:
    """What a rule set may name.

    Attributes
    ----------
    attributes : sequence of str
        The attributes of the model.
    categories : sequence of str or None
        The items' categories; None checks none.
    tags : mapping of str to sequence of str
        By tag of the items its values.
    without : collection of str
        Attributes that are switched off: no rule may ask for them.
    """

    attributes: Sequence[str]
    categories: Sequence[str] | None
    tags: Mapping[str, Sequence[str]]
    without: Collection[str] = ()
