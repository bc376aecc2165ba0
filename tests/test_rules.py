"""Rule sets: reading, refusing, soft and hard evaluation, and counting styles in a labels file."""

import hashlib
import itertools
import pickle
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from program import call

from stylematch.data.celeba import ATTRIBUTES
from stylematch.data.fashion_mnist import CLASSES
from stylematch.data.item_words import TAGS
from stylematch.errors import UserError
from stylematch.pipelines.rule_labels import read_labels
from stylematch.pipelines.rules import apply_rules, count_rules
from stylematch.settings.toml_lines import KeyLines
from stylematch.style.rule_problems import RuleProblemsError
from stylematch.style.rules import load_rules, shipped_rule_sets

CLASSIC = load_rules("classic", attribute_names=ATTRIBUTES, categories=CLASSES)
COUNTS = [
    ("Casual", 130604),
    ("Formal", 42508),
    ("Glamorous Female", 24663),
    ("Sunny Chic Female", 3613),
    ("Intellectual Chic Male", 651),
    ("Sunny Chic Male", 262),
    ("Rugged Casual Male", 206),
    ("Intellectual Chic Female", 62),
    ("Glamorous Male", 19),
    ("Dapper Male", 11),
    ("Rugged Casual Female", 0),
    ("Dapper Female", 0),
]
SMALL = """
[splits.Male]
present = "Male"
absent = "Female"

[[rules]]
style = "Bold"
all = ["Bald", "Smiling"]
split = "Male"
items.Male = ["Bag"]
items.Female = ["Dress", "Bag"]

[[rules]]
style = "Plain"
items = ["Coat"]
"""

unit = st.floats(0, 1, width=32)
probability_rows = hnp.arrays(np.float32, st.tuples(st.integers(1, 9), st.just(len(ATTRIBUTES))), elements=unit)
label_rows = hnp.arrays(np.bool_, st.tuples(st.integers(1, 40), st.just(len(ATTRIBUTES))))


def notebook_style(face: dict[str, bool]) -> str:
    """The classic rules as anyone would write them down."""
    ending = "Male" if face["Male"] else "Female"
    if face["5_o_Clock_Shadow"] and face["Arched_Eyebrows"] and face["Mustache"]:
        return f"Rugged Casual {ending}"
    elif face["Big_Lips"] and face["Heavy_Makeup"] and face["Wearing_Lipstick"]:
        return f"Glamorous {ending}"
    elif face["Black_Hair"] and face["Wearing_Hat"] and face["Wearing_Necktie"]:
        return f"Dapper {ending}"
    elif face["Black_Hair"] and face["Smiling"] and face["Wearing_Earrings"]:
        return f"Sunny Chic {ending}"
    elif face["Eyeglasses"] and face["High_Cheekbones"] and face["Receding_Hairline"]:
        return f"Intellectual Chic {ending}"
    elif face["Young"]:
        return "Casual"
    else:
        return "Formal"


def row(**present: float) -> np.ndarray:
    """One face's probabilities, 0 where not given; names that are no identifiers come in a dict."""
    return np.array([[present.get(name, 0.0) for name in ATTRIBUTES]])


