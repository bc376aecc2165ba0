"""Processes that share a training end together, in bounded time: here they share a sleep, and import no torch."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import REPOSITORY
from program import PATIENCE_S

SHARED = """
import os, subprocess, sys, time
from pathlib import Path
from stylematch.errors import UserError
from stylematch.vision import together

first, other, place = sys.argv[1:]
together.ALIKE_S = 600
if place == "0":
    together.begin_first()
    others = [subprocess.Popen([sys.executable, sys.argv[0], first, other, str(place)]) for place in (1, 2)]
    together.watch_others(others)
else:
    together.follow_first()
    Path(place).write_text(str(os.getpid()))
try:
    with together.ended_together():
        exec(first if place == "0" else other)
except UserError as error:
    sys.exit(f"{error} of {place}")
"""
WAIT = "time.sleep(600)"
FAIL = "raise UserError('a mistake')"
LATER = f"time.sleep(0.3); {FAIL}"
WITHOUT_END = f"""
import ctypes
class Waiting:
    def __del__(self):
        ctypes.CDLL(None).sleep(600)
waiting = Waiting()
{FAIL}
"""
LAST_ALONE = f"together.ALIKE_S = 0.1; place == '2' or time.sleep(600); {FAIL}"


@pytest.fixture
def shared(tmp_path):
    """A function that begins three processes, of which each does as it is told."""
    begun = []
    (tmp_path / "shared.py").write_text(SHARED)

    def begin(first=WAIT, other=WAIT):
        command = [sys.executable, str(tmp_path / "shared.py"), first, other, "0"]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        begun.append(subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True))
        return begun[0]

    yield begin
    for process in begun:
        process.kill()
        process.wait()


def others(folder):
    """Return the numbers of the two others, once they are there."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        numbers = [path.read_text() for path in (folder / "1", folder / "2") if path.is_file()]
        if len(numbers) == 2 and all(numbers):
            return [int(number) for number in numbers]
        time.sleep(0.01)
    raise AssertionError("the others did not begin")


def test_all_end_with_one_that_is_killed_and_a_sentence_says_so(shared, tmp_path):
    first = shared()
    os.kill(others(tmp_path)[1], signal.SIGKILL)
    _, told = first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 3
    assert told.startswith("process 3 of the 3 that share this training was ended by SIGKILL")
    assert told.count("\n") == 1


def test_the_first_that_is_killed_takes_the_others_along(shared, tmp_path):
    first = shared()
    others(tmp_path)
    first.kill()
    assert first.communicate(timeout=PATIENCE_S)[1] == ""  # until all have ended, for they share this pipe


@pytest.mark.parametrize(("first", "other", "told"), [(FAIL, WAIT, 0), (WAIT, LAST_ALONE, 2), (LATER, FAIL, 0)])
def test_a_mistake_that_one_or_all_tell_is_told_once(shared, first, other, told):
    begun = shared(first, other)
    _, said = begun.communicate(timeout=PATIENCE_S)
    assert said == f"a mistake of {told}\n"
    assert begun.returncode == 2


def test_what_waits_for_the_others_at_pythons_end_is_not_waited_for(shared):
    begun = shared(WITHOUT_END)
    assert begun.communicate(timeout=PATIENCE_S)[1] == "a mistake of 0\n"
    assert begun.returncode == 2


def test_all_that_do_their_share_are_let_be(shared):
    begun = shared("time.sleep(0.5)", "pass")
    assert begun.communicate(timeout=PATIENCE_S)[1] == ""
    assert begun.returncode == 0


@pytest.mark.parametrize(("before", "code"), [("together.leave_alone(); ", 0), ("", 1)])
def test_one_that_fails_after_its_share_is_done_ends_nobody(before, code, shared):
    begun = "while not (Path('1').is_file() and Path('2').is_file()): time.sleep(0.02)"
    first = shared(f"{before}\n{begun}\ntime.sleep(1)", "os._exit(1)")
    first.communicate(timeout=PATIENCE_S)
    assert first.returncode == code
