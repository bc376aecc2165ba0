import contextlib
import copy
import csv
import dataclasses
import errno
import gc
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("lightning", reason="Lightning is not installed: pip install 'stylematch[train]'")
import torch
from killed import Killed, assert_same_checkpoints
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from stylematch.data.fashion_mnist import SCHEMA
from stylematch.errors import StylematchError, UserError
from stylematch.settings.train import TrainJob
from stylematch.settings.train_model import Model
from stylematch.tables.disk import TEMPORARY_SUFFIX, failure, write_durably
from stylematch.vision import array_files
from stylematch.vision.asking import logits_of
from stylematch.vision.backbones import _SMALL
from stylematch.vision.batches import Batches, EpochOrder
from stylematch.vision.begun import check_data, check_whole, steps_of
from stylematch.vision.checkpoints import best_checkpoint
from stylematch.vision.examples import Examples
from stylematch.vision.losses import SchemaLoss, soft_targets
from stylematch.vision.networks import Network
from stylematch.vision.storable import check_storable
from stylematch.vision.trainer import _Average, training_trainer
from stylematch.vision.training import _sampling_weights, train_network

pytestmark = pytest.mark.train

EPOCHS = 2
MODEL = Model(backbone="small_resnet", input_px=28, embedding_dim=16, dropout=0.1)


def job(mixup=0.0, distill=None, balance="none", instance=0.0, mirror=False, **schedule):
    values = {"epochs": EPOCHS, "batch_size": 16, "learning_rate": 4e-3, "clip_norm": 5.0}
    return TrainJob.model_validate(
        {
            "name": "tiny",
            "out": "unused",
            "data": {"dataset": "fashion-mnist", "balance": balance},
            "model": {
                "backbone": "small_resnet",
                "input_px": 28,
                "embedding_dim": 16,
                "dropout": 0.1,
                "mirror": mirror,
            },
            "augment": {"flip": 0.5, "shift": 0.05, "zoom": 0.1, "rotate_degrees": 5, "brightness": 0.1, "erase": 0.2}
            | {"mixup": mixup},
            "schedule": {**values, "precision": "32-true", "seed": 3} | schedule,
            "loss": {"label_smoothing": 0.05, "instance": instance},
            "distill": distill,
        }
    )


def garments(count, seed):
    """Return pictures whose class shows as a bright band at its own height, under noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count)
    fields = rng.integers(0, 120, (count, 36, 36, 1), dtype=np.uint8)
    for field, label in zip(fields, labels, strict=True):
        field[5 + 2 * label + label // 2 : 9 + 2 * label + label // 2, 6:30] += 130
    return Examples(tuple(f"{seed}-{row}" for row in range(count)), fields, {"category": labels}, 28)


def train_tiny(out, *, count=192, teachers=(), **changes):
    """Train from the same start on 256 pictures (or fewer) in two parts, on one thread; return the network."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more wait for each other in busy loops
    try:
        torch.manual_seed(0)
        wanted = job(**changes)
        network = Network(wanted.model, SCHEMA)
        parts = [(garments(count, 1), 1), (garments(32, 2), 2)]
        return train_network(network, wanted, parts, garments(50, 3), Path(out), teachers)
    finally:
        torch.set_num_threads(threads)


def halved(examples):
    """Return examples whose fields, and the crops in them, have half as many pixels a side."""
    small = examples.fields.reshape(len(examples), 18, 2, 18, 2, 1).mean((2, 4)).astype(np.uint8)
    return dataclasses.replace(examples, fields=small, crop_px=14)


def loss_on(network, examples):
    pictures = torch.from_numpy(examples.crops()).permute(0, 3, 1, 2).float() / 255
    targets = soft_targets(SCHEMA, {"category": torch.from_numpy(examples.targets["category"])})
    with torch.inference_mode():
        _, outputs = network.eval().outputs(pictures)
        return float(SchemaLoss(SCHEMA)(outputs, targets)["category"])


@contextlib.contextmanager
def narrowed():
    """A fifth of the backbone's work: what is tested here is how a training goes on, not what it comes to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(_SMALL, "small_resnet", (1, (16, 32, 64)))
        yield


@pytest.fixture(scope="module", autouse=True)
def narrow():
    with narrowed():
        yield


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    out = tmp_path_factory.mktemp("uninterrupted")
    return train_tiny(out), out


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    out = tmp_path_factory.mktemp("averaged")
    return train_tiny(out, average=0.9), out


def test_smaller_crops_are_enlarged_wherever_they_are_learned_from_watched_or_asked(tmp_path):
    learned, watched = halved(garments(192, 1)), halved(garments(50, 3))
    wanted = job(epochs=1)
    torch.manual_seed(0)
    network = train_network(Network(wanted.model, SCHEMA), wanted, [(learned, 1)], watched, tmp_path)
    (row,) = csv.DictReader((tmp_path / "log" / "metrics.csv").open())
    small = watched.crops()
    assert small.shape == (50, 14, 14, 1)
    large = torch.from_numpy(small).permute(0, 3, 1, 2).float() / 255
    large = functional.interpolate(large, (28, 28), mode="bilinear")
    with torch.inference_mode():
        _, outputs = network.outputs(large)
    np.testing.assert_allclose(logits_of(network, small)["category"], outputs["category"], atol=1e-4)
    targets = soft_targets(SCHEMA, {"category": torch.from_numpy(watched.targets["category"])})
    with torch.inference_mode():
        said = float(SchemaLoss(SCHEMA, wanted.loss)(outputs, targets, training=False)["category"])
    assert float(row["val_category"]) == pytest.approx(said, rel=1e-3)


def test_the_loss_falls(uninterrupted):
    torch.manual_seed(0)
    fresh = Network(MODEL, SCHEMA)
    unseen = garments(200, 4)
    before, after = loss_on(fresh, unseen), loss_on(uninterrupted[0], unseen)
    assert before > 2.2  # guessing among ten classes
    assert after < 0.8 * before


def test_a_training_leaves_a_log_and_one_checkpoint(uninterrupted):
    network, out = uninterrupted
    assert not network.training
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["last.ckpt"]
    log = (out / "log" / "metrics.csv").read_text().splitlines()
    assert "val_loss" in log[0]
    assert "train_category" in log[0]
    checkpoint = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["epoch"] == EPOCHS - 1


# In the second epoch it waits for its end.
WAITING = """
import sys, time
sys.path.insert(0, sys.argv[1])
from test_training import narrowed, train_tiny
from stylematch.vision.learner import Learner
step = Learner.training_step
def waiting(learner, batch, number):
    if learner.current_epoch and number:
        time.sleep(600)
    return step(learner, batch, number)
