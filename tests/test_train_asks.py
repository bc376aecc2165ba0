"""What a training lacks is said at once: before its job is printed, and before any picture is cut. Needs no torch."""

import json
import re
import sys
import tomllib

import pytest
from conftest import REPOSITORY
from program import call
from tiny import write_celeba, write_fashion_product, write_flixstock

from stylematch.errors import UserError
from stylematch.pipelines.learning.sources import open_source
from stylematch.pipelines.learning.train_job import TRAIN_PACKAGES, open_job, read_train_job
from stylematch.settings.train_data import TrainData
from stylematch.tables.contract import LANDMARKS

JOB = REPOSITORY / "jobs" / "celeba-mobilenet.toml"


@pytest.mark.parametrize("package", TRAIN_PACKAGES)
@pytest.mark.parametrize("options", [[], ["--dry-run"]], ids=["train", "dry run"])
def test_a_missing_package_is_said_first(package, options, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # makes its import fail
    root = write_celeba(tmp_path / "data" / "celeba").parent
    changes = [f"data.root='{root}'", f"out='{tmp_path / 'run'}'", "data.wild=false", "model.weights=none"]
    result = call("train", JOB, *options, *(part for change in changes for part in ("--set", change)))
    assert (result.code, result.out) == (2, "")
    assert result.sentence == (
        "stylematch-batch: Training a model needs the 'train' extra: pip install 'stylematch[train]'"
    )
    assert result.err == f"{result.sentence}\n"  # and no progress before it
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_the_train_extra_brings_what_is_asked_for():
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(TRAIN_PACKAGES) <= {line.partition(">")[0] for line in extras["train"]}


@pytest.mark.slow
def test_a_dry_run_prints_its_job_where_all_is_there(tmp_path):
    for package in TRAIN_PACKAGES:
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'stylematch[train]'")
    root = write_celeba(tmp_path / "data" / "celeba").parent
    changes = [f"data.root='{root}'", f"out='{tmp_path / 'run'}'", "data.wild=false"]
    result = call("train", JOB, "--smoke", "--dry-run", *(part for change in changes for part in ("--set", change)))
    assert result.code == 0, result.err
    job, rest = json.JSONDecoder().raw_decode(result.out)[0], result.out.rpartition("}\n")[2]
    assert job["data"]["root"] == str(root)
    assert rest.startswith("data: part 1 has 4 pictures")


@pytest.mark.parametrize("told", [None, "elsewhere"])
@pytest.mark.parametrize(
    ("folder", "data"),
    [
        ("celeba", {"dataset": "celeba"}),
        ("fashion_product", {"dataset": "fashion-product", "split": "years"}),
        ("flixstock", {"dataset": "flixstock", "split": "random"}),
    ],
)
def test_data_that_are_not_there_name_the_variable(folder, data, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STYLEMATCH_DATA", raising=False)
    if told:
        monkeypatch.setenv("STYLEMATCH_DATA", told)
    with pytest.raises(UserError) as caught:
        open_source(TrainData(**data), 64, tmp_path / "cache")
    why = f"STYLEMATCH_DATA is {told}" if told else "STYLEMATCH_DATA is not set"
    assert f"{told or '../shared/data'}/{folder} does not exist ({why}" in str(caught.value)
    assert f"set STYLEMATCH_DATA to the folder that holds {folder}/" in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_an_embedding_names_it_too(tmp_path, monkeypatch):
    monkeypatch.setenv("STYLEMATCH_DATA", str(tmp_path))
    result = call("embed", REPOSITORY / "jobs" / "embed-celeba.toml")
    assert result.code == 2
    assert (
        f"{tmp_path / 'celeba'} does not exist (STYLEMATCH_DATA is {tmp_path}): set STYLEMATCH_DATA" in result.sentence
    )


def test_wild_faces_that_are_not_there_are_said_before_the_others_are_cut(tmp_path):
    root = write_celeba(tmp_path / "data" / "celeba").parent
    with pytest.raises(UserError, match=r"celeba_wild does not exist: .* set data.wild to false"):
        open_source(TrainData(dataset="celeba", root=str(root)), 64, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_faces_of_no_split_are_a_sentence(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed: pip install 'stylematch[train]'")
    folder = write_celeba(tmp_path / "data" / "celeba")
    (folder / "list_eval_partition.txt").unlink()
    path = REPOSITORY / "jobs" / "celeba-mobilenet.toml"
    changes = [f"data.root='{folder.parent}'", "data.wild=false", f"out='{tmp_path / 'run'}'"]
    with pytest.raises(
        UserError, match=r"0 pictures to learn from and 0 to watch, .*; celeba/list_eval_partition.txt has to be there"
    ):
        open_job(read_train_job(path, changes, smoke=True))


def test_pictures_that_only_begin_as_pictures_are_counted(tmp_path):
    images = write_flixstock(tmp_path / "flixstock") / "images"
    for number in range(60):
        content = (images / f"{number}.jpg").read_bytes()
        (images / f"{number}.jpg").write_bytes(content if number % 2 else content[:200] + b"%d" % number)
    data = TrainData(dataset="flixstock", split="random", root=str(images.parent))
    source = open_source(data, 64, tmp_path / "cache")
    measured = sum(len(test) for _, test in source.tests())
    assert len(source.parts[0][0]) + len(source.val) + measured == 30
    spoilt = 48 - source.pictures - len(source.val)
    assert source.notes == {"pictures to test on": 12, "pictures that cannot be decoded": spoilt}  # but the test's


def test_years_without_an_odd_one_leave_nothing_to_test_on(tmp_path):
    table = write_fashion_product(tmp_path / "fashion_product") / "styles.csv"
    table.write_text(re.sub(r",201[0-9],", ",2012,", table.read_text()))
    source = open_source(TrainData(dataset="fashion-product", split="years", root=str(table.parent)), 64, tmp_path)
    assert source.notes["pictures to test on"] == 0
    assert [len(test) for _, test in source.tests()] == [0]


@pytest.mark.train
def test_too_few_pictures_say_what_was_left_out(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed: pip install 'stylematch[train]'")
    root = write_fashion_product(tmp_path / "fashion_product")
    table = root / "styles.csv"
    table.write_text(re.sub(r",201[0-9],", ",,", table.read_text()))
    changes = [f"data.root='{root}'", f"out='{tmp_path / 'run'}'", "model.weights=none"]
    with pytest.raises(
        UserError, match=r"0 pictures to learn from and 0 to watch, .*; rows of no year, left out: 96; "
    ):
        open_job(read_train_job(REPOSITORY / "jobs" / "fashion-product-head.toml", changes))


def test_labels_that_are_all_too_rare_are_said_before_a_picture_is_cut(tmp_path):
    root = write_fashion_product(tmp_path / "fashion_product")
    data = TrainData(dataset="fashion-product", split="stratified", min_label_count=1000, root=str(root))
    with pytest.raises(UserError, match="lower min_label_count"):
        open_source(data, 64, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_labels_too_rare_to_be_learned_are_named(tmp_path):
    root = write_fashion_product(tmp_path / "fashion_product")
    table = root / "styles.csv"
    table.write_text(table.read_text().replace("Kurtas", "Once", 1))
    data = TrainData(dataset="fashion-product", split="stratified", min_label_count=2, root=str(root))
    notes = open_source(data, 64, tmp_path / "cache").notes
    assert notes["articleType that fewer than 2 pictures have, masked"] == ["Once"]


def test_pictures_with_points_are_counted_and_boxes_of_other_pixels_are_none(tmp_path):
    folder = write_celeba(tmp_path / "data" / "celeba")
    split = (folder / "list_eval_partition.txt").read_text().split("\n")
    names = sorted((line.split()[0] for line in split if line), key=lambda name: f"{name} 0" not in split)
    points = "".join(f"{name} 69 111 108 111 88 135 73 152 105 152\n" for name in names[1:])  # a learned one has none
    (folder / "list_landmarks_align_celeba.txt").write_text(f"{len(names) - 1}\n{' '.join(LANDMARKS)}\n{points}")
    data = TrainData(dataset="celeba", root=str(folder.parent), wild=False, groups=("landmarks", "box"))
    counts = []
    for box in ("45 75 88 114", "95 71 226 313"):
        boxes = "".join(f"{name} {box}\n" for name in names)
        (folder / "list_bbox_celeba.txt").write_text(f"{len(names)}\nimage_id x_1 y_1 width height\n{boxes}")
        source = open_source(data, 64, tmp_path / "cache")
        wanting = ("landmarks", "a box in the picture's own pixels")
        counts.append([source.pictures - source.notes[f"pictures to learn from with {what}"] for what in wanting])
    assert counts == [[1, 1], [1, source.pictures]]


def test_celebas_folder_may_be_named_itself_whatever_it_is_called(tmp_path):
    home = write_celeba(tmp_path / "of faces" / "celeba")
    inside = open_source(TrainData(dataset="celeba", wild=False, root=str(home.parent)), 64, tmp_path / "cache")
    home = home.rename(home.with_name("CelebA-2015"))
    itself = open_source(TrainData(dataset="celeba", wild=False, root=str(home)), 64, tmp_path / "cache")
    assert itself.parts[0][0].ids == inside.parts[0][0].ids != ()
    assert [title for title, _ in itself.tests()] == ["CelebA-2015 test (local split)"]
