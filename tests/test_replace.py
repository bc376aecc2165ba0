"""Directories that appear whole: one writer at a time, and nothing left of those that were killed."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from program import call, environment
from test_index import names as ids
from test_index_change import built, more_embeddings

from stylematch.errors import UserError
from stylematch.search.directory import load_index_directory
from stylematch.tables import replace
from stylematch.tables.replace import DirectoryKind

THING = DirectoryKind("a thing", "thing.json", lambda _, name: name == "part")


def fill(staged, text):
    (staged / "thing.json").write_text("{}")
    (staged / "part").write_text(text)


def made(out, text):
    with THING.replaced(out) as staged:
        fill(staged, text)


def given_up(out, expected, text):
    with THING.replaced(out) as staged:
        assert (out / "part").read_text() == expected
        fill(staged, text)
        raise ZeroDivisionError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_it_appears_at_once_and_leaves_nothing_beside_it(tmp_path):
    out = tmp_path / "a" / "out"
    for text in ("first", "second"):
        with THING.replaced(out) as staged:
            assert not (out / "part").exists() or (out / "part").read_text() != text
            fill(staged, text)
        assert (out / "part").read_text() == text
        assert names(out.parent) == ["out"]
    with pytest.raises(ZeroDivisionError):
        given_up(out, "second", "third")
    assert (out / "part").read_text() == "second"
    assert names(out.parent) == ["out"]


def test_what_a_kill_left_is_removed(tmp_path):
    code = (
        "import os, signal, sys, pathlib\n"
        "from stylematch.tables.replace import DirectoryKind\n"
        "kind = DirectoryKind('a thing', 'thing.json', lambda _, name: True)\n"
        "with kind.replaced(pathlib.Path(sys.argv[1])) as staged:\n"
        "    (staged / 'part').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    for _ in range(2):
        killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], env=environment(), check=False)
        assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / ".out.stylematch-new" / "new" / "part").read_text() == "half"
    made(tmp_path / "out", "whole")
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "part").read_text() == "whole"


def test_what_was_taken_away_before_a_kill_comes_back(tmp_path):
    out, beside = tmp_path / "out", tmp_path / ".out.stylematch-new"
    made(out, "before")
    beside.mkdir()
    out.rename(beside / "old")  # of two renames, where the system cannot exchange names
    with pytest.raises(ZeroDivisionError):
        given_up(out, "before", "after")
    assert (out / "part").read_text() == "before"
    assert names(tmp_path) == ["out"]


def test_without_an_exchange_of_names(tmp_path, monkeypatch):
    monkeypatch.setattr(replace, "exchange", lambda *_: False)
    for text in ("first", "second"):
        made(tmp_path / "out", text)
        assert (tmp_path / "out" / "part").read_text() == text
    assert names(tmp_path) == ["out"]


def test_an_interrupt_between_two_renames_loses_nothing(tmp_path, monkeypatch):
    out = tmp_path / "out"
    made(out, "before")
    monkeypatch.setattr(replace, "exchange", lambda *_: False)
    rename = Path.rename

    def interrupted(path, target):
        if path.name == "new":
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made(out, "after")
    assert (out / "part").read_text() == "before"
    assert names(tmp_path) == ["out"]


def test_a_change_finds_what_a_kill_had_taken_away(tmp_path):
    index = built(tmp_path, count=20)
    beside = index.with_name(f".{index.name}.stylematch-new")
    (tmp_path / "gone").write_text(f"{ids(20)[1]}\n")
    beside.mkdir()
    index.rename(beside / "old")
    result = call("index", "remove", index, "--ids", tmp_path / "gone")
    assert result.code == 0, result.err
    assert len(load_index_directory(index).index) == 19


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (".", "is the current directory"),
        ("..", "or one above it"),
        ("/proc", "mount point"),
        ("lost", "link to nowhere"),
    ],
)
def test_what_no_folder_can_take_the_place_of(tmp_path, monkeypatch, where, said):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here" / "lost").symlink_to("nowhere")
    with pytest.raises(UserError, match=said), THING.replaced(Path(where)):
        raise AssertionError
    assert [path.name for path in Path.cwd().iterdir()] == ["lost"]


def test_one_change_at_a_time_and_none_is_lost(tmp_path):
    index = built(tmp_path, count=20)
    add = ["index", "add", index, more_embeddings(tmp_path, ["late"])]
    code = (
        "import sys, pathlib, time\n"
        "from stylematch.pipelines.indexing.index import INDEX\n"
        "with INDEX.locked(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(600)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(index)], env=environment(), stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"held\n"
        result = call(*add)
        assert result.code == 2
        assert "another command is writing" in result.sentence
    finally:
        other.kill()
        other.communicate()
    assert call(*add).code == 0  # a lock ends with its holder
    assert list(load_index_directory(index).index.ids) == [*ids(20), "late"]
