"""CelebA as its authors' drive and as Kaggle lay it out is read as the same labels in one folder are."""

import csv
import io
import re
import shutil

import numpy as np
import pytest
from conftest import REPOSITORY
from program import call
from tiny import CELEBA_PICTURES, write_celeba, write_celeba_labels

from stylematch.data.celeba import ATTRIBUTES, read_celeba
from stylematch.data.celeba_files import holds_celeba, label_file
from stylematch.data.fashion_mnist import CLASSES
from stylematch.errors import UserError
from stylematch.pipelines.learning.merge import merged_table
from stylematch.pipelines.learning.sources import open_source
from stylematch.pipelines.learning.train_job import open_job, read_train_job
from stylematch.settings.train_data import TrainData
from stylematch.style.rules import load_rules
from stylematch.vision.examples import field_px

JOB = REPOSITORY / "jobs" / "celeba-mobilenet.toml"
HEADERS = {"list_eval_partition.txt": "image_id partition", "identity_CelebA.txt": "image_id identity"}


@pytest.fixture
def folder(tmp_path):
    return write_celeba_labels(tmp_path)


def as_kaggle(root, delimiter=",", quoting=csv.QUOTE_MINIMAL):
    """Turn the authors' files into Kaggle's: CSV without a count, pictures in a folder in a folder."""
    for path in sorted(root.glob("*.txt")):
        lines = path.read_text().splitlines()
        header, rows = (HEADERS[path.name], lines) if path.name in HEADERS else (lines[1], lines[2:])
        cells = header.split() if header.startswith("image_id") else ["image_id", *header.split()]
        text = io.StringIO()
        csv.writer(text, delimiter=delimiter, quoting=quoting).writerows([cells, *(row.split() for row in rows)])
        path.with_suffix(".csv").write_text("\ufeff" + text.getvalue())
        path.unlink()
    pictures = root / "img_align_celeba"
    pictures.rename(root / "moved")
    pictures.mkdir()
    (root / "moved").rename(pictures / "img_align_celeba")
    return pictures / "img_align_celeba"


def as_drive(root):
    """Put the authors' files where their drive has them."""
    for place in ("Anno", "Eval", "Img"):
        (root / place).mkdir()
    for path in sorted(root.glob("*.txt")):
        path.rename(root / ("Eval" if "partition" in path.name else "Anno") / path.name)
    (root / "img_align_celeba").rename(root / "Img" / "img_align_celeba")
    return root / "Img" / "img_align_celeba"


LAYOUTS = pytest.mark.parametrize(
    "lay_out",
    [as_drive, as_kaggle, lambda root: as_kaggle(root, ";", csv.QUOTE_ALL)],
    ids=["drive", "Kaggle", "written again"],
)


