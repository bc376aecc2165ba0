"""Whatever is wrong with a setting is told in this project's words, never in pydantic's."""

import copy
import re
import tomllib
from collections.abc import Iterator
from datetime import date, datetime, time
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from stylematch.errors import UserError
from stylematch.settings.embed import EmbedJob
from stylematch.settings.export import ExportJob
from stylematch.settings.faults import _KINDS, _LIMITS, OPTIONS
from stylematch.settings.index import IndexSettings
from stylematch.settings.load import load_job, validated
from stylematch.settings.predict import PredictSettings
from stylematch.settings.score import ScoreSettings
from stylematch.settings.serve import ServeSettings
from stylematch.settings.train import TrainJob

TRAINING = """
name = "try"
out = "runs/try"
augment = {}
loss = {}
steps = [{}]
data = { dataset = "celeba" }
model = { backbone = "mobilenet_v2", input_px = 128 }
schedule = { epochs = 2, batch_size = 8, learning_rate = 1e-3 }
distill = { teachers = ["teacher"] }
"""
VALID: dict[type[BaseModel], dict[str, Any]] = {
    TrainJob: tomllib.loads(TRAINING),
    EmbedJob: {"source": "celeba", "embeddings": "there"},
    ExportJob: {"photos": "photos", "out": "there", "score": {}},
    ScoreSettings: {},
    PredictSettings: {},
    ServeSettings: {},
    IndexSettings: {},
}
# Values of every kind that TOML or a command line gives, none of which is right everywhere.
VALUES = [
    *(True, 0, -1, 1.5, 1e400, float("nan"), 2**70, -(2**70), 10**5000, "", "yes!", "12", "1.5", "\udcff"),
    *([], ["x"], ["x", 3], [[]], [""], {}, {"x": 1}, {"x": "y"}, {"x": float("inf")}, [{}], [{"x": 1}]),
    *(date(2024, 1, 1), datetime(2024, 1, 1, 2, 3), time(3, 4)),
]
PYDANTICS = ("otherwise", "Input", "should be", "unable", "a valid", "pydantic", "datetime.", "type=", "<class")


