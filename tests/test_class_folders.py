"""Folders of classes: which pictures belong to which, and what a training makes of them."""

import json
import os
import shutil
import sys

import numpy as np
import pytest
from conftest import REPOSITORY
from tiny import write_label_table

from stylematch.cli.program import run
from stylematch.data.class_folders import read_class_folders
from stylematch.errors import UserError

CLASSES = ("coat", "dress", "shirt")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_label_table(tmp_path_factory.mktemp("pictures")).parent / "pictures"


def sorted_by_class(pictures, root, part=lambda number: ""):
    """Copy the pictures into ROOT/PART/CLASS."""
    for number in range(60):
        folder = root / part(number) / CLASSES[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(pictures / f"{number}.png", folder)
    return root


def test_a_folder_is_a_label(pictures, tmp_path):
    root = sorted_by_class(pictures, tmp_path / "mine")
    (root / "coat" / "long").mkdir()
    (root / "coat" / "0.png").rename(root / "coat" / "long" / "0.png")
    shutil.copy(pictures / "1.png", root)  # in no class
    (root / "dress" / "notes.txt").write_text("no picture")
    (root / ".hidden").mkdir()
    shutil.copy(pictures / "1.png", root / ".hidden")
    (root / "shirt" / ".thumbnails").mkdir()
    shutil.copy(pictures / "2.png", root / "shirt" / ".thumbnails")
    if sys.platform == "linux":
        shutil.copy(os.fsencode(pictures / "1.png"), os.fsencode(root / "dress") + b"/\xff.png")
    read = read_class_folders(root, "kind")
    assert read.classes == {"kind": CLASSES}
    assert np.bincount(read.labels["kind"]).tolist() == [20, 20, 20]
    assert read.names[read.names.index("coat/long/0.png")].startswith("coat/")
    assert read.parts is None
    assert read.dropped == {"no_label": 1, "hidden_folder": 2} | (
        {"name_no_utf_8": 1} if sys.platform == "linux" else {}
    )


def test_train_val_and_test_are_parts_and_not_classes(pictures, tmp_path):
    root = sorted_by_class(pictures, tmp_path, lambda number: ("train", "val", "test")[min(number % 5, 2)])
    (tmp_path / ".thumbnails" / "a").mkdir(parents=True)
    shutil.copy(pictures / "1.png", tmp_path / ".thumbnails" / "a")
    read = read_class_folders(root, "kind")
    assert read.classes == {"kind": CLASSES}
    assert np.bincount(read.parts).tolist() == [12, 12, 36]
    assert {name.split("/")[0] for name, part in zip(read.names, read.parts, strict=True) if part == 2} == {"test"}


def test_a_class_called_test_is_a_class_beside_others(pictures, tmp_path):
    root = sorted_by_class(pictures, tmp_path)
    (root / "coat").rename(root / "test")
    read = read_class_folders(root, "kind")
    assert read.classes == {"kind": ("dress", "shirt", "test")}
    assert read.parts is None


def test_no_classes_are_a_sentence(pictures, tmp_path):
    shutil.copy(pictures / "1.png", tmp_path)
    with pytest.raises(UserError, match=r"has no folder with pictures, one for each class, such as .*coat/1.jpg"):
        read_class_folders(tmp_path, "kind")
    with pytest.raises(UserError, match="is no directory; name one with a folder for each class"):
        read_class_folders(tmp_path / "none", "kind")


def trained(root, out, *changes):
    given = ["data.dataset='folders'", "data.tags=[]", "data.groups=[]", f"data.root='{root}'", f"out='{out}'"]
    given += ["model.backbone='squeezenet1_1'", *changes]
    options = [part for change in given for part in ("--set", change)]
    return run(["train", str(REPOSITORY / "jobs" / "own-labels.toml"), "--smoke", *options])


@pytest.mark.train
@pytest.mark.slow
def test_a_model_of_folders_is_measured_on_what_it_did_not_learn_from(pictures, tmp_path, capsys):
    pytest.importorskip("lightning", reason="Lightning is not installed: pip install 'stylematch[train]'")
    root = sorted_by_class(pictures, tmp_path / "mine", lambda number: ("train", "val", "test")[number % 5 % 3])
    assert trained(root, tmp_path / "run", 'data.split="folders"') == 0
    bundle = tmp_path / "run-smoke" / "bundle"
    assert set(json.loads((bundle / "figures.json").read_text())["measured"]) == {"mine test (its own)"}
    assert run(["evaluate", str(bundle), str(root), "--out", str(tmp_path / "out")]) == 0
    (title, figures), *_ = json.loads((tmp_path / "out" / "figures.json").read_text())["measured"].items()
    assert title == "mine, not learned from"
    assert figures["label"]["count"] == 12
    assert set(figures["label"]["per_label"]) == set(CLASSES)
    capsys.readouterr()


@pytest.mark.train
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (['data.split="folders"'], "has not just the folders train, val and test, of which train is needed"),
        (["data.groups=['a', 'b']"], "data.groups: folders are the classes of one group; name one, or none"),
        (["data.root='none'"], "none is no directory"),
        (['data.split="column"'], "data.split: folders is split by folders or random or stratified, not 'column'"),
    ],
)
def test_what_is_wrong_is_one_sentence(pictures, tmp_path, monkeypatch, capsys, changes, sentence):
    pytest.importorskip("lightning", reason="Lightning is not installed: pip install 'stylematch[train]'")
    monkeypatch.chdir(tmp_path)
    assert trained(sorted_by_class(pictures, tmp_path / "mine"), tmp_path / "run", *changes) == 2
    said = capsys.readouterr().err
    assert sentence in said, said
    assert "Traceback" not in said
