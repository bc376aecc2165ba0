"""What the words of a catalogue's tags mean to a rule set."""

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stylematch.data.item_words import TAGS, WORDS, names_of
from stylematch.recommend import Recommender
from stylematch.search.catalog import ItemCatalog
from stylematch.search.directory import StoredIndex
from stylematch.search.exact import VectorIndex
from stylematch.settings.score import Ranking

MEANT = {
    ("gender", "Female"): {"Women"},
    ("gender", "F"): {"Women"},
    ("gender", "Woman"): {"Women"},
    ("gender", "womens"): {"Women"},
    ("gender", "WOMEN\u2019S"): {"Women"},
    ("gender", "W"): {"Women"},
    ("gender", "Male"): {"Men"},
    ("gender", "m"): {"Men"},
    ("gender", "Men's"): {"Men"},
    ("gender", " Boy "): {"Boys"},
    ("gender", "UNISEX"): {"Unisex"},
    ("gender", "Men/Women"): {"Men", "Women"},
    ("gender", "kids"): {"Boys", "Girls"},
    ("gender", "Herren"): {"Men"},
    ("gender", "Damen & Herren"): {"Men", "Women"},
    ("gender", "Herren und Damen"): {"Men", "Women"},
    ("gender", "M\u00e4dchen"): {"Girls"},
    ("gender", "Ma\u0308dchen"): {"Girls"},
    ("gender", "MADCHEN"): {"Girls"},
    ("gender", "femme"): {"Women"},
    ("gender", "Hombre"): {"Men"},
    ("gender", "Donna"): {"Women"},
    ("gender", "ni\u00f1os"): {"Boys", "Girls"},
    ("gender", "Mens Footwear"): {"Men"},
    ("gender", "Adult-Men"): {"Men"},
    ("gender", "Adults"): {"Unisex"},
    ("gender", "Women's Shoes / Men's Shoes"): {"Men", "Women"},
    ("gender", "Girls (2-8)"): {"Girls"},
    ("gender", "Girls (2-8 years, regular fit)"): {"Girls"},
    ("gender", "junior"): {"Boys", "Girls"},
    ("gender", "Kids-Girls"): {"Girls"},
    ("gender", "Kids (Boys)"): {"Boys"},
    ("gender", "Unisex Kids"): {"Boys", "Girls"},
    ("season", "Fr\u00fchling/Sommer"): {"Spring", "Summer"},
    ("season", "Herbst-Winter 2025"): {"Fall", "Winter"},
    ("season", "\u00e9t\u00e9"): {"Summer"},
    ("season", "Primavera"): {"Spring"},
    ("season", "Autumn Collection"): {"Fall"},
    ("baseColour", "Schwarz"): {"Black"},
    ("baseColour", "WEISS"): {"White"},
    ("baseColour", "wei\u00df"): {"White"},
    ("baseColour", "Rosa"): {"Pink"},
    ("baseColour", "bleu marine"): {"Navy Blue"},
    ("baseColour", "verde"): {"Green"},
    ("baseColour", "blanco y negro"): {"Black", "White"},
    ("baseColour", "Black (matt)"): {"Black"},
    ("season", "Autumn"): {"Fall"},
    ("season", "Autumn/Winter 2024"): {"Fall", "Winter"},
    ("season", "SS24"): {"Spring", "Summer"},
    ("season", "F/W"): {"Fall", "Winter"},
    ("usage", "Sportswear"): {"Sports"},
    ("usage", "semi-formal"): {"Smart Casual"},
    ("usage", "Office and Party"): {"Formal", "Party"},
    ("baseColour", "navy"): {"Navy Blue"},
    ("baseColour", "Gray"): {"Grey"},
    ("baseColour", "grey"): {"Grey"},
    ("baseColour", "gray melange"): {"Grey Melange"},
    ("baseColour", "Dark-Blue"): {"Blue"},
    ("baseColour", "off-white"): {"Off White"},
    ("baseColour", "Multicolor"): {"Multi"},
    ("baseColour", "black & white"): {"Black", "White"},
}
UNKNOWN = (
    ("gender", "Adult"),
    ("gender", "NA"),
    ("gender", "Adult Footwear"),
    ("gender", "Women M"),
    ("gender", "not for men"),
    ("gender", "(2-8)"),
    ("gender", "/"),
    ("season", "Monsoon"),
    ("usage", "Men"),
    ("baseColour", "Mystic"),
    ("baseColour", "blue/mystic"),
    ("baseColour", "dark"),
    ("baseColour", "blue green"),
)