Learner.training_step = waiting
with narrowed():
    train_tiny(sys.argv[2], average=float(sys.argv[3]))
"""


def test_killed_after_an_epoch_and_started_again_it_ends_with_the_same_weights(averaged, tmp_path):
    average, expected = 0.9, averaged[0].state_dict()  # they follow from the weights of every step
    tests, out = Path(__file__).parent, tmp_path / "killed"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent), os.environ.get("PYTHONPATH", "")])}
    child = subprocess.Popen([sys.executable, "-c", WAITING, str(tests), str(out), str(average)], env=environment)
    last = out / "checkpoints" / "last.ckpt"
    try:
        deadline = time.monotonic() + 300
        while not last.is_file() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert child.returncode == -signal.SIGKILL, "it ended before it could be killed"
    assert torch.load(last, weights_only=True)["epoch"] < EPOCHS - 1

    resumed = train_tiny(out, average=average).state_dict()
    assert torch.load(last, weights_only=True)["epoch"] == EPOCHS - 1
    assert expected.keys() == resumed.keys()
    for name, value in expected.items():
        assert torch.equal(value, resumed[name]), name


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"rate": "plateau", "rate_patience": 1, "keep": "best", "patience": 3},
        {"rate": "cosine", "optimizer": "adam", "balance": "sampler", "average": 0.9, "keep": "best"},
        {"mixup": 0.5, "distill": {"teachers": ["none"], "weight": 0.5}, "average": 0.9},
        {"instance": 0.5, "balance": "weights", "optimizer": "sgd", "rate": "constant"},
        {"workers": 1},
        {"workers": 1, "balance": "sampler"},
    ],
    ids=[
        "plateau, early stopping, best",
        "sampler, average, best",
        "teacher, mixup, average",
        "two views, weights",
        "a worker",
        "a worker, sampler",
    ],
)
def test_every_way_of_training_goes_on_as_if_it_had_not_been_killed(changes, tmp_path, monkeypatch):
    torch.manual_seed(5)
    more = {"teachers": [Network(MODEL, SCHEMA)]} if "distill" in changes else {}
    killed = Killed(monkeypatch, tmp_path / "out", epoch=2)
    expected = train_tiny(killed.out, count=16, epochs=4, **changes, **more).state_dict()
    whole = killed.put_back()
    resumed = train_tiny(killed.out, count=16, epochs=4, **changes, **more).state_dict()
    assert_same_checkpoints(whole, killed.out)
    for name, value in expected.items():
        assert torch.equal(value, resumed[name]), name


def trained_twice(out, workers):
    """Train two steps in a row, the second with a backbone that rests, on one thread; return the weights."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.manual_seed(0)
        network = Network(MODEL, SCHEMA)
        for folder, frozen in (("step-1", "none"), ("step-2", "backbone")):
            network.freeze(frozen)
            step = job(workers=workers, epochs=3)
            train_network(network, step, [(garments(48, 1), 1)], garments(10, 3), out / folder)
        return network.state_dict()
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
def test_a_second_step_whose_pictures_a_worker_fetches_goes_on_as_if_it_had_not_been_killed(tmp_path, monkeypatch):
    expected = trained_twice(tmp_path / "alone", workers=0)
    killed = Killed(monkeypatch, tmp_path / "out", epoch=1)  # of both steps; what the second one left stays
    fetched = trained_twice(killed.out, workers=1)
    whole = killed.put_back()
    resumed = trained_twice(killed.out, workers=1)
    assert_same_checkpoints(whole, killed.out)
    for name, value in expected.items():
        assert torch.equal(value, fetched[name]), name  # every epoch has its own order, whoever fetches
        assert torch.equal(value, resumed[name]), name


@pytest.fixture
def watched_losses(monkeypatch):
    """A function that sets the validation loss of every epoch."""
    from stylematch.vision.learner import Learner

    def script(*losses):
        monkeypatch.setattr(
            Learner, "validation_step", lambda self, _: self.log("val_loss", losses[self.current_epoch])
        )

    return script


def test_the_best_epoch_before_a_kill_stays_the_best(watched_losses, tmp_path, monkeypatch):
    watched_losses(3.0, 1.0, 2.0, 4.0)
    killed = Killed(monkeypatch, tmp_path / "out", epoch=2)
    train_tiny(killed.out, count=16, epochs=4, keep="best")
    whole = killed.put_back()
    train_tiny(killed.out, count=16, epochs=4, keep="best")
    assert torch.load(killed.out / "checkpoints" / "best.ckpt", weights_only=True)["epoch"] == 1
    assert_same_checkpoints(whole, killed.out)


