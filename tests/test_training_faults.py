"""What may be wrong with a training's data, disk, memory and settings, each told once and by its name."""

import errno
import os
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import REPOSITORY
from program import DEFAULT_INDEX, call
from tiny import write_celeba, write_fashion_product, write_flixstock

from stylematch.data import celeba, fashion_product, flixstock
from stylematch.data.labels import LabelSchema
from stylematch.data.learned import digest_names
from stylematch.errors import StylematchError, UserError
from stylematch.pipelines.learning import labelled
from stylematch.pipelines.learning import train as training
from stylematch.pipelines.learning.labelled_data import LabelledPictures
from stylematch.pipelines.learning.labelled_faces import photo_faces
from stylematch.pipelines.learning.sources import open_source
from stylematch.pipelines.learning.train_job import LOCK
from stylematch.pipelines.learning.training_faults import told_by_their_keys
from stylematch.pipelines.learning.training_groups import learnable
from stylematch.pipelines.learning.whole_source import some_rows
from stylematch.settings.load import load_job
from stylematch.settings.train import TrainJob
from stylematch.settings.train_data import TrainData
from stylematch.tables import free_memory
from stylematch.tables.lock import held
from stylematch.vision.examples import celeba_examples

FLIXSTOCK = REPOSITORY / "jobs" / "flixstock-mobilenet.toml"
needs_torch = pytest.mark.train


@pytest.fixture
def flix(tmp_path):
    return write_flixstock(tmp_path / "flixstock")


def train(root, out, *changes, smoke=True):
    given = [f"data.root='{root}'", f"out='{out}'", *changes]
    options = [part for change in given for part in ("--set", change)]
    return call("train", FLIXSTOCK, *(["--smoke"] if smoke else []), *options)


