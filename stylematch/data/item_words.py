"""What is said of an item beside its category: the names that a rule set's ``tags`` may ask for, and catalogues' words.

A catalogue says "Female", "Men's", "Autumn" or "gray" where rules say Women, Men, Fall and Grey. ``names_of`` tells
what a cell means; the cell itself stays as it is, for people and for ``--where``. A cell that means none of the names
of its tag is like an empty one: no rule can ask for it, so it is no reason against an item.

Source of the names: the columns gender, season, usage and baseColour of "Fashion Product Images" (Param Aggarwal,
Kaggle 2019), as its 43,493 rows spell their values; the ones that say "unknown" (``NA``) are left out. The words are
chosen by hand, English alone.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

TAGS: Mapping[str, tuple[str, ...]] = {
    "gender": ("Men", "Women", "Unisex", "Boys", "Girls"),
    "season": ("Spring", "Summer", "Fall", "Winter"),
    "usage": ("Casual", "Formal", "Smart Casual", "Sports", "Party", "Ethnic", "Travel", "Home"),
    "baseColour": (
        "Beige",
        "Black",
        "Blue",
        "Bronze",
        "Brown",
        "Burgundy",
        "Charcoal",
        "Coffee Brown",
        "Copper",
        "Cream",
        "Fluorescent Green",
        "Gold",
        "Green",
        "Grey",
        "Grey Melange",
        "Khaki",
        "Lavender",
        "Lime Green",
        "Magenta",
        "Maroon",
        "Mauve",
        "Metallic",
        "Multi",
        "Mushroom Brown",
        "Mustard",
        "Navy Blue",
        "Nude",
        "Off White",
        "Olive",
        "Orange",
        "Peach",
        "Pink",
        "Purple",
        "Red",
        "Rose",
        "Rust",
        "Sea Green",
        "Silver",
        "Skin",
        "Steel",
        "Tan",
        "Taupe",
        "Teal",
        "Turquoise Blue",
        "White",
        "Yellow",
    ),
}
"""By tag its values."""

WORDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "gender": {
        "Men": ("m", "male", "males", "man", "mens", "menswear", "gents", "gentleman", "gentlemen"),
        "Women": ("f", "w", "female", "females", "woman", "womens", "womenswear", "lady", "ladies"),
        "Unisex": ("u", "uni", "all", "both", "neutral", "gender neutral", "all genders", "adults"),
        "Boys": ("boy", "kid", "kids", "child", "children", "childrens", "baby", "babies", "toddler", "infant"),
        "Girls": ("girl", "kid", "kids", "child", "children", "childrens", "baby", "babies", "toddler", "infant"),
    },
    "season": {
        "Spring": ("ss", "s/s", "all season", "all seasons", "all year", "year round"),
        "Summer": ("ss", "s/s", "all season", "all seasons", "all year", "year round"),
        "Fall": ("autumn", "aw", "a/w", "fw", "f/w", "all season", "all seasons", "all year", "year round"),
        "Winter": ("aw", "a/w", "fw", "f/w", "all season", "all seasons", "all year", "year round"),
    },
    "usage": {
        "Casual": ("everyday", "every day", "daily", "leisure", "casual wear", "casualwear"),
        "Formal": ("office", "work", "workwear", "business", "business formal", "formal wear", "formalwear"),
        "Smart Casual": ("business casual", "semi formal"),
        "Sports": (
            *("sport", "sporty", "athletic", "active", "activewear", "sportswear", "sports wear"),
            *("gym", "fitness", "training", "workout", "running", "yoga"),
        ),
        "Party": ("evening", "evening wear", "cocktail", "night out", "festive", "occasion", "special occasion"),
        "Ethnic": ("traditional",),
        "Travel": ("travelling", "traveling", "vacation"),
        "Home": ("lounge", "loungewear", "homewear", "nightwear", "sleepwear", "sleep"),
    },
    "baseColour": {
        "Beige": ("sand",),
        "Black": ("jet black",),
        "Blue": ("denim", "indigo", "royal blue", "sky blue", "cobalt", "cobalt blue"),
        "Brown": ("chocolate",),
        "Burgundy": ("bordeaux", "wine"),
        "Charcoal": ("charcoal grey", "anthracite"),
        "Coffee Brown": ("coffee",),
        "Cream": ("ecru",),
        "Fluorescent Green": ("neon green",),
        "Gold": ("golden",),
        "Grey Melange": ("melange", "grey marl", "heather grey", "grey heather"),
        "Lavender": ("lilac",),
        "Lime Green": ("lime",),
        "Magenta": ("fuchsia",),
        "Multi": ("multicolour", "multicoloured", "multi colour", "multi coloured", "assorted", "rainbow"),
        "Navy Blue": ("navy",),
        "Nude": ("flesh",),
        "Off White": ("offwhite", "ivory"),
        "Olive": ("olive green",),
        "Purple": ("violet",),
        "Red": ("scarlet", "crimson"),
        "Silver": ("silvery",),
        "Tan": ("camel",),
        "Turquoise Blue": ("turquoise",),
    },
}
"""By tag and name other words for it; a word for more than one of the names stands under each of them."""
SHADES = ("light", "dark", "pale", "bright", "deep", "medium", "neon")
"""A colour behind one of these is itself where the two have no name of their own: "dark blue"."""
_BETWEEN = re.compile(r"[/,;&+|]|\band\b")
_SAYS_NOTHING = re.compile(r"[\s0-9_-]+")  # a season's year, a colour's number


@functools.lru_cache(2**12)
def names_of(tag: str, cell: str) -> frozenset[str]:
    """Return which of a tag's names a catalogue's cell means.

    Case, apostrophes, hyphens and digits do not matter ("MEN'S", "off-white", "Autumn 2024"), nor does American
    spelling. Of words put together ("Spring/Summer", "black & white") each has to be known.

    Parameters
    ----------
    tag : str
        The column.
    cell : str
        What stands in it.

    Returns
    -------
    frozenset of str
        None where no name is meant; more than one for "kids" or "Spring/Summer". Of a tag that is not among ``TAGS``
        the cell itself: only a rule set that is checked against no names can ask for it.
    """
    if tag not in TAGS:
        return frozenset([cell])
    if whole := _meant(tag, cell):
        return whole
    parts = [_meant(tag, part) for part in _BETWEEN.split(cell.lower())]
    return frozenset().union(*parts) if all(parts) else frozenset()


def _meant(tag: str, words: str) -> frozenset[str]:
    known = _known(tag)
    text = _plain(words)
    first, _, rest = text.partition(" ")
    return known.get(text) or (known.get(rest, frozenset()) if first in SHADES else frozenset())


@functools.cache
def _known(tag: str) -> Mapping[str, frozenset[str]]:
    """Return by plain word the names that it stands for."""
    found: dict[str, frozenset[str]] = {}
    for name in TAGS[tag]:
        for word in (_plain(name), *WORDS[tag].get(name, ())):
            found[word] = found.get(word, frozenset()) | {name}
    return found


def _plain(text: str) -> str:
    text = _SAYS_NOTHING.sub(" ", re.sub("['\u2019]", "", text.lower())).strip()
    return text.replace("gray", "grey").replace("color", "colour")
