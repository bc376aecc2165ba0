import logging
import re
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from stylematch.errors import UserError
from stylematch.settings.embed import EmbedJob
from stylematch.settings.export import ExportJob
from stylematch.settings.faults import OPTIONS
from stylematch.settings.load import data_root, load_job, validated
from stylematch.settings.score import ScoreSettings
from stylematch.settings.serve import ServeSettings
from stylematch.settings.train import TrainJob
from stylematch.settings.train_method import Augment

JOBS = Path(__file__).resolve().parents[1] / "jobs"
JOB = """
name = "try"
out = "runs/try"
[data]
dataset = "celeba"
[model]
backbone = "mobilenet_v2"
input_px = 128
embedding_dim = 64
[augment]
shift = 0.1
[schedule]
epochs = 2
batch_size = 8
learning_rate = 1e-3
"""


@pytest.fixture
def job_file(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(JOB)
    return path


def test_a_job_is_read_and_frozen(job_file):
    job = load_job(job_file, TrainJob)
    assert (job.model.input_px, job.schedule.learning_rate, job.augment.shift) == (128, 1e-3, 0.1)
    assert (job.augment.flip, job.schedule.precision, job.model.weights) == (0.5, "auto", "none")
    with pytest.raises(ValidationError):
        job.schedule.epochs = 3
    job_file.write_text("\ufeff" + JOB)
    assert load_job(job_file, TrainJob) == job


@pytest.mark.parametrize("key", ["out", "data.root", "model.start_from", "distill.teachers"])
def test_a_path_that_counts_on_a_shell_is_refused(job_file, key):
    value = '["teacher", "~/x"]' if key == "distill.teachers" else "~/x"
    with pytest.raises(UserError, match=f"--set {re.escape(key)}.*: no shell writes out the ~ of '~/x'"):
        load_job(job_file, TrainJob, [f"{key}={value}"])


def test_all_shipped_jobs_load(repository):
    files = sorted((repository / "jobs").glob("*.toml"))
    assert files
    for path in files:
        keys = tomllib.loads(path.read_text())
        kind = TrainJob if "model" in keys else ExportJob if "photos" in keys else EmbedJob
        job = load_job(path, kind)
        assert not any(str(value).startswith("/") for value in job.model_dump().values() if isinstance(value, str))


@pytest.mark.parametrize(
    ("old", "new", "faults"),
    [
        ("epochs = 2", "", ["schedule.epochs: is missing; set it"]),
        ('out = "runs/try"', 'out = ""', ["out: has to be a text, its length at least 1, not ''"]),
        ("epochs = 2", "epoch = 2", ["schedule.epochs: is missing", "schedule.epoch: is no setting; remove it"]),
        ("epochs = 2", "epochs = 0", ["schedule.epochs: has to be at least 1, not 0"]),
        ("epochs = 2", "epochs = true", ["schedule.epochs: has to be a whole number, not true"]),
        ("epochs = 2", 'epochs = "2"', ["schedule.epochs: has to be a whole number, not '2'"]),
        ("epochs = 2", "epochs = 2.5", ["schedule.epochs: has to be a whole number, not 2.5"]),
        ("epochs = 2", "epochs = 2\nseed = -1", ["schedule.seed: ", "not -1"]),
        ("learning_rate = 1e-3", "learning_rate = inf", ["schedule.learning_rate: has to be a finite number, not inf"]),
        ("learning_rate = 1e-3", "learning_rate = nan", ["schedule.learning_rate: "]),
        ("learning_rate = 1e-3", "learning_rate = 0", ["schedule.learning_rate: has to be greater than 0, not 0"]),
        ("shift = 0.1", "shift = 1.5", ["augment.shift: has to be at most 1, not 1.5"]),
        ('"mobilenet_v2"', '""', ["model.backbone: has to be a text, its length at least 1, not ''"]),
        ('"mobilenet_v2"', '"small_resnet"', ["model.backbone: 'small_resnet' does not fit celeba"]),
        ('"celeba"', '"fashion-mnist"', ["model.backbone: 'mobilenet_v2' does not fit fashion-mnist"]),
        ('"celeba"', '"fashion-product"', ["data.split: fashion-product is split by years or stratified"]),
        ('"celeba"', '"celeba"\ngroups = ["box", "hat"]', ["data.groups: celeba has no 'hat'; it has attributes"]),
        ("[schedule]", "[[steps]]\nmost_frequent = 3\n[schedule]", ["steps.most_frequent: celeba has no classes"]),
        (
            "input_px = 128",
            "input_px = 128\nfrozen = 0",
            ["model.frozen: has to be 'none' or 'backbone' or at least 1"],
        ),
        ("input_px = 128", "input_px = 128\nhidden = 3", ["model.hidden: has to be a list in square brackets, not 3"]),
        ("[model]", "[loss]\ngroup_weights = 3\n[model]", ["loss.group_weights: has to be a table, not 3"]),
        ("[model]", "[distill]\nteachers = []\n[model]", ["distill.teachers: has to be a list, its length at least 1"]),
        ('"celeba"', '"celeba"\nwild = "yes!"', ["data.wild: has to be true or false, not 'yes!'"]),
        ("shift = 0.1", "flip_vertical = 0.5", ["augment.flip_vertical: faces with points"]),
        ("input_px = 128", "input_px = 8", ["model.input_px: has to be at least 16, not 8"]),
        ('"try"', '"a/b"', ["name: ", "'a/b'"]),
        ("[model]", "[modell]", ["model: is missing; set it", "modell: is no setting; remove it"]),
        ('name = "try"', 'name = "try"\nkind = "x"', ["kind: is no setting; remove it"]),
        ('name = "try"', 'name = "try"\nwhere = "x"', ["where: is no setting; remove it"]),
        (
            '"celeba"',
            "3",
            [
                "data.dataset: has to be 'celeba', 'fashion-mnist', 'fashion-product', 'flixstock', 'garments', "
                "'table' or 'folders', not 3"
            ],
        ),
    ],
)
def test_every_fault_names_the_file_the_key_and_the_fix(job_file, old, new, faults):
    assert old in JOB
    job_file.write_text(JOB.replace(old, new))
    with pytest.raises(UserError) as caught:
        load_job(job_file, TrainJob)
    sentence = str(caught.value)
    assert str(job_file) in sentence
    for fault in faults:
        assert fault in sentence
    assert "\n" not in sentence


CELEBA = ["data.dataset=celeba"]
POINTS = [*CELEBA, "data.groups=['landmarks']", "model.frozen=backbone"]
MNIST = ["data.dataset=fashion-mnist", "model.backbone=small_resnet", "model.input_px=28"]
PRODUCT = ["data.dataset=fashion-product", "data.split=years"]
FLIXSTOCK = ["data.dataset=flixstock", "data.split=random"]


@pytest.mark.parametrize(
    ("job", "key", "why"),
    [
        (CELEBA, "data.missing=category", "has no effect on celeba, only on flixstock"),
        (CELEBA, "data.resize=pad", "has no effect on celeba, only on fashion-product and flixstock"),
        (CELEBA, "data.validation=0.2", "has no effect on celeba, only on fashion-product and flixstock and garments"),
        (MNIST, "data.split_seed=0", "has no effect on fashion-mnist"),
        (FLIXSTOCK, "data.wild=false", "has no effect on flixstock, only on celeba"),
        (FLIXSTOCK, "data.min_label_count=9", "has no effect on flixstock"),
        (PRODUCT, "data.product_repeat=2", "has no effect on fashion-product, only on garments"),
        (PRODUCT, "data.fashion_mnist=there", "has no effect on fashion-product, only on garments"),
        ([*CELEBA, "data.wild=false"], "data.wild_repeat=2", "has no effect where data.wild is false"),
        (POINTS, "data.balance=weights", "has no effect on points alone"),
        (CELEBA, "data.balance_power=0.5", 'has no effect where data.balance is "none"'),
        (POINTS, "loss.binary=focal", "without a group of attributes"),
        ([*CELEBA, "data.groups=['attributes']"], "loss.points=mse", "has no effect without a group of points"),
        (CELEBA, "loss.label_smoothing=0.1", "has no effect without a group of classes"),
        ([*CELEBA, "model.start_from=b"], "model.weights=imagenet", "beside model.start_from, which has all"),
        (CELEBA, "model.instance_share=0.5", "has no effect without model.instance_dim"),
        (MNIST, "model.grayscale=true", "has no effect on grey pictures"),
        (MNIST, "augment.grayscale=0.5", "has no effect on grey pictures"),
        (MNIST, "augment.saturation=0.5", "has no effect on grey pictures"),
        (CELEBA, "augment.warp=0.5", "has no effect without zoom or rotate_degrees"),
        (CELEBA, "loss.instance_temperature=0.2", "has no effect where loss.instance is 0"),
        (CELEBA, "loss.instance_pictures=0.5", "has no effect where loss.instance is 0"),
        (CELEBA, "schedule.momentum=0.8", "has no effect on adamw, only on sgd"),
        ([*CELEBA, "schedule.rate=plateau"], "schedule.warmup=0.1", 'where schedule.rate is "plateau"'),
        (CELEBA, "schedule.rate_patience=2", 'has no effect where schedule.rate is "one_cycle"'),
        ([*CELEBA, "distill.teachers=['one']"], "distill.mirror=true", "has no effect on a single teacher"),
    ],
)
def test_a_setting_without_effect_is_warned_of(job_file, job, key, why, caplog):
    load_job(job_file, TrainJob, job)
    assert not caplog.messages
    load_job(job_file, TrainJob, [*job, key])
    (sentence,) = caplog.messages
    assert sentence.startswith(f"{job_file}: {key.partition('=')[0]}: ")
    assert why in sentence
    assert sentence.endswith("; remove it.")


@pytest.mark.parametrize(
    "changes",
    [
        ["data.missing=category", "data.resize=pad", "data.validation=0.2", "data.split_seed=3", *FLIXSTOCK],
        ["data.min_label_count=9", "loss.label_smoothing=0.1", *PRODUCT],
        [
            "data.wild_repeat=2",
            "loss.binary=focal",
            "loss.points=mse",
            "data.balance=weights",
            "data.balance_power=0.5",
            "augment.saturation=0.1",
        ],
        ["schedule.optimizer=sgd", "schedule.momentum=0.8", "schedule.rate=plateau", "schedule.rate_patience=2"],
        ["schedule.warmup=0.1", "augment.warp=0.5", "augment.zoom=0.1", "distill.teachers=['a','b']"],
        ["loss.instance=1", "loss.instance_pictures=0.5", "distill.teachers=['a','b']", "distill.mirror=true"],
    ],
)
def test_the_same_settings_are_taken_where_they_have_an_effect(job_file, changes, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("stylematch"), "propagate", True)
    job = load_job(job_file, TrainJob, changes)
    assert not caplog.messages
    for change in changes:
        section, key = change.partition("=")[0].split(".")
        assert key in getattr(job, section).model_fields_set


def test_fashion_mnist_is_28_pixels_wide(job_file):
    small = JOB.replace("celeba", "fashion-mnist").replace("mobilenet_v2", "small_resnet")
    job_file.write_text(small)
    with pytest.raises(UserError, match=r"model.input_px: fashion-mnist's pictures need 28, not 128"):
        load_job(job_file, TrainJob)
    job_file.write_text(small.replace("128", "28"))
    assert load_job(job_file, TrainJob).model.input_px == 28


def test_all_faults_are_named_at_once(job_file):
    job_file.write_text(JOB.replace("epochs = 2", "epochs = 0").replace("[data]", "[data]\nwilt = 1"))
    with pytest.raises(UserError, match=r"job.toml:5: data.wilt: .*; .*job.toml:14: schedule.epochs: "):
        load_job(job_file, TrainJob)


@pytest.mark.parametrize(
    ("old", "new", "line", "fault"),
    [
        ("epochs = 2", "epochz = 2", 13, "schedule.epochz: is no setting"),
        ("epochs = 2", "", 12, "schedule.epochs: is missing"),  # the line of its table
        ("[model]", "[modell]", None, "model: is missing"),
        ("[model]", "[modell]", 6, "modell: is no setting"),
        ("shift = 0.1", 'x = """\n[data]\nepochs = 3\n"""\nshift = 9', 15, "augment.shift: has to be at most 1"),
        ("[model]", "[loss]\ngroup_weights.attributes = -1\n[model]", 7, "loss.group_weights.attributes: has to be at"),
        ("[model]", "[[steps]]\nepochs = 1\n\n[[steps]]\nepoch = 1\n[model]", 10, r"steps.epoch \(entry 2\): is no"),
        ("[schedule]", "[[steps]]\nmost_frequent = 3\n[schedule]", 12, "steps.most_frequent: celeba has no classes"),
        ('"mobilenet_v2"', '"small_resnet"', 7, "model.backbone: 'small_resnet' does not fit celeba"),
        ("shift = 0.1", "flip_vertical = 0.5", 11, "augment.flip_vertical: faces with points"),
        ('"celeba"', '"fashion-product"', 4, "data.split: fashion-product is split by"),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_fault_names_its_line(job_file, old, new, line, fault, newline):
    assert old in JOB
    job_file.write_bytes(JOB.replace(old, new).replace("\n", newline).encode())
    place = f"{job_file}:{line}" if line else f"{job_file}"
    with pytest.raises(UserError, match=f"(^|; ){place}: {fault}"):
        load_job(job_file, TrainJob)
    # What --set gave is not in the file, where another value may stand.
    with pytest.raises(UserError, match=f"{job_file}: (model: is missing; set it; )?--set augment.flip: "):
        load_job(job_file, TrainJob, ["augment.flip=2"])


def test_a_setting_without_effect_names_its_line(job_file, caplog):
    job_file.write_text(JOB + "momentum = 0.5\n")
    load_job(job_file, TrainJob)
    load_job(job_file, TrainJob, ["schedule.momentum=0.7"])
    assert [record.getMessage().partition(" has ")[0] for record in caplog.records] == [
        f"{job_file}:16: schedule.momentum:",
        f"{job_file}: schedule.momentum:",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a = 1\nb = = 2", "cannot be read: .*line 2"), (b"\xff\xfe", "cannot be read"), (None, "does not exist")],
)
def test_what_is_no_toml_file_is_a_sentence(tmp_path, content, message):
    path = tmp_path / "job.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_job(path, TrainJob)


def test_a_directory_is_no_job_file(tmp_path):
    with pytest.raises(UserError, match=r"cannot be read: Is a directory; mend that"):
        load_job(tmp_path, TrainJob)


@pytest.mark.parametrize(
    ("shipped", "command"),
    [("nightly", "export"), ("embed-celeba", "embed"), ("celeba-mobilenet", "train"), ("own-labels", "train")],
)
def test_a_job_of_another_command_is_called_so(shipped, command):
    path = JOBS / f"{shipped}.toml"
    kinds = {"export": ExportJob, "embed": EmbedJob, "train": TrainJob}
    for name, kind in kinds.items():
        if name == command:
            load_job(path, kind)
            continue
        with pytest.raises(UserError) as caught:
            load_job(path, kind, ["out=elsewhere"] if kind is not EmbedJob else [])
        said = str(caught.value)
        assert said.startswith(f"{path} looks like a job for '{command}', not for '{name}': it has ")
        assert f"run 'stylematch-batch {command} {path}'" in said
        assert "is no setting" not in said


def test_a_job_with_strange_keys_is_not_taken_for_another(job_file):
    job_file.write_text(f'photos = "photos"\n{JOB}moments = 1\n')
    with pytest.raises(UserError, match="photos: is no setting"):
        load_job(job_file, TrainJob)
    job_file.write_text('name = "party"\nrules = []\n')  # of none: a rule set
    with pytest.raises(UserError, match="rules: is no setting"):
        load_job(job_file, TrainJob)


def test_options_are_named_as_options():
    with pytest.raises(UserError, match=r"options: --top-k: has to be at least 1, not 0"):
        validated(ScoreSettings, OPTIONS, top_k=0)
    with pytest.raises(UserError, match="--max-megapixels"):
        validated(ScoreSettings, OPTIONS, max_megapixels=float("inf"))
    assert validated(ScoreSettings, OPTIONS, top_k=3).top_k == 3


def test_what_names_a_run_leaves_out_how_it_is_run():
    plain = ScoreSettings()
    fast = ScoreSettings(batch_size=7, workers=3, device="cpu", report=False, overwrite=True, max_reject_share=0.5)
    assert fast.naming() == plain.naming()
    changes = {
        "top_k": 6,
        "faces": "aligned",
        "min_face_px": 30,
        "max_megapixels": 5.0,
        "max_file_mb": 5.0,
        "limit": 10,
        "seed": 1,
        "follow_links": True,
        "where": "price < 50",
        "without": ("Male",),
        "item_columns": ("price",),
        "weight_similarity": 0.5,
        "weight_tags": 0.5,
        "weight_category": 0.5,
        "mmr_lambda": 0.5,
    }
    for name, value in changes.items():
        assert ScoreSettings(**{name: value}).naming() != plain.naming(), name
    # Rules are named by their contents' hash, not by the option.
    named_elsewhere, not_naming = (
        {"rules"},
        {"batch_size", "workers", "device", "report", "overwrite", "photo_timeout_s", "engine", "address"},
    )
    assert set(ScoreSettings.model_fields) == set(changes) | named_elsewhere | not_naming | {"max_reject_share"}


def test_defaults_are_valid():
    assert Augment.model_validate(Augment().model_dump()) == Augment()
    assert ScoreSettings.model_validate(ScoreSettings().model_dump()) == ScoreSettings()


def test_the_data_root_is_the_environments_or_the_neighbour(monkeypatch):
    monkeypatch.setenv("STYLEMATCH_DATA", "/somewhere")
    assert data_root() == Path("/somewhere")
    monkeypatch.delenv("STYLEMATCH_DATA")
    assert data_root() == Path("../shared/data")


def test_keys_are_changed_on_the_command_line(job_file):
    job = load_job(job_file, TrainJob, ["schedule.epochs=7", "model.weights=imagenet", 'data.groups=["box"]'])
    assert (job.schedule.epochs, job.model.weights, job.data.label_groups) == (7, "imagenet", ("box",))
    assert load_job(job_file, TrainJob, ["loss.points=mse"]).loss.points == "mse"  # a table that the file lacks


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("schedule.epochs=0", "schedule.epochs: has to be at least 1, not 0"),
        ("schedule.epoch=1", "schedule.epoch: is no setting"),
        ("schedule.epochs", "is no key=value"),
        (".epochs=1", "is no key=value"),
        ("name.first=1", "name is no table"),
        ("model.hidden.0=8", "model.hidden is a list, which is set as a whole: --set 'model.hidden=\\[...\\]'"),
        ("data.groups.0=box", "job.toml: --set data.groups: has to be a list in square brackets, not a table"),
    ],
)
def test_a_wrong_change_is_named(job_file, override, fault):
    job_file.write_text(JOB.replace("input_px = 128", "input_px = 128\nhidden = [4]"))
    with pytest.raises(UserError, match=fault):
        load_job(job_file, TrainJob, [override])


def test_a_job_in_steps_is_one_job_a_step(job_file):
    job_file.write_text(
        JOB.replace('"celeba"', '"fashion-product"\nsplit = "years"')
        + "[[steps]]\nmost_frequent = 20\nepochs = 1\n[[steps]]\nfrozen = 5\nlearning_rate = 1e-4\n"
    )
    first, second = load_job(job_file, TrainJob).in_steps()
    assert (first.schedule.epochs, first.schedule.learning_rate, first.model.frozen) == (1, 1e-3, "none")
    assert (second.schedule.epochs, second.schedule.learning_rate, second.model.frozen) == (2, 1e-4, 5)
    assert (first.steps[0].most_frequent, second.steps[0].most_frequent) == (20, None)
    assert len(load_job(job_file, TrainJob, ["steps=[]"]).in_steps()) == 1


def test_a_smoke_test_is_small_and_needs_no_network(repository):
    for path in sorted((repository / "jobs").glob("*.toml")):
        if "model" not in tomllib.loads(path.read_text()):
            continue
        job = load_job(path, TrainJob)
        smoke = job.smoke()
        assert (smoke.model.weights, smoke.model.start_from) == ("none", None)
        teachers = (job.distill.teachers if job.distill else (), smoke.distill.teachers if smoke.distill else ())
        assert len(teachers[0]) == len(teachers[1])
        assert set(teachers[1]) <= {"none"}
        assert smoke.model.input_px <= 64
        assert (smoke.schedule.epochs, smoke.schedule.batch_size, smoke.data.limit) == (2, 4, 24)
        assert smoke.out.endswith("-smoke")


@pytest.mark.parametrize("photos", ["2024-01-01", "20240101", "true"])
def test_a_folder_may_be_called_what_toml_takes_for_something_else(tmp_path, photos):
    job = tmp_path / "job.toml"
    job.write_text('photos = "x"\nout = "y"\n')
    loaded = load_job(job, ExportJob, [f"photos={photos}", "score.rules=2024", "keep_snapshots=3"])
    assert (loaded.photos, loaded.score.rules, loaded.keep_snapshots) == (photos, "2024", 3)
    with pytest.raises(UserError, match="keep_snapshots"):
        load_job(job, ExportJob, ["keep_snapshots=2024-01-01"])


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("min_face_px = true", "a whole number, not true"),
        ('min_face_px = "32"', "a whole number, not '32'"),
        ("seed = true", "a whole number, not true"),
        ("workers = true", "a whole number, not true"),
        ('follow_links = "off"', "true or false, not 'off'"),
        ('report = "yes"', "true or false, not 'yes'"),
        ("report = 1", "true or false, not 1"),
        ("weight_tags = 1e308", "at most 1e+06, not 1e+308"),
    ],
)
def test_a_night_takes_no_value_for_another(tmp_path, line, fault):
    job = tmp_path / "job.toml"
    job.write_text(f'photos = "x"\nout = "y"\n[score]\n{line}\n')
    with pytest.raises(UserError, match=re.escape(f"score.{line.split()[0]}: has to be {fault}")):
        load_job(job, ExportJob)
    changes = [
        "score.min_face_px=32",
        "score.seed=-1",
        "score.workers=0",
        "score.follow_links=true",
        "score.report=true",
    ]
    job.write_text('photos = "x"\nout = "y"\n')
    scoring = load_job(job, ExportJob, changes).score
    assert (scoring.min_face_px, scoring.seed, scoring.workers) == (32, -1, 0)
    assert scoring.follow_links
    assert scoring.report


@pytest.mark.parametrize("setting", ["batch_wait_ms", "upload_timeout_s", "timeout_s"])
def test_a_service_waits_no_longer_than_a_thread_can(setting):
    with pytest.raises(UserError, match=f"--{setting.replace('_', '-')}: has to be at most"):
        validated(ServeSettings, OPTIONS, **{setting: 1e13})


def test_points_alone_are_warned_of(job_file, caplog):
    load_job(job_file, TrainJob, [*CELEBA, "data.groups=['landmarks']"])
    (sentence,) = caplog.messages
    assert "data.groups: has points alone, and from points the backbone does not learn" in sentence