@pytest.mark.parametrize(("tag", "cell"), MEANT)
def test_words_mean_the_names_that_rules_use(tag, cell):
    assert names_of(tag, cell) == MEANT[tag, cell]


@pytest.mark.parametrize(("tag", "cell"), UNKNOWN)
def test_what_no_rule_can_ask_for_means_nothing(tag, cell):
    assert names_of(tag, cell) == frozenset()


@given(st.sampled_from([(tag, name) for tag, names in TAGS.items() for name in names]), st.data())
def test_a_name_means_itself_however_it_is_written(tagged, data):
    tag, name = tagged
    cell = "".join(data.draw(st.sampled_from([letter.lower(), letter.upper()])) for letter in name)
    assert names_of(tag, f" {cell.replace(' ', data.draw(st.sampled_from(' -_')))} ") == {name}


@given(st.sampled_from(list(TAGS)), st.text(max_size=30))
def test_any_text_means_names_of_its_tag_or_nothing(tag, cell):
    assert names_of(tag, cell) <= set(TAGS[tag])


def test_every_word_of_the_table_can_be_met():
    for tag, words in WORDS.items():
        assert set(words) <= set(TAGS[tag])
        for name, others in words.items():
            for word in others:
                assert name in names_of(tag, word)
                assert not re.search("gray|color|[A-Z_'-]", word)  # cells lose these before they are looked up


def test_a_catalogue_in_its_own_words_is_ranked_as_one_in_the_rules_words():
    def ranked(genders, colours):
        ids = [f"item-{n}" for n in range(len(genders))]
        vectors = np.random.default_rng(3).normal(size=(len(ids), 8)).astype(np.float32)
        tags = {"gender": pa.array(genders, pa.string()), "baseColour": pa.array(colours, pa.string())}
        rows = pa.table({"id": ids, "category": ["Shirt"] * len(ids), **tags})
        catalog = ItemCatalog(StoredIndex(VectorIndex.build(ids, vectors), rows, {"kind": "items"}))
        wanted = {"gender": ("Women", "Unisex"), "baseColour": ("Grey", "Navy Blue")}
        made = Recommender(
            catalog, {"s": ("Shirt",)}, tags_of_style={"s": wanted}, top_k=6, ranking=Ranking(weight_tags=5.0)
        )
        return made.recommend("p", 0, "s", 1.0, "r", vectors[0])

    own = ranked(["Female", "womens", "Male", "Adult", None, "U"], ["gray", "Navy", "red", "Mystic", None, "Dark Grey"])
    known = ranked(["Women", "Women", "Men", None, None, "Unisex"], ["Grey", "Navy Blue", "Red", None, None, "Grey"])
    assert [(row.item_id, row.score, row.tag_fit) for row in own] == [
        (row.item_id, row.score, row.tag_fit) for row in known
    ]
    fits = {row.item_id: row.tag_fit for row in own}
    assert [fits[f"item-{n}"] for n in range(6)] == [1.0, 1.0, 0.0, 0.5, 0.5, 0.875]
    reasons = {row.item_id: row.reason for row in own}
    assert "colour gray and gender Female" in reasons["item-0"]  # in the catalogue's words
    assert "Adult" not in reasons["item-3"]
