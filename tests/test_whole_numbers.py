from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'stylematch[train]'")
import onnx
import onnxruntime
import torch
from conftest import REPOSITORY
from lively import lively
from PIL import Image
from program import EXAMPLES
from torch import nn

from stylematch.data import celeba
from stylematch.data.labels import LabelSchema
from stylematch.errors import UserError
from stylematch.pipelines.learning.starting import first_network
from stylematch.settings.load import load_job
from stylematch.settings.train import TrainJob
from stylematch.settings.train_model import Model
from stylematch.vision.bundle import GRAPH
from stylematch.vision.export import exported, write_bundle
from stylematch.vision.networks import Network
from stylematch.vision.runtime import CpuRuntime, TorchRuntime, run_in_batches
from stylematch.vision.stored_network import load_network
from stylematch.vision.whole_numbers import Grid, PixelGrid, WholeBlock, WholeConvolution, pixel_numbers

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("one_thread")]

SIDE = 32
CONVOLUTIONS = 52


@pytest.fixture(scope="module")
def learned():
    """A network of 32 bits, before it computes in whole numbers."""
    return lively("mobilenet_v2", celeba.SCHEMA, 32, SIDE)


@pytest.fixture(scope="module")
def written():
    network = lively("mobilenet_v2", celeba.SCHEMA, 32, SIDE)
    network.take_whole_numbers()
    return network


@pytest.fixture(scope="module")
def bundle(written, tmp_path_factory):
    return write_bundle(written, tmp_path_factory.mktemp("whole") / "bundle", name="whole", licence="none")