def test_the_best_epoch_stays_the_best_in_a_folder_that_was_moved(watched_losses, tmp_path, monkeypatch):
    watched_losses(3.0, 1.0, 2.0, 4.0)
    killed = Killed(monkeypatch, tmp_path / "out", epoch=2)
    train_tiny(killed.out, count=16, epochs=4, keep="best")
    killed.put_back()
    killed.out.rename(tmp_path / "moved")
    train_tiny(tmp_path / "moved", count=16, epochs=4, keep="best")
    assert torch.load(tmp_path / "moved" / "checkpoints" / "best.ckpt", weights_only=True)["epoch"] == 1
    assert not killed.out.exists()


def test_what_an_earlier_release_knew_of_the_best_epoch_is_read():
    from lightning.pytorch.callbacks import ModelCheckpoint

    options = {"monitor": "val_loss", "filename": "best"}
    assert best_checkpoint(Path("out")).state_key == ModelCheckpoint("out", **options).state_key


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_the_sampler_draws_a_rare_yes_as_often_as_its_weight_says(power):
    from stylematch.data.labels import BinaryGroup, LabelSchema

    schema = LabelSchema((BinaryGroup("attributes", ("Hat",)),))
    answers = torch.tensor([[1.0]] * 10 + [[0.0]] * 90)
    weights = _sampling_weights(SimpleNamespace(schema=schema), {"attributes": answers}, power)
    odds = weights[:10].sum() / weights[10:].sum()
    assert odds == pytest.approx((10 / 90) ** (1 - power), rel=1e-5)


def test_a_rate_falls_after_as_many_epochs_as_asked_and_momentum_stays():
    from stylematch.vision.learner import Learner

    network = Network(MODEL, SCHEMA)
    for patience in (1, 3):
        setting = job(rate="plateau", rate_patience=patience)
        made = Learner(network, SchemaLoss(SCHEMA), setting, 10).configure_optimizers()
        rate, rates = made["lr_scheduler"]["scheduler"], []
        for _ in range(patience + 2):
            rate.step(1.0)  # the first is the best so far
            rates.append(made["optimizer"].param_groups[0]["lr"])
        assert [value < 4e-3 * 0.99 for value in rates] == [False] * patience + [True] * 2
    made = Learner(
        network, SchemaLoss(SCHEMA), job(optimizer="sgd", momentum=0.3, rate="one_cycle"), 10
    ).configure_optimizers()
    for _ in range(5):
        made["optimizer"].step()
        made["lr_scheduler"]["scheduler"].step()
        assert made["optimizer"].param_groups[0]["momentum"] == 0.3


def test_pictures_that_were_replaced_are_not_gone_on_with(tmp_path):
    same = garments(16, 2)
    replaced = dataclasses.replace(same, fields=255 - same.fields)
    (tmp_path / "one").mkdir()
    check_data(SCHEMA, [(same, 1)], same, tmp_path / "one", begun=False)
    check_data(SCHEMA, [(same, 1)], same, tmp_path / "one", begun=True)
    with pytest.raises(UserError, match="learned from other pictures or labels"):
        check_data(SCHEMA, [(replaced, 1)], same, tmp_path / "one", begun=True)
    # What an earlier release began knew nothing of contents.
    stored = json.loads((tmp_path / "one" / "data.json").read_text())
    (tmp_path / "one" / "data.json").write_text(json.dumps({"sha256": stored["sha256"]}))
    check_data(SCHEMA, [(replaced, 1)], same, tmp_path / "one", begun=True)


def test_a_training_that_was_stopped_early_is_not_gone_on_with(watched_losses, tmp_path):
    watched_losses(3.0, 1.0, 2.0, 0.5, 0.4)
    changes = {"count": 16, "epochs": 5, "patience": 1, "keep": "best"}
    stopped = train_tiny(tmp_path, **changes).state_dict()
    last = tmp_path / "checkpoints" / "last.ckpt"
    before = last.stat().st_mtime_ns
    assert torch.load(last, weights_only=True)["epoch"] == 2
    again = train_tiny(tmp_path, **changes).state_dict()
    assert last.stat().st_mtime_ns == before
    for name, value in stopped.items():
        assert torch.equal(value, again[name]), name


def test_a_checkpoint_is_written_beside_the_one_that_it_replaces(tmp_path, monkeypatch):
    left = tmp_path / "out" / "checkpoints" / f".last.ckpt.0{TEMPORARY_SUFFIX}"
    left.parent.mkdir(parents=True)
    left.touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "no such folder"))
    train_tiny(tmp_path / "out", count=16, epochs=1)
    assert [path.name for path in left.parent.iterdir()] == ["last.ckpt"]


def test_what_an_earlier_step_has_trained_learns_on_in_training_mode(tmp_path):
    network = Network(MODEL, SCHEMA).eval()
    before = {name: value.clone() for name, value in network.named_buffers() if name.endswith("running_mean")}
    assert before
    train_network(network, job(epochs=1), [(garments(16, 1), 1)], garments(5, 3), tmp_path)
    for name, value in network.named_buffers():
        assert name not in before or not torch.equal(value, before[name]), name


def test_averaged_weights_are_those_of_a_moving_average(uninterrupted, averaged, tmp_path):
    plain = uninterrupted[0].state_dict()
    assert any(not torch.equal(value, plain[name]) for name, value in averaged[0].state_dict().items())
    # A long memory stays near the start: fourteen steps of 0.999 hold on to more than 0.98 of it.
    slow = train_tiny(tmp_path / "slow", average=0.999).state_dict()
    torch.manual_seed(0)
    start = Network(MODEL, SCHEMA).state_dict()
    for name in ("embedding.weight", "heads.category.weight"):
        assert (slow[name] - start[name]).norm() < 0.1 * (plain[name] - start[name]).norm()


