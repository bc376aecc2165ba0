import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lightning", reason="Lightning is not installed: pip install 'stylematch[train]'")
import torch

from stylematch.data.fashion_mnist import SCHEMA
from stylematch.errors import UserError
from stylematch.settings import TrainJob
from stylematch.vision.examples import Examples
from stylematch.vision.losses import schema_loss, soft_targets
from stylematch.vision.networks import Network
from stylematch.vision.training import _Batches, _EpochOrder, train_network

pytestmark = pytest.mark.train

EPOCHS = 2


def job(mixup=0.0, distill=None, **schedule):
    values = {"epochs": EPOCHS, "batch_size": 16, "learning_rate": 4e-3, "label_smoothing": 0.05, "clip_norm": 5.0}
    return TrainJob.model_validate(
        {
            "name": "tiny",
            "out": "unused",
            "data": {"dataset": "fashion-mnist"},
            "model": {"backbone": "small_resnet", "input_px": 28, "embedding_dim": 16, "dropout": 0.1},
            "augment": {"flip": 0.5, "shift": 0.05, "zoom": 0.1, "rotate_degrees": 5, "brightness": 0.1, "erase": 0.2}
            | {"mixup": mixup},
            "schedule": {**values, "precision": "32-true", "seed": 3} | schedule,
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
    return Examples(tuple(f"{seed}-{row}" for row in range(count)), fields, {"category": labels})


def train_tiny(out, **schedule):
    """Train from the same start on 256 pictures in two parts, on one thread; return the network."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more wait for each other in busy loops
    try:
        torch.manual_seed(0)
        network = Network("small_resnet", SCHEMA, 16, dropout=0.1)
        parts = [(garments(192, 1), 1), (garments(32, 2), 2)]
        return train_network(network, SCHEMA, job(**schedule), parts, garments(50, 3), Path(out))
    finally:
        torch.set_num_threads(threads)


def loss_on(network, examples):
    pictures = torch.from_numpy(examples.crops(28)).permute(0, 3, 1, 2).float() / 255
    targets = soft_targets(SCHEMA, {"category": torch.from_numpy(examples.targets["category"])})
    with torch.inference_mode():
        _, outputs = network.eval().outputs(pictures)
        return float(schema_loss(SCHEMA, outputs, targets)["category"])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    out = tmp_path_factory.mktemp("uninterrupted")
    return train_tiny(out), out


def test_the_loss_falls(uninterrupted):
    torch.manual_seed(0)
    fresh = Network("small_resnet", SCHEMA, 16, dropout=0.1)
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


def test_killed_after_an_epoch_and_started_again_it_ends_with_the_same_weights(uninterrupted, tmp_path):
    code = "import sys; sys.path.insert(0, sys.argv[1]); from test_training import train_tiny; train_tiny(sys.argv[2])"
    tests = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent), os.environ.get("PYTHONPATH", "")])}
    child = subprocess.Popen([sys.executable, "-c", code, str(tests), str(tmp_path)], env=environment)
    last = tmp_path / "checkpoints" / "last.ckpt"
    try:
        deadline = time.monotonic() + 300
        while not last.is_file() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert child.returncode == -signal.SIGKILL, "it ended before it could be killed"
    assert torch.load(last, weights_only=True)["epoch"] < EPOCHS - 1

    resumed = train_tiny(tmp_path).state_dict()
    assert torch.load(last, weights_only=True)["epoch"] == EPOCHS - 1
    expected = uninterrupted[0].state_dict()
    assert expected.keys() == resumed.keys()
    for name, value in expected.items():
        assert torch.equal(value, resumed[name]), name


def test_a_finished_training_is_not_repeated(uninterrupted):
    network, out = uninterrupted
    last = out / "checkpoints" / "last.ckpt"
    before = last.stat().st_mtime_ns
    again = train_tiny(out)
    assert last.stat().st_mtime_ns == before
    for name, value in network.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_a_teacher_is_listened_to_and_neither_changed_nor_stored(uninterrupted, tmp_path):
    teacher, _ = uninterrupted
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    torch.manual_seed(0)
    network = Network("small_resnet", SCHEMA, 16, dropout=0.1)
    blind = garments(192, 1)
    blind.targets["category"][:] = -1  # all that can be learned here is the teacher's opinion
    setting = job(mixup=0.5, distill={"teacher": "unused", "weight": 0.7}, epochs=1)
    taught = train_network(network, SCHEMA, setting, [(blind, 2)], garments(50, 3), tmp_path, teacher)
    torch.manual_seed(0)
    assert loss_on(taught, garments(200, 4)) < loss_on(Network("small_resnet", SCHEMA, 16), garments(200, 4)) - 0.02
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name]), name
    stored = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert {name.removeprefix("network.") for name in stored} == set(network.state_dict())


def test_too_few_pictures_are_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"256 pictures .* batch of schedule.batch_size = 300"):
        train_tiny(tmp_path, batch_size=300)
    assert json.dumps(sorted(path.name for path in tmp_path.iterdir())) == "[]"


def test_an_epoch_shows_every_picture_as_often_as_asked():
    order = _EpochOrder([(5, 1), (3, 2)], batch_size=11, seed=1)
    assert len(order) == 1
    (rows,) = order
    assert sorted(rows) == [0, 1, 2, 3, 4, 5, 5, 6, 6, 7, 7]
    order.set_epoch(1)
    (later,) = order
    assert later != rows
    assert sorted(later) == sorted(rows)
    again = _EpochOrder([(5, 1), (3, 2)], batch_size=11, seed=1)
    again.set_epoch(1)
    assert list(again) == [later]
    assert list(_EpochOrder([(5, 1), (3, 2)], batch_size=11, seed=2)) != [rows]


def test_a_batch_is_taken_from_the_right_part():
    parts = [garments(4, 1), garments(3, 2)]
    fields, targets = _Batches(parts)[[0, 3, 4, 6]]
    expected = [parts[0].fields[0], parts[0].fields[3], parts[1].fields[0], parts[1].fields[2]]
    np.testing.assert_array_equal(fields.numpy(), np.stack(expected))
    labels = [parts[0].targets["category"][[0, 3]], parts[1].targets["category"][[0, 2]]]
    np.testing.assert_array_equal(targets["category"].numpy(), np.concatenate(labels))