def pictures(kind, count=8):
    rng = np.random.default_rng(count)
    match kind:
        case "noise":
            return rng.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
        case "blocks":
            return rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8).repeat(SIDE // 8, 1).repeat(SIDE // 8, 2)
        case "black and white":
            return np.stack([np.full((SIDE, SIDE, 3), 255 * (n % 2), np.uint8) for n in range(count)])
    raise ValueError(kind)


def kinds_of_nodes(graph: Path, folder: Path):
    """Return what ONNX Runtime makes of a graph: how often each kind of node occurs."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    nodes = [node.op_type for node in onnx.load(options.optimized_model_filepath, load_external_data=False).graph.node]
    return {kind: nodes.count(kind) for kind in nodes}


@pytest.mark.parametrize("kind", ["noise", "blocks", "black and white"])
def test_torch_and_onnx_runtime_say_the_same(bundle, kind):
    seen = pictures(kind)
    left, right = CpuRuntime(bundle).run(seen), TorchRuntime(bundle, "cpu").run(seen)
    np.testing.assert_allclose(left.embedding, right.embedding, atol=1e-5)
    for name, values in left.heads.items():
        np.testing.assert_allclose(values, right.heads[name], atol=1e-5, err_msg=name)


def test_onnx_runtime_computes_every_convolution_and_sum_in_whole_numbers(bundle, tmp_path):
    kinds = kinds_of_nodes(bundle.directory / GRAPH, tmp_path)
    assert kinds["QLinearConv"] == CONVOLUTIONS
    assert kinds["QLinearAdd"] == 10
    assert kinds.get("Conv", 0) + kinds.get("FusedConv", 0) == 3  # of the landmarks
    assert kinds.get("QuantizeLinear", 0) == 0  # pixels are whole numbers already


def test_a_picture_has_the_same_bits_whatever_the_batch(bundle):
    seen, runtime = pictures("noise", 11), CpuRuntime(bundle)
    together = runtime.run(seen)
    for count in (1, 3, 8):
        apart = run_in_batches(runtime, seen, count)
        assert np.array_equal(apart.embedding, together.embedding)
        assert np.array_equal(apart.heads["attributes"], together.heads["attributes"])


def test_each_layer_begins_as_what_it_was(learned):
    """Up to half a step of the grid, and what the weights' own grids add; the zeros around a picture are others."""
    seen = torch.from_numpy(pictures("blocks", 4)).permute(0, 3, 1, 2)
    whole = lively("mobilenet_v2", celeba.SCHEMA, 32, SIDE)
    whole.take_whole_numbers()
    values = (seen / 255 - learned.pixel_mean) / learned.pixel_std
    numbers = pixel_numbers(seen)
    with torch.inference_mode():
        for old, new in zip(learned.backbone, whole.eval().backbone, strict=True):
            wanted, gives = old(values), new.gives or new.layers[-1].gives
            numbers = new(numbers)
            step = (gives.step * new.units).view(1, -1, 1, 1)
            wanted, found = (each[:, :, 1:-1, 1:-1] for each in (wanted, new.in_units(numbers)))
            if found.numel():
                off = (found - wanted.clamp(gives.low * step, gives.high * step)).abs() / step
                assert off.mean() < 2
            values = new.in_units(numbers)


@pytest.mark.shared_data
def test_a_trained_network_sees_in_eight_bits_what_it_saw_in_32(monkeypatch, shared_data):
    home = shared_data.parent / "torch_home"
    if not home.is_dir():
        pytest.skip("no ImageNet weights beside the real data")
    monkeypatch.setenv("TORCH_HOME", str(home))
    model = Model(backbone="mobilenet_v2", weights="imagenet", input_px=96)
    before, whole = Network(model, LabelSchema(())).eval(), Network(model, LabelSchema(())).eval()
    whole.take_whole_numbers()
    names = ("astronaut", "coffee", "grace_hopper", "group", "rocket")
    photos = [Image.open(EXAMPLES / f"{name}.jpg").convert("RGB").resize((96, 96)) for name in names]
    seen = torch.from_numpy(np.stack([np.asarray(photo) for photo in photos]))
    with torch.inference_mode():
        (left,), (right,) = before(seen), whole(seen)
    assert ((left * right).sum(1) > 0.95).all()  # of one photo; of two they are further apart
    assert (left @ left.T - torch.eye(len(left))).max() < 0.8


def test_a_bundle_gives_back_the_network_that_was_written(bundle, written):
    stored = load_network(bundle)
    assert stored.model.int8
    seen = torch.from_numpy(pictures("noise", 2))
    with torch.inference_mode():
        assert all(torch.equal(a, b) for a, b in zip(stored.eval()(seen), written(seen), strict=True))
    grids = [module for module in stored.modules() if isinstance(module, Grid)]
    assert len(grids) == CONVOLUTIONS + 10
    assert all(grid.step.half().float() == grid.step for grid in grids)


class Alone(nn.Module):
    """One block of pictures that are given with their channels first."""

    def __init__(self, *layers: WholeConvolution) -> None:
        super().__init__()
        self.block = WholeBlock(list(layers), None, torch.ones(len(layers[-1].bias)))

    def forward(self, pixels):
        return self.block(pixel_numbers(pixels))


def largest(channels_in, channels_out, side, given, *, groups=1):
    """A convolution whose weights are all the largest there are, so that its sums are the largest, too."""
    convolution = nn.Conv2d(channels_in, channels_out, side, padding=side // 2, groups=groups)
    nn.init.constant_(convolution.weight, 1 / convolution.weight[0].numel())
    nn.init.zeros_(convolution.bias)
    return WholeConvolution(convolution, given, Grid(255 * float(given.step), signed=False))


def test_the_largest_sums_are_exact(tmp_path):
    # Two products of seven-bit weights fit sixteen bits, which processors with AVX2 alone add them in; two of eight
    # would not, and this would find it there.
    first = largest(3, 16, 3, PixelGrid())
    layers = [first, largest(16, 960, 1, first.gives)]
    layers.append(largest(960, 960, 3, layers[-1].gives, groups=960))
    layers.append(largest(960, 8, 1, layers[-1].gives))
    network = Alone(*layers).eval()
    seen = torch.stack([torch.full((3, 12, 12), value, dtype=torch.uint8) for value in (255, 200, 117, 0)])
    program = exported(network, seen, ["found"])
    (tmp_path / "graph.onnx").write_bytes(program.model_proto.SerializeToString())
    assert kinds_of_nodes(tmp_path / "graph.onnx", tmp_path)["QLinearConv"] == len(layers)
    session = onnxruntime.InferenceSession(tmp_path / "graph.onnx", providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = network(seen).numpy()
    assert np.array_equal(session.run(None, {"pixels": seen.numpy()})[0], expected)
    highest = np.rint(expected[0] / float(layers[-1].gives.step)).max()
    assert 100 < highest < 255  # far from the least, and nothing at the end


def test_it_learns_and_what_is_frozen_stays():
    network = lively("mobilenet_v2", celeba.SCHEMA, 8, SIDE)
    network.take_whole_numbers()
    network.freeze(3)
    generator = torch.Generator().manual_seed(1)
    seen = torch.rand(8, 3, SIDE, SIDE, generator=generator)
    wanted = (torch.rand(8, 40, generator=generator) < 0.5).float()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 1e-4)
    losses = []
    network.train()
    for _ in range(12):
        loss = nn.functional.binary_cross_entropy_with_logits(network.outputs(seen)[1]["attributes"], wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert not any(key.startswith(("backbone.0.", "backbone.1.", "backbone.2.")) for key in changed)
    assert "backbone.3.layers.0.weight" in changed
    assert not any(key.endswith(".step") for key in changed)


@pytest.mark.slow
@pytest.mark.parametrize("more", [{"grayscale": True}, {"mirror": True}])
def test_grey_and_mirrored_pictures_are_seen_in_whole_numbers_too(tmp_path, more):
    network = lively("mobilenet_v2", celeba.SCHEMA, 8, 32, **more)
    network.take_whole_numbers()
    bundle = write_bundle(network, tmp_path / "bundle", name="whole", licence="none")
    seen = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    left, right = CpuRuntime(bundle).run(seen), TorchRuntime(bundle, "cpu").run(seen)
    np.testing.assert_allclose(left.heads["attributes"], right.heads["attributes"], atol=1e-5)
    said = left.heads["attributes"]
    if "mirror" in more:
        assert np.allclose(said, CpuRuntime(bundle).run(seen[:, :, ::-1]).heads["attributes"], atol=1e-5)
    else:
        grey = np.repeat(np.rint(seen @ [0.299, 0.587, 0.114])[..., None], 3, -1).astype(np.uint8)
        assert np.allclose(said, CpuRuntime(bundle).run(grey).heads["attributes"], atol=1e-4)


@pytest.mark.slow
def test_a_training_takes_up_a_network_of_32_bits_and_one_of_eight(bundle, tmp_path):
    before = write_bundle(lively("mobilenet_v2", celeba.SCHEMA, 32, SIDE), tmp_path / "b", name="b", licence="none")

    def first(start, **model):
        path = REPOSITORY / "jobs" / "celeba-mobilenet-int8.toml"
        values = {"start_from": f"'{start.directory}'", "input_px": SIDE, "embedding_dim": 32, **model}
        return first_network(
            load_job(path, TrainJob, [f"model.{key}={value}" for key, value in values.items()]), celeba.SCHEMA
        )

    taken, stored = first(before).state_dict(), load_network(bundle).state_dict()
    assert taken.keys() == stored.keys()
    for key, value in taken.items():
        torch.testing.assert_close(value, stored[key], atol=2e-3, rtol=2e-3, msg=key)
    assert all(torch.equal(value, stored[key]) for key, value in first(bundle).state_dict().items())
    with pytest.raises(UserError, match=r"model.start_from: .* has another architecture or other labels than this job"):
        first(bundle, int8="false")


def test_other_backbones_are_refused():
    with pytest.raises(UserError, match=r"^model.int8: resnet18 does not compute in whole numbers, mobilenet_v2 does"):
        Network(Model(backbone="resnet18", input_px=32, int8=True), celeba.SCHEMA)
