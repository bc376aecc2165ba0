"""Rule sets: reading, refusing, soft and hard evaluation, and counting styles in a labels file."""

import hashlib
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stylematch.data.celeba import ATTRIBUTES
from stylematch.data.fashion_mnist import CLASSES
from stylematch.errors import UserError
from stylematch.pipelines.rules import apply_rules
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


@settings(deadline=None)
@given(probability_rows)
def test_soft_rows_sum_to_one(probabilities):
    styles = CLASSIC.soft(probabilities)
    assert styles.dtype == np.float64
    assert (styles >= 0).all()
    np.testing.assert_allclose(styles.sum(axis=1), 1.0, rtol=0, atol=1e-12)


@settings(deadline=None)
@given(label_rows)
def test_hard_is_the_notebooks_chain_and_soft_agrees_at_zero_and_one(labels):
    expected = [notebook_style(dict(zip(ATTRIBUTES, map(bool, face), strict=True))) for face in labels]
    assert [CLASSIC.styles[index] for index in CLASSIC.hard(labels)] == expected
    certain = CLASSIC.soft(labels.astype(np.float32))
    np.testing.assert_array_equal(certain, np.eye(len(CLASSIC.styles))[CLASSIC.hard(labels)])


@settings(deadline=None)
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


@settings(deadline=None)
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
    assert rules.rule_text("Plain") == "otherwise"
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
        ('"Smiling"', '"Smilling"', "rule 1 'Bold' (line 6), key all: unknown attribute 'Smilling', did"),
        ('"Smiling"', '"smiling"', "did you mean 'Smiling'?"),
        ('"Smiling"', '"Q"', "key all: unknown attribute 'Q'; known: 5_o_Clock_Shadow, Arched_Eyebrows"),
        ('["Coat"]', '["Coats"]', "rule 2 'Plain' (line 13), key items: unknown category 'Coats', did"),
        ('items.Male = ["Bag"]', 'items.Male = ["Bagg"]', "key items.Male: unknown category 'Bagg', did"),
        ('items.Male = ["Bag"]', 'items.Man = ["Bag"]', "key items.Man: there is no such key"),
        ('items.Male = ["Bag"]\n', "", "key items.Male: this list is missing"),
        ('items.Male = ["Bag"]', 'items.Male = ["Bag", "Bag"]', "key items.Male: names 'Bag' twice"),
        ('items.Male = ["Bag"]', "items.Male = []", "key items.Male: the list is empty"),
        ('items = ["Coat"]', 'items = "Coat"', "key items: must be a list of category names, not 'Coat'"),
        ('items = ["Coat"]', "items = [3]", "not 3"),
        ('items = ["Coat"]', "", "rule 2 'Plain' (line 13), key items: this key is missing"),
        ('style = "Plain"', "", "rule 2 (line 13), key style: this key is missing"),
        ('style = "Plain"', 'style = "a\\nb"', "key style: must be a name of visible characters"),
        ('style = "Plain"', 'style = "Bold Male"', "key style: 'Bold Male' is already rule 1's style"),
        ('all = ["Bald", "Smiling"]', "all = []", "key all: the list is empty; leave `all` out"),
        ('all = ["Bald", "Smiling"]', "", "rule 1 'Bold' (line 6), key all: a rule without `all`"),
        ('all = ["Bald", "Smiling"]', 'all = ["Bald", "Bald"]', "key all: names 'Bald' twice"),
        ('all = ["Bald", "Smiling"]', 'all = ["Bald", "Male"]', "key split: 'Male' is also in `all`"),
        ('all = ["Bald"', 'al = ["Bald"', "key al: there is no such key, did you mean 'all'?"),
        ('style = "Plain"', 'style = "Plain"\nall = ["Young"]', "key all: the last rule asks for attributes"),
        ('split = "Male"', 'split = "Mal"', "key split: unknown split 'Mal', did you mean 'Male'?"),
        ("[splits.Male]", "[splits.Malle]", "key splits: unknown attribute 'Malle', did you mean 'Male'?"),
        ('absent = "Female"', 'absent = "Male"', "key splits.Male: both endings are 'Male'"),
        ('absent = "Female"', "", "key splits.Male: it needs the two endings"),
        ("[splits.Male]", 'nam = "x"\n[splits.Male]', "key nam: there is no such key, did you mean 'name'?"),
        ("[[rules]]", "[rules]", "is not valid TOML"),
        ('style = "Plain"', "style = ", "is not valid TOML: Invalid value (at line 14"),
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


def test_lines_are_left_out_where_headers_cannot_be_counted(tmp_path):
    with pytest.raises(UserError, match=re.escape("rule 1 'A', key items: unknown category 'Hat'")):
        load_text(tmp_path, 'rules = [{style = "A", items = ["Hat"]}]')


def test_categories_are_not_checked_where_none_are_given(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SMALL.replace('"Coat"', '"Kilt"'))
    assert load_rules(path, attribute_names=ATTRIBUTES).items("Plain") == ("Kilt",)


def test_sources_that_are_no_rule_set(tmp_path):
    with pytest.raises(UserError, match=r"'clasic' is no file and no shipped rule set \(classic\)"):
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


names = st.sampled_from(ATTRIBUTES)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sets(names, min_size=1, max_size=3), st.booleans()), max_size=6), st.data())
def test_any_set_is_refused_or_agrees_with_a_plain_loop(tmp_path_factory, wanted, data):
    """Sets made at random: refused where they should be, else evaluated as a loop over what was made."""
    lines = ['[splits.Young]\npresent = "Young"\nabsent = "Old"\n']
    for number, (attributes, split) in enumerate(wanted):
        listed = ", ".join(f'"{name}"' for name in sorted(attributes))
        lines.append(f'[[rules]]\nstyle = "S{number}"\nall = [{listed}]\nitems = ["Bag"]')
        lines.append('split = "Young"' if split else "")
    lines.append('[[rules]]\nstyle = "Rest"\nitems = ["Bag"]')
    refused = any(split and "Young" in attributes for attributes, split in wanted) or any(
        before[0] <= later[0] for at, later in enumerate(wanted) for before in wanted[:at]
    )
    directory = tmp_path_factory.mktemp("sets")
    if refused:
        with pytest.raises(UserError, match=r"always wins|could never be"):
            load_text(directory, "\n".join(lines))
        return
    rules = load_text(directory, "\n".join(lines))
    labels = data.draw(label_rows)
    for face, chosen in zip(labels, rules.hard(labels), strict=True):
        present = {name for name, value in zip(ATTRIBUTES, face, strict=True) if value}
        expected = "Rest"
        for number, (attributes, split) in reversed(list(enumerate(wanted))):
            if attributes <= present:
                expected = f"S{number}" + ((" Young" if "Young" in present else " Old") if split else "")
        assert rules.styles[chosen] == expected


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
    started = time.perf_counter()
    output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]).stdout
    assert output.split() == ["12", "False", "False"]
    assert time.perf_counter() - started < 2


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
