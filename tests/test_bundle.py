import json
import shutil
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from bfloat16 import EITHER_PRECISION

pytest.importorskip("torch", reason="torch is not installed: pip install 'stylematch[train]'")
import onnx
import onnxruntime
import torch
from lively import lively
from safetensors import safe_open

from stylematch.data import celeba, fashion_mnist
from stylematch.data.labels import BinaryGroup, LabelSchema
from stylematch.errors import UserError
from stylematch.evaluate.calibration import calibration_errors
from stylematch.evaluate.thresholds import choose_thresholds
from stylematch.pipelines.learning import train as training
from stylematch.settings.train_model import Model
from stylematch.vision.asking import logits_of
from stylematch.vision.backbones import _SMALL
from stylematch.vision.bundle import CARD, DESCRIPTION, FIGURES, GRAPH, WEIGHTS, Bundle
from stylematch.vision.examples import Examples
from stylematch.vision.export import runtime_difference, write_bundle
from stylematch.vision.networks import Network
from stylematch.vision.runtime import CpuRuntime, TorchRuntime, load_runtime, resolve_device

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("one_thread")]


ARCHITECTURES = {
    "garments": ("small_resnet", fashion_mnist.SCHEMA, 64, 28, "category"),
    "attributes": ("mobilenet_v2", celeba.SCHEMA, 128, 128, "attributes"),
}


def exported(kind, directory):
    backbone, schema, embedding_dim, input_px, _ = ARCHITECTURES[kind]
    return write_bundle(
        lively(backbone, schema, embedding_dim, input_px),
        directory,
        name=f"random-{kind}",
        licence="none",
    )


@pytest.mark.slow
@pytest.mark.parametrize("left", [".tmpG7xjY2", f".{WEIGHTS}.0123456789ab.tmp", f".{CARD}.0123456789ab.tmp"])
def test_what_a_kill_left_in_a_bundle_does_not_stop_the_next_one(left, tmp_path):
    (tmp_path / left).write_bytes(b"half of it")
    bundle = exported("garments", tmp_path)
    assert {path.name for path in bundle.directory.iterdir()} == {DESCRIPTION, WEIGHTS, GRAPH}
    assert not (bundle.directory / WEIGHTS).stat().st_mode & 0o111
    assert (bundle.directory / WEIGHTS).stat().st_mode & 0o400


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    return {kind: exported(kind, tmp_path_factory.mktemp(kind)) for kind in ARCHITECTURES}


@pytest.fixture
def garments(bundles, tmp_path):
    """A copy that a test may damage."""
    shutil.copytree(bundles["garments"].directory, tmp_path / "bundle")
    return tmp_path / "bundle"