@pytest.mark.parametrize(("call", "what"), [("posix_fallocate", "make room for"), ("pwrite", "write")])
def test_a_disk_without_room_for_the_cut_pictures_is_a_sentence(tmp_path, monkeypatch, call, what):
    """A file that is mapped and for which there is no room would end the process without a word."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder = write_celeba(tmp_path / "celeba")
    monkeypatch.setattr(os, call, full)
    with pytest.raises(StylematchError, match=rf"could not {what} .*/cache/celeba-\w+\.npy: No space left") as caught:
        celeba_examples(folder, 0, input_px=32, cache=tmp_path / "cache")
    assert caught.value.exit_code == 3
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_fifo_among_the_pictures_is_no_picture(tmp_path):
    folder = write_celeba(tmp_path / "celeba")
    first = celeba.read_celeba(folder).image_ids[0]
    (folder / "img_align_celeba" / first).unlink()
    os.mkfifo(folder / "img_align_celeba" / first)
    examples = celeba_examples(folder, None, input_px=32, cache=tmp_path / "cache")
    assert (first in examples.ids, examples.dropped) == (False, 1)


def test_pictures_that_are_tested_on_elsewhere_are_not_learned_from(tmp_path):
    home = write_celeba(tmp_path / "celeba")
    shutil.copytree(home, tmp_path / "celeba_aligned_sample")
    folder = celeba.read_celeba(home)
    learned = {name for name, part in zip(folder.image_ids, folder.split, strict=True) if part == 0}
    lines = (tmp_path / "celeba_aligned_sample" / "list_attr_celeba.txt").read_text().splitlines()
    kept = [line for line in lines[2:] if line.split()[0] not in sorted(learned)[1:]]
    written = "\n".join([str(len(kept)), lines[1], *kept]) + "\n"
    (tmp_path / "celeba_aligned_sample" / "list_attr_celeba.txt").write_text(written)
    shared = learned & {line.split()[0] for line in kept}
    data = TrainData(dataset="celeba", root=str(tmp_path), wild=False, groups=("attributes",))
    source = open_source(data, 32, tmp_path / "cache")
    assert len(shared) == 1
    assert set(source.parts[0][0].ids) == learned - shared
    assert source.notes["pictures that are tested on elsewhere, left out"] == 1


def test_a_folder_that_is_learned_from_is_not_tested_on_elsewhere(tmp_path, monkeypatch):
    """Whatever it is called, and however its path is written."""
    home = write_celeba(tmp_path / "celeba_aligned_sample")
    monkeypatch.chdir(tmp_path)
    for root in (str(home), home.name):
        data = TrainData(dataset="celeba", root=root, wild=False, groups=("attributes",))
        source = open_source(data, 32, tmp_path / "cache")
        assert source.notes["pictures that are tested on elsewhere, left out"] == 0
        assert len(source.parts[0][0]) > 0
        assert [title for title, _ in source.tests()] == ["celeba test (its own)"] or len(list(source.tests())) == 1


def test_a_photo_that_is_not_there_is_counted(tmp_path):
    folder = write_celeba(tmp_path / "photos")
    names = celeba.read_celeba(folder).image_ids
    (folder / "img_align_celeba" / names[2]).unlink()
    os.mkfifo(folder / "img_align_celeba" / names[2])
    (folder / "img_align_celeba" / names[3]).unlink()
    for _, examples in photo_faces(folder, 32):
        assert set(examples.ids) <= set(names) - {names[2], names[3]}


def test_copies_that_were_not_learned_from_count_once(tmp_path):
    root = write_flixstock(tmp_path / "flixstock")
    names = flixstock.read_flixstock(root).names
    for there, copy in ((0, 1), (2, 3)):
        shutil.copy(root / "images" / names[there], root / "images" / names[copy])
    read = LabelledPictures(root / "images", names, {}, names)
    learned = {"dataset": "flixstock"}
    for known, left_out in (((), {1, 3}), ((0,), {0, 1, 3})):
        text = digest_names([names[place] for place in known])
        bundle = SimpleNamespace(learned=learned, description={"learned_names": text}, directory=tmp_path)
        rows = labelled._rows(bundle, "flixstock", read, "test", root)
        assert rows.tolist() == [place for place in range(len(names)) if place not in left_out]


def test_a_few_of_many_rows_are_of_all_classes():
    labels = np.repeat(np.arange(6), 50)
    rows = np.flatnonzero(labels != 3)
    for limit in (1, 5, 24, 250, 1000):
        some = some_rows(rows, limit)
        assert len(some) == min(limit, len(rows))
        assert (np.diff(some) > 0).all()
        assert set(some) <= set(rows)
        assert len(np.unique(labels[some])) == min(limit, 5)
    np.testing.assert_array_equal(some_rows(rows, None), rows)


def test_whole_photos_have_landmarks_of_their_own(tmp_path):
    folder = write_celeba(tmp_path / "celeba")
    names = celeba.read_celeba(folder).image_ids
    for file, first in ((celeba.POINTS_FILE, 10), (celeba.WILD_POINTS_FILE, 100)):
        rows = "".join(f"{name} {' '.join(str(first + place) for place in range(10))}\n" for name in names)
        (folder / file).write_text(f"{len(names)}\n{' '.join(celeba.LANDMARKS)}\n{rows}")
    assert celeba.read_celeba(folder).landmarks_px[0, 0] == 10
    (folder / "img_align_celeba").rename(folder / "img_celeba")
    assert celeba.read_celeba(folder).landmarks_px[0, 0] == 100


@pytest.mark.parametrize(
    ("write", "read", "module"),
    [
        (write_fashion_product, fashion_product.read_fashion_product, fashion_product),
        (write_flixstock, flixstock.read_flixstock, flixstock),
    ],
)
def test_copies_under_other_names_are_dropped_and_counted(tmp_path, write, read, module):
    root = write(tmp_path / "data")
    shutil.copy(root / "images" / "3.jpg", root / "images" / "11.jpg")
    whole = read(root)
    kept = module.without_copies(whole)
    assert len(kept) == len(whole) - 1
    assert "11.jpg" not in kept.names
    assert kept.dropped["duplicate_picture"] == 1
    for group, labels in kept.labels.items():
        np.testing.assert_array_equal(labels, np.delete(whole.labels[group], whole.names.index("11.jpg")))


@pytest.mark.slow
@needs_torch
def test_labels_of_one_kind_are_nothing_to_learn(flix, tmp_path):
    pytest.importorskip("torch", reason="torch is not installed: pip install 'stylematch[train]'")
    table = flix / "attributes.csv"
    lines = table.read_text().splitlines()
    for cells, said in (("#N/A,#N/A,#N/A", "no label"), ("1,1,1", "one answer")):
        table.write_text("\n".join([lines[0], *(f"{line.split(',')[0]},{cells}" for line in lines[1:])]) + "\n")
        result = train(flix, tmp_path / "run", "model.weights=none", smoke=False)
        assert result.code == 2
        assert f"pictures to learn from have {said}; leave the group out" in result.sentence
        # Of a few pictures one answer is no wonder; no label is.
        tried = train(flix, tmp_path / "run", "model.backbone='squeezenet1_1'", "model.input_px=64")
        assert tried.code == (2 if said == "no label" else 0), tried.err
        assert ("have no label" in tried.err) == (said == "no label")


@needs_torch
@pytest.mark.parametrize("out", ["file", "file/below"])
def test_an_out_that_cannot_be_is_told_before_pictures_are_cut(flix, tmp_path, out):
    pytest.importorskip("torch", reason="torch is not installed: pip install 'stylematch[train]'")
    (tmp_path / "file").write_text("")
    result = train(flix, tmp_path / out, smoke=False)
    assert result.code == 2
    assert "out: " in result.sentence
    assert not list(tmp_path.rglob("*.npy"))


@pytest.mark.slow
@needs_torch
def test_another_jobs_checkpoints_are_told_before_pictures_are_cut_and_a_try_begins_anew(flix, tmp_path):
    pytest.importorskip("lightning", reason="Lightning is not installed: pip install 'stylematch[train]'")
    small = ("model.backbone='squeezenet1_1'", "model.input_px=64", "model.weights=none")
    assert train(flix, tmp_path / "run", *small).code == 0
    bundle = tmp_path / "run-smoke" / "bundle" / "figures.json"
    written = bundle.stat().st_mtime_ns
    again = train(flix, tmp_path / "run", *small)  # a try that has ended does its steps once more
    assert again.code == 0, again.err
    assert "going on from" not in again.err
    assert bundle.stat().st_mtime_ns > written
    given = [*small, f"data.root='{flix}'", f"out='{tmp_path / 'run'}'", "schedule.learning_rate=1e-4"]
    options = [part for change in given for part in ("--set", change)]
    dry = call("train", FLIXSTOCK, "--smoke", "--dry-run", *options)  # of another try than the one that lies there
    assert dry.code == 0, dry.err
    assert "it goes on" not in dry.out
    assert train(flix, tmp_path / "run", *small, "schedule.learning_rate=1e-4").code == 0
    shutil.copytree(tmp_path / "run-smoke", tmp_path / "whole")
    shutil.rmtree(tmp_path / "cache")
    result = train(flix, tmp_path / "whole", *small, smoke=False)
    assert result.code == 2
    assert "is of another job than this one" in result.sentence
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
@needs_torch
def test_a_stopped_trainings_checkpoint_may_be_started_from(flix, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'stylematch[train]'")
    from stylematch.pipelines.learning.starting import check_networks, first_network

    small = ("model.backbone='squeezenet1_1'", "model.input_px=64")
    assert train(flix, tmp_path / "run", *small).code == 0
    checkpoint = tmp_path / "run-smoke" / "checkpoints" / "last.ckpt"
    data = TrainData(dataset="flixstock", split="random", root=str(flix))
    schema = open_source(data, 64, tmp_path / "cache").schema
    changes = [*small, "model.weights=none", f"data.root='{flix}'"]
    job = load_job(FLIXSTOCK, TrainJob, [*changes, f"model.start_from='{checkpoint}'"])
    check_networks(job)
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    for name, value in first_network(job, schema).state_dict().items():
        torch.testing.assert_close(value, state[f"network.{name}"])
    renamed = LabelSchema(tuple(replace(group, labels=group.labels[::-1]) for group in schema.groups))
    with pytest.raises(UserError, match=r"model.start_from: .* is no checkpoint of a training with this job's model"):
        first_network(job, renamed)  # weights of equal shapes, of other labels
    other = load_job(FLIXSTOCK, TrainJob, [*changes[2:], f"model.start_from='{checkpoint}'"])
    with pytest.raises(UserError, match=r"model.start_from: .* is no checkpoint of a training with this job's model"):
        first_network(other, schema)


def train_faces(folder, out, *changes):
    given = [f"data.root='{folder.parent}'", f"out='{out}'", "data.wild=false", "model.weights=none", *changes]
    options = [part for change in given for part in ("--set", change)]
    return call("train", REPOSITORY / "jobs" / "celeba-mobilenet.toml", "--smoke", *options)


@pytest.mark.slow
@needs_torch
def test_points_that_no_picture_has_are_not_learned_and_told(tmp_path, caplog):
    pytest.importorskip("lightning", reason="Lightning is not installed: pip install 'stylematch[train]'")
    from stylematch.vision.bundle import Bundle

    folder = write_celeba(tmp_path / "data" / "celeba", ("Young",))
    with_boxes = "data.groups=['attributes','landmarks','box']"
    boxes = "".join(f"{name} 95 71 226 313\n" for name in celeba.read_celeba(folder).image_ids)  # of other pixels
    (folder / "list_bbox_celeba.txt").write_text(f"6\nimage_id x_1 y_1 width height\n{boxes}")
    small = ("model.backbone='squeezenet1_1'", "model.input_px=64")
    done = train_faces(folder, tmp_path / "run", with_boxes, *small)
    assert done.code == 0, done.err
    assert "no picture to learn from has points of landmarks, box: not learned" in caplog.messages
    bundle = Bundle.open(tmp_path / "run-smoke" / "bundle")
    assert [group.name for group in bundle.schema.groups] == ["attributes"]
    card = (bundle.directory / "MODEL_CARD.md").read_text()
    assert "- Predicts: attributes (binary, 40)\n" in card
    assert "- groups left out, since no picture to learn from has their points: landmarks, box\n" in card
    done = train_faces(folder, tmp_path / "other", "data.groups=['landmarks','box']", *small)
    assert done.code == 2
    assert "none of the 4 pictures to learn from has points of landmarks, box; put their file" in done.sentence


def test_points_whose_head_is_there_already_stay(tmp_path):
    folder = write_celeba(tmp_path / "data" / "celeba", ("Young",))
    data = TrainData(dataset="celeba", root=str(folder.parent), wild=False, groups=("attributes", "landmarks"))
    source = open_source(data, 32, tmp_path / "cache")
    attributes, _ = source.schema.groups
    assert learnable(source, source.schema.groups, of_all=True) is source
    assert learnable(source, [attributes], of_all=True).schema.groups == (attributes,)
    assert learnable(source, (), of_all=True).schema.groups == (attributes,)


@needs_torch
@pytest.mark.skipif(not DEFAULT_INDEX.is_dir(), reason="indexes/default is not built: make default-index")
def test_a_teacher_may_know_groups_that_are_left_out_and_has_to_know_the_others():
    pytest.importorskip("torch", reason="torch is not installed: pip install 'stylematch[train]'")
    from stylematch.pipelines.learning.starting import load_teachers
    from stylematch.vision.bundle import Bundle

    place = DEFAULT_INDEX / "attributes"
    attributes, landmarks = Bundle.open(place).schema.groups
    job = load_job(REPOSITORY / "jobs" / "celeba-mobilenet-student.toml", TrainJob, [f"distill.teachers=['{place}']"])
    assert len(load_teachers(job, LabelSchema((attributes,)))) == 1
    renamed = replace(attributes, labels=attributes.labels[::-1])
    with pytest.raises(UserError, match=r"distill.teachers: .* has other labels than this job"):
        load_teachers(job, LabelSchema((renamed, landmarks)))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "more memory than there is: lower"),
        (RuntimeError("Caught ArrayMemoryError: Unable to allocate 15 GiB"), "more memory than there is: lower"),
        (MemoryError(), "more memory than there is: lower"),
        (
            ValueError("Expected more than 1 value per channel when training, got"),
            "4 leaves too few pictures: the network",
        ),
        (RuntimeError("value cannot be converted to type float without overflow"), "schedule.learning_rate"),
    ],
)
def test_what_torch_refuses_names_the_settings(error, said):
    job = load_job(FLIXSTOCK, TrainJob, ["schedule.batch_size=4"])
    with pytest.raises(UserError, match=said), told_by_their_keys(job):
        raise error
    other = ValueError("something else")
    with pytest.raises(ValueError, match="something else") as caught, told_by_their_keys(job):
        raise other
    assert caught.value is other


@needs_torch
@pytest.mark.parametrize(
    ("free", "needed"),
    [(2**39, "at least 1,024.0 GiB of memory, and 512.0 are free"), (2**41, "more memory than there is")],
)
def test_a_dry_run_takes_no_more_memory_than_is_free(flix, tmp_path, monkeypatch, free, needed):
    """The system would kill it, or others; here a training is an array that is never written to."""
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'stylematch[train]'")
    pytest.importorskip("lightning", reason="Lightning is not installed: pip install 'stylematch[train]'")
    from stylematch.pipelines.learning import dry_run
    from stylematch.vision import memory_need, step_time

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(step_time, "measure_training", lambda *_, **__: np.empty(2 * 2**30, np.uint8))
    monkeypatch.setattr(memory_need, "least_memory", lambda *_: 2**40)
    monkeypatch.setattr(free_memory, "free_memory", lambda: 2**30)
    monkeypatch.setattr(dry_run, "free_memory", lambda: free)
    changes = [f"data.root='{flix}'", f"out='{tmp_path / 'run'}'", "model.backbone='squeezenet1_1'"]
    options = [part for change in [*changes, "model.input_px=64"] for part in ("--set", change)]
    done = call("train", FLIXSTOCK, "--smoke", "--dry-run", *options)
    assert done.code == 2
    assert f"the training needs {needed}: lower schedule.batch_size" in done.sentence


@needs_torch
def test_a_gpu_calibrates_with_all_digits_and_gives_the_network_back(monkeypatch):
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'stylematch[train]'")
    moves = []
    network = SimpleNamespace(cuda=lambda: moves.append("cuda"), cpu=lambda: moves.append("cpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with training._on_gpu(network):
        assert moves == ["cuda"]
        assert not torch.backends.cudnn.allow_tf32
    assert moves == ["cuda", "cpu"]


@needs_torch
def test_too_little_memory_is_the_users_to_mend(flix, tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="torch is not installed: pip install 'stylematch[train]'")

    def too_large(*_):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(training, "learn", too_large)
    result = train(flix, tmp_path / "run")
    assert result.code == 2
    assert "lower schedule.batch_size" in result.sentence


@needs_torch
def test_of_two_trainings_in_one_folder_the_second_is_refused(flix, tmp_path):
    """The second would end with the best epoch of the first, which has the same name."""
    pytest.importorskip("lightning", reason="Lightning is not installed: pip install 'stylematch[train]'")
    out = tmp_path / "run"
    folder = tmp_path / "run-smoke"
    folder.mkdir()
    with held(folder / LOCK, "busy"):
        result = train(flix, out)
        assert result.code == 2
        assert f"another training into {folder} is under way: wait for it" in result.sentence
        assert not (folder / "checkpoints").exists()
    assert not (folder / LOCK).exists()