def test_the_average_is_torchs_and_asks_the_device_once():
    steps = [nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)) for _ in range(4)]
    for number, step in enumerate(steps):
        step[1].num_batches_tracked += 10 * number
    ours = _Average(steps[0], 0.9, torch.device("cpu"))
    torchs = AveragedModel(steps[0], multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    for step in steps[1:3]:
        ours.update_parameters(step)
        torchs.update_parameters(step)
    gone_on = _Average(steps[0], 0.9, torch.device("cpu"))
    gone_on.load_state_dict(ours.state_dict())
    for average in (ours, gone_on, torchs):
        average.update_parameters(steps[3])
    expected = torchs.state_dict()
    for average in (ours, gone_on):
        assert all(torch.equal(value, expected[name]) for name, value in average.state_dict().items())
    far = _Average(steps[0].to("meta"), 0.9, torch.device("meta"))
    far._begun = True
    far.update_parameters(steps[0])  # a number of a meta tensor cannot be had


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_finished_training_is_not_repeated_and_keeps_its_weights(average, uninterrupted, averaged):
    network, out = averaged if average else uninterrupted
    last = out / "checkpoints" / "last.ckpt"
    before = last.stat().st_mtime_ns
    again = train_tiny(out, average=average)
    assert last.stat().st_mtime_ns == before
    for name, value in network.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_processes_that_share_a_training_end_together(tmp_path, monkeypatch):
    from stylematch.vision import shared_training, together

    monkeypatch.setattr(together, "_others", [SimpleNamespace(kill=lambda: killed.append(True))])
    monkeypatch.setattr(together, "_ending", threading.Event())
    monkeypatch.setattr(together.atexit, "register", lambda *_: None)
    monkeypatch.setattr(shared_training, "begin_first", lambda: None)
    monkeypatch.setattr(shared_training, "watch_others", lambda others: None)
    monkeypatch.setattr(shared_training, "wait_until_kept", lambda: begun.append("pictures are kept"))
    monkeypatch.setattr(
        shared_training._Launcher, "_call_children_scripts", lambda self: begun.append("the others are started")
    )
    monkeypatch.setattr(shared_training, "_set_num_threads_if_needed", lambda **_: None)
    killed, begun = [], []
    strategy = training_trainer(job(devices=2).schedule, tmp_path).strategy
    strategy._configure_launcher()

    def fail():
        raise UserError("a mistake")

    with pytest.raises(UserError, match="a mistake"):
        strategy.launcher.launch(fail)
    assert killed == [True]
    assert begun == ["pictures are kept", "the others are started"]  # who else would cut them all again


def test_a_model_that_mirrors_learns_the_same_and_may_be_made_so_afterwards(uninterrupted, tmp_path):
    shutil.copytree(uninterrupted[1], tmp_path / "finished")
    afterwards = train_tiny(tmp_path / "finished", mirror=True)
    plain, mirrored = (train_tiny(tmp_path / str(mirror), epochs=1, mirror=mirror) for mirror in (False, True))
    for expected, found in ((uninterrupted[0], afterwards), (plain, mirrored)):
        for name, value in expected.state_dict().items():
            assert torch.equal(value, found.state_dict()[name]), name


def test_a_teacher_that_mirrors_is_listened_to_as_it_answers(uninterrupted):
    from stylematch.vision.learner import Learner

    teacher = copy.deepcopy(uninterrupted[0])
    teacher.model = teacher.model.model_copy(update={"mirror": True})
    heard = job(distill={"teachers": ["none"], "weight": 0.5})
    learner = Learner(Network(MODEL, SCHEMA), SchemaLoss(SCHEMA), heard, 1, [teacher])
    pictures = torch.rand(4, 1, 28, 28)
    with torch.no_grad():
        sides = [teacher.outputs(side)[1]["category"] for side in (pictures, pictures.flip(3))]
        torch.testing.assert_close(learner._opinion(pictures, 0)["category"], (sides[0] + sides[1]) / 2)
    assert not torch.allclose(*sides)


@pytest.mark.slow
def test_a_teacher_is_listened_to_and_neither_changed_nor_stored(uninterrupted, tmp_path):
    teacher, _ = uninterrupted
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    torch.manual_seed(0)
    network = Network(MODEL, SCHEMA)
    blind = garments(192, 1)
    blind.targets["category"][:] = -1  # all that can be learned here is the teacher's opinion
    setting = job(mixup=0.5, distill={"teachers": ["unused"], "weight": 0.7})
    taught = train_network(network, setting, [(blind, 2)], garments(50, 3), tmp_path, [teacher])
    torch.manual_seed(0)
    assert loss_on(taught, garments(200, 4)) < 0.8 * loss_on(Network(MODEL, SCHEMA), garments(200, 4))
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name]), name
    stored = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert {name.removeprefix("network.") for name in stored} == set(network.state_dict())


def test_every_second_teacher_answers_from_the_mirrored_side():
    from stylematch.data.labels import BinaryGroup, LabelSchema, PointGroup
    from stylematch.vision.learner import Learner

    schema = LabelSchema(
        (
            BinaryGroup("attributes", ("Hat", "Smile")),
            PointGroup("landmarks", ("left_x", "left_y", "right_x", "right_y")),
        )
    )
    torch.manual_seed(0)
    teacher = Network(Model(backbone="mobilenet_v2", input_px=32, embedding_dim=8), schema)
    setting = job(distill={"teachers": ["a", "b"], "mirror": True})
    learner = Learner(teacher, SchemaLoss(schema), setting, 1, [teacher, teacher])
    pictures = torch.rand(3, 3, 32, 32)
    straight, mirrored = learner._opinion(pictures, 0), learner._opinion(pictures.flip(3), 1)
    torch.testing.assert_close(straight["attributes"], mirrored["attributes"])
    left_x, left_y, right_x, right_y = straight["landmarks"].unbind(1)
    expected = torch.stack([1 - right_x, right_y, 1 - left_x, left_y], 1)
    torch.testing.assert_close(mirrored["landmarks"], expected)


