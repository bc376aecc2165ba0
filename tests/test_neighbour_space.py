"""The embedding that is read from an earlier layer: its fit, and the network and the bundle that have it."""

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'stylematch[train]'")
import numpy as np
import torch

from stylematch.data import celeba
from stylematch.errors import UserError
from stylematch.pipelines.learning.train_job import open_job
from stylematch.settings.train import TrainJob
from stylematch.settings.train_model import Model
from stylematch.vision.asking import logits_of
from stylematch.vision.examples import Examples
from stylematch.vision.export import write_bundle
from stylematch.vision.neighbour_space import fit_space
from stylematch.vision.networks import Network
from stylematch.vision.pooling import windows
from stylematch.vision.runtime import CpuRuntime
from stylematch.vision.stored_network import architecture, build_network, load_network
from stylematch.vision.training import give_space

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("one_thread")]

MODEL = Model(backbone="mobilenet_v2", input_px=64, embedding_dim=16, embedding_layer=16)


def drawn(count=400, features=12, width=3, seed=0):
    rng = np.random.default_rng(seed)
    seen = rng.normal(size=(count, features)) * rng.uniform(0.1, 9, features) + rng.normal(size=features)
    targets = (seen[:, :width] > seen[:, :width].mean(axis=0)).astype(np.float64)
    return seen, targets


def test_the_fit_finds_what_tells_the_labels_apart():
    seen, targets = drawn()
    fitted = fit_space([(seen, targets)])
    scores = seen @ fitted.weight.T + fitted.bias
    np.testing.assert_allclose(scores.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(scores.std(axis=0), 1, atol=1e-9)
    for column in range(3):
        assert ((scores[:, column] > 0) == (targets[:, column] == 1)).mean() > 0.9


def test_batches_of_any_size_give_one_fit():
    seen, targets = drawn()
    whole, cut = fit_space([(seen, targets)]), fit_space([(seen[:7], targets[:7]), (seen[7:], targets[7:])])
    np.testing.assert_array_equal(whole.weight, cut.weight)


def test_weights_stay_within_half_precision():
    """An untrained network's maps hardly vary; a cosine does not ask for the scale."""
    seen, targets = drawn()
    fitted = fit_space([(seen * 1e-6, targets)])
    assert max(np.abs(fitted.weight).max(), np.abs(fitted.bias).max()) <= 1000
    scores = seen * 1e-6 @ fitted.weight.T + fitted.bias
    np.testing.assert_allclose(scores.std(axis=0), scores.std(axis=0)[0])


def test_unknown_labels_pull_nowhere_and_constant_ones_are_silent():
    seen, targets = drawn()
    targets[:, 1], targets[::2, 0] = 1.0, np.nan
    fitted = fit_space([(seen, targets)])
    assert np.isfinite(fitted.weight).all()
    np.testing.assert_allclose(fitted.weight[1], 0, atol=1e-12)
    scores = seen @ fitted.weight.T + fitted.bias
    assert ((scores[1::2, 0] > 0) == (targets[1::2, 0] == 1)).mean() > 0.9
    with pytest.raises(UserError, match="no picture has a known label"):
        fit_space([(seen, np.full((400, 3), np.nan))])


@pytest.mark.parametrize("side", [1, 2, 3, 4, 7])
def test_windows_average(side):
    np.testing.assert_allclose(windows(side, 2).sum(1).numpy(), 1)
    if side == 4:
        assert windows(side, 2).tolist() == [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]


@pytest.fixture(scope="module")
def examples():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, (24, 40)).astype(np.float32)
    fields = rng.integers(0, 100, (24, 80, 80, 3), dtype=np.uint8)
    fields[:, :40, :40] += (labels[:, :1] * 120).astype(np.uint8)[..., None, None]
    targets = {"attributes": labels, "landmarks": np.zeros((24, 10), np.float32)}
    return Examples(tuple(f"{row}.jpg" for row in range(24)), fields, targets, 64)


