"""What is said of an item beside its category: the names and values that a rule set's ``tags`` may ask for.

Source: the columns gender, season, usage and baseColour of "Fashion Product Images" (Param Aggarwal, Kaggle 2019), as
its 43,493 rows spell their values; the ones that say "unknown" (``NA``) are left out.
"""

from __future__ import annotations

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
