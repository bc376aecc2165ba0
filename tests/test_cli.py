"""The command line: help, versions, exit codes, sentences instead of tracebacks, closed pipes."""

import csv
import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY
from program import (
    DEFAULT_INDEX,
    EXAMPLES,
    PATIENCE_S,
    call,
    command,
    digests,
    environment,
    manifest,
    rows,
    table,
    wait_for,
)
from tiny import write_fashion_mnist
from typer.main import get_command

import stylematch
from stylematch.cli.program import _say_interrupted, app, run
from stylematch.data.celeba import ATTRIBUTES
from stylematch.vision.bundle import Bundle

HEAVY = ("torch", "onnxruntime", "faiss", "duckdb", "pandas", "pyarrow", "numpy", "lightning", "PIL")


def commands():
    """Every command's words: ("score",), ("rules", "apply") and so on, groups too."""

    def walk(group, words):
        yield words
        for name, child in getattr(group, "commands", {}).items():
            yield from walk(child, (*words, name))

    return list(walk(get_command(app), ()))


# Help


def test_there_are_the_commands_of_the_contract():
    leaves = {" ".join(words) for words in commands()}
    assert leaves >= {"score", "query", "train", "embed", "rules apply", "index build", "index info"}


def test_help_of_every_command_and_the_version_load_nothing_heavy():
    code = f"""
import sys
from stylematch.cli.program import run
for words in {[list(words) for words in commands()]!r}:
    assert run([*words, "--help"]) == 0, words
assert run(["--version"]) == 0
print(sorted(set({HEAVY!r}) & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *pages, version, loaded = done.stdout.splitlines()
    assert loaded == "[]"
    assert version == f"stylematch {stylematch.__version__}"
    usages = [line.split() for line in pages if line.strip().startswith("Usage:")]
    assert [tuple(w for w in line[2:] if re.fullmatch("[a-z-]+", w)) for line in usages] == commands()


def test_help_explains_every_option():
    for words in commands():
        node = get_command(app)
        for word in words:
            node = node.commands[word]
        assert node.help, words
        for parameter in node.params:
            unexplained = {"sql", "output_format"} if words == ("query",) else set()
            assert parameter.name in unexplained or parameter.help, (words, parameter.name)


def test_no_command_is_a_mistake_that_shows_the_commands():
    result = call()
    assert result.code in (0, 2)
    assert "score" in result.out + result.err


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["scroe"], "scroe"),
        (["score"], "photos"),
        (["score", "{tmp}", "--topk", "3"], "--topk"),
        (["score", "{tmp}", "--top-k", "0"], "--top-k"),
        (["score", "{tmp}", "--top-k", "many"], "--top-k"),
        (["score", "{tmp}", "--faces", "guess"], "guess"),
        (["score", "{tmp}", "--device", "tpu"], "tpu"),
        (["score", "{tmp}", "--max-reject-share", "1.5"], "--max-reject-share"),
        (["embed", "celeba"], "--out"),
        (["embed", "{tmp}/job.toml", "--out", "{tmp}/out"], "job file"),
        (["index", "build", "{tmp}"], "--out"),
    ],
)
def test_a_mistaken_command_line_is_a_usage_error(tmp_path, arguments, said):
    result = call(*[argument.replace("{tmp}", str(tmp_path)) for argument in arguments])
    assert (result.code, result.out) == (2, "")
    assert said in result.err.replace("PHOTOS", "photos")
    assert "Usage: stylematch-batch" in result.err
    assert "Traceback" not in result.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["score", "{tmp}/nowhere"], "nowhere"),
        (["score", "s3://bucket/photos"], "s3://bucket/photos' is a URL"),
        (["score", "{tmp}", "--out", "s3://bucket/out"], "s3://bucket/out is a URL"),
        (["score", "{tmp}", "--out", "{tmp}/file"], "file"),
        (["score", "{tmp}", "--out", "{run}/nothing/../.."], "run"),
        (["score", "{tmp}", "--out", "{tmp}/out", "--rules", "baroque"], "baroque"),
        (["score", "{tmp}", "--out", "{tmp}/out", "--max-megapixels", "0"], "--max-megapixels"),
        (["score", "{tmp}", "--out", "{tmp}/out", "--max-file-mb", "nan"], "--max-file-mb"),
        (["score", "{tmp}", "--out", "{tmp}/out", "--index", "{tmp}"], "--index"),
        (["compare", "{run}", "{run}", "--out", "s3://bucket/out"], "s3://bucket/out is a URL"),
        (["compare", "{run}", "s3://bucket/run"], "s3://bucket/run is a URL"),
        (["embed", "{tmp}", "--out", "s3://bucket/out"], "s3://bucket/out is a URL"),
        (["evaluate-recs", "--out", "s3://bucket/out"], "s3://bucket/out is a URL"),
        (["data", "merge", "celeba", "{tmp}", "--out", "s3://bucket/out.parquet"], "no name of a file here"),
        (["query", "s3://bucket/run", "SELECT 1"], "s3://bucket/run is a URL"),
        (["query", "{tmp}", "SELECT 1"], "finished run"),
        (["query", "{run}", "SELECT stile FROM faces"], "stile"),
        (["query", "{run}", "DROP TABLE photos"], "SELECT"),
        (["query", "{run}", "SELECT 1; SELECT 2"], "one SELECT"),
        (["query", "{run}", "SELECT * FROM '{tmp}/file'"], "failed"),
        (["query", "{run}", "COPY photos TO '{tmp}/stolen.csv'"], "SELECT"),
        (["train", "{tmp}/job.toml"], "job.toml"),
        (["embed", "{tmp}/job.toml"], "job.toml"),
        (["embed", "{tmp}/nowhere", "--out", "{tmp}/out"], "nowhere"),
        (["embed", "{tmp}", "--out", "{tmp}/out", "--split", "train"], "--split"),
        (["embed", "celeba", "--out", "{tmp}/out", "--fashion-mnist", "{tmp}"], "--fashion-mnist"),
        (["embed", "fashion-mnist", "--out", "{tmp}/out", "--root", "{tmp}"], "--root"),
        (["embed", "celeba", "--out", "{tmp}/out", "--faces", "aligned"], "--faces"),
        (["embed", "celeba", "--out", "{tmp}/out", "--root", "{tmp}"], "list_attr_celeba.txt"),
        (["embed", "celeba", "--out", "{tmp}/out", "--split", "trial"], "--split trial: "),
        (["embed", "fashion-mnist", "--out", "{tmp}/out", "--fashion-mnist", "{tmp}"], "IDX"),
        (["rules", "apply", "{tmp}/file"], "Parquet"),
        (["rules", "apply", "{tmp}/nowhere.parquet"], "nowhere.parquet"),
        (["index", "build", "{tmp}", "--out", "{tmp}/out"], "embeddings.json"),
        (["index", "info", "{tmp}"], "no index"),
        (["default-index", "--out", "{tmp}/out", "--attributes", "{tmp}"], "bundle"),
    ],
)
def test_a_users_mistake_is_one_sentence(example_run, tmp_path, arguments, said):
    (tmp_path / "file").write_text("no Parquet")
    before = digests(example_run)
    places = {"{tmp}": str(tmp_path), "{run}": str(example_run)}
    for place, path in places.items():
        arguments = [argument.replace(place, path) for argument in arguments]
    result = call(*arguments)
    assert (result.code, result.out) == (2, "")
    assert said in result.sentence
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert digests(example_run) == before


# query


def test_a_fault_of_the_file_system_is_a_sentence_and_may_be_retried(monkeypatch, capsys):
    import stylematch.pipelines.rules as rules

    def full_disk(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "/photos/a\nb.jpg")

    monkeypatch.setattr(rules, "apply_rules", full_disk)
    assert run(["rules", "apply", "labels.parquet"]) == 3
    said = capsys.readouterr().err
    assert said.startswith("stylematch-batch: [Errno 28] No space left on device: '/photos/a")
    assert said.endswith("mend that and run the same command again\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["compare", "{run}", "{run}", "--out", "{locked}/changes"],
        ["evaluate", "{index}/garments", "fashion-mnist", "--out", "{locked}/new/figures"],
        ["evaluate-recs", "--run", "{run}", "--out", "{locked}/new"],
        ["rules", "fit", "classic", "--report", "{locked}/figures"],
        ["embed", "{run}", "--out", "{locked}/embeddings"],
    ],
)
def test_a_place_that_may_not_be_written_to_is_told_before_the_work(example_run, tmp_path, monkeypatch, arguments):
    """Root, as whom tests may run, may write anywhere."""
    locked, may = tmp_path / "locked", os.access
    locked.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode, **how: Path(path) != locked and may(path, mode, **how))
    places = {"{run}": example_run, "{locked}": locked, "{index}": DEFAULT_INDEX}
    for place, path in places.items():
        arguments = [argument.replace(place, str(path)) for argument in arguments]
    result = call(*arguments)
    sentence = f"stylematch-batch: cannot write to {locked}: name a folder that you may write to"
    assert (result.code, result.sentence) == (2, sentence)


def test_what_may_not_be_read_is_the_users_mistake(monkeypatch, capsys):
    import stylematch.pipelines.rules as rules

    def denied(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", "/nowhere/a\nb.parquet")

    monkeypatch.setattr(rules, "apply_rules", denied)
    assert run(["rules", "apply", "labels.parquet"]) == 2
    said = capsys.readouterr().err
    assert said == "stylematch-batch: /nowhere/a\\nb.parquet: Permission denied: check the path and its permissions\n"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread")])
def test_a_system_that_gives_no_more_is_a_sentence_and_may_be_tried_again(error, monkeypatch, capsys):
    import stylematch.pipelines.rules as rules

    def short(*_, **__):
        raise error

    monkeypatch.setattr(rules, "apply_rules", short)
    assert run(["rules", "apply", "labels.parquet"]) == 3
    said = capsys.readouterr().err
    assert said.startswith(
        f"stylematch-batch: the system gave no more memory or threads ({str(error) or 'out of memory'})"
    )
    assert said.count("\n") == 1


def test_an_interrupt_that_leaves_another_error_is_an_interrupt(monkeypatch, capsys):
    """As where it falls into a lock of Python's own, which is then released without having been taken."""
    import stylematch.pipelines.rules as rules

    def interrupted(*_, **__):
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("release unlocked lock")

    monkeypatch.setattr(rules, "apply_rules", interrupted)
    assert run(["rules", "apply", "labels.parquet"]) == 130
    assert capsys.readouterr().err.endswith("interrupted; the same command begins again\n")