def load_text(tmp_path: Path, text: str, name: str = "mine.toml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return load_rules(path, attribute_names=ATTRIBUTES, categories=CLASSES)


def write_labels(path: Path, columns: dict) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def all_columns(values, **other) -> dict:
    return {name: other.get(name, values) for name in ATTRIBUTES}


def test_classic_is_the_set_of_the_issue():
    assert CLASSIC.name == "classic"
    assert CLASSIC.styles == (
        "Rugged Casual Male",
        "Rugged Casual Female",
        "Glamorous Male",
        "Glamorous Female",
        "Dapper Male",
        "Dapper Female",
        "Sunny Chic Male",
        "Sunny Chic Female",
        "Intellectual Chic Male",
        "Intellectual Chic Female",
        "Casual",
        "Formal",
    )
    assert CLASSIC.items("Rugged Casual Male") == ("T-shirt/top", "Trouser", "Sneaker")
    assert CLASSIC.items("Rugged Casual Female") == ("T-shirt/top", "Trouser", "Pullover")
    assert CLASSIC.items("Glamorous Male") == ("Shirt", "Trouser", "Ankle boot")
    assert CLASSIC.items("Glamorous Female") == ("Dress", "Ankle boot", "Coat")
    for ending in ("Male", "Female"):
        assert CLASSIC.items(f"Dapper {ending}") == ("Shirt", "Trouser", "Ankle boot")
        assert CLASSIC.items(f"Sunny Chic {ending}") == ("T-shirt/top", "Trouser", "Sneaker")
        assert CLASSIC.items(f"Intellectual Chic {ending}") == ("Shirt", "Trouser", "Sneaker")
    assert CLASSIC.items("Casual") == ("T-shirt/top", "Trouser", "Pullover")
    assert CLASSIC.items("Formal") == ("Shirt", "Trouser", "Coat")
    assert CLASSIC.rule_text("Glamorous Female") == "Big_Lips and Heavy_Makeup and Wearing_Lipstick and not Male"
    assert CLASSIC.rule_text("Casual") == "Young"
    assert CLASSIC.rule_text("Formal") == "not Young"
    assert len(CLASSIC.attributes) == 16
    assert "classic" in shipped_rule_sets()


def test_a_set_is_known_by_its_bytes(tmp_path):
    rules = load_text(tmp_path, SMALL)
    assert rules.sha256 == hashlib.sha256((tmp_path / "mine.toml").read_bytes()).hexdigest()
    assert rules.name == "mine"
    assert load_text(tmp_path, 'name = "Ours"\n' + SMALL).name == "Ours"
    assert load_text(tmp_path, "\ufeff" + SMALL.replace("\n", "\r\n")).styles == rules.styles
    with pytest.raises(AttributeError):
        rules.name = "other"


@given(probability_rows)
def test_soft_rows_sum_to_one(probabilities):
    styles = CLASSIC.soft(probabilities)
    assert styles.dtype == np.float64
    assert (styles >= 0).all()
    np.testing.assert_allclose(styles.sum(axis=1), 1.0, rtol=0, atol=1e-12)


@given(label_rows)
def test_hard_is_the_notebooks_chain_and_soft_agrees_at_zero_and_one(labels):
    expected = [notebook_style(dict(zip(ATTRIBUTES, map(bool, face), strict=True))) for face in labels]
    assert [CLASSIC.styles[index] for index in CLASSIC.hard(labels)] == expected
    certain = CLASSIC.soft(labels.astype(np.float32))
    np.testing.assert_array_equal(certain, np.eye(len(CLASSIC.styles))[CLASSIC.hard(labels)])


@given(
    st.lists(st.booleans(), min_size=16, max_size=16),
    st.sampled_from(range(5)),
)
def test_hard_on_faces_for_which_a_chosen_rule_holds(others, rule):
    """Random faces hardly ever fulfil three attributes at once; these do, often those of several rules."""
    face = dict.fromkeys(ATTRIBUTES, False) | dict(zip(CLASSIC.attributes, others, strict=True))
    face |= dict.fromkeys(CLASSIC.rules[rule].all, True)
    labels = np.array([[face[name] for name in ATTRIBUTES]])
    assert CLASSIC.styles[CLASSIC.hard(labels)[0]] == notebook_style(face)


@given(probability_rows, st.data())
def test_a_faces_styles_do_not_depend_on_its_batch(probabilities, data):
    whole = CLASSIC.soft(probabilities)
    order = data.draw(st.permutations(range(len(probabilities))))
    assert CLASSIC.soft(probabilities[order]).tobytes() == whole[order].tobytes()
    for face, styles in zip(probabilities, whole, strict=True):
        assert CLASSIC.soft(face[None]).tobytes() == styles.tobytes()
    assert CLASSIC.soft(np.asfortranarray(probabilities)).tobytes() == whole.tobytes()


def test_batch_invariance_at_sizes_where_vector_code_has_a_tail():
    probabilities = np.random.default_rng(5).random((1003, len(ATTRIBUTES)), dtype=np.float32)
    whole = CLASSIC.soft(probabilities)
    pieces = [CLASSIC.soft(part) for part in np.array_split(probabilities, 17)]
    assert np.concatenate(pieces).tobytes() == whole.tobytes()


def test_soft_by_hand():
    face = row(Big_Lips=0.5, Heavy_Makeup=0.8, Wearing_Lipstick=1.0, Male=0.25, Young=0.5)
    styles = dict(zip(CLASSIC.styles, CLASSIC.soft(face)[0], strict=True))
    # Glamorous holds with 0.5 * 0.8 * 1.0 = 0.4; a quarter of it is male; 0.6 is left for Young or not.
    assert styles["Glamorous Male"] == pytest.approx(0.1)
    assert styles["Glamorous Female"] == pytest.approx(0.3)
    assert styles["Casual"] == pytest.approx(0.3)
    assert styles["Formal"] == pytest.approx(0.3)
    assert styles["Dapper Male"] == 0.0


def test_evidence_gives_each_condition_its_own_probability():
    face = row(Big_Lips=0.5, Heavy_Makeup=0.75, Wearing_Lipstick=1.0, Male=0.25, Young=0.125)[0]
    assert CLASSIC.evidence(CLASSIC.styles.index("Glamorous Female"), face) == [
        ("Big_Lips", True, 0.5),
        ("Heavy_Makeup", True, 0.75),
        ("Wearing_Lipstick", True, 1.0),
        ("Male", False, 0.75),
    ]
    assert CLASSIC.evidence(CLASSIC.styles.index("Formal"), face) == [("Young", False, 0.875)]


def test_last_rule_without_single_attribute_rules_before_it(tmp_path):
    rules = load_text(tmp_path, SMALL)
    assert rules.rule_text("Plain") == "no other rule holds"
    assert rules.evidence(2, row()[0]) == []
    assert rules.items("Bold Female") == ("Dress", "Bag")
    alone = load_text(tmp_path, '[[rules]]\nstyle = "One"\nitems = ["Bag"]')
    np.testing.assert_array_equal(alone.soft(row()), [[1.0]])


def test_last_rule_may_be_split(tmp_path):
    rules = load_text(tmp_path, SMALL + 'split = "Male"\n')
    np.testing.assert_allclose(rules.soft(row(Male=0.25)), [[0, 0, 0.25, 0.75]])
    assert rules.rule_text("Plain Female") == "not Male"


def test_wrong_arrays_are_refused():
    with pytest.raises(ValueError, match="shape"):
        CLASSIC.soft(np.zeros((2, 39)))
    with pytest.raises(ValueError, match="Male must lie within 0 to 1"):
        CLASSIC.soft(row(Male=1.5))
    with pytest.raises(ValueError, match="Young must lie within 0 to 1"):
        CLASSIC.soft(row(Young=float("nan")))
    with pytest.raises(TypeError, match="int8"):
        CLASSIC.hard(np.full((1, 40), -1, dtype=np.int8))
    assert CLASSIC.soft(np.zeros((0, 40))).shape == (0, 12)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"Smiling"', '"Smilling"', "line 8, rule 1 'Bold', key all: unknown attribute 'Smilling', did"),
        ('"Smiling"', '"smiling"', "did you mean 'Smiling'?"),
        ('"Smiling"', '"Q"', "key all: unknown attribute 'Q'; known: 5_o_Clock_Shadow, Arched_Eyebrows"),
        ('["Coat"]', '["Coats"]', "line 15, rule 2 'Plain', key items: unknown category 'Coats', did"),
        ('items.Male = ["Bag"]', 'items.Male = ["Bagg"]', "line 10, rule 1 'Bold', key items.Male: unknown category"),
        ('items.Male = ["Bag"]', 'items.Male = ["Bagg"]', "a rule set's categories are those of the items: --index"),
        ('items.Male = ["Bag"]', 'items.Man = ["Bag"]', "line 10, rule 1 'Bold', key items.Man: there is no such key"),
        ('items.Male = ["Bag"]\n', "", "key items.Male: this is missing"),
        ('items.Male = ["Bag"]', 'items.Male = ["Bag", "Bag"]', "key items.Male: names 'Bag' twice"),
        ('items.Male = ["Bag"]', "items.Male = []", "key items.Male: the list is empty"),
        ('items = ["Coat"]', 'items = "Coat"', "key items: must be a list of category names, not 'Coat'"),
        ('items = ["Coat"]', "items = [3]", "not 3"),
        ('items = ["Coat"]', "", "line 13, rule 2 'Plain', key items: this key is missing"),
        ('style = "Plain"', "", "line 13, rule 2, key style: this key is missing"),
        ('style = "Plain"', 'style = "a\\nb"', "key style: must be a name of visible characters"),
        ('style = "Plain"', 'style = "Bold Male"', "key style: 'Bold Male' is already rule 1's style"),
        ('all = ["Bald", "Smiling"]', "all = []", "key all: the list is empty; leave `all` out"),
        ('all = ["Bald", "Smiling"]', "", "line 6, rule 1 'Bold', key all: a rule without `all`"),
        ('all = ["Bald", "Smiling"]', 'all = ["Bald", "Bald"]', "key all: names 'Bald' twice"),
        ('all = ["Bald", "Smiling"]', 'all = ["Bald", "Male"]', "key split: 'Male' is also in `all`"),
        ('all = ["Bald"', 'al = ["Bald"', "key al: there is no such key, did you mean 'all'?"),
        ('style = "Plain"', 'style = "Plain"\nall = ["Young"]', "key all: the last rule asks for attributes"),
        ('split = "Male"', 'split = "Mal"', "key split: unknown split 'Mal', did you mean 'Male'?"),
        ("[splits.Male]", "[splits.Malle]", "line 2, key splits: unknown attribute 'Malle', did you mean 'Male'?"),
        ('absent = "Female"', 'absent = "Male"', "line 2, key splits.Male: both endings are 'Male'"),
        ('absent = "Female"', "", "key splits.Male: it needs the two endings"),
        ("[splits.Male]", 'nam = "x"\n[splits.Male]', "line 2, key nam: there is no such key, did you mean 'name'?"),
        ("[[rules]]", "[rules]", "line 13, key rules: this is not valid TOML: Cannot declare ('rules',) twice"),
        ('style = "Plain"', "style = ", "line 14, key style: this is not valid TOML: Invalid value (at line 14"),
        ('style = "Plain"', "style = Plain", "line 14, key style: this is not valid TOML: Invalid value (at line 14"),
        ('style = "Plain"', 'style = "Plain"\nstyle = "P"', "line 15, key style: this is not valid TOML: Cannot overw"),
        ('all = ["Bald", "Smiling"]', 'all = ["Bald",\n"Smiling"', "line 8, key all: this is not valid TOML: Unclosed"),
        ('style = "Plain"', 'style = """Plain', "line 14, key style: this is not valid TOML: Unterminated string"),
        ('style = "Plain"', "style", "line 14: this is not valid TOML: Expected '='"),
        ('style = "Plain"', f"style = {'1' * 5000}", "line 14, key style: this is not valid TOML: Exceeds the limit"),
        ('style = "Plain"', f"style = {'[' * 2000}", "line 14, key style: this is not valid TOML: it is nested"),
        ('style = "Plain"', f"style = {'[' * 60}{']' * 60}", "line 14, key style: this is not valid TOML: it is"),
        ('style = "Plain"', f"style{'.a' * 3000} = 1", "line 14, key style.a.a"),
        ('style = "Plain"', f"style{'.a' * 3000} = 1", "this is not valid TOML: it is nested more than 50 deep"),
    ],
)  # fmt: skip
def test_what_makes_a_rule_useless_is_refused_with_its_place(tmp_path, old, new, expected):
    assert old in SMALL
    with pytest.raises(UserError, match=re.escape(expected)) as caught:
        load_text(tmp_path, SMALL.replace(old, new))
    assert str(caught.value).startswith(f"rule file {str(tmp_path / 'mine.toml')!r}")
    assert "\n" not in str(caught.value)