def test_a_teacher_sees_the_pictures_at_its_own_size():
    from stylematch.data.labels import BinaryGroup, LabelSchema
    from stylematch.vision.learner import Learner

    schema = LabelSchema((BinaryGroup("attributes", ("Hat", "Smile")),))
    torch.manual_seed(0)
    teacher = Network(Model(backbone="mobilenet_v2", input_px=32, embedding_dim=8), schema)
    learner = Learner(teacher, SchemaLoss(schema), job(distill={"teachers": ["a"]}), 1, [teacher])
    outputs, seen = teacher.outputs, []
    teacher.outputs = lambda pictures: seen.append(pictures) or outputs(pictures)
    own = torch.rand(2, 3, 32, 32)
    large = own.repeat_interleave(2, 2).repeat_interleave(2, 3)
    for pictures in (own, large, large[:, :, :40, :40]):
        assert learner._opinion(pictures, 0)["attributes"].shape == (2, 2)
    assert torch.equal(seen[0], own)
    assert [tuple(pictures.shape) for pictures in seen] == [(2, 3, 32, 32)] * 3
    # Antialiased, a halved picture weighs its neighbours, too: the means stay, and what is shown is alike.
    assert torch.corrcoef(torch.stack([seen[1].flatten(), own.flatten()]))[0, 1] > 0.7


def test_too_few_pictures_are_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"256 pictures .* batch of schedule.batch_size = 300"):
        train_tiny(tmp_path, batch_size=300)
    assert not (tmp_path / "checkpoints").exists()


def test_an_epoch_shows_every_picture_as_often_as_asked():
    order = EpochOrder([(5, 1), (3, 2)], batch_size=11, seed=1)
    assert len(order) == 1
    (rows,) = order
    assert sorted(rows) == [0, 1, 2, 3, 4, 5, 5, 6, 6, 7, 7]
    order.set_epoch(1)
    (later,) = order
    assert later != rows
    assert sorted(later) == sorted(rows)
    again = EpochOrder([(5, 1), (3, 2)], batch_size=11, seed=1)
    again.set_epoch(1)
    assert list(again) == [later]
    assert list(EpochOrder([(5, 1), (3, 2)], batch_size=11, seed=2)) != [rows]


def test_a_batch_is_taken_from_the_right_part():
    parts = [garments(4, 1), garments(3, 2)]
    batches = Batches(parts)
    batch = batches[[0, 3, 4, 6]]
    expected = [parts[0].fields[0], parts[0].fields[3], parts[1].fields[0], parts[1].fields[2]]
    np.testing.assert_array_equal(batch.fields.numpy(), np.stack(expected))
    labels = [parts[0].targets["category"][[0, 3]], parts[1].targets["category"][[0, 2]]]
    np.testing.assert_array_equal(batch.targets["category"].numpy(), np.concatenate(labels))
    assert batch.ids == ("1-0", "1-3", "2-0", "2-2")


def test_processes_share_every_batch():
    whole = list(EpochOrder([(20, 1)], batch_size=6, seed=1))
    shares = [list(EpochOrder([(20, 1)], batch_size=6, seed=1, rank=rank, processes=2)) for rank in (0, 1)]
    for batch, left, right in zip(whole, *shares, strict=True):
        assert len(left) == len(right) == 3
        assert sorted(left + right) == sorted(batch)


def test_rare_rows_are_drawn_more_often():
    weights = np.array([1.0] * 90 + [9.0] * 10)
    order = EpochOrder([(100, 1)], batch_size=100, seed=1, weights=weights)
    drawn = []
    for epoch in range(20):
        order.set_epoch(epoch)
        drawn += next(iter(order))
    assert 0.45 < np.mean(np.array(drawn) >= 90) < 0.55


def test_a_checkpoint_of_another_job_is_not_gone_on_with(uninterrupted):
    _, out = uninterrupted
    with pytest.raises(UserError, match="is of another job than this one"):
        train_tiny(out, learning_rate=1e-3)


def test_a_checkpoint_of_other_labels_is_not_gone_on_with(tmp_path):
    train_tiny(tmp_path, count=16)
    note = tmp_path / "data.json"
    begun = note.read_text()
    train_tiny(tmp_path, count=16)
    assert note.read_text() == begun
    note.unlink()  # of a training that was begun before there was one
    train_tiny(tmp_path, count=16)
    with pytest.raises(UserError, match="learned from other pictures or labels"):
        train_tiny(tmp_path, count=24)


def test_a_checkpoint_is_gone_on_with_though_a_setting_was_added_since(tmp_path):
    train_tiny(tmp_path, count=16)
    note = tmp_path / "job.json"
    described = json.loads(note.read_text())
    del described["schedule"]["average"]
    note.write_text(json.dumps(described))
    last = tmp_path / "checkpoints" / "last.ckpt"
    before = last.stat().st_mtime_ns
    train_tiny(tmp_path, count=16)
    assert last.stat().st_mtime_ns == before
    # What a divided embedding's parts count is said after the training: nothing is learned from it.
    assert not {"instance_share", "embedding_layer"} & set(described["model"])
    note.write_text(json.dumps({**described, "model": {**described["model"], "instance_share": 0.4}}))
    train_tiny(tmp_path, count=16)
    assert last.stat().st_mtime_ns == before
    note.write_text(json.dumps({**described, "loss": {"binary": "unheard of"}}))
    with pytest.raises(UserError, match="is of another job than this one"):
        train_tiny(tmp_path, count=16)