@LAYOUTS
def test_each_layout_says_the_same(lay_out, folder):
    (folder / "identity_CelebA.txt").write_text("c.jpg 7\na.jpg 0\n")
    rules = load_rules("wardrobe", attribute_names=ATTRIBUTES, categories=CLASSES)
    before, merged = read_celeba(folder), merged_table(folder, rules)
    pictures = lay_out(folder)
    after = read_celeba(folder)
    assert after.pictures == pictures
    assert after.image_ids == before.image_ids == CELEBA_PICTURES
    for name in ("split", "attributes", "landmarks_px", "boxes_px"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    assert merged_table(folder, rules).equals(merged)


@LAYOUTS
def test_doctor_evaluate_and_a_training_find_each_layout(lay_out, tmp_path, monkeypatch):
    root = write_celeba(tmp_path / "celeba")
    lay_out(root)
    monkeypatch.setenv("STYLEMATCH_DATA", str(tmp_path))
    assert re.search(rf"ok +celeba +{root}", call("doctor", "--seconds", "0").out)
    result = call("evaluate", tmp_path / "no bundle", root, "--out", tmp_path / "out")
    assert "no bundle" in result.sentence
    for given in (root, tmp_path):
        source = open_source(TrainData(dataset="celeba", root=str(given), wild=False), 32, tmp_path / "cache")
        assert (len(source.parts[0][0]), len(source.val)) == (4, 1)


def test_crops_with_fewer_pixels_than_the_model_takes_are_stored_so_but_not_those_that_are_measured(tmp_path):
    root = write_celeba(tmp_path / "celeba")
    write_celeba(tmp_path / "celeba_wild")

    def sides(input_px, *, wild, margin=True):
        data = TrainData(dataset="celeba", root=str(root), wild=wild)
        source = open_source(data, input_px, tmp_path / "cache", margin=margin)
        learned = [(part.fields.shape[1], part.crop_px) for part in (*(part for part, _ in source.parts), source.val)]
        assert [test.fields.shape[1] for _, test in source.tests()] == [input_px]
        return learned

    assert sides(192, wild=False) == [(field_px(178), 178)] * 2
    assert sides(192, wild=False, margin=False) == [(178, 178)] * 2
    assert sides(178, wild=False) == [(field_px(178), 178)] * 2
    assert sides(192, wild=True) == [(field_px(192), 192)] * 3  # photos may have more


@pytest.mark.train
def test_what_lies_around_crops_is_stored_for_jobs_that_show_it(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed: pip install 'stylematch[train]'")
    root = write_celeba(tmp_path / "celeba")
    changes = [f"data.root='{root}'", "data.wild=false", "model.weights='none'", f"out='{tmp_path / 'out'}'"]
    sides = {}
    for name in ("celeba-vgg16", "celeba-mobilenet"):
        job = read_train_job(REPOSITORY / "jobs" / f"{name}.toml", [*changes, "model.input_px=96"])
        source = open_job(job)
        sides[name] = {part.fields.shape[1] for part in (source.parts[0][0], source.val)}
    assert sides == {"celeba-vgg16": {96}, "celeba-mobilenet": {field_px(96)}}


def test_the_authors_file_goes_first(folder):
    (folder / "list_attr_celeba.csv").write_text("no CelebA\n")
    (folder / "Anno").mkdir()
    (folder / "Anno" / "list_attr_celeba.txt").write_text("neither\n")
    assert read_celeba(folder).image_ids == CELEBA_PICTURES
    (folder / "list_attr_celeba.txt").unlink()
    assert label_file(folder, "list_attr_celeba.txt") == folder / "Anno" / "list_attr_celeba.txt"


@pytest.mark.parametrize(
    ("name", "break_it", "message"),
    [
        ("list_attr_celeba", lambda text: text.replace("Male", "Mail"), "line 1 does not name the column Male"),
        ("list_attr_celeba", lambda text: text.replace("image_id", "picture"), "line 1 does not name the column image"),
        ("list_attr_celeba", lambda text: text.replace("a.jpg,-1", "a.jpg"), "line 3 has 39 values, .* names 40"),
        ("list_attr_celeba", lambda text: text.replace("a.jpg,-1", 'a.jpg,"-1'), "line 3 cannot be read"),
        ("list_attr_celeba", lambda text: "", "line 1 does not name"),
        ("list_eval_partition", lambda text: text.replace("partition", "part"), "line 1 does not name the column part"),
        ("list_eval_partition", lambda text: text.replace("x.jpg,0", "x.jpg,0,1"), "line 3 is not a picture's name"),
    ],
)
def test_a_malformed_csv_is_named_with_its_line(folder, name, break_it, message):
    as_kaggle(folder)
    path = folder / f"{name}.csv"
    path.write_text(break_it(path.read_text()))
    with pytest.raises(UserError, match=rf"{name}.csv: {message}"):
        read_celeba(folder)


def test_what_is_looked_for_is_named_and_so_is_the_folder_that_was_given(tmp_path):
    given = tmp_path / "X"
    given.mkdir()
    assert not holds_celeba(given)
    names = rf"list_attr_celeba.txt is missing in {given}, its Anno/ and Eval/, and so is Kaggle's list_attr_celeba.csv"
    with pytest.raises(UserError, match=names):
        read_celeba(given)


@pytest.mark.train
def test_so_a_training_names_it(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed: pip install 'stylematch[train]'")
    given = tmp_path / "X"
    given.mkdir()
    for wild in ("true", "false"):
        changes = (f"data.root='{given}'", f"data.wild={wild}", f"out='{tmp_path / 'run'}'", "model.weights=none")
        result = call("train", JOB, "--dry-run", *(part for change in changes for part in ("--set", change)))
        assert result.code == 2
        assert f"missing in {given}, " in result.sentence
        assert str(given / "celeba") not in result.sentence


def test_pictures_that_are_not_there_are_said_by_the_file_that_names_them(folder):
    shutil.rmtree(as_kaggle(folder))
    with pytest.raises(UserError, match=r"none of the pictures that its list_attr_celeba.csv names"):
        read_celeba(folder)
    assert read_celeba(folder, labels_alone=True).image_ids == CELEBA_PICTURES


@pytest.mark.shared_data
def test_the_official_points_are_known_in_kaggles_file_too(shared_data, tmp_path):
    for path in sorted((shared_data / "celeba_aligned_sample").glob("list_*.txt")):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "img_align_celeba").symlink_to(shared_data / "celeba_aligned_sample")
    assert read_celeba(tmp_path).points_source == "official points"
    as_kaggle(tmp_path)
    assert read_celeba(tmp_path).points_source == "official points"
