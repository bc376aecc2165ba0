"""Every training job file runs: a few steps on tiny data sets in the layouts of the real ones, and what follows."""

import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("lightning", reason="Lightning is not installed: pip install 'stylematch[train]'")
import torch
from conftest import REPOSITORY
from killed import Killed, assert_same_checkpoints
from program import DEFAULT_INDEX, call
from tiny import write_celeba, write_fashion_mnist, write_fashion_product, write_flixstock, write_label_table

from stylematch.cli.program import run
from stylematch.pipelines.learning.dry_run import describe_training
from stylematch.pipelines.learning.train import learn
from stylematch.pipelines.learning.train_job import open_job, read_train_job
from stylematch.vision.bundle import Bundle
from stylematch.vision.stored_network import load_network

pytestmark = [pytest.mark.train, pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

needs_default = pytest.mark.skipif(
    not DEFAULT_INDEX.is_dir(), reason="indexes/default is not built: make default-index"
)
JOBS = sorted(p.stem for p in (REPOSITORY / "jobs").glob("*.toml") if "model" in tomllib.loads(p.read_text()))


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_celeba(folder / "celeba", ("Young", "Smiling"))
    products = write_fashion_product(folder / "fashion_product")
    return {
        "garments": products,
        "celeba": folder,
        "fashion-mnist": write_fashion_mnist(folder / "fashion_mnist"),
        "fashion-product": products,
        "flixstock": write_flixstock(folder / "flixstock"),
        "table": write_label_table(folder / "table"),
    }


def at(name, roots, out):
    """Return what changes in a job so that it finds a tiny data set."""
    dataset = tomllib.loads((REPOSITORY / "jobs" / f"{name}.toml").read_text())["data"]["dataset"]
    changes = [f"data.root='{roots[dataset]}'", f"out='{out}'", "schedule.precision='32-true'"]
    changes += ["data.wild=false"] * (dataset == "celeba")
    return changes + [f"data.fashion_mnist='{roots.get('fashion-mnist')}'"] * (dataset == "garments")


def smoke(name, roots, out, *more):
    path, changes = REPOSITORY / "jobs" / f"{name}.toml", at(name, roots, out)
    options = [part for change in changes for part in ("--set", change)]
    job = read_train_job(path, changes, smoke=True)
    return run(["train", str(path), "--smoke", *options, *more]), Path(job.out), job


@pytest.mark.parametrize("name", JOBS)
def test_every_job_runs_and_goes_on_as_if_it_had_not_been_killed(name, roots, tmp_path, capsys, monkeypatch):
    killed = Killed(monkeypatch, tmp_path / "run-smoke")
    code, out, job = smoke(name, roots, tmp_path / "run")
    said = capsys.readouterr()
    assert code == 0, said.err
    bundle = Bundle.open(out / "bundle")
    figures = json.loads((out / "bundle" / "figures.json").read_text())
    assert figures["learned_from"] > 0
    assert figures["measured"]
    assert set(figures["calibration"]) == {g.name for g in bundle.schema.groups if g.kind != "points"}
    assert set(bundle.description["trained"]) == {"mean_points", "class_counts"}
    assert f"({bundle.description['parameters']:,} parameters)" in said.out
    assert (out / "bundle" / "MODEL_CARD.md").read_text().startswith(f"# {bundle.name}")
    whole = killed.put_back()
    learn(job, open_job(job))
    assert_same_checkpoints(whole, out)
    shutil.rmtree(tmp_path)  # hundreds of megabytes


def test_a_training_without_a_part_to_test_on_ends_well(tmp_path, capsys):
    folder = write_celeba(tmp_path / "data" / "celeba")
    split = folder / "list_eval_partition.txt"
    split.write_text(split.read_text().replace(" 2\n", " 0\n"))
    code, out, _ = smoke("celeba-mobilenet", {"celeba": folder.parent}, tmp_path / "run")
    said = capsys.readouterr()
    assert code == 0, said.err
    assert "not measured, for the data have no part to test on" in said.out
    assert "Nothing was measured" in (out / "bundle" / "MODEL_CARD.md").read_text()


def changed(name, roots, out, *more):
    """Return a job on a tiny data set, with what it starts from and listens to, and two short epochs."""
    changes = ["schedule.epochs=2", "schedule.batch_size=4", "data.limit=4", *more]
    return read_train_job(REPOSITORY / "jobs" / f"{name}.toml", [*at(name, roots, out), *changes])


@needs_default
def test_only_the_landmarks_learn_on(tmp_path):
    shipped = DEFAULT_INDEX / "attributes"
    folder = write_celeba(tmp_path / "celeba", ("Young",))
    names = [path.name for path in sorted((folder / "img_align_celeba").iterdir())]
    points = "".join(f"{name} 69 111 108 111 88 135 73 152 105 152\n" for name in names)
    header = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
    (folder / "list_landmarks_align_celeba.txt").write_text(f"{len(names)}\n{header}\n{points}")
    roots = {"celeba": tmp_path}
    more = [f"model.start_from='{shipped}'", "model.int8=true"]
    job = changed("celeba-mobilenet-landmarks", roots, tmp_path / "run", *more)
    before = load_network(Bundle.open(shipped)).state_dict()
    for key, value in learn(job, open_job(job)).state_dict().items():
        if key.startswith("heads.landmarks.") and key.endswith(".weight"):
            assert not torch.equal(value, before[key]), key
        elif not key.startswith("heads.landmarks."):
            torch.testing.assert_close(value, before[key], msg=key)


@needs_default
def test_a_dry_run_counts_the_teachers(roots, tmp_path):
    shipped = f"'{DEFAULT_INDEX / 'attributes'}'"
    more = [f"model.start_from={shipped}", "model.int8=true", f"distill.teachers=[{shipped}, {shipped}]"]
    lines = list(describe_training(changed("celeba-mobilenet-student", roots, tmp_path / "run", *more)))
    assert ", shown to 2 teachers, too, memory " in lines[-2]
    assert lines[-1].startswith("in all: at most 2 steps, ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "change", "fault"),
    [
        (
            "celeba-mobilenet-student",
            "model.start_from=absent",
            "model.start_from: there is no bundle at absent; train",
        ),
        (
            "celeba-mobilenet-distilled",
            "distill.teachers=['absent']",
            "distill.teachers: there is no bundle at absent; train",
        ),
        ("celeba-mobilenet-distilled", f"distill.teachers=['{REPOSITORY / 'jobs'}']", "distill.teachers: "),
        ("celeba-mobilenet", "model.weights=absent.pth", "absent.pth is no file"),
        ("celeba-mobilenet", "model.backbone=mobilenet_v9", "'mobilenet_v9' is unknown"),
        ("fashion-product-two-step", "steps=[{frozen=9}]", "has 8 children, not 9"),
    ],
)
@pytest.mark.parametrize("options", [[], ["--dry-run"]], ids=["train", "dry run"])
def test_what_a_job_lacks_is_said_before_any_picture_is_cut(name, change, fault, options, roots, tmp_path, capsys):
    changes = [*at(name, roots, tmp_path / "run"), "model.weights='none'", change]
    settings = [part for text in changes for part in ("--set", text)]
    assert run(["train", str(REPOSITORY / "jobs" / f"{name}.toml"), *settings, *options]) == 2
    assert fault in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_dry_run_says_how_much_and_how_long_and_trains_nothing(roots, tmp_path, capsys):
    code, out, _ = smoke("fashion-product-two-step", roots, tmp_path / "run", "--dry-run")
    said = capsys.readouterr().out
    assert code == 0
    assert '"most_frequent": 20' in said
    assert "data: part 1 has 24 pictures, 0 left out" in said
    assert "labels: articleType (categorical, 6)" in said
    assert "pictures/s, memory" in said
    assert "training 2 of 2: " in said
    assert "in all: at most 24 steps" in said
    assert not out.exists()


def test_a_trained_bundle_is_evaluated_and_predicts(roots, tmp_path, capsys):
    code, out, _ = smoke("flixstock-resnet18", roots, tmp_path / "run")
    assert code == 0
    assert run(["evaluate", str(out / "bundle"), str(roots["flixstock"]), "--out", str(tmp_path / "figures")]) == 0
    measured = json.loads((tmp_path / "figures" / "figures.json").read_text())["measured"]
    (figures,) = measured.values()
    assert figures["pictures"]["measured"] == 12  # a fifth of 60
    assert {"neck", "sleeve_length", "pattern"} <= set(figures)
    assert len(list((tmp_path / "figures" / "plots").glob("*.png"))) == 9
    assert "neck" in (tmp_path / "figures" / "MODEL_CARD.md").read_text()
    photos = roots["flixstock"] / "images"
    assert run(["predict", str(out / "bundle"), str(photos), "--out", str(tmp_path / "said"), "--limit", "5"]) == 0
    assert (tmp_path / "said" / "contact_sheet.jpg").is_file()
    capsys.readouterr()


def test_an_evaluation_of_the_wrong_data_is_a_sentence(roots, tmp_path, capsys):
    code, out, _ = smoke("garment-small", roots, tmp_path / "run")
    assert code == 0
    assert run(["evaluate", str(out / "bundle"), str(roots["celeba"] / "celeba")]) == 2
    assert "knows no attributes" in capsys.readouterr().err
    # A folder of IDX files is Fashion-MNIST wherever it lies.
    figures = tmp_path / "figures"
    assert run(["evaluate", str(out / "bundle"), str(roots["fashion-mnist"]), "--out", str(figures)]) == 0
    assert list(json.loads((figures / "figures.json").read_text())["measured"]) == ["fashion-mnist test"]


def test_a_bundle_that_shares_no_label_with_the_data_is_a_sentence(roots, tmp_path, capsys):
    code, out, _ = smoke("flixstock-resnet18", roots, tmp_path / "run")
    assert code == 0
    assert run(["evaluate", str(out / "bundle"), str(roots["fashion-mnist"])]) == 2
    assert "knows neck, pattern, sleeve_length, and" in capsys.readouterr().err


def test_the_benchmark_of_a_training_measures_both_rates(roots, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    import train_throughput

    out = tmp_path / "figures.json"
    changes = [f"data.root='{roots['celeba']}'", "data.wild=false", "schedule.batch_size=4", "model.weights='none'"]
    changes += ["model.input_px=64", "schedule.precision='32-true'", "schedule.workers=0"]
    options = [part for change in changes for part in ("--set", change)]
    job = str(REPOSITORY / "jobs" / "celeba-mobilenet.toml")
    monkeypatch.setattr(
        "sys.argv", ["train_throughput", job, "--pictures", "8", "--steps", "1", "--out", str(out), *options]
    )
    train_throughput.main()
    figures = json.loads(out.read_text())
    assert figures["pictures"] == 4  # whole batches of the six there are
    assert 0 < figures["jpeg_pictures_per_s"] <= figures["cached_pictures_per_s"]
    assert figures["step_ms"] / 1000 == pytest.approx(figures["epoch_s"], abs=0.01)  # no second step began
    assert figures["beside_steps_s"] == pytest.approx(0, abs=0.01)
    assert figures["command"].startswith("python benchmarks/")
    assert torch.cuda.is_available() or figures["gpu_busy_share"] is figures["gpu_busy_share_cached"] is None
    hours = figures["celeba_epoch_hours"]
    assert 162_770 / hours / 3600 == pytest.approx(figures["jpeg_pictures_per_s"], abs=0.051)  # which is rounded
    capsys.readouterr()


def test_the_busy_share_is_the_mean_of_what_is_said_over_all_blocks(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    from train_throughput import BusyShare

    said = tmp_path / "said"

    def share_of(*lines):
        busy = BusyShare(["sh", "-c", f"echo '{' '.join(lines)}' | tr ' ' '\n'; touch '{said}'; exec sleep 600"])
        for _ in range(2):
            with busy.watched():
                while not said.exists():
                    time.sleep(0.01)
            said.unlink()
        return busy.samples, busy.share

    assert share_of("10", "[N/A]", "30") == ([10, 30, 10, 30], 0.2)
    assert share_of("[N/A]") == ([], None)
    without_gpu = BusyShare(None)
    with without_gpu.watched():
        pass
    assert without_gpu.share is None


def test_more_devices_than_gpus_are_a_sentence(monkeypatch):
    job = REPOSITORY / "jobs" / "celeba-mobilenet.toml"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    done = call("train", job, "--set", "schedule.devices=2", "--set", "data.root='nowhere'")
    assert done.code == 2
    assert "schedule.devices = 2, and GPUs here: 1; lower it" in done.sentence


def test_two_processes_share_a_training(roots, tmp_path):
    changes = [f"data.root='{roots['fashion-product']}'", f"out='{tmp_path / 'run'}'", "data.min_label_count=1"]
    changes += ["model.weights='none'", "model.input_px=64", "schedule.epochs=1", "schedule.batch_size=8"]
    changes += ["schedule.precision='32-true'", "schedule.devices=2"]
    options = [part for change in changes for part in ("--set", change)]
    job = str(REPOSITORY / "jobs" / "fashion-product-mobilenet.toml")
    command = [sys.executable, "-m", "stylematch.cli", "train", job, *options]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert "MEMBER: 2/2" in done.stderr
    assert done.stderr.count("epoch 1 of 1") == 1
    assert done.stdout.count("bundle: ") == 1
    assert Bundle.open(tmp_path / "run" / "bundle").schema.groups[0].name == "articleType"