def places(kind: type[BaseModel], before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Give every key of a settings class and of its tables."""
    for name, field in kind.model_fields.items():
        yield (*before, name)
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from places(inner, (*before, name))


def changed(valid: dict[str, Any], place: tuple[str, ...], value: Any) -> dict[str, Any]:
    values = copy.deepcopy(valid)
    table: Any = values
    for name in place[:-1]:
        table = table[name]
        table = table[0] if isinstance(table, list) else table
    table[place[-1]] = value
    return values


@pytest.mark.parametrize("kind", VALID, ids=lambda kind: kind.__name__)
def test_no_fault_of_any_setting_is_told_in_pydantics_words(kind):
    known = {*_KINDS, *_LIMITS, "extra_forbidden", "missing", "value_error"}
    met = set()
    for place in places(kind):
        for value in VALUES:
            values = changed(VALID[kind], place, value)
            try:
                kind.model_validate(values)
            except ValidationError as error:
                met |= {fault["type"] for fault in error.errors()}
                with pytest.raises(UserError) as caught:
                    validated(kind, "job.toml", **values)
                sentence = str(caught.value)
                assert sentence.startswith(f"job.toml: {place[0]}"), sentence
                assert sentence.endswith("."), sentence
                assert [word for word in PYDANTICS if word in sentence] == [], sentence
                assert "--" not in sentence.partition("; add")[0], sentence  # a job file has keys, no options
    assert met
    assert met <= known


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("schedule.epochs=three", "--set schedule.epochs: has to be a whole number, not 'three'."),
        ("schedule.epochs=2024-01-01", "--set schedule.epochs: has to be a whole number, not 2024-01-01."),
        (f"schedule.seed={10**70}", "--set schedule.seed: has to be at most 4294967296, not a number of more than 60"),
        ("schedule.seed=" + "9" * 5000, "--set schedule.seed: has to be a whole number, not '99999"),
        ("name=a/b", "--set name: has to be a text of letters from A to Z, digits, dots, hyphens and underscores"),
        ("data.groups=['hat']", "--set data.groups: celeba has no 'hat'"),
        ("steps=[{epochs=1}, {epoch=1}]", "--set steps.epoch (entry 2): is no setting"),
        ("steps=[{epoch=1}]", "is no setting; remove it or mend its spelling (did you mean epochs?)."),
        ("schedule.epoch=1", "mend its spelling (did you mean epochs?)."),
        ("scedule.epochs=1", "scedule: is no setting; remove it or mend its spelling (did you mean schedule?)."),
        ("distill.teacher=1", "mend its spelling (did you mean teachers?)."),
        ("schedule.quux=1", "--set schedule.quux: is no setting; remove it or mend its spelling."),
        ("distill.teachers=[3]", "--set distill.teachers (entry 1): has to be a text in quotes, not 3."),
        ("schedule={}", "schedule.epochs: is missing; set it"),
        ("loss={binary=3}", "--set loss.binary: has to be 'bce', 'focal' or 'asymmetric', not 3."),
        ("model=3", "--set model: has to be a table, not 3."),
    ],
)
def test_what_was_set_on_the_command_line_is_named_so(tmp_path, override, fault):
    path = tmp_path / "job.toml"
    path.write_text(TRAINING)
    with pytest.raises(UserError) as caught:
        load_job(path, TrainJob, [override])
    assert str(caught.value).startswith(f"{path}: ")
    assert fault in str(caught.value)


def test_a_list_of_wrong_entries_is_not_told_to_be_empty(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(TRAINING.replace('["teacher"]', "[[]]"))
    with pytest.raises(UserError) as caught:
        load_job(path, TrainJob)
    assert str(caught.value) == f"{path}:10: distill.teachers (entry 1): has to be a text in quotes, not []."


@pytest.mark.parametrize("text", ["a = " + "9" * 5000, "a = " + "[" * 5000 + "]" * 5000])
def test_a_job_file_that_python_cannot_read_is_a_sentence(tmp_path, text):
    path = tmp_path / "job.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"cannot be read: .*; mend it"):
        load_job(path, TrainJob)


def test_one_fault_has_a_name_of_its_own_in_a_job_file_and_on_the_command_line():
    with pytest.raises(UserError, match=r"^options: --address: names a Ray cluster; add --engine ray"):
        validated(ScoreSettings, OPTIONS, address="here:6379")
    with pytest.raises(UserError, match=r"^job.toml: score.address: names a Ray cluster; .*engine = \"ray\"\.$"):
        validated(ExportJob, "job.toml", photos="a", out="b", score={"address": "here:6379"})
    with pytest.raises(UserError, match=r"^job.toml: score.without: a name is empty"):
        validated(ExportJob, "job.toml", photos="a", out="b", score={"without": "Male,"})
    nothing_counts = dict.fromkeys(("weight_similarity", "weight_tags", "weight_category"), 0.0)
    with pytest.raises(UserError, match=r"^options: --weight-similarity: is 0, as the other two weights are; give one"):
        validated(ScoreSettings, OPTIONS, **nothing_counts)
    with pytest.raises(UserError, match=r"^job.toml: score.weight_similarity: is 0, as the other two weights are"):
        validated(ExportJob, "job.toml", photos="a", out="b", score=nothing_counts)


def test_a_setting_in_the_wrong_table_is_told_where_it_belongs():
    with pytest.raises(UserError, match=r"score.index: is no setting; .* \(did you mean index, above all tables\?\)"):
        validated(ExportJob, "job.toml", photos="a", out="b", score={"index": ["shop"]})
    with pytest.raises(UserError, match=r"top_k: is no setting; .* \(did you mean score.top_k\?\)"):
        validated(ExportJob, "job.toml", photos="a", out="b", top_k=3)


def test_the_faults_of_a_job_file_are_told_in_the_order_of_its_lines(tmp_path):
    job = tmp_path / "job.toml"
    score = ["[score]", "batch_size = 0", "device = 'tpu'", "top_k = 0", "foo = 1", "min_face_px = 0", "rules = 3"]
    job.write_text("\n".join(["photos = 'photos'", "out = 'out'", "drift_warning = -1", *score]))
    with pytest.raises(UserError) as caught:
        load_job(job, ExportJob)
    lines = [int(number) for number in re.findall(r"job\.toml:(\d+)", str(caught.value))]
    assert lines == [3, 5, 6, 7, 8, 9, 10]