def test_a_loss_that_is_not_finite_names_batch_pictures_and_rate(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        network = Network(MODEL, SCHEMA)
        with torch.no_grad():
            network.embedding.weight[0, 0] = torch.inf
        said = "became (nan|inf) in epoch 1, batch 1, at a learning rate of 0.004, with the pictures 1-.* and 11 more, "
        said += f"all of which {tmp_path}/not-finite.txt names. No checkpoint was written before that: "
        with pytest.raises(UserError, match=said):  # the same command would end the same way
            train_network(network, job(rate="constant"), [(garments(64, 1), 1)], garments(20, 3), tmp_path)
    finally:
        torch.set_num_threads(threads)
    assert not list(tmp_path.glob("checkpoints/*"))
    named = (tmp_path / "not-finite.txt").read_text().splitlines()
    first = next(iter(EpochOrder([(64, 1)], 16, 3)))
    assert named == [f"1-{row}" for row in first]


@pytest.fixture(params=[False, True], ids=["at once", "beside the next epoch"])
def checkpoints(request, monkeypatch):
    """Whether checkpoints count as large, and their disk as slow."""
    if request.param:

        def slowly(path, data):
            time.sleep(0.3)
            write_durably(path, data)

        monkeypatch.setattr("stylematch.vision.checkpoints._WORTH_A_THREAD_BYTES", 0)
        monkeypatch.setattr("stylematch.vision.checkpoints.write_durably", slowly)
    return request.param


@pytest.mark.usefixtures("checkpoints")
def test_a_loss_that_is_not_finite_later_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    from stylematch.vision.learner import Learner

    whole = Learner.training_step

    def step(self, batch, number):
        if self.current_epoch == 1 and number == 3:
            with torch.no_grad():
                self.network.embedding.weight[0, 0] = torch.nan
        return whole(self, batch, number)

    monkeypatch.setattr(Learner, "training_step", step)
    kept = f"The checkpoint of epoch 1, which model.start_from takes, is {tmp_path}/checkpoints/last.ckpt: lower"
    with pytest.raises(UserError, match=f"became nan in epoch 2, batch 4, .* {kept}"):
        train_tiny(tmp_path, count=16)
    kept = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert kept["epoch"] == 0
    assert all(value.isfinite().all() for value in kept["state_dict"].values())


def test_weights_that_the_last_batch_of_an_epoch_spoilt_replace_no_checkpoint(tmp_path, monkeypatch):
    from stylematch.vision.learner import Learner

    def spoil(self, outputs, batch, number):
        if self.current_epoch == 1 and number == 4:
            with torch.no_grad():
                self.network.embedding.weight[0, 0] = torch.nan

    monkeypatch.setattr(Learner, "on_train_batch_end", spoil)
    said = r"on the watched pictures became nan in epoch 2, batch 5, at a learning rate of 0.004, with the pictures \d-"
    with pytest.raises(UserError, match=said):
        train_tiny(tmp_path, count=16, rate="constant")
    kept = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert kept["epoch"] == 0
    assert all(value.isfinite().all() for value in kept["state_dict"].values())


@pytest.mark.parametrize(("keep", "better"), [("last", False), ("best", False), ("best", True)])
def test_weights_that_no_bundle_could_hold_are_told_after_their_epoch(keep, better, tmp_path, monkeypatch):
    """Of the epoch that is kept: another than the best may be as it likes."""
    from stylematch.vision.learner import Learner

    def grow(self, outputs, batch, number):
        head = self.network.heads["category"]
        with torch.no_grad():
            if self.current_epoch == 0 and number == 4 and better:
                head.bias[0] = 100  # the second epoch is better than this
            if self.current_epoch == 1 and number == 4:
                head.bias[0] = 0
                head.weight[:, 3] *= not better
                self.network.embedding.bias[3] = 1e6

    monkeypatch.setattr(Learner, "on_train_batch_end", grow)
    last = tmp_path / "checkpoints" / "last.ckpt"
    if keep == "best" and not better:
        train_tiny(tmp_path, count=16, keep=keep)
        assert torch.load(last, weights_only=True)["epoch"] == 1
        return
    said = "after epoch 2, network.embedding.bias has values that float16, in which bundles store, cannot hold: .* "
    said += f"The checkpoint of epoch 1, which model.start_from takes, is {last}: lower"
    with pytest.raises(UserError, match=said):
        train_tiny(tmp_path, count=16, keep=keep)
    for kept in last.parent.iterdir():
        assert torch.load(kept, weights_only=True)["epoch"] == 0


def test_statistics_that_no_bundle_could_hold_may_come_back(caplog):
    state = {"weight": torch.ones(2), "running_var": torch.tensor([1.0, 1e5])}
    check_storable(state, {"weight"}, 3, lambda: "Lower it")
    assert "after epoch 3, running_var has values that float16" in caplog.text
    assert caplog.text.rstrip().endswith("Lower it")
    with pytest.raises(UserError, match="after epoch 3, weight has values"):
        check_storable({**state, "weight": torch.tensor([torch.nan])}, {"weight"}, 3, lambda: "Lower it")


# Too few epochs for a plateau to be one, so a constant rate gives the same weights as that.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate", "optimizer"), [("cosine", "sgd"), ("cosine", "adam"), ("plateau", "adam"), ("constant", "sgd")]
)
def test_every_optimizer_and_rate_learns(tmp_path, optimizer, rate):
    learning_rate = 0.02 if optimizer == "sgd" else 1e-3
    network = train_tiny(tmp_path, optimizer=optimizer, rate=rate, learning_rate=learning_rate, epochs=3)
    assert loss_on(network, garments(200, 4)) < 2.3


