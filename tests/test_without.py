"""``--without``: attributes that are switched off are in no rule, no table and no gallery."""

import pandas as pd
import pytest
from program import EXAMPLES, call, manifest, score, scored, table
from service import JPEG, example, load_scorer, serving

from stylematch import Stylematch
from stylematch.data.celeba import ATTRIBUTES
from stylematch.settings.faults import OPTIONS
from stylematch.settings.load import validated
from stylematch.settings.score import ScoreSettings
from stylematch.style.rule_problems import RuleProblemsError
from stylematch.style.rules import load_rules

GROUP = EXAMPLES / "group.jpg"
RULES = """
[splits.Young]
present = "young"
absent = "old"

[[rules]]
style = "A"
any = ["Smiling",
  "Male"]
items = ["Shirt"]

[[rules]]
style = "B"
all = ["Eyeglasses"]
split = "Young"
items = ["Shirt"]

[[rules]]
style = "C"
items = ["Shirt"]
"""


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    return scored(EXAMPLES, tmp_path_factory.mktemp("without") / "out", "--report", "--without", "Young, Male")


@pytest.fixture(scope="module")
def neutral(tmp_path_factory):
    return scored(EXAMPLES, tmp_path_factory.mktemp("neutral") / "out", "--rules", "wardrobe-neutral")


def test_no_table_and_no_page_holds_what_is_switched_off(without):
    faces = table(without, "faces")
    assert [name for name in faces.column_names if name in ATTRIBUTES] == [
        name for name in ATTRIBUTES if name not in ("Male", "Young")
    ]
    texts = [str(table(without, name).to_pylist()) for name in ("faces", "recommendations")]
    texts += [path.read_text() for path in (without / "report" / "data").glob("page-*.js")]
    assert len(texts) > 2
    for text in texts:
        assert "Male" not in text
        assert "Young" not in text
        assert "Smiling" in text


def test_nothing_else_changes(without, neutral):
    assert manifest(without)["settings"]["rules"] == "wardrobe-neutral"
    assert manifest(without)["settings"]["without"] == ["Male", "Young"]
    assert manifest(without)["run_id"] != manifest(neutral)["run_id"]
    faces, whole = table(without, "faces"), table(neutral, "faces")
    assert faces.equals(whole.drop_columns(["Male", "Young"]))
    items, same = table(without, "recommendations"), table(neutral, "recommendations")
    assert items.drop_columns(["run_id"]).equals(same.drop_columns(["run_id"]))


def test_everything_may_be_switched_off(tmp_path):
    rules = tmp_path / "plain.toml"
    rules.write_text('[[rules]]\nstyle = "Plain"\nitems = ["Shirt"]\n')
    out = tmp_path / "out"
    run = scored(GROUP, out, "--report", "--rules", rules, "--without", ",".join(ATTRIBUTES))
    assert (run / "report" / "index.html").is_file()
    assert not {*ATTRIBUTES} & {*table(run, "faces").column_names}


def test_a_rule_that_asks_for_it_is_refused_with_its_line(tmp_path):
    result = score(EXAMPLES, tmp_path / "out", "--rules", "wardrobe", "--without", "Male,Young")
    assert result.code == 2
    assert "'Male', which --without switches off" in result.sentence
    assert "rule 6 'Vintage Gentleman', key all" in result.sentence
    assert "wardrobe-neutral" in result.sentence
    assert not (tmp_path / "out").exists()


def test_the_check_lists_the_rules_that_ask_for_it(tmp_path):
    refused = score(EXAMPLES, tmp_path / "out", "--without", "Smiling")
    assert "(1 more: 'stylematch-batch rules check --without Smiling' lists them)" in refused.sentence
    checked = call("rules", "check", "wardrobe-neutral", "--without", "Smiling")
    assert checked.code == 2
    assert checked.out.count("which --without switches off") == 2
    assert "2 problems in wardrobe-neutral" in checked.sentence
    assert call("rules", "check", "wardrobe-neutral", "--without", "Male,Young").code == 0
    assert "did you mean Male?" in call("rules", "check", "wardrobe-neutral", "--without", "male").sentence


