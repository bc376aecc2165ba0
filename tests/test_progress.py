"""Progress and ``--log-format``: what logs and terminals show; JSON lines where they are asked for."""

import contextlib
import io
import json
import logging
import os
import pickle
import pty
import subprocess
import sys
import termios

import pytest
from program import EXAMPLES, call

from stylematch.cli.arguments import format_first
from stylematch.cli.logs import use_log_format
from stylematch.engines.progress import Progress, Tally, write_json_lines
from stylematch.pipelines.score import score
from stylematch.settings.score import ScoreSettings


@pytest.fixture(autouse=True)
def text_again():
    yield
    use_log_format("text")


def test_a_tally_is_a_number_that_travels():
    tally = pickle.loads(pickle.dumps(Tally(32, faces=3, rejected=1)))
    assert (tally, tally.found) == (32, {"faces": 3, "rejected": 1})
    assert tally + 1 == 33


def test_lines_tell_rate_faces_rejects_and_time_left():
    stream = io.StringIO()
    with Progress(100, "photos", "score", stream=stream, every_s=0.0) as progress:
        progress.update(Tally(10, faces=7, rejected=1))
        progress.update(Tally(10, faces=5, rejected=0))
        progress.found_at_least(faces=11, rejected=4)
        progress.update(80)
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("score: 10 of 100 (10%) photos, ")
    assert " a second, 7 faces, 1 rejected, " in lines[0]
    assert lines[0].endswith(" left")
    assert ", 12 faces, 1 rejected, " in lines[1]
    assert lines[-1].startswith("score: 100 of 100 (100%) photos, ")
    assert lines[-1].endswith(" a second, 12 faces, 4 rejected")


@pytest.mark.parametrize(("rate", "left"), [(1.0, "1:30 left"), (0.02, "1:15:00 left")])
def test_time_left_is_a_clock(rate, left):
    assert Progress(100, "photos", "score")._as_text(rate, 90 / rate).endswith(left)


def test_json_lines_are_objects():
    stream = io.StringIO()
    write_json_lines(True)
    with Progress(4, "photos", "score", stream=stream, every_s=0.0) as progress:
        progress.update(Tally(1, faces=2, rejected=0))
        progress.update(3)
    first, *_, last = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["kind"], first["stage"], first["unit"]) == ("progress", "score", "photos")
    assert (first["done"], first["total"], first["faces"], first["rejected"], first["ended"]) == (1, 4, 2, 0, False)
    assert first["per_second"] > 0
    assert first["seconds_left"] >= 0
    assert (last["done"], last["ended"], last["seconds_left"]) == (4, True, None)


def test_a_terminal_has_one_bar_with_faces_and_rejects():
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 120))
    with os.fdopen(slave, "w") as terminal, Progress(10, "photos", "score", stream=terminal) as progress:
        progress.update(Tally(10, faces=8, rejected=2))
    written = b""
    with contextlib.suppress(OSError):  # the end of a terminal whose other side is closed
        while part := os.read(master, 65536):
            written += part
    os.close(master)
    assert b"10/10" in written
    assert b"8 faces, 2 rejected" in written
    assert b"photos/s" in written


def test_the_option_may_stand_anywhere_before_two_dashes():
    assert format_first(["score", "x", "--log-format", "json"]) == ["--log-format", "json", "score", "x"]
    assert format_first(["score", "--log-format=json", "--", "--log-format"]) == [
        *("--log-format=json", "score", "--", "--log-format")
    ]
    assert format_first(["score", "--log-format"]) == ["--log-format", "score"]


def json_lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_errors_are_objects_too(tmp_path):
    missing = call("score", tmp_path / "nowhere", "--log-format", "json")
    assert missing.code == 2
    (told,) = json_lines(missing.err)
    assert (told["level"], told["kind"]) == ("error", "message")
    assert "nowhere" in told["message"]
    wrong = call("--log-format=json", "score", "--no-such-option")
    assert wrong.code == 2
    assert "--no-such-option" in json_lines(wrong.err)[0]["message"]
    plain = call("score", tmp_path / "nowhere")
    assert plain.err.startswith("stylematch-batch: ")
    assert call("score", "x", "--log-format", "yaml").code == 2


def test_log_lines_are_objects_with_time_and_level(capsys, monkeypatch):
    from stylematch.cli.logs import log_to_stderr

    logger = logging.getLogger("stylematch")
    for name in ("handlers", "level", "propagate"):  # given back afterwards
        monkeypatch.setattr(logger, name, [] if name == "handlers" else getattr(logger, name))
    log_to_stderr()
    use_log_format("json")
    logging.getLogger("stylematch.training").info("epoch %d\nof %d", 1, 2)
    (line,) = json_lines(capsys.readouterr().err)
    assert (line["level"], line["kind"], line["logger"]) == ("info", "log", "stylematch.training")
    assert line["message"] == "epoch 1\nof 2"
    assert line["time"].endswith("+00:00")


def test_a_run_in_a_process_of_its_own_writes_only_objects(tmp_path):
    command = [sys.executable, "-m", "stylematch.cli", "score", EXAMPLES, "--out", tmp_path / "out", "--no-report"]
    done = subprocess.run(
        [*command, "--workers", "1", "--log-format", "json"], capture_output=True, text=True, check=True
    )
    lines = json_lines(done.stderr)
    assert {line["stage"] for line in lines} == {"list", "score"}
    assert (lines[-1]["faces"], lines[-1]["rejected"], lines[-1]["done"]) == (8, 2, 11)
    assert "found 11: scored 6" in done.stdout


def test_that_all_was_done_before_is_said_once():
    stream = io.StringIO()
    with Progress(40, "photos", "score", initial=40, stream=stream):
        pass
    assert stream.getvalue() == "score: 40 of 40 (100%) photos were done before\n"


def test_faces_show_while_a_partition_is_under_way(tmp_path, monkeypatch):
    """In the default way, a guarded process of its own: the first batches tell their faces, not the partition's end."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(Progress.__init__, "__kwdefaults__", {**Progress.__init__.__kwdefaults__, "every_s": 0.0})
    settings = ScoreSettings(batch_size=2, workers=1, device="cpu", report=False)
    score(EXAMPLES, tmp_path / "out", settings)
    lines = [line for line in stream.getvalue().splitlines() if line.startswith("score: ")]
    assert len(lines) > 3
    assert ", 1 faces, 0 rejected, " in lines[0]
    assert lines[0].endswith(" left")
    assert lines[-1].endswith(" 8 faces, 2 rejected")


@pytest.mark.parametrize("as_json", [False, True])
def test_what_an_earlier_try_has_done_is_told_at_once_and_counts(as_json):
    stream = io.StringIO()
    write_json_lines(as_json)
    try:
        with Progress(600, "photos", "score", initial=150, found={"faces": 160}, stream=stream) as progress:
            progress.update(Tally(450, faces=458))
    finally:
        write_json_lines(False)
    first, last = stream.getvalue().splitlines()
    if as_json:
        assert {key: json.loads(first)[key] for key in ("done", "total", "faces")} == {
            "done": 150,
            "total": 600,
            "faces": 160,
        }
        assert json.loads(last)["faces"] == 618
    else:
        assert first == "score: 150 of 600 (25%) photos were done before"
        assert last.endswith(" a second, 618 faces")
