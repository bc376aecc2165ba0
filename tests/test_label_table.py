"""Tables of labelled pictures: what their cells mean, which rows are left out, and what a training makes of them."""

import csv
import json
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import write_label_table

from stylematch.cli.program import run
from stylematch.data.label_table import LabelColumns, read_label_table
from stylematch.errors import UserError
from stylematch.vision.bundle import Bundle
from stylematch.vision.model_pictures import picture_reader

COLUMNS = LabelColumns(("kind", "type"), ("hooded", "lined"))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_label_table(tmp_path_factory.mktemp("table"))


@pytest.fixture
def pictures(table, tmp_path):
    """A folder of the same pictures, for tables of a test's own."""
    shutil.copytree(table.parent / "pictures", tmp_path / "pictures")
    return tmp_path


def written(folder, header, *rows):
    path = folder / "mine.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_columns_become_groups_and_empty_cells_unknown_labels(table):
    read = read_label_table(table, COLUMNS)
    assert len(read) == 60
    assert read.names[7] == "pictures/7.png"
    assert [(g.name, g.kind, g.labels) for g in read.schema.groups] == [
        ("kind", "categorical", ("coat", "dress", "shirt")),
        ("type", "categorical", ("1", "2")),
        ("tags", "binary", ("hooded", "lined")),
    ]
    assert read.labels["kind"].tolist() == [number % 3 for number in range(60)]
    assert read.labels["type"].tolist() == [(0, 1, -1)[number // 2 % 3] for number in range(60)]
    assert read.labels["tags"].dtype == np.int8
    assert read.labels["tags"].tolist() == [[(1, 0, -1)[number // 3 % 3], number % 2] for number in range(60)]
    assert read.parts is None


@pytest.mark.parametrize("missing", [np.nan, None])
def test_parquet_says_the_same(table, tmp_path, missing):
    frame = pd.read_csv(table, keep_default_na=False)
    frame["type"] = [missing if cell == "" else float(cell) for cell in frame["type"]]  # as pandas reads gaps
    frame["lined"] = frame["lined"] == 1
    frame["hooded"] = [None if cell == "" else cell.upper() for cell in frame["hooded"]]
    path = tmp_path / "labels.parquet"
    frame.to_parquet(path)
    read, from_csv = read_label_table(path, COLUMNS, table.parent), read_label_table(table, COLUMNS)
    assert read.names == from_csv.names
    assert read.classes == from_csv.classes
    for name, values in from_csv.labels.items():
        np.testing.assert_array_equal(read.labels[name], values)


def test_numbers_are_read_as_pandas_writes_them(pictures):
    """A column of whole numbers with gaps is one of floats in pandas, and so in its CSV."""
    frame = pd.DataFrame(
        {
            "image": [f"pictures/{number}.png" for number in range(4)],
            "type": [1, 2, None, 10],
            "size": pd.Series([10, 9, 9, 10]).astype("category"),
            "hooded": [True, None, False, True],
            "lined": [1, 0, None, 1],
        }
    )
    frame["hooded"] = frame["hooded"].astype("boolean")
    frame.to_csv(pictures / "a.csv", index=False)
    frame.to_csv(pictures / "b.csv", index=False, sep=";", encoding="utf-8-sig", lineterminator="\r\n")
    frame.to_parquet(pictures / "c.parquet")
    for name in ("a.csv", "b.csv", "c.parquet"):
        read = read_label_table(pictures / name, LabelColumns(("type", "size"), ("hooded", "lined")))
        assert read.classes == {"type": ("1", "2", "10"), "size": ("9", "10"), "tags": ("hooded", "lined")}
        assert read.labels["type"].tolist() == [0, 1, -1, 2]
        assert read.labels["tags"].tolist() == [[1, 1], [-1, 0], [0, -1], [1, 1]]


def test_every_row_is_kept_or_counted(pictures):
    (pictures / "link.png").symlink_to("/etc/hostname")
    path = written(
        pictures,
        "image,kind",
        "pictures/1.png,a",
        "pictures/1.png,b",  # the first is kept
        "./pictures//1.png,b",
        "pictures/none.png,a",
        "../outside.png,a",
        "link.png,a",
        ",a",
        "pictures/2.png,",  # no label
        "pictures/3.png,a,too many",
        "pictures/4.png,b",
    )
    read = read_label_table(path, LabelColumns(("kind",)))
    assert read.names == ("pictures/1.png", "pictures/4.png")
    assert {reason: count for reason, count in read.dropped.items() if count} == {
        "duplicate_name": 2,
        "missing_picture": 1,
        "outside_folder": 2,
        "no_image": 1,
        "no_label": 1,
        "malformed_row": 1,
    }
    assert len(read) + sum(read.dropped.values()) == 10


def test_a_copy_of_a_picture_is_left_out(pictures):
    shutil.copy(pictures / "pictures" / "1.png", pictures / "copy.png")
    (pictures / "gone.png").write_bytes(b"")
    path = written(pictures, "image,kind", "pictures/1.png,a", "copy.png,b", "pictures/2.png,b", "gone.png,a")
    read = read_label_table(path, LabelColumns(("kind",)))
    (pictures / "gone.png").unlink()  # in between
    kept = read.without_copies()
    assert kept.names == ("pictures/1.png", "pictures/2.png", "gone.png")
    assert kept.labels["kind"].tolist() == [0, 1, 0]
    assert kept.dropped["duplicate_picture"] == 1
    assert len(set(kept.contents)) == 3


def test_copies_do_not_make_a_class_frequent(pictures):
    rows = []
    for number in range(3):
        shutil.copy(pictures / "pictures" / "1.png", pictures / f"again-{number}.png")
        rows.append(f"again-{number}.png,rare")
    rows += [f"pictures/{number}.png,{'ab'[number % 2]}" for number in range(2, 8)]
    read = read_label_table(written(pictures, "image,kind", *rows), LabelColumns(("kind",)))
    kept = read.without_copies().without_rare(2)
    assert kept.classes["kind"] == ("a", "b")
    assert (kept.dropped["duplicate_picture"], kept.dropped["rare_label"]) == (2, 1)
    assert len(kept.contents) == len(kept.names) == 6


def test_pictures_are_found_by_another_column_or_by_their_name(pictures):
    path = written(pictures / "pictures", "id,file,kind", "5,6.png,a", "7,8.png,b")
    by_id = read_label_table(path, LabelColumns(("kind",)))
    by_column = read_label_table(path, LabelColumns(("kind",), image="file"))
    assert by_id.names == ("5.png", "7.png")
    assert by_column.names == ("6.png", "8.png")


def test_numbers_are_in_the_order_of_their_values(pictures):
    rows = [f"pictures/{number}.png,{label}" for number, label in enumerate((10, 9, -1, 2, 10))]
    read = read_label_table(written(pictures, "image,size", *rows), LabelColumns(("size",)))
    assert read.classes["size"] == ("-1", "2", "9", "10")
    assert read.labels["size"].tolist() == [3, 2, 0, 1, 3]


def test_rare_labels_become_unknown(pictures):
    rows = [f"pictures/{number}.png,{label}" for number, label in enumerate("abacab")]
    read = read_label_table(written(pictures, "image,kind", *rows), LabelColumns(("kind",))).without_rare(2)
    assert read.classes["kind"] == ("a", "b")
    assert read.labels["kind"].tolist() == [0, 1, 0, 0, 1]
    assert read.dropped["rare_label"] == 1


@pytest.mark.parametrize(
    ("header", "row", "columns", "sentence"),
    [
        ("image,kind", "pictures/1.png,a", COLUMNS, "has no column type; its columns are image, kind."),
        (
            "picture,kind",
            "pictures/1.png,a",
            LabelColumns(("kind",)),
            "Say which of them names the pictures: data.image_column",
        ),
        (
            "image,hooded",
            "pictures/1.png,maybe",
            LabelColumns((), ("hooded",)),
            "line 2, column hooded: 'maybe' is none",
        ),
        ("image,a,part", "pictures/1.png,x,later", LabelColumns(("a",), part="part"), "'later' is none of train, val"),
        ("image,a,part", "pictures/1.png,x,", LabelColumns(("a",), part="part"), "line 2, column part: '' is none of"),
        ("image,a", "pictures\\99.png,x", LabelColumns(("a",)), "the first of its pictures is said to be 'pictures"),
        ("image,a", "pictures/1.png," + 1001 * "x", LabelColumns(("a",)), "line 2, column a: a label of 1,001"),
        ("image,a", "pictures/1.png,x", LabelColumns(("image",)), "column image names the pictures"),
        ("image,a", "", LabelColumns(("a",)), ": no rows."),
    ],
)
def test_what_cannot_be_meant_names_the_place(pictures, header, row, columns, sentence):
    with pytest.raises(UserError) as error:
        read_label_table(written(pictures, header, row), columns)
    assert sentence in str(error.value)
    assert str(error.value).startswith((str(pictures), "There"))


# U+FFFD stands for what could not be read; a row that holds it was damaged before it came here.
CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n\ufffd"), max_size=6)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 70), CELLS), min_size=1, max_size=20))
def test_any_words_are_labels(tmp_path_factory, table, rows):
    path = tmp_path_factory.mktemp("words") / "mine.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "kind"), *((f"pictures/{number}.png", cell) for number, cell in rows)])
    first = {}
    for number, cell in rows:
        first.setdefault(number, cell.strip())
    wanted = {f"pictures/{number}.png": cell for number, cell in first.items() if number < 60 and cell}
    try:
        read = read_label_table(path, LabelColumns(("kind",)), table.parent)
    except UserError:
        assert not wanted
        return
    said = {name: read.classes["kind"][label] for name, label in zip(read.names, read.labels["kind"], strict=True)}
    assert said == wanted
    assert len(read) + sum(read.dropped.values()) == len(rows)


JOB = REPOSITORY / "jobs" / "own-labels.toml"


def trained(table, out, *changes):
    """Run a few steps of the job on a table; return the exit code."""
    given = [f"data.root='{table}'", f"out='{out}'", "model.backbone='squeezenet1_1'", *changes]
    return run(["train", str(JOB), "--smoke", *(part for change in given for part in ("--set", change))])


@pytest.fixture(scope="module")
def bundle(table, tmp_path_factory):
    """Of a job whose table says what is learned from; torch's modules have a method ``type``."""
    pytest.importorskip("lightning", reason="Lightning is not installed: pip install 'stylematch[train]'")
    frame = pd.read_csv(table, keep_default_na=False)
    frame["split"] = [("train", "val", "test")[min(number % 5, 2)] for number in range(len(frame))]
    path = table.parent / "split.csv"
    frame.rename(columns={"kind": "Größe 1-2"}).to_csv(path, index=False)
    out = tmp_path_factory.mktemp("run") / "run"
    assert trained(path, out, "data.groups=['Größe 1-2', 'type']", 'data.split="column"') == 0
    return out.with_name("run-smoke") / "bundle"


@pytest.mark.train
@pytest.mark.slow
def test_a_model_of_own_labels_is_measured_on_what_it_did_not_learn_from(bundle, table, tmp_path, capsys):
    figures = json.loads((bundle / "figures.json").read_text())
    assert set(figures["measured"]) == {"split test (its own)"}
    assert set(figures["measured"]["split test (its own)"]) == {"Größe 1-2", "type", "tags", "pictures"}
    assert run(["evaluate", str(bundle), str(table.parent / "split.csv"), "--out", str(tmp_path / "out")]) == 0
    measured = json.loads((tmp_path / "out" / "figures.json").read_text())["measured"]
    (title,) = measured
    assert title == "split.csv, not learned from"
    # A smoke test looks at 24 pictures of each part, and there are 36 of them.
    assert measured[title]["pictures"]["measured"] == 36
    assert measured[title]["tags"]["per_label"].keys() == {"hooded", "lined"}
    plots = sorted(path.name for path in (tmp_path / "out" / "plots").iterdir())
    assert "split-csv--not-learned-from-tags.png" in plots
    assert "Not for pictures of another kind" in (bundle / "MODEL_CARD.md").read_text()
    capsys.readouterr()


@pytest.mark.train
@pytest.mark.slow
def test_what_was_learned_is_known_by_its_contents(bundle, table, pictures, capsys):
    """Whatever the table is called that is measured, and whatever its pictures."""
    frame = pd.read_csv(table.parent / "split.csv", keep_default_na=False)
    (pictures / "pictures").rename(pictures / "elsewhere")
    frame["file"] = [f"elsewhere/{name.removeprefix('pictures/')}" for name in frame.pop("image")]
    frame.to_csv(pictures / "renamed.csv", index=False)
    arguments = ["evaluate", str(bundle), str(pictures / "renamed.csv"), "--out", str(pictures / "out")]
    assert run(arguments) == 2
    assert "--image-column of evaluate" in capsys.readouterr().err
    assert run([*arguments, "--image-column", "file"]) == 0
    (figures,) = json.loads((pictures / "out" / "figures.json").read_text())["measured"].values()
    assert figures["pictures"]["measured"] == 36
    assert run([*arguments, "--image-column", "none"]) == 2
    assert "has no column none" in capsys.readouterr().err
    assert run(["evaluate", str(bundle), str(pictures / "none.csv")]) == 2
    assert "There is no table at" in capsys.readouterr().err


@pytest.mark.train
@pytest.mark.slow
def test_one_tag_alone_and_a_category_are_learned_for_a_catalogue(table, tmp_path, capsys):
    pytest.importorskip("lightning", reason="Lightning is not installed: pip install 'stylematch[train]'")
    frame = pd.read_csv(table, keep_default_na=False).rename(columns={"kind": "category"})
    frame.to_csv(tmp_path / "labels.csv", index=False)
    images = str(table.parent)
    changes = ["data.groups=['category']", "data.tags=['lined']", f"data.images='{images}'"]
    assert trained(tmp_path / "labels.csv", tmp_path / "run", *changes) == 0
    bundle = tmp_path / "run-smoke" / "bundle"
    card = (bundle / "MODEL_CARD.md").read_text()
    assert "Predicting, yes or no, lined, of pictures like those" in card
    assert "labelled in a table" in card
    assert "Fashion-MNIST" not in card  # whose group is called category, too
    # A catalogue's pictures are seen as the model learned to see them: whole, as predict shows them.
    frame[["image"]].assign(item_id=frame["image"]).to_csv(tmp_path / "items.csv", index=False)
    catalogue = ["--images", images, "--bundle", str(bundle), "--out", str(tmp_path / "items")]
    assert run(["catalog", "build", str(tmp_path / "items.csv"), *catalogue]) == 0
    items = pq.read_table(tmp_path / "items" / "items" / "rows.parquet").to_pylist()
    reader = picture_reader(Bundle.open(bundle), faces=None, invert=False, min_face_px=24, max_megapixels=200.0)
    assert len(items) == 60
    for item in items:
        seen = Image.fromarray(reader.read((table.parent / item["id"]).read_bytes()).crops[0]).convert("L")
        assert item["picture"] == seen.resize((28, 28), Image.Resampling.BILINEAR).tobytes()
    capsys.readouterr()
    assert run(["embed", images, "--bundle", str(bundle), "--out", str(tmp_path / "embedded")]) == 2
    assert "takes whole pictures, and embed crops of faces" in capsys.readouterr().err


@pytest.mark.train
@pytest.mark.slow
def test_a_table_with_other_columns_and_words_is_measured_by_what_it_shares(bundle, pictures, capsys):
    path = written(pictures, "image,Größe 1-2,lined", "pictures/0.png,coat,yes", "pictures/1.png,cape,no")
    out = pictures / "out"
    assert run(["evaluate", str(bundle), str(path), "--split", "all", "--out", str(out)]) == 0
    (figures,) = json.loads((out / "figures.json").read_text())["measured"].values()
    assert figures["pictures"]["labels the model does not know"] == {"Größe 1-2": 1}
    assert figures["tags"]["per_label"]["lined"]["count"] == 2
    assert "type" not in figures
    capsys.readouterr()
    nothing = written(pictures, "image,colour", "pictures/0.png,red")
    assert run(["evaluate", str(bundle), str(nothing), "--out", str(out)]) == 2
    assert "has none of the columns Größe 1-2, type, hooded, lined" in capsys.readouterr().err


@pytest.mark.train
@pytest.mark.slow
def test_a_model_of_own_labels_predicts(bundle, table, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(["predict", str(bundle), str(table.parent / "pictures"), "--out", str(out)]) == 0
    rows = pq.read_table(out / "predictions")
    assert len(rows) == 60
    assert {"Größe 1-2", "Größe 1-2_score", "type", "hooded", "lined"} <= set(rows.column_names)
    said = capsys.readouterr().err
    assert "60 of 60" in said
    assert "faces" not in said
    assert run(["evaluate", str(bundle), str(table), "--faces", "find", "--out", str(tmp_path / "no")]) == 2
    assert "--faces find has no meaning for own-labels, which takes whole pictures" in capsys.readouterr().err


@pytest.mark.train
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["data.root='none.csv'"], "There is no table at none.csv"),
        (["data.groups=[]", "data.tags=[]"], "data.groups: name the table's columns to learn"),
        (["data.tags=['kind']"], "data.groups: 'kind' is named twice"),
        (["data.image_column='kind'"], "data.image_column: 'kind' is a label in data.groups or data.tags, too"),
        (["data.groups=['box']"], "data.groups: 'box' is what a training calls something else"),
        (["data.groups=['embedding']"], "data.groups: 'embedding' is what a training calls something else"),
        (["data.groups=['pictures']"], "data.groups: 'pictures' is what a training calls something else"),
        (["data.groups=['kind', 'kind_f1']"], "data.groups: 'kind_f1' is what a training calls something else"),
        (["data.groups=['a/b']"], "data.groups: 'a/b' is no name of 1 to 60 letters"),
        (["data.groups=[]"], 'data.split: "stratified" is by the first of data.groups'),
        (['data.split="official"'], "data.split: table is split by column or random or stratified"),
        (['data.split="column"'], "has no column split"),
        (["data.tags=['path']"], "has no column path"),
        (["data.images='none'"], "none, where the pictures should lie, is no directory"),
    ],
)
def test_what_is_wrong_with_a_job_is_one_sentence(table, tmp_path, monkeypatch, capsys, changes, sentence):
    pytest.importorskip("lightning", reason="Lightning is not installed: pip install 'stylematch[train]'")
    monkeypatch.chdir(tmp_path)
    assert trained(table, tmp_path / "run", "data.groups=['kind']", *changes) == 2
    said = capsys.readouterr().err
    assert sentence in said, said
    assert "Traceback" not in said


@pytest.mark.train
def test_one_answer_is_nothing_to_learn(pictures, capsys):
    pytest.importorskip("lightning", reason="Lightning is not installed: pip install 'stylematch[train]'")
    path = written(pictures, "image,kind", "pictures/0.png,a", "pictures/1.png,a")
    assert trained(path, pictures / "run", "data.groups=['kind']", "data.tags=[]") == 2
    assert "column kind has only one answer, 'a'; there have to be two to learn" in capsys.readouterr().err


@pytest.mark.train
@pytest.mark.parametrize(
    ("column", "rows", "changes", "sentence"),
    [
        ("hooded", ["a,", "b,"], ["data.tags=['hooded']"], "column hooded has no answer"),
        ("hooded", ["a,no", "b,no"], ["data.tags=['hooded']"], "column hooded has only one answer, 'no'"),
        ("Kind", ["a,yes", "b,no"], ["data.tags=['Kind']"], "would have two columns kind, case apart"),
        ("split", ["a,test", "b,test"], ["data.split='column'"], "has 0 pictures to learn from and 0 to watch"),
    ],
)
def test_what_cannot_be_learned_is_said_before_a_picture_is_cut(pictures, capsys, column, rows, changes, sentence):
    pytest.importorskip("lightning", reason="Lightning is not installed: pip install 'stylematch[train]'")
    path = written(pictures, f"image,kind,{column}", *(f"pictures/{n}.png,{row}" for n, row in enumerate(rows)))
    assert trained(path, pictures / "run", "data.groups=['kind']", "data.tags=[]", *changes) == 2
    assert sentence in capsys.readouterr().err
    assert not (pictures / "cache").exists()


@pytest.mark.train
def test_a_dry_run_says_the_classes_and_what_is_lacking(pictures, capsys):
    pytest.importorskip("lightning", reason="Lightning is not installed: pip install 'stylematch[train]'")
    rows = [f"pictures/{n}.png,{'ab'[n % 2]},no,{('train', 'train', 'val')[n % 3]}" for n in range(12)]
    path = written(pictures, "image,kind,lined,split", *rows, *[f"pictures/{n}.png,c,yes,test" for n in range(20, 23)])
    changes = ["data.groups=['kind']", "data.tags=['lined']", "data.split='column'"]
    # Two epochs of two steps each: torch's warm-up of one in five would divide by 0.
    given = [f"data.root='{path}'", f"out='{pictures / 'run'}'", "model.backbone='squeezenet1_1'", *changes]
    sets = [part for change in given for part in ("--set", change)]
    assert run(["train", str(JOB), "--dry-run", "--smoke", *sets]) == 0
    said = capsys.readouterr().out
    for line in (
        "labels: kind (categorical, 3): a 4, b 4, c 0",
        "data: pictures to test on: 3",
        "data: kind that no training picture has: c",
        "data: tags that no training picture has as yes: lined",
    ):
        assert line in said.splitlines()


@pytest.mark.train
def test_a_label_that_predict_could_not_table_is_refused_before_the_training(pictures, capsys):
    pytest.importorskip("lightning", reason="Lightning is not installed: pip install 'stylematch[train]'")
    path = written(pictures, "image,kind,path", "pictures/0.png,a,yes", "pictures/1.png,b,no", "pictures/2.png,b,no")
    assert trained(path, pictures / "run", "data.groups=['kind']", "data.tags=['path']") == 2
    assert "predict's tables would have two columns path" in capsys.readouterr().err