def test_a_rule_that_an_earlier_one_always_beats_is_refused(tmp_path):
    rule = '[[rules]]\nstyle = "Late"\nall = ["Smiling", "Young", "Bald"]\nitems = ["Bag"]\n\n'
    text = SMALL.replace('[[rules]]\nstyle = "Plain"', rule + '[[rules]]\nstyle = "Plain"')
    with pytest.raises(UserError, match=re.escape("rule 1 (Bald and Smiling) always wins over this one")):
        load_text(tmp_path, text)


@pytest.mark.parametrize("text", ["", "rules = 3", "rules = []", "rules = [1]", 'name = "x"'])
def test_a_set_without_rules_is_refused(tmp_path, text):
    with pytest.raises(UserError, match="at least one rule"):
        load_text(tmp_path, text)


def test_rules_on_one_line_have_that_line(tmp_path):
    with pytest.raises(UserError, match=re.escape("line 1, rule 1 'A', key items: unknown category 'Hat'")):
        load_text(tmp_path, 'rules = [{style = "A", items = ["Hat"]}]')


def test_categories_are_not_checked_where_none_are_given(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SMALL.replace('"Coat"', '"Kilt"'))
    assert load_rules(path, attribute_names=ATTRIBUTES).items("Plain") == ("Kilt",)


def test_sources_that_are_no_rule_set(tmp_path):
    with pytest.raises(
        UserError, match=r"'clasic' is no file and no shipped rule set \(classic, wardrobe, wardrobe-neutral\)"
    ):
        load_rules("clasic", attribute_names=ATTRIBUTES)
    with pytest.raises(UserError, match="no file"):
        load_rules(tmp_path, attribute_names=ATTRIBUTES)
    binary = tmp_path / "x\n.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8") as caught:
        load_rules(binary, attribute_names=ATTRIBUTES)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="unknown attribute 'Male'"):
        load_rules("classic", attribute_names=["Young"])


