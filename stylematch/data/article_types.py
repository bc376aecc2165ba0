"""Fashion Product's article types: which are like one of Fashion-MNIST's categories, which may be worn on a torso."""

from __future__ import annotations

from stylematch.data.fashion_mnist import CLASSES

# What both data sets mean alike.
TYPES_OF_CATEGORY = {
    "T-shirt/top": ("Tshirts", "Tops"),
    "Trouser": ("Trousers", "Jeans", "Track Pants"),
    "Pullover": ("Sweaters", "Sweatshirts"),
    "Dress": ("Dresses",),
    "Coat": ("Jackets",),
    "Sandal": ("Sandals", "Flip Flops"),
    "Shirt": ("Shirts",),
    "Sneaker": ("Sports Shoes", "Casual Shoes"),
    "Bag": ("Handbags", "Backpacks", "Clutches", "Laptop Bag", "Duffel Bag"),
}
# Where a shop puts what a model takes for something else by its outline (for sneakers); no model learns from these.
_SOLD_AS = {"Booties": "Ankle boot", "Formal Shoes": "Ankle boot"}
_WORN_ON_TORSO = frozenset({"T-shirt/top", "Pullover", "Dress", "Coat", "Shirt"})
OTHER_ARTICLE_TYPES = (
    "Accessory Gift Set",
    "Bangle",
    "Bath Robe",
    "Belts",
    "Boxers",
    "Bra",
    "Bracelet",
    "Briefs",
    "Camisoles",
    "Caps",
    "Compact",
    "Cufflinks",
    "Deodorant",
    "Dupatta",
    "Earrings",
    "Eyeshadow",
    "Face Moisturisers",
    "Face Wash and Cleanser",
    "Foundation and Primer",
    "Fragrance Gift Set",
    "Free Gifts",
    "Gloves",
    "Hair Colour",
    "Highlighter and Blush",
    "Innerwear Vests",
    "Jewellery Set",
    "Kajal and Eyeliner",
    "Lip Care",
    "Lip Gloss",
    "Lip Liner",
    "Lipstick",
    "Lounge Shorts",
    "Mufflers",
    "Nail Polish",
    "Necklace and Chains",
    "Pendant",
    "Perfume and Body Mist",
    "Ring",
    "Scarves",
    "Shoe Accessories",
    "Shorts",
    "Skirts",
    "Socks",
    "Stockings",
    "Stoles",
    "Sunglasses",
    "Sunscreen",
    "Suspenders",
    "Swimwear",
    "Ties",
    "Trunk",
    "Umbrellas",
    "Wallets",
    "Watches",
)
"""Frequent article types that are like none of Fashion-MNIST's categories."""


_WORN_ELSEWHERE = frozenset(
    {
        "Booties",
        "Capris",
        "Churidar",
        "Flats",
        "Formal Shoes",
        "Hair Accessory",
        "Hat",
        "Headband",
        "Heels",
        "Jeggings",
        "Key chain",
        "Leggings",
        "Lounge Pants",
        "Messenger Bag",
        "Mobile Pouch",
        "Patiala",
        "Rain Trousers",
        "Rucksacks",
        "Salwar",
        "Shoe Laces",
        "Sports Sandals",
        "Tablet Sleeve",
        "Ties and Cufflinks",
        "Tights",
        "Travel Accessory",
        "Trolley Bag",
        "Waist Pouch",
        "Water Bottle",
        "Wristbands",
    }
)
"""Rarer types, or like several of Fashion-MNIST's categories, that no torso shows."""


def fashion_mnist_category(article_type: str) -> str | None:
    """Return Fashion-MNIST's category of an article type, where that leaves no doubt, or where a shop would look."""
    alike = (category for category, kinds in TYPES_OF_CATEGORY.items() if article_type in kinds)
    return next(alike, _SOLD_AS.get(article_type))


def may_be_worn_on_torso(category: str) -> bool:
    """Return whether an item of a category, or article type, may be what covers a person's torso in its picture."""
    like = fashion_mnist_category(category) or category
    return like in _WORN_ON_TORSO or not (like in CLASSES or like in OTHER_ARTICLE_TYPES or like in _WORN_ELSEWHERE)
