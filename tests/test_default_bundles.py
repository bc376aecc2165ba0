"""The shipped models. Their indexes are tested elsewhere."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from bfloat16 import EITHER_PRECISION, needs_bfloat16
from conftest import REPOSITORY
from hostile import EXAMPLES
from program import run

from stylematch.data.fashion_mnist import installed_fashion_mnist
from stylematch.data.photo_file import read_photo
from stylematch.data.photos import find_photos
from stylematch.errors import PhotoRejectedError
from stylematch.vision.bundle import Bundle
from stylematch.vision.face_reader import FaceReader
from stylematch.vision.runtime import CpuRuntime

DEFAULT = REPOSITORY / "indexes" / "default"
PICTURES = {"attributes": "faces", "garments": "garments"}  # by model: the fixture of what it sees

pytestmark = pytest.mark.skipif(not DEFAULT.is_dir(), reason="indexes/default is not built yet: make default-index")


@pytest.fixture(scope="module")
def faces():
    """The faces of the example photos, as large as the attribute model wants them."""
    reader = FaceReader("find", Bundle.open(DEFAULT / "attributes").input_px, min_face_px=24, max_megapixels=100)
    crops = []
    for photo in find_photos(EXAMPLES):
        try:
            crops.append(reader.read(read_photo(EXAMPLES, photo.raw_path, 1 << 24)).crops)
        except PhotoRejectedError:
            continue
    return np.concatenate(crops)


@pytest.fixture(scope="module")
def garments():
    """The pictures of the items that are shipped, as the garment model wants them."""
    stored = pq.read_table(DEFAULT / "items" / "rows.parquet", columns=["picture"])["picture"][:40].to_pylist()
    grey = np.frombuffer(b"".join(stored), np.uint8).reshape(40, 28, 28, 1)
    return np.repeat(grey, Bundle.open(DEFAULT / "garments").channels, axis=3)


def test_both_models_together_have_at_most_four_million_parameters():
    assert sum(Bundle.open(DEFAULT / name).description["parameters"] for name in PICTURES) <= 4_000_000


def test_the_default_has_at_most_16_megabytes():
    assert sum(path.stat().st_size for path in DEFAULT.rglob("*") if path.is_file()) <= 16_000_000


@pytest.mark.parametrize("bfloat16", EITHER_PRECISION)
@pytest.mark.parametrize("name", PICTURES)
def test_batches_do_not_change_a_bit(name, bfloat16, request):
    bundle = Bundle.open(DEFAULT / name)
    crops = request.getfixturevalue(PICTURES[name])
    whole = CpuRuntime(bundle, threads=2, bfloat16=bfloat16).run(crops)
    single = CpuRuntime(bundle, bfloat16=bfloat16)
    for row in range(len(crops)):
        one = single.run(crops[row : row + 1])
        assert (one.embedding[0] == whole.embedding[row]).all()
        for head, values in one.heads.items():
            assert (values[0] == whole.heads[head][row]).all()


@needs_bfloat16
@pytest.mark.parametrize("name", PICTURES)
def test_bfloat16_is_near_to_32_bits_on_real_crops(name, request):
    bundle = Bundle.open(DEFAULT / name)
    crops = request.getfixturevalue(PICTURES[name])
    less, exact = CpuRuntime(bundle, bfloat16=True).run(crops), CpuRuntime(bundle).run(crops)
    assert (less.embedding * exact.embedding).sum(axis=1).min() > 0.99
    assert not np.array_equal(less.embedding, exact.embedding)
    for head, values in less.heads.items():
        np.testing.assert_allclose(values, exact.heads[head], atol=0.1)
        assert np.abs(values - exact.heads[head]).mean() < 0.01


@pytest.mark.train
@pytest.mark.parametrize("name", PICTURES)
def test_torch_and_onnx_runtime_agree_on_real_crops(name, request):
    pytest.importorskip("torch", reason="torch is not installed: pip install 'stylematch[train]'")
    from stylematch.vision.runtime import TorchRuntime

    bundle = Bundle.open(DEFAULT / name)
    crops = request.getfixturevalue(PICTURES[name])
    assert len(crops) >= 7
    left, right = CpuRuntime(bundle).run(crops), TorchRuntime(bundle, "cpu").run(crops)
    np.testing.assert_allclose(left.embedding, right.embedding, atol=1e-3)
    for head, values in left.heads.items():
        np.testing.assert_allclose(values, right.heads[head], atol=1e-3)


def test_the_models_see_the_astronaut():
    bundle = Bundle.open(DEFAULT / "attributes")
    reader = FaceReader("find", bundle.input_px, min_face_px=24, max_megapixels=100)
    read = reader.read((EXAMPLES / "astronaut.jpg").read_bytes())
    said = CpuRuntime(bundle).run(read.crops)
    probability = dict(zip(bundle.schema.group("attributes").labels, said.heads["attributes"][0], strict=True))
    assert probability["Smiling"] > 0.9
    assert probability["Male"] < 0.5
    assert probability["No_Beard"] > 0.9
    assert probability["Eyeglasses"] < 0.1
    points = said.heads["landmarks"][0].reshape(5, 2)
    x, y = ((read.squares[0].x, read.squares[0].y) + points * read.squares[0].side).T
    # By eye, in the photo's 512 by 512 pixels; the eyes are 45 apart.
    np.testing.assert_allclose([x[0], y[0], x[1], y[1]], [202, 102, 248, 103], atol=5)
    np.testing.assert_allclose([x[2], y[2]], [225, 122], atol=10)
    np.testing.assert_allclose([y[3], y[4]], [144, 144], atol=10)
    assert x[3] < x[2] < x[4]


@pytest.mark.slow
def test_the_garment_encoder_is_as_good_as_its_card_says(tmp_path, capsys):
    if installed_fashion_mnist() is None:
        pytest.skip("Fashion-MNIST is not installed: apt-get install dataset-fashion-mnist")
    garments = Bundle.open(DEFAULT / "garments")
    said = json.loads((garments.directory / "figures.json").read_text())["measured"]["fashion-mnist test"]["category"]
    assert run(["evaluate", str(garments.directory), "fashion-mnist", "--out", str(tmp_path)]) == 0
    measured = json.loads((tmp_path / "figures.json").read_text())["measured"]["fashion-mnist test"]["category"]
    assert measured["accuracy"] == pytest.approx(said["accuracy"], abs=0.0005)
    assert measured["accuracy"] >= 0.955
    assert garments.description["parameters"] <= 1_000_000
    capsys.readouterr()
