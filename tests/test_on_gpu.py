"""A CUDA device gives what the CPU gives, within a stated tolerance: embeddings, whole runs, trainings."""

import json

import numpy as np
import pytest
from conftest import REPOSITORY
from program import EXAMPLES, call, scored, table
from tiny import write_fashion_mnist

torch = pytest.importorskip("torch", reason="needs the train or gpu extra")

from stylematch.data.celeba import ATTRIBUTES  # noqa: E402
from stylematch.pipelines import face_batches  # noqa: E402
from stylematch.vision.bundle import Bundle  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.train,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device, or not asked for: -m gpu"),
]
TOLERANCE = 2e-3  # of a probability, or of a coordinate of a unit vector, which is stored as half a float


def column(rows, name):
    return np.array(rows[name].to_pylist(), np.float32)


@pytest.mark.parametrize("processes", [False, True])
def test_embed(tmp_path, monkeypatch, processes):
    if processes:
        monkeypatch.setattr(face_batches, "_WORTH_PROCESSES", 1)
    tables = []
    for device in ("cpu", "cuda"):
        done = call("embed", EXAMPLES, "--out", tmp_path / device, "--device", device)
        assert done.code == 0, done.err
        tables.append(table(tmp_path / device, ""))
    cpu, cuda = tables
    assert cuda.drop(["embedding"]).equals(cpu.drop(["embedding"]))
    np.testing.assert_allclose(column(cuda, "embedding"), column(cpu, "embedding"), atol=TOLERANCE)


@pytest.mark.parametrize("workers", [1, 2])
def test_score(tmp_path, workers):
    cpu = scored(EXAMPLES, tmp_path / "cpu")
    cuda = scored(EXAMPLES, tmp_path / "cuda", "--device", "cuda", "--workers", workers)
    assert table(cuda, "photos").equals(table(cpu, "photos"))
    left, right = table(cuda, "faces"), table(cpu, "faces")
    assert left["style"].equals(right["style"])
    for name in (*ATTRIBUTES, "embedding"):
        np.testing.assert_allclose(column(left, name), column(right, name), atol=TOLERANCE, err_msg=name)
    assert json.loads((cuda / "manifest.json").read_text())["device"].startswith("cuda")


@pytest.mark.parametrize("compiled", ["false", "true"])
def test_train(tmp_path, compiled):
    data = write_fashion_mnist(tmp_path / "fashion_mnist")
    changes = (
        f"data.root='{data}'",
        f"out='{tmp_path / 'run'}'",
        "schedule.average=0.9",
        f"schedule.compile={compiled}",
    )
    options = [part for change in changes for part in ("--set", change)]
    done = call("train", REPOSITORY / "jobs" / "garment-small.toml", "--smoke", *options)
    assert done.code == 0, done.err
    bundle = Bundle.open(tmp_path / "run-smoke" / "bundle")
    assert json.loads((bundle.directory / "figures.json").read_text())["measured"]
