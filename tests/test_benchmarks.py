"""The benchmark scripts run, on a handful of pictures. What they measure here says nothing of speed."""

import json
import os
import subprocess
import sys

import pytest
from bfloat16 import needs_bfloat16
from browser import require_chromium
from conftest import REPOSITORY
from hostile import EXAMPLES
from PIL import Image
from tiny import write_celeba

pytestmark = pytest.mark.slow
needs_time = pytest.mark.skipif(not os.environ.get("STYLEMATCH_LONG"), reason="make test-long")

FACES = ("astronaut.jpg", "grace_hopper.jpg", "group.jpg")


def run(script, tmp_path, *options):
    out = tmp_path / "figures.json"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(REPOSITORY / "benchmarks" / script), "--out", str(out), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_bytes())
    assert figures["command"].startswith(f"python benchmarks/{script} ")
    assert str(tmp_path.parent) not in figures["command"]
    assert figures["host"]["cores"] >= 1
    assert out.with_suffix(".md").read_text() in done.stdout
    return figures


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in FACES:
        (folder / name).write_bytes((EXAMPLES / name).read_bytes())
    return folder


@pytest.fixture
def celeba(tmp_path):
    folder = tmp_path / "celeba"
    folder.mkdir()
    with Image.open(EXAMPLES / "astronaut.jpg") as photo:
        for number in range(3):
            photo.crop((140, 30, 318, 248)).save(folder / f"{number:06d}.jpg", quality=90 - number)
    return folder


@needs_time
def test_score_speed(tmp_path, photos, celeba):
    options = ("--photos", photos, "--celeba", celeba, "--workers", 1, "--repeats", 1, "--embed", 0)
    figures = run("score_speed.py", tmp_path, *options, "--many", 6)
    for name in ("wild", "aligned"):
        alone = figures[name]["alone_photos_per_s"]
        assert {"list", "read", "decode", "find faces", "cut", "attributes", "style", "items", "write"} <= set(alone)
        assert figures[name]["limit_photos_per_s"] < min(alone.values())
        assert figures[name]["run"]["photos"] == 3
        assert figures[name]["many"]["run"]["photos"] == 6
        stages = [{row["stage"] for row in figures[name][run]["run"]["rows"]} for run in ("many", "many_tables")]
        assert stages[0] - stages[1] == {"thumbnails", "gallery"}


@needs_time
@needs_bfloat16
def test_precision(tmp_path):
    data = tmp_path / "data"
    for name in ("celeba", "celeba_aligned_sample", "photos"):
        write_celeba(data / name)
    for picture in (data / "photos" / "img_align_celeba").iterdir():
        picture.rename(data / "photos" / picture.name)
    figures = run("precision.py", tmp_path, "--data", data, "--many", 12, "--workers", 1)
    assert set(figures["score"]["aligned"]) == {"cpu", "cpu-bf16"}
    assert len(figures["quality"]["cpu-bf16"]) >= 3
    assert 0 < figures["same"]["same_style"] <= 1


def test_query_times(tmp_path):
    figures = run("query_times.py", tmp_path, "--photos", 5000, "--repeats", 1)
    assert figures["tables"]["recommendations"]["rows"] == 25_000
    assert set(figures["median_ms"]) >= {"count the styles", "everything about one photo"}
    kept, total = figures["row_groups"]["recommendations, one style"]
    assert 0 < kept < total  # rows stand together by style, so a reader skips the other styles' groups


def test_serve_load(tmp_path):
    pytest.importorskip("uvicorn")
    figures = run("serve_load.py", tmp_path, "--seconds", 2, "--warm-s", 1, "--clients", 2)["figures"][0]
    assert figures["dropped"] == 0
    assert figures["answers"] == sum(figures["statuses"].values()) > 0
    assert set(figures["statuses"]) == {"200", "415", "422"} or figures["answers"] < 20
    assert figures["p50_ms"] <= figures["p99_ms"]


def test_gallery_scale(tmp_path):
    require_chromium()
    figures = run("gallery_scale.py", tmp_path, "--photos", 13_000, "--repeats", 1)
    assert figures["index files"].startswith("3, ")
    assert figures["search one path, ms"] > 0


def test_megapixels(tmp_path):
    figures = run("megapixels.py", tmp_path, "--width", 1600, "--height", 1200, "--repeats", 2)
    assert figures["decode_ratio"] > 1
    assert figures["first_decoded_s"] > 0


def test_memory(tmp_path, photos):
    pytest.importorskip("psutil")
    scratch = tmp_path / "scratch"
    options = ("--scratch", scratch, "--photos", photos, "--few", 3, "--many", 6, "--workers", 1)
    figures = run("memory.py", tmp_path, *options)
    assert figures["many"]["photos"] == 6
    assert figures["few"]["peak_mb"] > 50
    assert not scratch.exists()


def test_search_scale_goes_on_where_it_was_stopped(tmp_path):
    scratch = tmp_path / "scratch"
    options = ("--count", 3000, "--scratch", scratch, "--limit-gib", 2)
    first = run("search_scale.py", tmp_path, *options, "--kind", "ivfpq")["runs"]
    every = run("search_scale.py", tmp_path, *options, "--kind", "exact", "--kind", "ivfpq")["runs"]
    assert [measured["kind"] for measured in every] == ["exact", "ivfpq"]
    assert every[1:] == first  # clock and all: it was not measured again
    for measured in every:
        assert measured["build"]["held_out_recall_at_10"] >= 0.95
        assert 0 < measured["search"]["peak_gib"] < 2
        assert measured["search"]["one_in_a_hundred"] | {"queries_per_s": 0} == {
            "queries_per_s": 0,
            "recall_at_10": 1.0,
            "fewer_than_k": 0,
        }
    assert not any(scratch.iterdir())


@pytest.mark.train
def test_beside_others(tmp_path, celeba):
    pytest.importorskip("torchvision")
    pytest.importorskip("pandas")
    figures = run("beside_others.py", tmp_path, "--celeba", celeba, "--pictures", 3, "--slow-pictures", 1)
    assert set(figures["ratios"]) == {"stylematch", "seed", "dataloader"}
    assert figures["left_out"]


@pytest.mark.train
def test_gpu_embed_on_the_cpu(tmp_path, celeba):
    pytest.importorskip("torch")
    options = ("--celeba", celeba, "--pictures", 4, "--batch-size", 2, "--steps", 1, "--device", "cpu")
    figures = run("gpu_embed.py", tmp_path, *options)
    assert figures["device"] == "cpu"
    assert figures["pictures_per_s"] > 0
