"""Why an item was recommended, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Query = Literal["worn", "style"]
LIKE = 0.3
"""How similar an item has to be to worn clothes to be called like them; a shop's best is, for 99 of 100 people."""
_NAMES = {"baseColour": "colour"}


def reason_for(
    *,
    category: str,
    named: str | None,
    choice: tuple[int, int] | None = None,
    similarity: float | None,
    query: Query,
    fitting: Sequence[tuple[str, str, bool]],
    style: str,
    rule: str,
    made_for: str | None = None,
) -> str:
    """Return the sentence.

    Parameters
    ----------
    category : str
        What the catalogue calls the item.
    named : str or None
        The category of the style that it was taken for; None where it is of another.
    choice : (int, int), optional
        Which of the style's categories that is, from 1, and of how many; None where it does not count.
    similarity : float or None
        With the query; None where it does not count.
    query : {"worn", "style"}
        What the person wears, or what is typical of the style.
    fitting : sequence of (tag, value, is_predicted)
        The item's tags that the style asks for; none where they do not count.
    style, rule : str
        The style, and the conditions of its rule.
    made_for : str, optional
        The gender that the catalogue gives an item that is made for others.
    """
    if similarity is None:
        lead = category
    elif query == "worn" and similarity < LIKE:
        lead = f"{category}, nearest to the clothes worn in the photo, though hardly like them ({similarity:.2f})"
    elif query == "worn":
        lead = f"{category}, by the clothes worn in the photo (similarity {similarity:.2f})"
    else:
        lead = f"Typical {category} (similarity {similarity:.2f} to the average {named or 'other item'} for {style})"
    guess = {True: " (a guess)", False: ""}
    tags = " and ".join(f"{_NAMES.get(tag, tag)} {value}{guess[predicted]}" for tag, value, predicted in fitting)
    if tags:
        lead += f", fitting by {tags}"
    if named is not None and choice is not None and choice[1] > 1:
        lead += f", choice {choice[0]} of the style's {choice[1]} categories"
    if named is None:
        lead += ", to fill the list, as the style has no more items of its own"
    elif named != category:
        lead += f", taken as {named}"
    if made_for is not None:
        lead += f", though its catalogue says {made_for}: nothing else is left"
    return f"{lead}; for {style}, because {rule.replace('_', ' ')}."
