import functools
import os
import subprocess
import time
from pathlib import Path

import pytest
from engine_jobs import load, square
from program import PATIENCE_S, command, environment, wait_for

from stylematch.engines import early
from stylematch.engines.early import started_early
from stylematch.engines.local import run_partitions

MANY = 70


@pytest.fixture
def folder(tmp_path):
    """A folder with enough entries for two workers, and another one for what they leave."""
    photos, left = tmp_path / "photos", tmp_path / "left"
    photos.mkdir()
    left.mkdir()
    for number in range(MANY):
        (photos / str(number)).touch()
    return photos, left


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_workers_that_started_early_are_those_that_run(folder):
    photos, left = folder
    with started_early("engine_jobs", photos, 2):
        started = {worker.process.pid for worker in early._waiting}
        assert len(started) == 2
        done = []
        setup = functools.partial(load, left)
        run_partitions(square, range(40), workers=2, setup=setup, on_done=lambda _, answer: done.append(answer))
        assert sorted(square for square, _ in done) == [number**2 for number in range(40)]
        assert {pid for _, pid in done} <= started
        assert not early._waiting


@pytest.mark.parametrize(("entries", "wanted", "started"), [(3, 2, 1), (MANY, 1, 1), (MANY, 3, 3), (MANY, 99, 4)])
def test_no_more_start_early_than_have_work(folder, monkeypatch, entries, wanted, started):
    photos, _ = folder
    for number in range(entries, MANY):
        (photos / str(number)).unlink()
    monkeypatch.setattr(early, "Worker", lambda module: type("Idle", (), {"kill": lambda self: None})())
    with started_early("engine_jobs", photos, wanted):
        assert len(early._waiting) == started
    assert not early._waiting


def test_those_that_nobody_hires_are_ended(folder):
    photos, left = folder
    with started_early("engine_jobs", photos, 2):
        one, other = (worker.process.pid for worker in early._waiting)
        done = []
        setup = functools.partial(load, left)
        run_partitions(square, [3], workers=1, setup=setup, guard=None, on_done=lambda *_: done.append(1))
        assert done
    deadline = time.monotonic() + 20
    while (is_alive(one) or is_alive(other)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(one)
    assert not is_alive(other)


def test_a_mistake_leaves_no_worker(tmp_path):
    started = []

    def fail():
        with started_early("no.such.module", tmp_path / "absent", 2):
            started.extend(early._waiting)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fail()
    (worker,) = started
    assert not worker.process.is_alive()


def test_a_module_that_cannot_be_imported_is_the_jobs_to_report(folder):
    photos, left = folder
    with started_early("no.such.module", photos, 2):
        done = []
        setup = functools.partial(load, left)
        run_partitions(square, range(4), workers=2, setup=setup, on_done=lambda _, answer: done.append(answer[0]))
    assert sorted(done) == [0, 1, 4, 9]


def test_a_stop_while_workers_start_leaves_none_half_started(folder, tmp_path):
    """A worker that never hears what it is to do would say so with a traceback."""
    photos, _ = folder
    for number in range(12):
        process = subprocess.Popen(
            command("score", photos, "--out", tmp_path / "out", "--device", "cpu", "--workers", 2),
            env=environment(),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        # The tracker of shared memory, then the workers.
        wait_for(functools.partial(has_so_many, children, 1 + number % 3), process)
        process.terminate()
        _, said = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, "Traceback" in said) == (130, False), said


def has_so_many(children, count):
    return len(children.read_text().split()) >= count
