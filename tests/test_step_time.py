"""What ``train --dry-run`` says a step takes, by a clock that advances with the work; no second is waited for."""

import numpy as np
import pytest

pytest.importorskip("lightning", reason="Lightning is not installed: pip install 'stylematch[train]'")
import torch

from stylematch.data.fashion_mnist import SCHEMA
from stylematch.errors import UserError
from stylematch.settings.train import TrainJob
from stylematch.vision import learner, step_time
from stylematch.vision.batches import Batches
from stylematch.vision.examples import Examples
from stylematch.vision.memory_need import least_memory
from stylematch.vision.networks import Network

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("one_thread")]

BATCH, FETCHED_S, AUGMENTED_S, FORWARD_S, BACKWARD_S = 4, 1e6, 1e4, 1.0, 1e2


def job(distill=None, instance=0.0, **schedule):
    return TrainJob.model_validate(
        {
            "name": "tiny",
            "out": "unused",
            "data": {"dataset": "fashion-mnist"},
            "model": {"backbone": "small_resnet", "input_px": 28, "embedding_dim": 8},
            "loss": {"instance": instance},
            "schedule": {"epochs": 3, "batch_size": BATCH, "learning_rate": 1e-3, "precision": "32-true"} | schedule,
            "distill": distill,
        }
    )


def pictures(count):
    rng = np.random.default_rng(count)
    fields = rng.integers(0, 256, (count, 36, 36, 1), dtype=np.uint8)
    return Examples(tuple(map(str, range(count))), fields, {"category": rng.integers(0, 10, count)}, 28)


@pytest.fixture
def measured(monkeypatch):
    """A function that measures, on a clock that advances by what each picture is fetched, augmented, seen, learned."""
    clock = [0.0]
    fetch, augment = Batches.__getitem__, learner.augment_batch

    def advance(seconds):
        clock[0] += seconds

    def fetched(self, rows):
        advance(FETCHED_S * len(rows))
        return fetch(self, rows)

    def augmented(fields, *more):
        advance(AUGMENTED_S * len(fields))
        return augment(fields, *more)

    monkeypatch.setattr(Batches, "__getitem__", fetched)
    monkeypatch.setattr(learner, "augment_batch", augmented)
    monkeypatch.setattr(step_time.time, "perf_counter", lambda: clock[0])

    def watched(network):
        first = next(iter(network.backbone))
        first.register_forward_hook(lambda _, given, made: advance(FORWARD_S * len(given[0])))
        first.register_full_backward_hook(lambda _, given, made: advance(BACKWARD_S * len(made[0])))
        return network

    def measure(wanted, teachers=0, frozen="none", count=2 * BATCH):
        network = watched(Network(wanted.model, SCHEMA))
        network.freeze(frozen)
        others = [watched(Network(wanted.model, SCHEMA)) for _ in range(teachers)]
        return step_time.measure_training(network, wanted, [(pictures(count), 1)], pictures(5), others, steps=3)

    return measure


def test_a_step_is_fetching_augmenting_looking_and_learning(measured):
    cost = measured(job())
    assert cost.step_s == BATCH * (FETCHED_S + AUGMENTED_S + FORWARD_S + BACKWARD_S)
    assert cost.pictures_per_s == pytest.approx(BATCH / cost.step_s)
    assert cost.watching_s == 5 * FORWARD_S
    assert (cost.steps, cost.epochs, cost.device) == (6, 3, "cuda" if torch.cuda.is_available() else "cpu")
    assert cost.total_s == 6 * cost.step_s + 3 * cost.watching_s
    assert cost.memory_bytes > 1e6


def test_two_views_are_twice_the_work_of_every_picture(measured):
    cost = measured(job(instance=0.5))
    assert cost.step_s == BATCH * (FETCHED_S + 2 * (AUGMENTED_S + FORWARD_S + BACKWARD_S))
    assert cost.pictures_per_s == pytest.approx(BATCH / cost.step_s)


def test_teachers_look_too_and_learn_nothing(measured):
    cost = measured(job(distill={"teachers": ["none", "none"], "mirror": False}), teachers=2)
    assert cost.step_s == BATCH * (FETCHED_S + AUGMENTED_S + 3 * FORWARD_S + BACKWARD_S)


def test_what_is_frozen_costs_no_way_back(measured):
    assert measured(job(), frozen=1).step_s == BATCH * (FETCHED_S + AUGMENTED_S + FORWARD_S)


def test_of_several_devices_one_is_measured_with_its_share(measured):
    cost = measured(job(devices=2))
    assert cost.step_s == BATCH / 2 * (FETCHED_S + AUGMENTED_S + FORWARD_S + BACKWARD_S)
    assert cost.pictures_per_s == pytest.approx(BATCH / cost.step_s)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_memory_grows_with_the_batch_and_is_known_by_a_few_pictures(precision):
    """What all pictures of a batch leave for the way back, counted as it is computed, is what is told by a few.

    In bfloat16 the rounded weights are kept as well, whatever the batch.
    """
    kept = []
    for changes in ({}, {"batch_size": 4 * 50}, {"batch_size": 4 * 50, "devices": 2}, {"rate": "plateau"}):
        wanted = job(precision=precision, **changes)
        network = Network(wanted.model, SCHEMA)
        kept.append(least_memory(network, wanted, [(pictures(250), 1)], pictures(5)))
    seen: dict[int, int] = {}
    network = Network(job().model, SCHEMA).train()
    weights = {weight.data_ptr() for weight in network.parameters()}

    def keep(values):
        storage = values.untyped_storage()
        seen.update({storage.data_ptr(): storage.nbytes()} if storage.data_ptr() not in weights else {})
        return values

    with (
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda values: values),
    ):
        _, outputs = network.outputs(torch.rand(200, 1, 28, 28))
    assert (kept[1] - kept[0]) * 96 == (kept[2] - kept[0]) * 196
    assert kept[3] == kept[0]
    assert kept[1] == pytest.approx(sum(seen.values()), rel=0.02)
    assert outputs["category"].requires_grad


def test_what_a_training_would_refuse_is_not_measured(measured):
    with pytest.raises(UserError, match=r"3 pictures .* batch of schedule.batch_size = 4"):
        measured(job(), count=3)