def test_every_rule_that_asks_for_it_is_named(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(RULES)
    assert load_rules(path, attribute_names=ATTRIBUTES, without=("Bald",)).styles == ("A", "B young", "B old", "C")
    with pytest.raises(RuleProblemsError) as caught:
        load_rules(path, attribute_names=ATTRIBUTES, without=("Male", "Young"))
    first, second = caught.value.problems
    assert "line 8, rule 1 'A', key any: asks for 'Male'" in first
    assert "line 15, rule 2 'B', key split: asks for 'Young'" in second


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("Mael", "did you mean Male?"),
        ("xyz", "it has 5_o_Clock_Shadow"),
        ("", "a name is empty"),
        ("Male,", "a name is empty"),
    ],
)
def test_a_wrong_name_is_refused(tmp_path, names, message):
    result = score(EXAMPLES, tmp_path / "out", "--without", names)
    assert result.code == 2
    assert message in result.sentence


def test_the_order_of_names_changes_no_run():
    one = validated(ScoreSettings, OPTIONS, without=["Young", "Male", "Young"], rules=None)
    other = ScoreSettings(without=("Male", "Young"))
    assert one.naming() == other.naming()
    assert one.rules == other.rules == "wardrobe-neutral"
    assert ScoreSettings(without=("Bald",), rules="classic").rules == "classic"
    assert ScoreSettings().rules == "wardrobe"


@pytest.mark.slow
def test_a_night_switches_off_the_same(without, tmp_path):
    job = tmp_path / "job.toml"
    job.write_text(
        f'photos = "{EXAMPLES}"\nout = "{tmp_path / "nights"}"\n[score]\nwithout = ["Male", "Young"]\ndevice = "cpu"\n'
        "workers = 1\n"
    )
    result = call("export", job, "--date", "2026-03-01")
    assert result.code == 0, result.err
    faces = table(tmp_path / "nights" / "snapshots" / "2026-03-01", "faces")
    assert faces.drop_columns(["snapshot_date"]).equals(table(without, "faces"))
    query = ("query", tmp_path / "nights", "SELECT count(*) AS n, min(snapshot_date) AS night FROM faces_history")
    assert call(*query, "--format", "csv").out.split() == ["n,night", f"{len(faces)},2026-03-01"]
    columns = call("query", tmp_path / "nights", "DESCRIBE gallery_faces", "--format", "csv").out
    assert "Smiling" in columns
    assert "Male" not in columns


def test_a_notebook_sees_nothing_of_what_is_switched_off(without):
    matcher = Stylematch.load(without="Young, Male", device="cpu", threads=1)
    assert set(ATTRIBUTES) - set(matcher.attributes) == {"Male", "Young"}
    faces = matcher.score(EXAMPLES)
    wanted = table(without, "faces").to_pandas()
    assert list(faces.columns) == list(wanted.columns)
    pd.testing.assert_frame_equal(faces.drop(columns="path"), wanted.drop(columns="path"), check_exact=True)
    for _, row in faces.iterrows():
        told = matcher.explain(row["photo_id"], row["face"])
        assert told.styles["fused"].max() == row["style_score"]
        assert {"Male", "Young"}.isdisjoint([*told.evidence["attribute"], *told.neighbours.columns])
        assert "Smiling" in told.neighbours.columns
    with pytest.raises(RuleProblemsError, match="which --without switches off"):
        Stylematch.load(without=["Male"], rules="wardrobe", device="cpu")


def test_the_service_answers_nothing_of_what_is_switched_off(without, example_run):
    wanted = {row["path"]: row for row in table(without, "faces").to_pylist() if row["face"] == 0}
    scorer = load_scorer(without=("Male", "Young"))
    with serving(scorer, run=without) as service:
        answer = service.ask("POST", "/score", content=example("astronaut.jpg"), headers=JPEG).json()["faces"][0]
        told = service.ask("GET", "/info").json()
    row = wanted["astronaut.jpg"]
    assert answer["attributes"] == {name: row[name] for name in told["attributes"]}
    assert set(ATTRIBUTES) - set(told["attributes"]) == {"Male", "Young"}
    assert (told["rules"], answer["style"]["why"]) == ("wardrobe-neutral", row["why"])
    refused = call("serve", "--port", 0, "--device", "cpu", "--without", "Male,Young", "--run", example_run)
    assert refused.code == 2
    assert "its gallery shows Male, Young, which --without switches off" in refused.sentence
    assert "a name is empty" in call("serve", "--port", 0, "--without", "").sentence