@pytest.fixture(scope="module")
def network(examples):
    torch.manual_seed(0)
    network = Network(MODEL, celeba.SCHEMA).eval()
    network.before = logits_of(network, examples.crops())
    give_space(network, [(examples, 1)], lambda _: None)
    return network


def test_a_space_changes_the_embedding_and_nothing_else(network, examples):
    pictures = torch.from_numpy(np.array(examples.crops()))
    with torch.no_grad():
        embedding, *_ = network(pictures)
    assert embedding.shape == (24, 40)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(24))
    for name, values in logits_of(network, examples.crops()).items():
        np.testing.assert_array_equal(values, network.before[name])
    # The pictures with a bright quarter lie together.
    bright = examples.targets["attributes"][:, 0] == 1
    cosines = (embedding @ embedding.T).numpy()
    assert cosines[np.ix_(bright, bright)].mean() > cosines[np.ix_(bright, ~bright)].mean() + 0.02


@pytest.mark.slow
def test_a_bundle_keeps_the_space(network, examples, tmp_path):
    bundle = write_bundle(network, tmp_path / "bundle", name="near", licence="none")
    assert bundle.embedding_dim == 40
    pictures = np.array(examples.crops())
    found = CpuRuntime(bundle).run(pictures)
    assert found.embedding.shape == (24, 40)
    with torch.no_grad():
        embedding, attributes, _ = load_network(bundle).eval()(torch.from_numpy(pictures))
    np.testing.assert_allclose(found.embedding, embedding.numpy(), atol=1e-4)
    np.testing.assert_allclose(found.heads["attributes"], attributes.numpy(), atol=1e-4)
    # Stored in half precision.
    np.testing.assert_allclose(found.embedding, network(torch.from_numpy(pictures))[0].detach().numpy(), atol=0.02)
    built = build_network(architecture(network), celeba.SCHEMA, 64)
    assert {k: v.shape for k, v in built.state_dict().items()} == {k: v.shape for k, v in network.state_dict().items()}


def test_giving_a_space_leaves_statistics_alone():
    torch.manual_seed(0)
    network = Network(MODEL, celeba.SCHEMA).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.give_space(40)
    assert network.training
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())


def test_a_layer_that_is_none_or_has_no_maps_is_refused():
    with pytest.raises(UserError, match="has 19 children, not 20"):
        Network(MODEL.model_copy(update={"embedding_layer": 20}), celeba.SCHEMA)
    pooled = Network(Model(backbone="vit_b_32", input_px=64, embedding_layer=1), celeba.SCHEMA)
    with pytest.raises(UserError, match="gives no maps there"):
        pooled.give_space(40)


def test_a_layer_without_maps_is_refused_before_anything_is_cut(tmp_path):
    job = TrainJob.model_validate(
        {
            "name": "near",
            "out": str(tmp_path / "near"),
            "data": {"dataset": "celeba", "root": str(tmp_path / "absent")},
            "model": {"backbone": "vit_b_32", "input_px": 64, "embedding_layer": 1},
            "schedule": {"epochs": 1, "batch_size": 8, "learning_rate": 0.1},
        }
    )
    with pytest.raises(UserError, match="vit_b_32 gives no maps there"):
        open_job(job)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": {"instance_dim": 8, "embedded": ["category"]}}, "a divided embedding has its own"),
        ({"data": {"groups": ["landmarks"]}}, "points alone"),
    ],
)
def test_jobs_that_cannot_have_a_space_are_refused(changes, sentence):
    garments = "embedded" in changes.get("model", {})
    job = {
        "name": "near",
        "out": "runs/near",
        "data": {"dataset": "garments" if garments else "celeba", **changes.get("data", {})},
        "model": {
            "backbone": "small_resnet_rgb" if garments else "mobilenet_v2",
            "input_px": 28 if garments else 64,
            "embedding_layer": 1,
            **changes.get("model", {}),
        },
        "schedule": {"epochs": 1, "batch_size": 8, "learning_rate": 0.1},
    }
    if garments:
        job["data"]["split"] = "stratified"
    with pytest.raises(ValueError, match=sentence):
        TrainJob.model_validate(job)