# Few attributes, so that rules meet; all that these rules can ask of a face can be tried.
FEW = ("Bald", "Male", "Smiling", "Young", "Goatee", "Bangs")
EVERY_FACE = np.array(list(itertools.product([False, True], repeat=len(FEW))))


def listed(names) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


@st.composite
def rule_lists(draw):
    """Random rules as ((all, any, not), split by Young?, weight) of attributes that are named once a rule."""
    rules = []
    for _ in range(draw(st.integers(0, 5))):
        order = draw(st.permutations(FEW))
        cuts = sorted(draw(st.lists(st.integers(0, 4), min_size=3, max_size=3)))
        if cuts[2] == 0:
            cuts[2] = 1
        asked = order[: cuts[0]], order[cuts[0] : cuts[1]], order[cuts[1] : cuts[2]]
        split = draw(st.booleans()) and "Young" not in order[: cuts[2]]
        rules.append((asked, split, draw(st.sampled_from([1, 1, 0.25, 3]))))
    return rules


def set_text(wanted) -> str:
    parts = ['[splits.Young]\npresent = "Young"\nabsent = "Old"\n']
    for number, (asked, split, weight) in enumerate(wanted):
        parts.append(f'[[rules]]\nstyle = "S{number}"\nitems = ["Bag"]\nweight = {weight}')
        parts += [f"{key} = {listed(names)}" for key, names in zip(("all", "any", "not"), asked, strict=True) if names]
        parts.append('split = "Young"' if split else "")
    return "\n".join([*parts, '[[rules]]\nstyle = "Rest"\nitems = ["Bag"]\n'])


def styles_of(wanted) -> list[str]:
    return [
        f"S{number}{ending}"
        for number, (_, split, _) in enumerate(wanted)
        for ending in ((" Young", " Old") if split else ("",))
    ] + ["Rest"]


def plain_style(wanted, face: dict[str, bool]) -> str:
    """The style by a plain loop over what was written down."""
    for number, ((every, some, none), split, _) in enumerate(wanted):
        if all(face[n] for n in every) and (not some or any(face[n] for n in some)) and not any(face[n] for n in none):
            return f"S{number}" + ((" Young" if face["Young"] else " Old") if split else "")
    return "Rest"


@settings(max_examples=150)
@given(rule_lists(), hnp.arrays(np.float64, (3, len(FEW)), elements=st.floats(0, 1)))
def test_any_set_is_refused_or_is_exactly_what_a_plain_loop_says(tmp_path_factory, wanted, probabilities):
    """Random sets: refused where a style could never be, else hard as a loop and soft as the sum over all faces."""
    expected = [plain_style(wanted, dict(zip(FEW, map(bool, face), strict=True))) for face in EVERY_FACE]
    path = tmp_path_factory.mktemp("sets") / "set.toml"
    path.write_text(set_text(wanted))
    if set(expected) != set(styles_of(wanted)):
        with pytest.raises(UserError, match=r"always wins|together take every face"):
            load_rules(path, attribute_names=FEW)
        return
    rules = load_rules(path, attribute_names=FEW)
    assert [rules.styles[place] for place in rules.hard(EVERY_FACE)] == expected
    assert list(rules.styles) == styles_of(wanted)
    # Labels as probabilities: exactly the hard style, whatever the weights.
    np.testing.assert_array_equal(rules.soft(EVERY_FACE), np.eye(len(rules.styles))[rules.hard(EVERY_FACE)])
    # Independent attributes: a face's probability is the product of its attributes', a style's the sum over its faces.
    chance = np.where(EVERY_FACE, probabilities[:, None], 1 - probabilities[:, None]).prod(axis=2)
    weight = {"Rest": 1.0} | {
        style: float(w) for n, (_, _, w) in enumerate(wanted) for style in (f"S{n}", f"S{n} Young", f"S{n} Old")
    }
    exact = np.stack([chance[:, [s == style for s in expected]].sum(axis=1) for style in rules.styles], axis=1)
    exact *= [weight[style] for style in rules.styles]
    soft = rules.soft(probabilities)
    np.testing.assert_allclose(soft, exact / exact.sum(axis=1, keepdims=True), rtol=0, atol=1e-12)
    assert (soft >= 0).all()
    np.testing.assert_allclose(soft.sum(axis=1), 1.0, rtol=0, atol=1e-12)
    for face, row_of in zip(probabilities, soft, strict=True):
        assert rules.soft(face[None]).tobytes() == row_of.tobytes()


FULL = """\
# A comment, [[rules]] in it.

[splits.Male]
present = "Male"
absent = "Female"

[[ rules ]]
style = "Bold"
any = [
  "Bald",
  "Goatee",
]
not = ["Smiling"]
split = "Male"
items = ["Bag"]
weight = { Male = 2, Female = 0.5 }
[rules.tags.Male]
usage = ["Party"]
[rules.tags.Female]
usage = ["Casual", "Travel"]
season = ["Summer"]

[[rules]]
style = "Plain"
all = ["Young", "Smiling"]
any = ["Bangs", "Wearing_Hat"]
items = ["Coat"]
tags.gender = ["Women", "Unisex"]

[[rules]]
style = "Rest"
items = ["Bag"]
"""


def test_any_not_weights_and_tags(tmp_path):
    rules = load_text(tmp_path, FULL)
    assert rules.rule_text("Bold Male") == "Male and (Bald or Goatee) and not Smiling"
    assert rules.rule_text("Bold Female") == "(Bald or Goatee) and not Smiling and not Male"
    assert rules.rule_text("Plain") == "Young and Smiling and (Bangs or Wearing_Hat)"
    assert rules.tags("Bold Male") == {"usage": ("Party",)}
    assert rules.tags("Bold Female") == {"usage": ("Casual", "Travel"), "season": ("Summer",)}
    assert rules.tags("Plain") == {"gender": ("Women", "Unisex")}
    assert rules.tags("Rest") == {}
    face = row(Bald=0.5, Goatee=0.5, Smiling=0.2, Male=0.25)
    # Bold holds with (1 - 0.5 * 0.5) * 0.8 = 0.6: 0.15 male, counted twice, 0.45 female, counted half; 0.4 is left.
    np.testing.assert_allclose(rules.soft(face), np.array([[0.3, 0.225, 0, 0.4]]) / 0.925)
    assert rules.evidence(1, row(Bald=0.5, Goatee=0.75, Smiling=0.25, Male=0.125)[0]) == [
        ("Goatee", True, 0.75),
        ("Smiling", False, 0.75),
        ("Male", False, 0.875),
    ]