def pictures(bundle, count, seed=0):
    """Return random pictures with structure: blocks of random brightness."""
    shape = (count, 7, 7, bundle.channels)
    blocks = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    repeated = blocks.repeat(-(-bundle.input_px // 7), axis=1).repeat(-(-bundle.input_px // 7), axis=2)
    return repeated[:, : bundle.input_px, : bundle.input_px]


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_runtimes_agree(bundles, kind):
    bundle, head = bundles[kind], ARCHITECTURES[kind][4]
    pixels = pictures(bundle, 12)
    onnx_says, torch_says = CpuRuntime(bundle).run(pixels), TorchRuntime(bundle, "cpu").run(pixels)
    assert list(onnx_says.heads) == [group.name for group in bundle.schema.groups]
    np.testing.assert_allclose(onnx_says.embedding, torch_says.embedding, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(onnx_says.embedding, axis=1), 1, atol=1e-5)
    for name, values in onnx_says.heads.items():
        np.testing.assert_allclose(values, torch_says.heads[name], atol=1e-3)
    # The comparison means something only if the answers differ between pictures.
    assert onnx_says.heads[head].std(axis=0).max() > 0.05
    assert runtime_difference(bundle) < 1e-3


@pytest.mark.slow
def test_thresholds_are_the_best_for_the_bundle_as_it_is_stored(tmp_path, monkeypatch):
    """Weights that are rounded later would let pictures change places around a threshold."""
    monkeypatch.setitem(_SMALL, "small_resnet", (1, (16, 32, 64)))
    schema = LabelSchema((BinaryGroup("tags", tuple(f"tag {number}" for number in range(30))),))
    network = lively("small_resnet", schema, 16, 28)
    rng = np.random.default_rng(5)
    blocks = rng.integers(0, 256, (2000, 9, 9, 1), dtype=np.uint8)
    fields = blocks.repeat(4, axis=1).repeat(4, axis=2)
    # Labels that the network half knows, by that half of the pictures of which it says most.
    said = logits_of(network, fields[:, 4:32, 4:32])["tags"]
    truth = said + rng.normal(0, said.std(0), said.shape) > np.median(said, 0)
    val = Examples(tuple(map(str, range(2000))), fields, {"tags": truth.astype(np.int8)}, 28)
    job = SimpleNamespace(model=network.model)
    calibration, chosen = training.finish(job, SimpleNamespace(parts=[], val=val), network)
    stored = CpuRuntime(write_bundle(network, tmp_path, name="tags", licence="none")).run(val.crops()).heads["tags"]
    best = choose_thresholds(stored, val.targets["tags"])
    yes = val.targets["tags"] > 0

    def balanced(thresholds):
        said = stored >= thresholds
        return ((said & yes).sum(0) / yes.sum(0) + (~said & ~yes).sum(0) / (~yes).sum(0)) / 2

    # Another arithmetic may let a picture change places; rounded weights let tens.
    np.testing.assert_allclose([*chosen["tags"].values()], best, atol=2e-5)
    assert balanced(best).min() > 0.6
    error = calibration_errors(stored, val.targets["tags"]).mean()
    assert calibration["tags"]["expected_calibration_error_after"] == pytest.approx(error, abs=1e-4)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_bundle_gives_what_the_network_gave(bundles, kind):
    backbone, schema, embedding_dim, input_px, head = ARCHITECTURES[kind]
    pixels = pictures(bundles[kind], 4)
    with torch.inference_mode():
        embedding, *heads = lively(backbone, schema, embedding_dim, input_px)(torch.from_numpy(pixels))
    stored = CpuRuntime(bundles[kind]).run(pixels)
    cosine = (stored.embedding * embedding.numpy()).sum(axis=1)
    assert cosine.min() > 0.999  # float16 weights cost this much
    position = [group.name for group in schema.groups].index(head)
    difference = np.abs(stored.heads[head] - heads[position].numpy())
    assert difference.mean() < 0.02
    assert difference.max() < 0.1


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_onnx_runtime_can_fold_the_graph(bundles, kind, tmp_path):
    # What is left of normalisation and of limits after folding made the shipped model 3.5 times slower.
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "folded.onnx")
    onnxruntime.InferenceSession(bundles[kind].directory / GRAPH, options, providers=["CPUExecutionProvider"])
    left = [node.op_type for node in onnx.load(tmp_path / "folded.onnx").graph.node]
    assert left.count("Conv") > 10
    assert "BatchNormalization" not in left
    assert left.count("Clip") + left.count("Relu") <= 1


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_weights_are_stored_once_and_as_float16(bundles, kind):
    directory = bundles[kind].directory
    with safe_open(directory / WEIGHTS, framework="np") as weights:
        names = set(weights.keys())
        assert {weights.get_slice(name).get_dtype() for name in names} == {"F16"}
        count = sum(int(np.prod(weights.get_slice(name).get_shape())) for name in names)
    assert count >= bundles[kind].description["parameters"]
    assert (directory / WEIGHTS).stat().st_size < 2 * count + 200 * len(names) + 1000
    graph = onnx.load(directory / GRAPH, load_external_data=False).graph
    outside = [t for t in graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    inside = [t for t in graph.initializer if t.data_location != onnx.TensorProto.EXTERNAL]
    assert {t.name.removesuffix(".fp16") for t in outside} == names
    assert sum(t.ByteSize() for t in inside) < 10_000  # limits of activations, means of colours
    assert (directory / GRAPH).stat().st_size < 200_000
    assert all(entry.value == WEIGHTS for t in outside for entry in t.external_data if entry.key == "location")


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_nothing_in_a_bundle_can_run_code_or_names_this_machine(bundles, kind):
    directory = bundles[kind].directory
    assert {path.name for path in directory.iterdir()} == {WEIGHTS, GRAPH, DESCRIPTION}
    for path in directory.iterdir():
        data = path.read_bytes()
        assert not data.startswith((b"PK", b"\x80\x02", b"\x80\x04"))  # zip (torch.save) and pickles
        assert b"site-packages" not in data
        assert str(directory).encode() not in data
    assert not directory.joinpath(WEIGHTS).stat().st_mode & 0o111


def test_a_bundle_describes_itself(bundles):
    bundle = Bundle.open(bundles["attributes"].directory)
    assert (bundle.name, bundle.input_px, bundle.channels, bundle.embedding_dim) == (
        "random-attributes",
        128,
        3,
        128,
    )
    assert bundle.schema == celeba.SCHEMA
    network = Network(Model(backbone="mobilenet_v2", input_px=128, embedding_dim=128), celeba.SCHEMA)
    assert bundle.description["parameters"] == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_picture_has_the_same_bits_in_any_batch_and_with_any_threads(bundles, kind):
    bundle = bundles[kind]
    pixels = pictures(bundle, 64)
    runtimes = [CpuRuntime(bundle, threads=threads) for threads in (1, 2)]
    whole = runtimes[0].run(pixels)
    batches = (1, 2, 3, 7, 8, 16, 31, 33, 64) if kind == "garments" else (1, 5, 32, 64)
    for runtime in runtimes:
        for size in batches:
            start = 64 % size
            part = runtime.run(pixels[start : start + size])
            assert (part.embedding == whole.embedding[start : start + size]).all()
            for name, values in part.heads.items():
                assert (values == whole.heads[name][start : start + size]).all()


@pytest.mark.slow
def test_exporting_again_gives_the_same_bytes(bundles, tmp_path):
    again = exported("garments", tmp_path / "again")
    assert again.sha256 == bundles["garments"].sha256


def test_the_digest_names_the_model_and_not_its_card(garments):
    before = Bundle.open(garments).sha256
    (garments / CARD).write_text("# A card\n")
    (garments / FIGURES).write_text("{}")
    assert Bundle.open(garments).sha256 == before
    changed = {before}
    for name in (WEIGHTS, GRAPH, DESCRIPTION):
        path = garments / name
        data = path.read_bytes()
        path.write_bytes(
            data.replace(b"random-garments", b"another-name!!!") if name == DESCRIPTION else data[:-1] + b"\1"
        )
        changed.add(Bundle.open(garments).sha256)
        path.write_bytes(data)
    assert len(changed) == 4
    assert Bundle.open(garments).sha256 == before


@pytest.mark.parametrize("name", [WEIGHTS, GRAPH, DESCRIPTION])
def test_a_missing_file_is_named(garments, name):
    (garments / name).unlink()
    with pytest.raises(UserError, match=f"is not a model bundle: it has no {name}"):
        Bundle.open(garments)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda text: text[:-20], "cannot be read"),
        (lambda text: "[]", "has format None"),
        (lambda text: text.replace('"format": 1', '"format": 99'), "has format 99, this version reads 1"),
        (lambda text: text.replace('"schema"', '"labels"'), "is damaged .*schema"),
        (lambda text: text.replace('"side_px": 28', '"side_px": "wide"'), "is damaged"),
        (lambda text: text.replace('"side_px": 28', '"side_px": -1'), "is damaged .*side_px is under 1"),
        (lambda text: text.replace('"input": {', '"input": 3, "more": {'), "is damaged"),
        (lambda text: text.replace('"architecture": {', '"architecture": ["x"], "more": {'), "is damaged"),
        (lambda text: text.replace('"format": 1', '"format": 1, "data": ["x"]'), "is damaged"),
        (lambda text: text.replace('"categorical"', '"ordinal"'), "unknown kind 'ordinal'"),
    ],
)
def test_a_damaged_description_is_a_sentence(garments, break_it, message):
    text = (garments / DESCRIPTION).read_text()
    assert break_it(text) != text
    (garments / DESCRIPTION).write_text(break_it(text))
    with pytest.raises(UserError, match=message):
        Bundle.open(garments)


