"""What is said of an item beside its category: the names that a rule set's ``tags`` may ask for, and catalogues' words.

A catalogue says "Female", "Men's", "Autumn" or "gray" where rules say Women, Men, Fall and Grey. ``names_of`` tells
what a cell means; the cell itself stays as it is, for people and for ``--where``. A cell that means none of the names
of its tag is like an empty one: no rule can ask for it, so it is no reason against an item.

Source of the names: the columns gender, season, usage and baseColour of "Fashion Product Images" (Param Aggarwal,
Kaggle 2019), as its 43,493 rows spell their values; the ones that say "unknown" (``NA``) are left out. The words are
chosen by hand: English, and of German, French, Spanish and Italian those that can mean nothing else in their column.
"""

from __future__ import annotations

import functools
import re
import unicodedata
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

_CHILDREN = (
    *("kid", "kids", "child", "children", "childrens", "baby", "babies", "toddler", "infant", "junior"),
    *("kinder", "enfant", "enfants", "bébé", "bébés", "infantil", "niños", "bambini", "ragazzi"),
)
_ALL_YEAR = (
    *("all season", "all seasons", "all year", "year round"),
    *("ganzjährig", "toute saison", "toutes saisons", "todo el año"),
)
WORDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "gender": {
        "Men": (
            *("m", "male", "males", "man", "mens", "menswear", "gents", "gentleman", "gentlemen"),
            *("herren", "herr", "mann", "männer", "männlich", "homme", "hommes", "masculin"),
            *("hombre", "hombres", "caballero", "caballeros", "masculino", "uomo", "uomini", "maschile"),
        ),
        "Women": (
            *("f", "w", "female", "females", "woman", "womens", "womenswear", "lady", "ladies"),
            *("damen", "dame", "dames", "frau", "frauen", "weiblich", "femme", "femmes", "féminin"),
            *("mujer", "mujeres", "señora", "señoras", "femenino", "donna", "donne", "femminile"),
        ),
        "Unisex": ("u", "uni", "all", "both", "neutral", "gender neutral", "all genders", "adults", "unisexe"),
        "Boys": (
            *_CHILDREN,
            *("boy", "junge", "jungen", "jungs", "garçon", "garçons", "niño", "bambino", "ragazzo"),
        ),
        "Girls": (
            *_CHILDREN,
            *("girl", "mädchen", "maedchen", "fille", "filles", "niña", "niñas"),
            *("bambina", "bambine", "ragazza", "ragazze"),
        ),
    },
    "season": {
        "Spring": (
            *("ss", "s/s", *_ALL_YEAR),
            *("frühling", "frühjahr", "fruehling", "fruehjahr", "printemps", "primavera"),
        ),
        "Summer": ("ss", "s/s", *_ALL_YEAR, "sommer", "été", "verano", "estate"),
        "Fall": ("autumn", "aw", "a/w", "fw", "f/w", *_ALL_YEAR, "herbst", "automne", "otoño", "autunno"),
        "Winter": ("aw", "a/w", "fw", "f/w", *_ALL_YEAR, "hiver", "invierno", "inverno"),
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
        "Black": ("jet black", "schwarz", "noir", "noire", "negro", "negra", "nero", "nera"),
        "Blue": (
            *("denim", "indigo", "royal blue", "sky blue", "cobalt", "cobalt blue", "blau"),
            *("hellblau", "dunkelblau", "bleu", "bleue", "azul", "blu", "azzurro"),
        ),
        "Brown": ("chocolate", "braun", "hellbraun", "dunkelbraun", "brun", "brune", "marron", "marrone"),
        "Burgundy": ("bordeaux", "wine", "weinrot"),
        "Charcoal": ("charcoal grey", "anthracite", "anthrazit"),
        "Coffee Brown": ("coffee",),
        "Cream": ("ecru", "creme"),
        "Fluorescent Green": ("neon green",),
        "Gold": ("golden", "goldfarben", "doré", "dorado", "dorada", "oro"),
        "Green": ("grün", "gruen", "hellgrün", "dunkelgrün", "vert", "verte", "verde"),
        "Grey": ("grau", "hellgrau", "dunkelgrau", "gris", "grise", "grigio", "grigia"),
        "Grey Melange": ("melange", "grey marl", "heather grey", "grey heather"),
        "Lavender": ("lilac",),
        "Lime Green": ("lime",),
        "Magenta": ("fuchsia",),
        "Multi": (
            *("multicolour", "multicoloured", "multi colour", "multi coloured"),
            *("assorted", "rainbow", "bunt", "mehrfarbig"),
        ),
        "Navy Blue": ("navy", "marineblau", "bleu marine", "azul marino", "blu navy"),
        "Nude": ("flesh",),
        "Off White": ("offwhite", "ivory"),
        "Olive": ("olive green",),
        "Orange": ("naranja", "arancione"),
        "Pink": ("rosa",),
        "Purple": ("violet", "violett", "violette", "morado", "morada", "viola"),
        "Red": ("scarlet", "crimson", "rot", "hellrot", "dunkelrot", "rouge", "rojo", "roja", "rosso", "rossa"),
        "Silver": ("silvery", "silber", "silbern", "argenté", "plateado", "plateada", "argento"),
        "Tan": ("camel",),
        "Turquoise Blue": ("turquoise", "türkis", "turquesa", "turchese"),
        "White": ("weiß", "blanc", "blanche", "blanco", "blanca", "bianco", "bianca"),
        "Yellow": ("gelb", "jaune", "amarillo", "amarilla", "giallo", "gialla"),
    },
}
"""By tag and name other words for it; a word for more than one of the names stands under each of them."""
SHADES = ("light", "dark", "pale", "bright", "deep", "medium", "neon")
"""A colour behind one of these is itself where the two have no name of their own: "dark blue"."""
SAY_NOTHING: Mapping[str, frozenset[str]] = {
    "gender": frozenset(
        [
            *("adult", "adults", "erwachsene", "adulte", "adultes", "adulto", "adultos"),
            *("footwear", "shoes", "apparel", "clothing", "clothes", "wear", "fashion", "accessories", "bags"),
            *("for", "für", "pour", "para", "year", "years", "yrs", "month", "months", "age", "ages", "aged"),
            *("jahre", "ans", "años", "anni", "only", "department", "collection"),
        ]
    ),
    "season": frozenset(["season", "collection", "saison", "kollektion"]),
}
"""By tag words that may stand beside one of the others: "Mens Footwear", "Adult-Men"."""
_BETWEEN = re.compile(r"[/,;&+|]|\b(?:and|und|et|y|e)\b")
_BRACKETS = re.compile(r"\([^()]*\)")
_SAYS_NOTHING = re.compile(r"[\s0-9_()-]+")  # a season's year, a colour's number, an age
_MARKS = re.compile("[\u0300-\u036f]")