def test_rules_that_share_an_attribute_know_of_each_other(tmp_path):
    """A product over the rules would leave a quarter for a style that no face has."""
    text = "".join(
        f'[[rules]]\nstyle = "{style}"\n{asked}\nitems = ["Bag"]\n'
        for style, asked in (("A", 'all = ["Male"]'), ("B", 'not = ["Male"]\nany = ["Young"]'), ("C", ""))
    )
    np.testing.assert_array_equal(load_text(tmp_path, text).soft(row(Male=0.5, Young=1)), [[0.5, 0.5, 0.0]])


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"Goatee"', '"Gotee"', "line 9, rule 1 'Bold', key any: unknown attribute 'Gotee', did you mean 'Goatee'?"),
        ('not = ["Smiling"]', 'not = ["Bald"]', "line 13, rule 1 'Bold', key not: 'Bald' is also in `any`"),
        ('not = ["Smiling"]', "not = []", "line 13, rule 1 'Bold', key not: the list is empty"),
        ('not = ["Smiling"]', 'not = ["Male"]', "line 14, rule 1 'Bold', key split: 'Male' is also in `not`"),
        ('any = ["Bangs"', 'any = ["Young"', "line 26, rule 2 'Plain', key any: 'Young' is also in `all`"),
        ("Male = 2,", "", "line 16, rule 1 'Bold', key weight.Male: this is missing"),
        ("Male = 2,", "Male = 0,", "line 16, rule 1 'Bold', key weight.Male: must be a number from 0.001 to 1000"),
        ("Male = 2,", "Male = nan,", "key weight.Male: must be a number from 0.001 to 1000, not nan"),
        ("Male = 2,", "Male = true,", "key weight.Male: must be a number from 0.001 to 1000, not True"),
        ('["Party"]', '["Parti"]', "line 18, rule 1 'Bold', key tags.Male.usage: unknown value 'Parti', did you mean"),
        # Another word for a name means that name, though "Men" has more of its letters.
        ('["Women", "Unisex"]', '["Damen"]', "key tags.gender: unknown value 'Damen', did you mean 'Women'?"),
        ('["Women", "Unisex"]', '["Kids"]', "key tags.gender: unknown value 'Kids', did you mean 'Boys' or 'Girls'?"),
        ('["Party"]', '"Party"', "line 18, rule 1 'Bold', key tags.Male.usage: must be a list of value names"),
        ("[rules.tags.Male]", "[rules.tags.Man]", "line 17, rule 1 'Bold', key tags.Man: there is no such key"),
        ("season", "saison", "line 21, rule 1 'Bold', key tags.Female.saison: unknown tag 'saison', did you mean"),
        ("tags.gender", "tags.colour", "line 28, rule 2 'Plain', key tags.colour: unknown tag 'colour', did you mean"),
        ('tags.gender = ["Women", "Unisex"]', "tags = 3", "line 28, rule 2 'Plain', key tags: must be a table"),
        ('all = ["Young", "Smiling"]', 'all = ["Bald"]\nnot = ["Smiling"]', "line 25, rule 2 'Plain', key all: rule 1"),
        ('style = "Rest"', 'style = "Rest"\nany = ["Bald"]', "line 32, rule 3 'Rest', key any: the last rule asks for"),
    ],
)  # fmt: skip
def test_problems_of_the_newer_keys_have_their_place(tmp_path, old, new, expected):
    assert old in FULL
    with pytest.raises(UserError, match=re.escape(expected)):
        load_text(tmp_path, FULL.replace(old, new))


@pytest.mark.parametrize("text", [FULL, FULL.replace("\n", "\r\n"), SMALL])
def test_every_key_is_found_on_its_line(text):
    """Every bare key of these texts stands where its name begins a line."""
    at, where = -1, KeyLines(text)
    for number, line in enumerate(text.splitlines(), start=1):
        at += line.replace(" ", "") == "[[rules]]"
        key = re.match(r"(style|all|any|not|split|weight|items\.\w+|items|tags\.gender) =", line)
        if key:
            assert where.line("rules", at, *key[1].split(".")) == number
    assert where.line("rules", 0, "no such key") == where.line("rules", 0)
    assert where.line("neither") == 1


def test_all_problems_are_kept_and_survive_another_process(tmp_path):
    text = FULL.replace('"Goatee"', '"Gotee"').replace('["Coat"]', '["Cote"]').replace('"Party"', '"Parti"')
    with pytest.raises(
        RuleProblemsError, match=r"Gotee.*\(2 more: 'stylematch-batch rules check' lists them\)"
    ) as caught:
        load_text(tmp_path, text)
    assert [re.search(r"line (\d+).*unknown \w+ '(\w+)'", one).groups() for one in caught.value.problems] == [
        ("9", "Gotee"),
        ("18", "Parti"),
        ("27", "Cote"),
    ]
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.problems) == (str(caught.value), caught.value.problems)
    assert again.readable == caught.value.readable
    assert [rule.styles for rule in again.readable] == [("Plain",), ("Rest",)]


def test_a_rule_that_the_ones_before_it_take_together_is_refused(tmp_path):
    text = '[[rules]]\nstyle = "A"\nall = ["Male"]\nitems = ["Bag"]\n'
    text += '[[rules]]\nstyle = "B"\nnot = ["Male"]\nitems = ["Bag"]\n\n'
    with pytest.raises(UserError, match="line 11, rule 3 'C', key style: the rules before it together take every face"):
        load_text(tmp_path, text + '[[rules]]\nstyle = "C"\nitems = ["Bag"]\n')