def test_query_answers_as_a_table_csv_and_json(example_run):
    sql = "SELECT style, count(*) AS people FROM recommendations WHERE rank = 1 GROUP BY 1 ORDER BY 1"
    expected = sorted(Counter(row["style"] for row in rows(example_run, "faces")).items())

    shown = call("query", example_run, sql)
    assert (shown.code, shown.err) == (0, "")
    lines = shown.out.splitlines()
    assert lines[0].split() == ["style", "people"]
    assert [tuple(line.rsplit(maxsplit=1)) for line in lines[2:-1]] == [(s, str(n)) for s, n in expected]

    as_csv = call("query", example_run, sql, "--format", "csv")
    assert list(csv.reader(io.StringIO(as_csv.out))) == [["style", "people"], *([s, str(n)] for s, n in expected)]

    as_json = call("query", example_run, sql, "--format", "json")
    assert json.loads(as_json.out) == [{"style": style, "people": people} for style, people in expected]


def test_query_joins_the_three_tables(example_run):
    sql = """
        SELECT p.path, f.face, count(*) AS items FROM photos p JOIN faces f USING (path)
        JOIN recommendations r ON r.path = f.path AND r.face = f.face GROUP BY ALL ORDER BY ALL
    """
    answer = json.loads(call("query", example_run, sql, "--format", "json").out)
    faces = sorted((row["path"], row["face"]) for row in rows(example_run, "faces"))
    assert [(row["path"], row["face"], row["items"]) for row in answer] == [(*face, 5) for face in faces]