@pytest.mark.slow
def test_training_stops_early_and_keeps_the_best_weights(tmp_path):
    network = train_tiny(tmp_path, count=16, epochs=30, patience=1, keep="best", rate="constant", learning_rate=0.3)
    best = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)
    last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["epoch"] < 29
    assert best["epoch"] < last["epoch"]
    assert best["callbacks"].keys() == last["callbacks"].keys()
    for name, value in network.state_dict().items():
        assert torch.equal(value, best["state_dict"][f"network.{name}"]), name


@pytest.mark.usefixtures("checkpoints")
def test_a_checkpoint_that_is_the_best_and_the_last_is_written_once(tmp_path, watched_losses, monkeypatch):
    watched_losses(3.0, 2.0, 2.5)
    written = []
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda what, where: (written.append(what["epoch"]), save(what, where)))
    train_tiny(tmp_path, count=16, epochs=3, keep="best")
    assert written == [0, 1, 2]
    kept = {path.name: torch.load(path, weights_only=True)["epoch"] for path in (tmp_path / "checkpoints").iterdir()}
    assert kept == {"best.ckpt": 1, "last.ckpt": 2}


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_next_epoch_does_not_wait_for_a_large_checkpoint(tmp_path, watched_losses, monkeypatch, keep):
    from stylematch.vision.learner import Learner

    watched_losses(3.0, 2.0)
    second, step = threading.Event(), Learner.training_step

    def steps(learner, batch, number):
        if learner.current_epoch == 1:
            second.set()
        return step(learner, batch, number)

    def waits(path, data):
        assert second.wait(60)
        write_durably(path, data)

    monkeypatch.setattr(Learner, "training_step", steps)
    monkeypatch.setattr("stylematch.vision.checkpoints._WORTH_A_THREAD_BYTES", 0)
    monkeypatch.setattr("stylematch.vision.checkpoints.write_durably", waits)
    train_tiny(tmp_path, count=16, epochs=2, keep=keep)
    assert torch.load(tmp_path / "checkpoints" / f"{keep}.ckpt", weights_only=True)["epoch"] == 1


def test_what_was_learned_from_pictures_that_the_disk_did_not_take_is_not_kept(tmp_path, monkeypatch):
    error = OSError(errno.EIO, os.strerror(errno.EIO))
    monkeypatch.setattr(array_files, "_not_kept", [failure("keep the cut pictures in", f"{tmp_path}/cache", error)])
    with pytest.raises(StylematchError, match=r"could not keep the cut pictures in .*cache: Input/output error"):
        train_tiny(tmp_path, count=16)
    assert not list(tmp_path.glob("checkpoints/*"))


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_checkpoint_that_cannot_be_written_ends_the_training(tmp_path, checkpoints, monkeypatch, epochs):
    def full(path, data):
        raise StylematchError("could not write it: No space left on device")

    monkeypatch.setattr("stylematch.vision.checkpoints.write_durably", full)
    complaints = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    with pytest.raises(StylematchError, match="No space left on device"):
        train_tiny(tmp_path, count=16, epochs=epochs, keep="best")
    assert list((tmp_path / "checkpoints").iterdir()) == []
    gc.collect()  # what the error has kept
    assert complaints == []


@pytest.mark.usefixtures("checkpoints")
def test_a_best_checkpoint_that_cannot_be_written_leaves_the_last(tmp_path, watched_losses, monkeypatch):
    from stylematch.vision import checkpoints as module

    watched_losses(3.0, 4.0, 2.0)
    write, calls = module.write_durably, []

    def full_for_a_moment(path, data):
        calls.append(path)
        if len(calls) == 3:
            raise StylematchError("could not write it: No space left on device")
        write(path, data)

    monkeypatch.setattr(module, "write_durably", full_for_a_moment)
    with pytest.raises(StylematchError, match="No space left on device"):
        train_tiny(tmp_path, count=16, epochs=4, keep="best")
    kept = {path.name: torch.load(path, weights_only=True)["epoch"] for path in (tmp_path / "checkpoints").iterdir()}
    assert kept == {"best.ckpt": 0, "last.ckpt": 1}


SIXTEEN_STEPS = {"count": 16, "batch_size": 5}
"""Changes that make an epoch of ``train_tiny`` as many steps of few pictures each."""


def interrupted_in_the_third_epoch(monkeypatch, out, **changes):
    """Train for four epochs of 16 steps with an end in the third, after one more row of the log, and go on."""
    from stylematch.vision.learner import Learner

    step = Learner.training_step

    def ends(self, batch, number):
        if self.current_epoch == 2 and number == 10:
            raise InterruptedError("the machine is taken away")
        return step(self, batch, number)

    with monkeypatch.context() as patched:
        patched.setattr(Learner, "training_step", ends)
        with pytest.raises(InterruptedError):
            train_tiny(out, epochs=4, **SIXTEEN_STEPS, **changes)


def test_an_epochs_row_has_the_means_of_its_losses_and_the_rate(tmp_path, monkeypatch, caplog):
    from stylematch.vision.learner import Learner

    step, losses = Learner.training_step, []

    def noted(self, batch, number):
        total = step(self, batch, number)
        losses.append((self.current_epoch, total.item()))
        return total

    monkeypatch.setattr(Learner, "training_step", noted)
    with caplog.at_level("INFO"):
        train_tiny(tmp_path, count=16, rate="constant")  # of fewer steps than Lightning logs by itself
    rows = list(csv.DictReader((tmp_path / "log" / "metrics.csv").open()))
    assert len(rows) == EPOCHS
    for epoch, row in enumerate(rows):
        mean = np.mean([loss for of, loss in losses if of == epoch])
        assert float(row["train_loss"]) == pytest.approx(mean, rel=1e-5)
        assert float(row["train_category"]) == pytest.approx(mean, rel=1e-5)
        assert float(row["learning_rate"]) == pytest.approx(4e-3)
        assert all(row.values())
        line = next(text for text in caplog.messages if text.startswith(f"epoch {epoch + 1} of {EPOCHS}: "))
        assert f"train_loss {mean:.4f}, " in line
        assert line.endswith(", learning_rate 0.004")