def test_rules_that_nobody_comes_by_are_named_beside_all_other_problems(tmp_path):
    rules = [
        ('"Warm"', 'all = ["Smiling"]', '["Cot"]'),  # a bad item: whom it takes is known all the same
        ('"Blurry"', 'all = ["Smilng", "Young"]', '["Bag"]'),  # whom it takes is not known
        ('"Young at heart"', 'all = ["Young"]', '["Bag"]'),  # so it may not be said to take this one's
        ('"Late"', 'all = ["Smiling", "Bald"]', '["Bag"]'),
        ('"Last"', "", '["Ba"]'),
    ]
    text = "".join(f"[[rules]]\nstyle = {style}\n{asks}\nitems = {items}\n\n" for style, asks, items in rules)
    with pytest.raises(RuleProblemsError) as caught:
        load_text(tmp_path, text)
    told = [re.search(r"line (\d+), rule (\d+) .*: (.*)", one).groups() for one in caught.value.problems]
    assert [(line, rule) for line, rule, _ in told] == [("4", "1"), ("8", "2"), ("18", "4"), ("24", "5")]
    assert told[2][2] == "rule 1 (Smiling) always wins over this one; put this rule before it"


def problems_of(tmp_path, text) -> list[tuple[int, str, str]]:
    """Line, key and sentence of all that is wrong with a text."""
    with pytest.raises(RuleProblemsError) as caught:
        load_text(tmp_path, text)
    told = [re.search(r"line (\d+).*?, key ([\w.]+): (.*)", one).groups() for one in caught.value.problems]
    return [(int(line), key, sentence) for line, key, sentence in told]


REST = '[[rules]]\nstyle = "Rest"\nitems = ["Bag"]\n'


@pytest.mark.parametrize(
    ("wins", "late"),
    [
        ('items = ["Bag"]', 'itms = ["Bag"]'),
        ('items = ["Bag"]\nweight = 0', 'items = ["Bag"]\nfoo = 1'),
        ('items = "Bag"', 'items = ["Bag"]\ntags = "x"'),
        ('items = ["Bag"]\ntags = "x"', 'items = "Bag"'),
        ("", 'items = ["Bag"]\nweight = 0'),
    ],
)
def test_a_rule_is_unreachable_whatever_else_is_wrong_with_it_or_the_one_that_wins(tmp_path, wins, late):
    text = f'[[rules]]\nstyle = "A"\nall = ["Smiling"]\n{wins}\n[[rules]]\nall = ["Smiling", "Bald"]\n{late}\n{REST}'
    found = problems_of(tmp_path, text)
    assert any(sentence.startswith("rule 1 (Smiling) always wins over this one") for _, _, sentence in found), found
    assert ("style", "this key is missing; every rule needs a style and its items") in [one[1:] for one in found]


def test_a_rule_with_an_unknown_key_may_ask_for_more_so_it_beats_none(tmp_path):
    text = '[[rules]]\nstyle = "A"\nall = ["Smiling"]\nnott = ["Bald"]\nitems = ["Bag"]\n'
    text += f'[[rules]]\nstyle = "B"\nall = ["Smiling", "Bald"]\nitems = ["Bag"]\n{REST}'
    assert [(line, key) for line, key, _ in problems_of(tmp_path, text)] == [(4, "nott")]
    text = text.replace('all = ["Smiling"]\n', "")
    assert [(line, key) for line, key, _ in problems_of(tmp_path, text)] == [(3, "nott")]


def test_no_problem_of_a_rule_hides_its_others(tmp_path):
    text = '[[rules]]\nstyle = 3\nall = "Bald"\nany = ["Yung", 4]\nitems = [5, "Bga"]\nweight = 0\n'
    text += f'tags = {{ usage = "x", saison = ["Summer"] }}\n{REST}'
    assert [one[:2] for one in problems_of(tmp_path, text)] == [
        (2, "style"),
        (3, "all"),
        (4, "any"),
        (4, "any"),
        (5, "items"),
        (5, "items"),
        (6, "weight"),
        (7, "tags.usage"),
        (7, "tags.saison"),
    ]


@pytest.mark.parametrize(
    ("split", "wrong"),
    [
        ("[splits.Male]\npresent = 3\nabsent = 4\n", [(2, "splits.Male.present"), (3, "splits.Male.absent")]),
        ('[splits.Male]\npresent = "X"\nabsent = "X"\n', [(1, "splits.Male")]),
        ('[splits.Male]\npresent = "Male"\n\n', [(1, "splits.Male")]),
        ("splits = 3\n\n\n", [(1, "splits")]),
        ("splits.Male = 3\nname = 4\n\n", [(1, "splits.Male"), (2, "name")]),
    ],
)
def test_a_broken_split_hides_nothing_and_its_rules_are_not_to_blame(tmp_path, split, wrong):
    text = '[[rules]]\nstyle = "A"\nall = ["Smiling"]\nsplit = "Male"\nitems.Male = ["Bga"]\nitems.Female = ["Bag"]\n'
    text += f'[[rules]]\nstyle = "B"\nall = ["Yung"]\nsplit = "Mal"\nitems = ["Bag"]\n{REST}'
    unknown = [] if split.startswith("splits = 3") else [(13, "split")]
    found = [one[:2] for one in problems_of(tmp_path, split + text)]
    assert found == [*wrong, (8, "items.Male"), (12, "all"), *unknown]


def test_a_style_of_a_split_that_can_never_be_is_refused(tmp_path):
    rule = '[[rules]]\nstyle = "Men"\nall = ["Male"]\nitems = ["Bag"]\n\n'
    with pytest.raises(UserError, match=re.escape("key split: 'Bold Male' can never be, since rule 1 (Male) always")):
        load_text(tmp_path, SMALL.replace("[[rules]]", rule + "[[rules]]", 1))


def test_rules_too_entangled_to_be_evaluated_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("stylematch.style.diagram.MAX_NODES", 3)
    with pytest.raises(UserError, match=r"key rules: the rules share too many attributes"):
        load_text(tmp_path, FULL)


