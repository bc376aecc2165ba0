"""What a plan says that a build will need, against what builds have needed: here, and at scale."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPOSITORY
from test_index import clustered, write_embeddings

from stylematch.search.plan import GIB, make_plan

RESULTS = json.loads((REPOSITORY / "benchmarks" / "results" / "search_scale.json").read_text())
BUILD = """
import sys
from pathlib import Path
from stylematch.pipelines.indexing.index import build_index
from stylematch.settings.index import IndexSettings
build_index(Path(sys.argv[1]), Path(sys.argv[2]), IndexSettings(kind=sys.argv[3], target_recall=0.8))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
"""Not ``ru_maxrss``: that of a child begins with what its parent, here the tests, has taken."""
COUNT, DIM = 300_000, 256


@pytest.mark.parametrize("run", RESULTS["runs"], ids=lambda run: f"{run['count']:,} {run['kind']}")
def test_no_build_at_scale_took_more_than_is_expected(run):
    plan = make_plan(run["count"], RESULTS["dim"], max_memory_bytes=64 * GIB, kind=run["kind"])
    assert plan.build_bytes >= 0.95 * run["build"]["peak_gib"] * GIB
    assert plan.search_bytes >= 0.95 * run["build"]["memory_bytes_per_vector"] * run["count"]


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many") / "embeddings"
    tight = clustered(1, COUNT, 16, clusters=300, spread=0.3)
    wide = np.repeat(tight.astype(np.float16), DIM // 16, axis=1)
    write_embeddings(folder, wide, [f"id-{number:08d}" for number in range(COUNT)], "faces", shards=4)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        "ivf",
        *(
            pytest.param(kind, marks=pytest.mark.skipif(not os.environ.get("STYLEMATCH_LONG"), reason="make test-long"))
            for kind in ("exact", "ivfpq")
        ),
    ],
)
def test_a_build_takes_no_more_than_is_expected(kind, embeddings, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(embeddings), str(tmp_path / "index"), kind],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stderr
    expected = make_plan(COUNT, DIM, max_memory_bytes=64 * GIB, kind=kind).build_bytes
    assert expected >= 0.95 * 1024 * int(done.stdout)
