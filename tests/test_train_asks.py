"""What a training lacks is said at once: before its job is printed, and before any picture is cut. Needs no torch."""

import json
import sys
import tomllib

import pytest
from conftest import REPOSITORY
from program import call
from tiny import write_celeba

from stylematch.pipelines.train import TRAIN_PACKAGES

JOB = REPOSITORY / "jobs" / "celeba-mobilenet.toml"


@pytest.mark.parametrize("package", TRAIN_PACKAGES)
@pytest.mark.parametrize("options", [[], ["--dry-run"]], ids=["train", "dry run"])
def test_a_missing_package_is_said_first(package, options, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # makes its import fail
    root = write_celeba(tmp_path / "data" / "celeba").parent
    changes = [f"data.root='{root}'", f"out='{tmp_path / 'run'}'", "data.wild=false", "model.weights=none"]
    result = call("train", JOB, *options, *(part for change in changes for part in ("--set", change)))
    assert (result.code, result.out) == (2, "")
    assert result.sentence == (
        "stylematch-batch: Training a model needs the 'train' extra: pip install 'stylematch[train]'"
    )
    assert result.err == f"{result.sentence}\n"  # and no progress before it
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_the_train_extra_brings_what_is_asked_for():
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(TRAIN_PACKAGES) <= {line.partition(">")[0] for line in extras["train"]}


def test_a_dry_run_prints_its_job_where_all_is_there(tmp_path):
    for package in TRAIN_PACKAGES:
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'stylematch[train]'")
    root = write_celeba(tmp_path / "data" / "celeba").parent
    changes = [f"data.root='{root}'", f"out='{tmp_path / 'run'}'", "data.wild=false"]
    result = call("train", JOB, "--smoke", "--dry-run", *(part for change in changes for part in ("--set", change)))
    assert result.code == 0, result.err
    job, rest = json.JSONDecoder().raw_decode(result.out)[0], result.out.rpartition("}\n")[2]
    assert job["data"]["root"] == str(root)
    assert rest.startswith("data: part 1 has 4 pictures")