@pytest.mark.slow
def test_a_training_that_was_gone_on_with_has_the_log_of_one_that_was_not(tmp_path, monkeypatch):
    train_tiny(tmp_path / "whole", epochs=4, **SIXTEEN_STEPS)
    interrupted_in_the_third_epoch(monkeypatch, tmp_path / "ended")
    log = tmp_path / "ended" / "log" / "metrics.csv"
    assert [row["step"] for row in csv.DictReader(log.open())] == ["15", "31"]
    train_tiny(tmp_path / "ended", epochs=4, **SIXTEEN_STEPS)
    expected = (tmp_path / "whole" / "log" / "metrics.csv").read_text()
    assert [row["epoch"] for row in csv.DictReader(io.StringIO(expected))] == [f"{epoch}.0" for epoch in range(4)]
    assert log.read_text() == expected
    train_tiny(tmp_path / "ended", epochs=4, **SIXTEEN_STEPS)  # which has nothing left to do
    assert log.read_text() == expected


def test_the_log_has_what_a_checkpoint_learned_from_when_the_process_dies(tmp_path, monkeypatch):
    killed = Killed(monkeypatch, tmp_path / "out", epoch=2)
    train_tiny(killed.out, epochs=3, **SIXTEEN_STEPS)
    whole = killed.put_back()
    left = list(csv.DictReader((killed.out / "log" / "metrics.csv").open()))
    assert [row["epoch"] for row in left] == ["0.0", "1.0"]
    train_tiny(killed.out, epochs=3, **SIXTEEN_STEPS)
    assert (killed.out / "log" / "metrics.csv").read_text() == (whole / "log" / "metrics.csv").read_text()


@pytest.mark.slow
def test_tensorboard_keeps_what_was_written_and_shows_every_epoch_once(tmp_path, monkeypatch):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    interrupted_in_the_third_epoch(monkeypatch, tmp_path, log="tensorboard")
    before = {path: path.read_bytes() for path in (tmp_path / "log").glob("events.out.tfevents.*")}
    train_tiny(tmp_path, epochs=4, log="tensorboard", **SIXTEEN_STEPS)
    assert all(path.read_bytes() == content for path, content in before.items())
    shown = accumulator.EventAccumulator(str(tmp_path / "log")).Reload()
    for name in ("val_loss", "train_loss", "learning_rate"):
        assert [event.step for event in shown.Scalars(name)] == [15, 31, 47, 63]


def test_tensorboard_is_written_where_asked(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed: pip install 'stylematch[train]'")
    train_tiny(tmp_path, count=16, epochs=1, log="tensorboard")
    assert list((tmp_path / "log").glob("events.out.tfevents.*"))


def test_a_training_of_a_release_with_other_layers_is_not_gone_on_with(uninterrupted, tmp_path):
    shutil.copytree(uninterrupted[1], tmp_path / "out")
    last = tmp_path / "out" / "checkpoints" / "last.ckpt"
    stored = torch.load(last, weights_only=True)
    del stored["state_dict"]["network.embedding.bias"]
    torch.save(stored, last)
    with pytest.raises(UserError, match=f"{last} is of an earlier release, whose small_resnet has other layers: name"):
        train_tiny(tmp_path / "out")


@pytest.mark.parametrize("damage", [lambda whole: whole[: len(whole) // 2], lambda _: b"", lambda _: b"text"])
def test_a_checkpoint_in_part_is_one_sentence(tmp_path, damage):
    last = tmp_path / "last.ckpt"
    torch.save({"global_step": 7, "state_dict": {"weight": torch.zeros(100)}}, last)
    assert steps_of(last) == 7
    last.write_bytes(damage(last.read_bytes()))
    for check in (steps_of, check_whole):
        with pytest.raises(
            UserError, match=rf"last.ckpt is no whole checkpoint: .* or delete {last.parents[1]}, to begin"
        ):
            check(last)


def test_weights_that_the_disk_has_changed_are_not_gone_on_with(tmp_path):
    train_tiny(tmp_path, count=16, epochs=1, keep="best")
    last, best = (tmp_path / "checkpoints" / f"{name}.ckpt" for name in ("last", "best"))
    for checkpoint in (last, best):
        whole = checkpoint.read_bytes()
        middle = len(whole) // 2
        checkpoint.unlink()  # or the other one would change, too
        checkpoint.write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
        with pytest.raises(UserError, match=f"{checkpoint} is no whole checkpoint"):
            train_tiny(tmp_path, count=16, epochs=1, keep="best")
        checkpoint.write_bytes(whole)
    best.unlink()
    with pytest.raises(UserError, match=f"{best} is no whole checkpoint"):
        train_tiny(tmp_path, count=16, epochs=1, keep="best")


@pytest.mark.parametrize("name", ["job.json", "data.json"])
@pytest.mark.parametrize("text", ["{", "[1]", "7", "null"])
def test_a_note_that_is_damaged_is_a_sentence(uninterrupted, tmp_path, name, text):
    shutil.copytree(uninterrupted[1], tmp_path / "out")
    (tmp_path / "out" / name).write_text(text)
    with pytest.raises(UserError, match=r"(of another job|other pictures or labels) .* name another out, or delete"):
        train_tiny(tmp_path / "out")