def test_pandas_and_duckdb_read_a_table_as_one_data_set(example_run):
    import duckdb
    import pandas as pd

    frame = pd.read_parquet(example_run / "faces")
    assert list(frame.columns) == table(example_run, "faces").column_names
    counted = duckdb.sql(f"SELECT count(*) FROM read_parquet('{example_run}/faces/*.parquet')").fetchall()
    assert counted == [(len(frame),)] == [(8,)]


# rules apply


def test_rules_apply_prints_style_and_count(tmp_path):
    people = [
        ({"5_o_Clock_Shadow", "Arched_Eyebrows", "Mustache", "Male", "Young"}, "Rugged Casual Male"),
        ({"Big_Lips", "Heavy_Makeup", "Wearing_Lipstick", "Young"}, "Glamorous Female"),
        ({"Black_Hair", "Wearing_Hat", "Wearing_Necktie", "Male"}, "Dapper Male"),
        ({"Black_Hair", "Smiling", "Wearing_Earrings"}, "Sunny Chic Female"),
        ({"Eyeglasses", "High_Cheekbones", "Receding_Hairline", "Male"}, "Intellectual Chic Male"),
        ({"Young", "Smiling"}, "Casual"),
        ({"Young"}, "Casual"),
        ({"Smiling"}, "Formal"),
    ]
    columns = {name: [name in has for has, _ in people] for name in ATTRIBUTES}
    pq.write_table(pa.table({"image_id": [str(n) for n in range(len(people))], **columns}), tmp_path / "labels.parquet")
    result = call("rules", "apply", tmp_path / "labels.parquet", "--rules", "classic")
    assert (result.code, result.err) == (0, "")
    counts = [line.split("\t") for line in result.out.splitlines()]
    assert {style: int(count) for style, count in counts if count != "0"} == Counter(style for _, style in people)
    assert len(counts) == 12
    assert counts[0] == ["Casual", "2"]