def test_the_example_of_the_docs_is_a_rule_set(tmp_path, repository):
    page = (repository / "docs" / "how-it-works" / "own-rules.md").read_text(encoding="utf-8")
    rules = load_text(tmp_path, re.search(r"```toml\n(.*?)```", page, re.DOTALL)[1])
    assert rules.styles == ("Black Tie Male", "Black Tie Female", "Garden Party", "Come As You Are")


# The wardrobe

NOT_WANTED = {"Attractive", "Chubby", "Double_Chin", "Big_Nose", "Big_Lips", "Pale_Skin", "Narrow_Eyes"}
WARDROBES = ("wardrobe", "wardrobe-neutral")


@pytest.mark.parametrize("name", WARDROBES)
def test_the_wardrobe_rates_no_body_and_names_only_what_there_is(name):
    rules = load_rules(name, attribute_names=ATTRIBUTES, categories=CLASSES)
    assert rules.name == name
    assert len(rules.styles) >= 10
    assert not NOT_WANTED & set(rules.attributes)
    for style in rules.styles:
        assert len(rules.items(style)) >= 3
        assert {"usage", "baseColour"} <= set(rules.tags(style)) <= set(TAGS)


def test_the_neutral_wardrobe_knows_neither_gender_nor_age():
    rules = load_rules("wardrobe-neutral", attribute_names=[n for n in ATTRIBUTES if n not in ("Male", "Young")])
    assert all("gender" not in rules.tags(style) for style in rules.styles)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", WARDROBES)
def test_no_style_of_the_wardrobe_is_a_catch_all_or_empty(shared_data, name):
    counts = dict(apply_rules(shared_data / "celeba" / "labels_full.parquet", name))
    people = sum(counts.values())
    assert people == 202_599
    assert all(0.02 <= count / people <= 0.25 for count in counts.values()), counts


@pytest.mark.shared_data
@pytest.mark.parametrize("name", WARDROBES)
def test_shrunk_true_labels_give_about_the_true_shares(shared_data, name):
    """Probabilities that are calibrated and sure (0.02 or 0.98) leave the styles' shares about where they are."""
    rules = load_rules(name, attribute_names=ATTRIBUTES)
    labels = read_labels(shared_data / "celeba" / "labels_full.parquet", rules)[::20]
    shares = np.bincount(rules.hard(labels), minlength=len(rules.styles)) / len(labels)
    np.testing.assert_allclose(rules.soft(np.where(labels, 0.98, 0.02)).mean(axis=0), shares, atol=0.04)


# Checking a set


def faces_of(*present: set[str]) -> np.ndarray:
    return np.array([[name in names for name in ATTRIBUTES] for names in present])


def test_a_check_counts_styles_before_and_after_priority(tmp_path):
    rules = load_text(tmp_path, FULL)
    labels = faces_of({"Bald", "Male"}, {"Goatee"}, {"Young", "Smiling", "Bangs"}, set(), {"Bald", "Smiling"})
    checked = count_rules(rules, labels, "five faces")
    assert (checked.faces, checked.counts, checked.holding) == (5, (1, 1, 1, 2), (1, 1, 1, 5))
    assert checked.overlaps == ()
    classic = count_rules(CLASSIC, faces_of({"Black_Hair", "Smiling", "Wearing_Earrings", "Young"}, {"Young"}), "two")
    assert classic.overlaps == (("Sunny Chic Female", "Casual", 1),)
    assert "  Sunny Chic Female + Casual" in "\n".join(classic.lines())
    assert any(line.startswith("styles that nobody here has: Rugged Casual Male, ") for line in classic.lines())
    nobody = count_rules(CLASSIC, np.zeros((0, len(ATTRIBUTES)), np.bool_), "nobody")
    assert nobody.counts == (0,) * 12
    assert nobody.lines()


def test_the_check_command_needs_no_data(tmp_path):
    result = call("rules", "check", "wardrobe")
    assert result.code == 0, result.err
    assert "14 styles of rule set 'wardrobe' by 16 attributes, on 11,838 faces of" in result.out
    shares = [float(share) for share in re.findall(r"^\w[\w ]+? +[\d,]+ +([\d.]+) %", result.out, re.MULTILINE)]
    assert len(shares) == 14
    assert sum(shares) == pytest.approx(100, abs=1)
    for line in ("unreachable rules: none", "unknown names: none", "styles that nobody here has: none"):
        assert line in result.out.splitlines()