@functools.lru_cache(2**12)
def names_of(tag: str, cell: str) -> frozenset[str]:
    """Return which of a tag's names a catalogue's cell means.

    Case, apostrophes, hyphens, accents and digits do not matter ("MEN'S", "off-white", "Autumn 2024"), nor does
    American spelling. Of words put together ("Spring/Summer", "black & white") each has to be known. What stands in
    brackets may also be something else: "Black (matt)". Of a gender or season, words side by side ("Kids-Girls",
    "Mens Footwear") have to be known or to say nothing; where they share a name that is meant, else all of theirs.

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
    names = _all_parts(tag, cell) or _all_parts(tag, _BRACKETS.sub(" ", cell))
    return names - {"Unisex"} if names & {"Boys", "Girls"} else names  # "Unisex Kids" is nothing for adults


def _all_parts(tag: str, cell: str) -> frozenset[str]:
    if whole := _meant(tag, cell):
        return whole
    parts = [_meant(tag, part) for part in _BETWEEN.split(cell.lower())]
    return frozenset().union(*parts) if all(parts) else frozenset()


def _meant(tag: str, words: str) -> frozenset[str]:
    known = _known(tag)
    text = _plain(words)
    first, _, rest = text.partition(" ")
    return (
        known.get(text)
        or (known.get(rest, frozenset()) if first in SHADES else frozenset())
        or _side_by_side(tag, text)
    )


def _side_by_side(tag: str, text: str) -> frozenset[str]:
    """Return what words mean that stand beside each other; a letter alone ("M") may be a size there."""
    known, nothing = _known(tag), _nothing(tag)
    words = [word for word in text.split() if word not in nothing]
    meant = [known.get(word, frozenset()) if len(word) > 1 else frozenset() for word in words]
    if not nothing or not meant or not all(meant):
        return frozenset()
    return frozenset.intersection(*meant) or frozenset().union(*meant)


@functools.cache
def _known(tag: str) -> Mapping[str, frozenset[str]]:
    """Return by plain word the names that it stands for."""
    found: dict[str, frozenset[str]] = {}
    for name in TAGS[tag]:
        for word in map(_plain, (name, *WORDS[tag].get(name, ()))):
            found[word] = found.get(word, frozenset()) | {name}
    return found


@functools.cache
def _nothing(tag: str) -> frozenset[str]:
    return frozenset(map(_plain, SAY_NOTHING.get(tag, ())))


def _plain(text: str) -> str:
    letters = _MARKS.sub("", unicodedata.normalize("NFKD", text.casefold()))
    text = _SAYS_NOTHING.sub(" ", re.sub("['\u2019]", "", letters)).strip()
    return text.replace("gray", "grey").replace("color", "colour")
