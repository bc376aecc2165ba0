"""``--device cpu-bf16``: near to 32 bits, as repeatable, refused where it cannot be, and silent."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from bfloat16 import needs_bfloat16
from program import (
    DEFAULT_INDEX,
    EXAMPLES,
    PATIENCE_S,
    call,
    environment,
    manifest,
    score,
    scored,
    table,
    table_digests,
)

from stylematch.errors import MissingExtraError, UserError
from stylematch.pipelines.nights.feature_store import fingerprint
from stylematch.pipelines.run_spec import RunSpec
from stylematch.report.join import attribute_names
from stylematch.settings.score import ScoreSettings
from stylematch.vision import bfloat16
from stylematch.vision.runtime import resolve_device

pytestmark = pytest.mark.skipif(not DEFAULT_INDEX.is_dir(), reason="indexes/default is not built: make default-index")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return scored(EXAMPLES, tmp_path_factory.mktemp("bf16") / "out", "--device", "cpu-bf16", "--no-report")


@needs_bfloat16
def test_a_run_is_near_to_that_in_32_bits_and_another_one(run, example_run):
    assert manifest(run)["device"] == "cpu-bf16"
    assert manifest(run)["run_id"] != manifest(example_run)["run_id"]
    assert manifest(run)["packages"]["openvino"]
    assert manifest(run)["counts"] == manifest(example_run)["counts"]
    less, exact = table(run, "faces"), table(example_run, "faces")
    assert less["path"].equals(exact["path"])
    embeddings = (np.stack(faces["embedding"].to_pylist()).astype(np.float64) for faces in (less, exact))
    cosines = np.multiply(*embeddings).sum(axis=1)
    assert cosines.min() > 0.99
    names = attribute_names(run)
    assert len(names) == 40
    difference = np.abs(np.stack([less[name].to_numpy() - exact[name].to_numpy() for name in names]))
    assert 0 < difference.max() < 0.1
    assert difference.mean() < 0.01


@needs_bfloat16
@pytest.mark.parametrize("options", [("--workers", "1", "--batch-size", "3"), ("--workers", "2", "--batch-size", "64")])
def test_batches_and_workers_change_no_byte(run, tmp_path, options):
    again = scored(EXAMPLES, tmp_path / "out", "--device", "cpu-bf16", "--no-report", *options)
    assert table_digests(again) == table_digests(run)


@needs_bfloat16
def test_embedding_and_the_doctor_use_it(tmp_path):
    for device in ("cpu", "cpu-bf16"):
        assert call("embed", EXAMPLES, "--out", tmp_path / device, "--device", device).code == 0
    less, exact = (pq.read_table(tmp_path / device / "part-00000.parquet") for device in ("cpu-bf16", "cpu"))
    assert less["embedding"].to_pylist() != exact["embedding"].to_pylist()
    assert "cpu in bfloat16, OpenVINO" in call("doctor", "--seconds", "0", "--device", "cpu-bf16").out


@needs_bfloat16
def test_it_tells_nobody_and_leaves_nothing(tmp_path):
    """OpenVINO's own telemetry asks for its maker's address, and writes into the home folder, at the first import."""
    code = (
        "import socket; asked = []; socket.getaddrinfo = lambda *a, **k: asked.append(a) or []\n"
        "from stylematch.vision.bfloat16 import check_bfloat16; check_bfloat16()\n"
        "import sys, time; time.sleep(0.5); assert 'openvino_telemetry' not in sys.modules; assert not asked, asked"
    )
    variables = {name: value for name, value in environment(HOME=tmp_path).items() if name != "CI"}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


@needs_bfloat16
def test_threads_that_call_first_and_at_once_do_not_wait_for_each_other():
    """OpenVINO's binding did, in one of ten processes, until the constructor made the first call."""
    code = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from stylematch.vision.bundle import Bundle; from stylematch.vision.runtime import load_runtime\n"
        "load_runtime(Bundle.open(Path(sys.argv[1])), 'cpu-bf16', 4).run(np.zeros((64, 28, 28, 3), np.uint8))"
    )
    command = [sys.executable, "-c", code, str(DEFAULT_INDEX / "garments")]
    for _ in range(10):
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def asked_anew():
    bfloat16._openvino.cache_clear()
    yield
    bfloat16._openvino.cache_clear()


def test_without_openvino_the_extra_is_named(tmp_path, monkeypatch, asked_anew):
    monkeypatch.setitem(sys.modules, "openvino", None)  # what an import finds where it is not installed
    result = score(EXAMPLES / "astronaut.jpg", tmp_path / "out", "--device", "cpu-bf16")
    assert result.code == 2
    assert "--device cpu-bf16 needs the 'openvino' extra: pip install 'stylematch[openvino]'" in result.sentence
    assert not (tmp_path / "out").exists()
    with pytest.raises(MissingExtraError):
        resolve_device("cpu-bf16")
    assert resolve_device("cpu") == "cpu"


def test_a_processor_that_would_imitate_it_is_refused(monkeypatch):
    class Core:
        def get_property(self, device, name):
            assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
            return ["FP32", "INT8"]

    monkeypatch.setattr(bfloat16, "_openvino", lambda: (Core(), None))
    with pytest.raises(UserError, match="this processor has no bfloat16; use --device cpu"):
        resolve_device("cpu-bf16")


def test_only_who_uses_openvino_computes_again_with_another_release(monkeypatch):
    spec, versions = RunSpec.of(ScoreSettings(device="cpu")), {"openvino": "1", "numpy": "2"}
    monkeypatch.setattr("stylematch.pipelines.nights.feature_store.package_versions", lambda: versions)
    before = {device: fingerprint(replace(spec, device=device)) for device in ("cpu", "cpu-bf16")}
    versions["openvino"] = "2"
    assert fingerprint(spec) == before["cpu"]
    assert fingerprint(replace(spec, device="cpu-bf16")) != before["cpu-bf16"]