def test_rules_apply_names_a_column_that_is_missing(tmp_path):
    columns = {name: [True] for name in ATTRIBUTES if name != "Mustache"}
    pq.write_table(pa.table(columns), tmp_path / "labels.parquet")
    result = call("rules", "apply", tmp_path / "labels.parquet", "--rules", "classic")
    assert result.code == 2
    assert "Mustache" in result.sentence


# index info


def test_index_info_describes_the_default():
    result = call("index", "info", DEFAULT_INDEX)
    assert (result.code, result.err) == (0, "")
    assert "WARNING" not in result.out
    for part in ("attributes", "garments"):
        bundle = Bundle.open(DEFAULT_INDEX / part)
        assert f"{part}/: model {bundle.name}" in result.out
        assert bundle.sha256 in result.out
    assert "items/: 10,000 items" in result.out
    assert "non-commercial research" in result.out
    faces = call("index", "info", DEFAULT_INDEX / "faces")
    assert faces.out in result.out.replace("faces/: ", "")


# Pipes and signals


@pytest.mark.parametrize("rows_asked_for", [200_000, 1])
def test_a_reader_that_goes_is_no_failure(example_run, rows_asked_for):
    process = subprocess.Popen(
        command("query", example_run, f"SELECT * FROM range({rows_asked_for})"),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    if rows_asked_for > 1:
        assert process.stdout.readline().split() == [b"range"]
    process.stdout.close()  # as head does
    assert process.wait(PATIENCE_S) == 0
    assert process.stderr.read() == b""
    process.stderr.close()


def test_a_log_that_nobody_reads_stops_no_run(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    out = tmp_path / "out"
    done = subprocess.run(
        command("score", EXAMPLES / "astronaut.jpg", "--out", out, "--device", "cpu", "--no-report"),
        env=environment(),
        stdout=writing,
        stderr=writing,
    )
    os.close(writing)
    assert done.returncode == 0
    assert manifest(out)["counts"]["scored"] == 1


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_closed_streams_stop_no_command(example_run, tmp_path, closed):
    asked = tmp_path / "asked"
    script = f'"$@" {closed}; echo $? > "{asked}"'
    words = command("query", example_run, "SELECT 1")
    done = subprocess.run(["sh", "-c", script, "sh", *words], env=environment(), stderr=subprocess.PIPE)
    assert (asked.read_text(), done.stderr) == ("0\n", b"")


def test_what_is_opened_for_a_closed_stream_has_its_number():
    """Else the next file would have it, and what a library prints would go there."""
    words = [
        sys.executable,
        "-c",
        "import os, sys\n"
        "from stylematch.cli.streams import open_closed_streams as opened\n"
        "opened()\n"
        "assert [s.fileno() for s in (sys.stdin, sys.stdout, sys.stderr)] == [0, 1, 2]\n"
        "assert all(os.get_inheritable(number) for number in range(3))\n",
    ]
    done = subprocess.run(["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *words], env=environment())
    assert done.returncode == 0


def test_a_current_folder_that_is_gone_is_named(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    result = call("score", EXAMPLES, "--out", "out")
    assert (result.code, result.sentence) == (
        2,
        "stylematch-batch: the current folder is gone: give the command in another",
    )


def test_a_current_folder_that_workers_cannot_enter_is_named(tmp_path, monkeypatch):
    """Root may enter any folder, so here its name is one of a file."""
    monkeypatch.setattr(os, "getcwd", lambda: str(EXAMPLES / "astronaut.jpg"))
    result = call("score", EXAMPLES, "--out", tmp_path / "out", "--workers", "2", "--device", "cpu", "--no-report")
    assert result.code == 2
    assert "astronaut.jpg, cannot be entered (Not a directory)" in result.sentence
    assert not (tmp_path / "out").exists()


def test_a_command_that_is_not_score_is_interrupted_alike(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(200):
        shutil.copy(EXAMPLES / "more photos" / "hopper_mirrored.jpg", photos / f"{number}.jpg")
    process = subprocess.Popen(
        command("embed", photos, "--out", tmp_path / "out", "--device", "cpu"),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: list(tmp_path.glob(".out.stylematch-*/new/.part-00000*")), process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert err.endswith("interrupted; the same command begins again\n")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.slow
@pytest.mark.train
def test_a_training_is_interrupted_alike(tmp_path):
    pytest.importorskip("lightning", reason="Lightning is not installed: pip install 'stylematch[train]'")
    job = tmp_path / "job.toml"
    settings = (REPOSITORY / "jobs" / "garment-small.toml").read_text()
    settings = re.sub(r'out = ".*"', f"out = '{tmp_path / 'run'}'", settings)
    settings = re.sub(r'(dataset = ".*")', rf"\1\nroot = '{write_fashion_mnist(tmp_path / 'data')}'", settings)
    settings = re.sub(r"epochs = \d+", "epochs = 2000", re.sub(r"batch_size = \d+", "batch_size = 16", settings))
    job.write_text(settings)
    process = subprocess.Popen(
        command("train", job), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: list(tmp_path.glob("run/checkpoints/last.ckpt")), process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (130, ""), err
    assert "Traceback" not in err
    assert err.rstrip().endswith("the same command goes on where it stopped")
    assert not (tmp_path / "run" / "bundle").exists()


INTERRUPTED_IN_TEXT = """
from stylematch.cli import program
from stylematch.tables.contract import ExitCode

def run(_):
    try:
        exec("import os, signal; os.kill(os.getpid(), signal.SIGTERM); [0 for _ in range(10**6)]")
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED

program.run = run
program.main()
"""


@pytest.mark.parametrize(
    ("arguments", "how"),
    [
        (["--log-format", "text", "export", "job.toml"], "goes on where it stopped"),
        (["train", "job.toml", "--log-format=text"], "goes on where it stopped"),
        (["catalog", "build", "score"], "begins again"),
    ],
)
def test_who_goes_on_after_an_interrupt_is_told_by_the_command_alone(arguments, how, capsys):
    assert _say_interrupted(arguments) == 130
    assert capsys.readouterr().err.endswith(f"interrupted; the same command {how}\n")


def test_an_interrupt_of_text_that_is_run_has_the_same_code(tmp_path):
    """As where it comes while a dataclass is made; ``python -m`` by itself would end by SIGINT then."""
    (tmp_path / "interrupted.py").write_text(INTERRUPTED_IN_TEXT)
    given = environment(PYTHONPATH=os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]]))
    done = subprocess.run([sys.executable, "-m", "interrupted"], env=given, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")


_DROPPED = """
import os, signal, sys, time
from stylematch.cli import interrupts
from stylematch.cli.interrupts import hear_interrupts, interrupt_heard

interrupts._AGAIN_S = 0.5  # a busy machine may take a tenth of a second from one line to the next

def interrupted():
    os.kill(os.getpid(), signal.{name})
    for _ in range(1000):
        pass
    print("not interrupted")

class Taken:
    def __del__(self):
        interrupted()

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job has none
hear_interrupts()
try:
    {how}
    print("dropped", flush=True)
    time.sleep(30)
except KeyboardInterrupt:
    print("heard", flush=True)
    try:
        time.sleep(1.1)
        print("cleared up", flush=True)
    finally:
        interrupt_heard()
time.sleep(0.8)
print("ended")
"""
# Compiled code that tries something and takes any failure for an answer cannot be had on demand.
_SWALLOWED = """
    try:
        interrupted()
    except BaseException:
        pass
"""


@pytest.mark.parametrize("how", ["Taken()", _SWALLOWED.strip()], ids=["taken away", "swallowed"])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_an_interrupt_that_is_dropped_comes_again(name, how):
    """While an object is taken away Python raises nothing: it prints the exception and goes on."""
    code = _DROPPED.format(name=name, how=how)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout.splitlines() == ["dropped", "heard", "cleared up", "ended"]
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("words", "code"),
    [(["score", "{tmp}/none"], 2), (["score", "{photos}", "--out", "{tmp}/out", "--max-reject-share", "0"], 4)],
)
def test_exit_codes_stay_where_nobody_listens(tmp_path, words, code):
    """A log collector that died, or a log's disk that is full, turns no code into another."""
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(EXAMPLES / "truncated.jpg", photos)
    words = [word.format(tmp=tmp_path, photos=photos) for word in words]
    inline = ["--workers", "1", "--photo-timeout-s", "0", "--no-report", "--overwrite"] if code == 4 else []

    def ended(**streams):
        return subprocess.run(command(*words, *inline), env=environment(), cwd=tmp_path, check=False, **streams)

    reader, writer = os.pipe()
    os.close(reader)
    gone = ended(stdout=writer, stderr=subprocess.PIPE, text=True)
    assert gone.returncode == code
    assert "Traceback" not in gone.stderr
    assert gone.stderr.rstrip().splitlines()[-1].startswith("stylematch-batch: ")
    assert ended(stdout=writer, stderr=writer).returncode == code
    os.close(writer)
    with Path("/dev/full").open("w") as full:
        assert ended(stdout=full, stderr=full).returncode == code


@pytest.mark.parametrize("words", [("~/out",), ("--out=~/out",), ("--out", "~")])
def test_an_argument_that_counts_on_a_shell_is_refused(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    result = call("score", EXAMPLES, *words)
    assert (result.code, "no shell wrote out its ~" in result.sentence) == (2, True)
    assert not list(tmp_path.iterdir())