def test_the_check_command_lists_every_problem(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(FULL.replace('"Goatee"', '"Gotee"').replace('["Coat"]', '["Cote"]'))
    result = call("rules", "check", path)
    assert result.code == 2
    counted, problems = result.out.split("problems:\n")
    assert [re.search(r"line \d+, rule \d '\w+', key \w+", line)[0] for line in problems.splitlines()] == [
        "line 9, rule 1 'Bold', key any",
        "line 27, rule 2 'Plain', key items",
    ]
    assert counted.startswith("of the 2 rules that can be read:\n2 styles of rule set 'mine' by 4 attributes")
    assert result.sentence.startswith(f"stylematch-batch: 2 problems in {path}; ")
    assert result.sentence.endswith("until they are mended")
    path.write_text("name = [[")
    assert call("rules", "check", path).sentence.endswith("; 'score' refuses it until it is mended")


def test_a_check_counts_the_rules_that_can_be_read_beside_the_problems(tmp_path):
    people = [True, True, True, False]
    columns = all_columns([False] * 4, Smiling=people, Bald=[True, False, False, False])
    labels = write_labels(tmp_path / "few.parquet", columns)
    path = tmp_path / "mine.toml"
    rules = [
        ("Warm", 'all = ["Smiling"]', '["Cot"]'),
        ("Odd", 'all = ["Yung"]', '["Bag"]'),
        ("Smooth", 'all = ["Bald"]', '["Bag"]'),
        ("Rest", 'any = ["Yung"]', '["Bag"]'),
    ]
    path.write_text("".join(f'[[rules]]\nstyle = "{style}"\n{asks}\nitems = {items}\n' for style, asks, items in rules))
    result = call("rules", "check", path, "--labels", labels)
    assert result.code == 2
    told, problems = result.out.split("problems:\n")
    found = re.findall(r"^(\S.*?) {2,}(\d+) +([\d.]+) % +(\d+)$", told, re.MULTILINE)
    assert found == [("Warm", "3", "75.0", "3"), ("Smooth", "0", "0.0", "1"), ("(none of these)", "1", "25.0", "4")]
    assert "Warm + Smooth" in told
    assert "2 styles of rule set 'mine'" in told  # whom no rule takes has no style
    assert "styles that nobody here has: Smooth\n" in told
    assert "unreachable rules: none" not in told
    assert len(problems.splitlines()) == 4
    assert "4 problems" in result.sentence

    everybody = write_labels(tmp_path / "all.parquet", all_columns([False] * 2, Smiling=[True] * 2, Bald=[True] * 2))
    told = call("rules", "check", path, "--labels", everybody).out
    assert "styles that nobody here has: Smooth\n" in told  # and not the people that are left, of whom there are none

    result = call("rules", "check", path, "--labels", tmp_path / "none.parquet")
    assert "nobody is counted: labels file" in result.out
    assert "4 problems" in result.sentence
    path.write_text(path.read_text().replace('"Smiling"', '"Smilng"').replace('"Bald"', '"Bold"'))
    assert "no rule can be read, so nobody is counted\n" in call("rules", "check", path, "--labels", labels).out


def test_the_check_command_counts_the_given_faces(tmp_path):
    path = write_labels(tmp_path / "few.parquet", all_columns([True, False], Male=[False, False]))
    result = call("rules", "check", "classic", "--labels", path)
    assert result.code == 0, result.err
    assert f"on 2 faces of {path}" in result.out
    assert re.search(r"^Rugged Casual Female +1 +50\.0 % +1$", result.out, re.MULTILINE)
    assert call("rules", "check", "classic", "--labels", tmp_path / "none.parquet").code == 2
    assert call("rules", "check", tmp_path / "none.toml", "--labels", path).code == 2


@pytest.mark.shared_data
def test_counts_on_all_of_celeba(shared_data):
    assert apply_rules(shared_data / "celeba" / "labels_full.parquet", "classic") == COUNTS


@pytest.mark.shared_data
def test_counting_celeba_is_quick_and_imports_no_pandas(shared_data):
    program = (
        "import sys; from pathlib import Path; from stylematch.pipelines.rules import apply_rules;"
        "print(len(apply_rules(Path(sys.argv[1]), 'classic')),"
        "'pandas' in sys.modules, 'faiss' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(shared_data / "celeba" / "labels_full.parquet")]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert output.split() == ["12", "False", "False"]
    # Of the processor's time: the clock's follows whatever else the machine does.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2


@pytest.mark.parametrize(
    "encode",
    [
        lambda labels: pa.array(labels),
        lambda labels: pa.array(labels.astype(np.int64)),
        lambda labels: pa.array(labels.astype(np.uint8)),
        lambda labels: pa.array(np.where(labels, 1, -1).astype(np.int8)),
    ],
    ids=["bool", "0/1", "unsigned", "-1/1"],
)
def test_all_codings_of_labels_count_the_same(tmp_path, encode):
    labels = np.random.default_rng(1).random((500, len(ATTRIBUTES))) < 0.7
    columns = {name: encode(labels[:, place]) for place, name in enumerate(ATTRIBUTES)}
    path = tmp_path / "labels.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=77)
    counted = apply_rules(path, "classic")
    expected = [notebook_style(dict(zip(ATTRIBUTES, face, strict=True))) for face in labels.tolist()]
    assert dict(counted) == {style: expected.count(style) for style in CLASSIC.styles}
    assert counted == sorted(counted, key=lambda pair: (-pair[1], CLASSIC.styles.index(pair[0])))


def test_only_the_columns_that_rules_use_are_needed(tmp_path):
    path = write_labels(
        tmp_path / "few.parquet", {name: [True, False] for name in CLASSIC.attributes} | {"Bald": ["?", "?"]}
    )
    assert dict(apply_rules(path, "classic"))["Formal"] == 1


def test_no_rows_give_zero_counts_in_rule_order(tmp_path):
    path = write_labels(tmp_path / "none.parquet", all_columns(pa.array([], pa.bool_())))
    assert apply_rules(path, "classic") == [(style, 0) for style in CLASSIC.styles]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([1, None, 1]), "column Smiling, row 2 has no value"),
        (pa.array([1, 0, 2]), "column Smiling, row 3 is 2; labels must be booleans, 0 and 1, or -1 and 1"),
        (pa.array([0, -1, 1]), "column Smiling, row 1 is 0; labels must be -1 and 1 (there is a -1"),
        (pa.array([0.0, 1.0, 1.0]), "column Smiling is of type double"),
        (pa.array(["yes", "no", "no"]), "column Smiling is of type string"),
        (pa.array([2**64 - 1, 1, 1], pa.uint64()), "row 1 is 18446744073709551615"),
    ],
)
def test_values_that_are_no_labels_are_named(tmp_path, column, expected):
    path = write_labels(tmp_path / "odd.parquet", all_columns(pa.array([True] * 3), Smiling=column))
    with pytest.raises(UserError, match=re.escape(expected)) as caught:
        apply_rules(path, "classic")
    assert "odd.parquet" in str(caught.value)


def test_files_that_are_no_labels_are_named(tmp_path):
    with pytest.raises(UserError, match="is no file"):
        apply_rules(tmp_path / "missing.parquet", "classic")
    text = tmp_path / "text.parquet"
    text.write_text("Smiling\n1\n" * 10)
    with pytest.raises(UserError, match=r"text\.parquet' cannot be read as Parquet"):
        apply_rules(text, "classic")
    whole = write_labels(tmp_path / "whole.parquet", all_columns([True]))
    (tmp_path / "cut.parquet").write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        apply_rules(tmp_path / "cut.parquet", "classic")
    columns = all_columns([True])
    del columns["Young"], columns["Male"], columns["Blurry"]
    with pytest.raises(UserError, match="lacks columns that rule set 'classic' uses: Male, Young;"):
        apply_rules(write_labels(tmp_path / "few.parquet", columns), "classic")
