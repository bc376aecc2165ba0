"""The interface for notebooks: the rows of a run as data frames, and what lies behind them."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY
from PIL import Image
from program import DEFAULT_INDEX, EXAMPLES, environment, table

import stylematch
from stylematch.errors import UserError

GROUP = EXAMPLES / "group.jpg"


@pytest.fixture(scope="module")
def matcher():
    return stylematch.Stylematch.load(DEFAULT_INDEX, device="cpu", batch_size=4, threads=1)


def test_importing_the_package_loads_nothing_else():
    code = "import sys, stylematch; sys.exit(any(m in sys.modules for m in ('numpy', 'pandas', 'stylematch.api')))"
    assert subprocess.run([sys.executable, "-c", code], env=environment()).returncode == 0
    assert "Stylematch" in dir(stylematch)
    with pytest.raises(AttributeError, match="no attribute 'Stylemismatch'"):
        _ = stylematch.Stylemismatch


def test_a_folder_gives_the_rows_of_its_run(matcher, example_run):
    got = {"faces": matcher.score(EXAMPLES), "photos": matcher.photos, "recommendations": matcher.recommend()}
    for name, frame in got.items():
        wanted = table(example_run, name).to_pandas()
        wanted["path"] = [f"{EXAMPLES}/{path}" for path in wanted["path"]]
        wanted = wanted.drop(columns=[column for column in wanted if column == "run_id"])
        assert list(frame.columns) == list(wanted.columns)
        pd.testing.assert_frame_equal(frame, wanted, check_dtype=name != "photos", check_exact=True)
    assert str(matcher.photos["width"].dtype) == "Int32"  # with gaps, where a file is no picture


def test_files_are_named_as_they_were_given(matcher, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(GROUP, "one.jpg")
    raw = b"caf\xe9.jpg"
    shutil.copy(GROUP, tmp_path / raw.decode("utf-8", "surrogateescape"))
    (tmp_path / "notes.txt").write_text("no picture")
    faces = matcher.score(
        ["one.jpg", "./one.jpg", tmp_path / "one.jpg", "notes.txt", raw.decode("utf-8", "surrogateescape")]
    )
    assert faces["path"].drop_duplicates().tolist() == ["one.jpg", str(tmp_path / "one.jpg"), "file-bytes://caf%E9.jpg"]
    assert faces["face"].tolist() == [0, 1, 2] * 3
    rejected = matcher.photos[matcher.photos["status"] == "rejected"]
    assert rejected[["path", "reason"]].to_numpy().tolist() == [["notes.txt", "not_a_picture"]]
    # Equal pictures have equal items, and explain tells one set of them.
    assert len(matcher.explain(faces["photo_id"].iloc[0], 2).items) == 5


def test_without_faces_the_frames_have_their_columns(matcher):
    filled = matcher.score(GROUP)
    empty = matcher.score(EXAMPLES / "coffee.jpg")
    assert len(empty) == 0
    assert list(empty.columns) == list(filled.columns)
    assert matcher.photos["status"].tolist() == ["no_face"]
    assert len(matcher.recommend()) == len(matcher.recommend([])) == 0
    assert len(matcher.photos) == 0


def test_a_changed_frame_changes_nothing_inside(matcher):
    faces = matcher.score(GROUP)
    why = faces.loc[0, "why"]
    faces.loc[0, "why"] = "because"
    items = matcher.recommend()
    items.loc[0, "item_id"] = "other"
    assert matcher.explain(faces.loc[0, "photo_id"]).why == why
    assert matcher.explain(faces.loc[0, "photo_id"], np.float64(0.0)).why == why  # as a row of mixed columns has it
    assert "other" not in set(matcher.recommend()["item_id"])


def test_neighbours_are_the_gallerys_nearest(matcher):
    faces = matcher.score(GROUP)
    found = matcher.neighbours(faces.iloc[0], k=7)
    gallery = matcher._scorer.adviser.gallery
    embedding = faces["embedding"].iloc[0]
    stored = gallery.index.vectors(np.arange(len(gallery.index))).astype(np.float64)
    cosines = stored @ embedding.astype(np.float64)
    best = np.argsort(-cosines, kind="stable")[:7]
    assert found["id"].tolist() == [gallery.index.ids[position] for position in best]
    np.testing.assert_allclose(found["similarity"], cosines[best], atol=1e-3)
    assert found["rank"].tolist() == list(range(1, 8))
    assert set(found["style"]) <= set(matcher.styles)
    labels = gallery.rows.to_pandas().set_index("id").loc[found["id"], list(matcher.attributes)]
    assert (labels.to_numpy() == found[list(matcher.attributes)].to_numpy()).all()
    pd.testing.assert_frame_equal(matcher.neighbours(embedding, 7), found)
    pd.testing.assert_frame_equal(matcher.neighbours(faces.to_dict("records")[0], 7), found)


def test_an_explanation_adds_up(matcher):
    faces = matcher.score(EXAMPLES)
    recommended = matcher.recommend()
    for _, row in faces.iterrows():
        told = matcher.explain(row["photo_id"], row["face"])
        assert (told.style, told.style_score, told.why, told.rule) == (
            row["style"], row["style_score"], row["why"], row["rule"],
        )  # fmt: skip
        assert told.styles["fused"].idxmax() == row["style"]
        assert told.styles["fused"].max() == row["style_score"]
        assert told.styles.loc[row["rule_style"], "rules"] == told.styles["rules"].max() == row["rule_score"]
        assert told.styles.loc[row["neighbour_style"], "neighbours"] == row["neighbour_score"]
        np.testing.assert_allclose(told.styles.sum(), 1)
        assert told.styles["fused"].iloc[0] - told.styles["fused"].iloc[1] == told.style_margin
        for _, condition in told.evidence.iterrows():
            probability = row[condition["attribute"]]
            assert condition["probability"] == pytest.approx(probability if condition["wanted"] else 1 - probability)
        # As many labelled faces voted for the neighbours' style as the sentence says.
        votes = (told.neighbours["style"] == row["neighbour_style"]).sum()
        assert f"{votes} of the {len(told.neighbours)} nearest" in told.why
        mine = recommended[(recommended["photo_id"] == row["photo_id"]) & (recommended["face"] == row["face"])]
        assert told.items["item_id"].tolist() == mine["item_id"].tolist()
        assert all(reason in str(told) for reason in told.items["reason"])


def test_items_have_pictures(matcher):
    matcher.score(GROUP)
    picture = matcher.item_picture(matcher.recommend()["item_id"].iloc[0])
    assert (picture.shape, picture.dtype) == ((28, 28), np.uint8)
    assert matcher.item_picture("no such item") is None


def test_options_reach_the_rules_and_the_items():
    two, one = np.array([2, 1])  # numpy's numbers, as a notebook has them
    other = stylematch.Stylematch.load(rules="classic", device="cpu", top_k=two, where="category = 'Bag'", threads=one)
    faces = other.score([GROUP])
    items = other.recommend()
    assert set(faces["style"]) <= set(other.styles)
    assert set(items["category"]) == {"Bag"}
    assert items.groupby(["path", "face"]).size().tolist() == [2] * len(faces)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (lambda m: m.score("no/such/photo.jpg"), "no/such/photo.jpg"),
        (lambda m: m.score([""]), "empty"),
        (lambda m: m.score(Image.new("RGB", (40, 40))), "the paths of pictures or folders, not Image"),
        (lambda m: m.score(np.zeros((40, 40, 3))), "not ndarray"),
        (lambda m: m.score(None), "not NoneType"),
        (lambda m: m.explain("0" * 32), "call score"),
        (lambda m: m.neighbours([1.0, 2.0]), "one embedding of 40 numbers"),
        (lambda m: m.neighbours(np.ones(40), k=0), "at least 1"),
        (lambda m: m.neighbours(np.full(40, np.nan)), "zero or not finite"),
        (lambda m: m.neighbours(np.zeros(40)), "zero or not finite"),
        (lambda m: m.neighbours(np.ones(40), k=2.5), "k has to be a whole number, not 2.5"),
        (lambda m: m.neighbours({"a": 1}), "one embedding of 40 numbers"),
        (lambda m: m.neighbours([[1.0], [1.0, 2.0]]), "one embedding of 40 numbers"),
        (lambda m: m.explain("0" * 32, "a"), "face has to be a whole number, not 'a'"),
        (lambda m: m.explain(["0" * 32]), "takes a photo_id, not list"),
        (lambda m: m.explain({"photo_id": "0" * 32}), r"explain\(row.photo_id, row.face\)"),
        (lambda m: m.similar(None), "takes an item_id, or several, not NoneType"),
        (lambda m: m.similar(7), "1 of 1 ids are not in this catalogue: '7'"),
        (lambda m: stylematch.Stylematch.load(without=5), "without: has to be a list"),
        (lambda m: stylematch.Stylematch.load(rules=5), "rules: has to be a text"),
        (lambda m: stylematch.Stylematch.load(threads="x"), "threads: has to be a whole number, not 'x'"),
        (lambda m: stylematch.Stylematch.load(threads=-1), "threads: has to be at least 0, not -1"),
        (lambda m: stylematch.Stylematch.load(top_k=np.int64(0)), "top_k: has to be at least 1, not 0"),
        (lambda m: stylematch.Stylematch.load(top_k=0), "top_k"),
        (lambda m: stylematch.Stylematch.load(rules="no-such-rules"), "no-such-rules"),
        (lambda m: stylematch.Stylematch.load(EXAMPLES), "neither an index"),
    ],
)
def test_mistakes_are_told_in_a_sentence(matcher, asked, sentence):
    with pytest.raises(UserError, match=sentence):
        asked(matcher)


def test_what_was_scored_can_be_forgotten(matcher):
    faces = matcher.score(GROUP)
    matcher.forget()
    with pytest.raises(UserError, match="call score"):
        matcher.explain(faces["photo_id"].iloc[0])


def test_the_example_notebook_runs(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(REPOSITORY / "examples" / "notebook.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert not any(cell.outputs or cell.execution_count for cell in code), "strip the outputs"
    # The kernel of this very environment, whatever is registered under the name.
    specs = tmp_path / "jupyter" / "kernels" / "python3"
    specs.mkdir(parents=True)
    launch = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    specs.joinpath("kernel.json").write_text(
        json.dumps({"argv": launch, "display_name": "Python 3", "language": "python"})
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(JUPYTER_PATH=tmp_path / "jupyter", IPYTHONDIR=tmp_path / "ipython").items():
            patch.setenv(name, value)
        folder = {"metadata": {"path": str(REPOSITORY / "examples")}}
        nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=folder).execute()
    shown = [output.data for cell in code for output in cell.outputs if output.output_type == "execute_result"]
    assert any("text/html" in data and "style_score" in data["text/html"] for data in shown)