@pytest.mark.parametrize(
    ("name", "break_it"),
    [
        (GRAPH, lambda data: b""),
        (GRAPH, lambda data: data[: len(data) // 2]),
        (GRAPH, lambda data: b"not a graph"),
        (WEIGHTS, lambda data: data[: len(data) // 2]),
        (WEIGHTS, lambda data: b""),
    ],
)
@pytest.mark.parametrize("bfloat16", EITHER_PRECISION)
def test_damaged_graphs_and_weights_are_a_sentence(garments, name, break_it, bfloat16):
    path = garments / name
    path.write_bytes(break_it(path.read_bytes()))
    with pytest.raises(UserError, match=r"is damaged .*get or train it again") as caught:
        CpuRuntime(Bundle.open(garments), bfloat16=bfloat16)
    assert "\n" not in str(caught.value)
    if name == WEIGHTS:
        with pytest.raises(UserError, match="is damaged"):
            TorchRuntime(Bundle.open(garments), "cpu")


def test_weights_of_another_architecture_are_refused(garments):
    text = (garments / DESCRIPTION).read_text()
    (garments / DESCRIPTION).write_text(text.replace('"embedding_dim": 64', '"embedding_dim": 32'))
    with pytest.raises(UserError, match="is damaged"):
        TorchRuntime(Bundle.open(garments), "cpu")
    shutil.copy(garments / WEIGHTS, garments.parent / "kept")
    from safetensors.numpy import load_file, save_file

    stored = load_file(garments.parent / "kept")
    stored["stranger"] = stored.pop("embedding.bias")
    save_file(stored, garments / WEIGHTS)
    (garments / DESCRIPTION).write_text(text)
    with pytest.raises(UserError, match="do not fit the architecture"):
        TorchRuntime(Bundle.open(garments), "cpu")


@pytest.mark.slow
def test_a_model_that_mirrors_does_so_as_a_bundle_whatever_the_batch(tmp_path):
    network = lively("small_resnet", fashion_mnist.SCHEMA, 8, 28)
    plain = write_bundle(network, tmp_path / "plain", name="plain", licence="none")
    network.model = network.model.model_copy(update={"mirror": True})
    bundle = write_bundle(network, tmp_path / "bundle", name="mirrored", licence="none")
    assert (bundle.description["architecture"]["mirror"], plain.description["architecture"]["mirror"]) == (True, False)
    shown = pictures(bundle, 11)
    runtime = CpuRuntime(bundle)
    together = runtime.run(shown)
    assert not np.allclose(together.heads["category"], CpuRuntime(plain).run(shown).heads["category"], atol=1e-3)
    np.testing.assert_allclose(together.heads["category"], runtime.run(shown[:, :, ::-1]).heads["category"], atol=1e-5)
    alone = np.concatenate([runtime.run(shown[row : row + 1]).embedding for row in range(11)])
    assert alone.tobytes() == together.embedding.tobytes()
    assert runtime_difference(Bundle.open(tmp_path / "bundle")) < 1e-3  # torch builds the same from the description


def test_a_network_that_float16_cannot_hold_is_not_exported(tmp_path):
    network = lively("small_resnet", fashion_mnist.SCHEMA, 8, 28)
    with torch.no_grad():
        network.embedding.weight[0, 0] = 1e6
    said = r"embedding.weight has values that float16 .* diverged. Lower schedule.learning_rate .* into another out"
    with pytest.raises(UserError, match=said):  # the same command would fail again
        write_bundle(
            network,
            tmp_path / "bundle",
            name="huge",
            licence="none",
        )


def test_other_pictures_than_the_models_are_refused(bundles):
    runtime = CpuRuntime(bundles["garments"])
    for wrong in (
        np.zeros((1, 28, 28, 3), np.uint8),
        np.zeros((1, 32, 32, 1), np.uint8),
        np.zeros((28, 28, 1), np.uint8),
        np.zeros((1, 28, 28, 1), np.float32),
    ):
        with pytest.raises(ValueError, match="takes uint8"):
            runtime.run(wrong)


def test_pictures_need_not_lie_together_in_memory(bundles):
    pixels = pictures(bundles["garments"], 6)
    runtime = CpuRuntime(bundles["garments"])
    turned = np.asfortranarray(pixels)
    turned.setflags(write=False)  # as memory-mapped pictures are
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TorchRuntime(bundles["garments"], "cpu").run(turned)
    np.testing.assert_array_equal(runtime.run(turned[::2]).embedding, runtime.run(pixels[::2].copy()).embedding)


def test_devices_are_named(bundles):
    with pytest.raises(UserError, match="--device tpu is unknown; choose one of auto, cpu, cpu-bf16, cuda"):
        resolve_device("tpu")
    assert isinstance(load_runtime(bundles["garments"], "cpu"), CpuRuntime)
    if not torch.cuda.is_available():
        assert isinstance(load_runtime(bundles["garments"], "auto"), CpuRuntime)
        with pytest.raises(UserError, match="torch sees no CUDA device; use --device cpu or auto"):
            load_runtime(bundles["garments"], "cuda")


@pytest.mark.parametrize(("visible", "asked"), [("", False), ("-1", False), ("0", True)])
def test_a_driver_whose_gpus_are_hidden_is_not_asked(monkeypatch, visible, asked):
    loaded = []
    monkeypatch.setattr("ctypes.CDLL", loaded.append)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    resolve_device("auto")
    assert bool(loaded) is asked


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device, or not asked for: -m gpu")
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_cuda_agrees_with_the_cpu(bundles, kind):
    pixels = pictures(bundles[kind], 20)
    gpu = load_runtime(bundles[kind], "auto")
    assert isinstance(gpu, TorchRuntime)
    left, right = gpu.run(pixels), CpuRuntime(bundles[kind]).run(pixels)
    np.testing.assert_allclose(left.embedding, right.embedding, atol=1e-3)
    for name, values in left.heads.items():
        np.testing.assert_allclose(values, right.heads[name], atol=1e-3)


def test_the_description_is_for_people_too(bundles):
    text = (bundles["garments"].directory / DESCRIPTION).read_text()
    assert json.loads(text)["input"] == {"side_px": 28, "channels": 1, "dtype": "uint8", "layout": "NHWC"}
    assert text.endswith("}\n")
