import contextlib
import functools
import io
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest
from engine_jobs import Photos, again, fail_to_load, load, misbehave, read_all, square
from program import heed_interrupts

from stylematch.data.listing import MAX_LOST
from stylematch.engines.attempts import Attempts, Guard, Losses
from stylematch.engines.local import run_partitions
from stylematch.engines.progress import Progress, Tally
from stylematch.errors import StylematchError, UserError


@pytest.mark.parametrize("workers", [1, 2])
def test_every_partition_runs_once_with_one_load_a_process(tmp_path, workers):
    done, photos = {}, []
    run_partitions(
        square,
        iter(range(12)),
        workers=workers,
        setup=functools.partial(load, tmp_path),
        on_done=lambda partition, result: done.__setitem__(partition, result),
        on_progress=photos.append,
    )
    assert {p: r[0] for p, r in done.items()} == {p: p * p for p in range(12)}
    assert sum(photos) == sum(p % 3 + 2 for p in range(12))
    processes = {r[1] for r in done.values()}
    assert {p.name for p in tmp_path.iterdir()} == {f"loaded-{pid}" for pid in processes}
    assert (processes == {os.getpid()}) == (workers == 1)
    assert len(processes) <= workers


@pytest.mark.parametrize("workers", [1, 2])
def test_no_partitions_load_nothing(tmp_path, workers):
    run_partitions(square, [], workers=workers, setup=functools.partial(load, tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_partitions_are_taken_as_workers_get_free(tmp_path):
    taken, done = [], []

    def partitions():
        for number in range(8):
            assert len(taken) - len(done) < 2
            taken.append(number)
            yield number

    run_partitions(
        square,
        partitions(),
        workers=2,
        setup=functools.partial(load, tmp_path),
        on_done=lambda partition, _: done.append(partition),
    )
    assert sorted(done) == list(range(8))


@pytest.mark.parametrize(("how", "said"), [("kill", "killed by signal 9.*memory"), ("exit", "exit code 7")])
def test_a_worker_that_dies_is_resumable_and_the_others_finish(tmp_path, how, said):
    done = []
    with pytest.raises(StylematchError, match=said + ".*same command again") as caught:
        run_partitions(
            misbehave,
            ["slow", how, *[f"later{i}" for i in range(50)]],
            workers=2,
            setup=functools.partial(load, tmp_path),
            on_done=lambda partition, _: done.append(partition),
        )
    assert caught.value.exit_code == 3
    assert "slow" in done
    assert "later49" not in done


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_one_partition_is_raised_as_it_is(tmp_path, workers):
    with pytest.raises(UserError, match=r"^row 3 is wrong$"):
        run_partitions(misbehave, ["slow", "user", "a"], workers=workers, setup=functools.partial(load, tmp_path))
    assert (tmp_path / "did-slow").exists()


def test_errors_that_cannot_travel_keep_their_sentence_and_code(tmp_path):
    run = functools.partial(run_partitions, misbehave, workers=2, setup=functools.partial(load, tmp_path))
    with pytest.raises(StylematchError, match="training a model needs the 'train' extra") as caught:
        run(["extra"])
    assert caught.value.exit_code == 2
    with pytest.raises(StylematchError, match="OddError: onetwo") as caught:
        run(["odd"])
    assert caught.value.exit_code == 3


def test_an_error_while_loading_is_raised():
    with pytest.raises(UserError, match="bundle is damaged"):
        run_partitions(misbehave, ["a", "b"], workers=2, setup=fail_to_load)


def test_it_runs_outside_the_main_thread(tmp_path):
    done = []
    thread = threading.Thread(
        target=run_partitions,
        args=(square, range(3)),
        kwargs={
            "workers": 1,
            "setup": functools.partial(load, tmp_path),
            "on_done": lambda p, _: done.append(p),
        },
    )
    thread.start()
    thread.join()
    assert done == [0, 1, 2]


SCRIPT = """
import functools, sys
from pathlib import Path
from engine_jobs import load, misbehave
from stylematch.engines.attempts import Attempts, Guard
from stylematch.engines.local import run_partitions
if __name__ == "__main__":
    try:
        run_partitions(misbehave, ["hang"] * 2, workers=2, setup=functools.partial(load, Path(sys.argv[1])))
    except KeyboardInterrupt:
        sys.exit(130)
"""


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_leaves_no_process_and_no_traceback(tmp_path, how):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    here = Path(__file__).resolve().parent
    run = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{here.parent}"},
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    try:
        deadline = time.monotonic() + 30
        while len(hanging := list(tmp_path.glob("hangs-*"))) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        started = time.monotonic()
        # A terminal sends Ctrl-C to the whole group; a scheduler sends SIGTERM to the process.
        (os.killpg if how == signal.SIGINT else os.kill)(run.pid, how)
        # Only the process itself: communicate() would wait for workers that hold its standard error too.
        assert run.wait(10) == (-9 if how == signal.SIGKILL else 130)
        workers = [int(path.name.removeprefix("hangs-")) for path in hanging]
        while not all(map(gone, workers)):
            assert time.monotonic() < started + 10
            time.sleep(0.05)
        assert run.stderr.read() == b""
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.stderr.close()


# Photos that hang or kill


def guarded(folder, *partitions, workers=1, timeout_s=1.0, progress=None):
    """Run partitions of names under a guard; return what became of every photo."""
    said = {}
    run_partitions(
        read_all,
        [Photos(names) for names in partitions],
        workers=workers,
        setup=functools.partial(load, folder),
        on_done=lambda photos, result: said.update(result) if photos.lost == () else pytest.fail("not as handed in"),
        on_progress=progress,
        guard=Guard(again, timeout_s),
    )
    return said


@pytest.mark.parametrize("workers", [1, 2])
def test_a_photo_that_hangs_is_lost_alone(tmp_path, workers):
    counted = []
    began = time.monotonic()
    said = guarded(
        tmp_path, ("a", "slow", "hangs", "b"), ("c",), ("locks up",), workers=workers, progress=counted.append
    )
    assert said == {"a": "ok", "slow": "ok", "hangs": "timed_out", "b": "ok", "c": "ok", "locks up": "timed_out"}
    assert sum(counted) == 6, "photos of a second try are counted twice"
    assert min(counted) >= 0
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("workers", [1, 2])
def test_a_photo_that_kills_its_worker_twice_is_lost_alone(tmp_path, workers):
    counted = []
    said = guarded(tmp_path, ("a", "dies", "b", "dies too"), ("c",), workers=workers, progress=counted.append)
    assert said == {"a": "ok", "dies": "crashed", "b": "ok", "dies too": "crashed", "c": "ok"}
    assert sum(counted) == 5
    tries = (tmp_path / "tries").read_text().splitlines()
    # Once with all, once photo by photo, which is enough for the one; then likewise for the other.
    assert sorted(tries) == sorted(["0 False", "0 True", "1 True", "1 True", "2 True", "0 False"])


def test_a_worker_that_is_killed_once_loses_nothing(tmp_path):
    said = guarded(tmp_path, ("a", "once", "b"), ("once more", "c"), workers=2)
    assert set(said.values()) == {"ok"}
    assert len(said) == 5


def test_time_is_kept_for_each_photo_not_for_all(tmp_path):
    said = guarded(tmp_path, tuple(f"slow {number}" for number in range(8)), timeout_s=2.0)
    assert set(said.values()) == {"ok"}


def test_of_many_threads_the_one_that_hangs_is_named(tmp_path):
    lost = []
    run_partitions(
        read_all,
        [Photos(("threads",))],
        workers=1,
        setup=functools.partial(load, tmp_path),
        guard=Guard(lambda photos, gone, _: lost.extend(gone) or photos, 1.0),
    )
    assert [photo.path for photo in lost] == ["thread 7"]


def test_a_worker_that_dies_outside_any_photo_is_tried_again_once(tmp_path):
    with pytest.raises(StylematchError, match=r"exit code 9.*same command again") as caught:
        guarded(tmp_path, ("loses-heart",))
    assert caught.value.exit_code == 3
    assert (tmp_path / "tries").read_text() == "0 False\n0 True\n"


def test_a_machine_on_which_every_photo_hangs_stops_the_run():
    tries = Attempts(Photos(tuple(map(str, range(100)))), Guard(again, 1.0))
    problems = [tries.timed_out(str(number)) for number in range(MAX_LOST)]
    assert problems[:-1] == [None] * (MAX_LOST - 1)
    assert "hardly the photos' fault" in str(problems[-1])
    patient = Attempts(Photos(tuple(map(str, range(100)))), Guard(again, 1.0))
    for number in range(30):  # a third of the photos is bad: that is how it is
        patient.advance(3 * number + 3)
        assert patient.timed_out(str(3 * number)) is None
    assert len(patient.current.lost) == 30


def test_the_whole_run_says_whether_it_is_the_machine():
    """Photos that hang may stand together in one partition; and those that hung last night hang tonight."""
    losses = Losses(reached=2 * MAX_LOST)
    tries = Attempts(Photos(tuple(map(str, range(100)))), Guard(again, 1.0), losses)
    assert [tries.timed_out(str(number)) for number in range(MAX_LOST)] == [None] * MAX_LOST
    assert "hardly the photos' fault" in str(tries.timed_out(str(MAX_LOST)))
    known = Guard(again, 1.0, lambda photos: frozenset(map(str, range(50))))
    tries = Attempts(Photos(tuple(map(str, range(100)))), known)
    assert {tries.timed_out(str(number)) for number in range(50)} == {None}


def test_what_was_found_is_told_as_it_is_found_and_once():
    tries = Attempts(Photos(tuple("abcdef")), Guard(again, 1.0))
    assert tries.advance(Tally(2, faces=3, rejected=1)).found == {"faces": 3, "rejected": 1}
    assert tries.died("was killed by signal 9", frozenset("c")) is None
    told = [tries.advance(Tally(1, faces=1)) for _ in range(2)] + [tries.advance(Tally(4, faces=5))]
    assert told == [0, 0, 4]
    assert [getattr(count, "found", None) for count in told] == [None, None, {"faces": 5}]


def test_deaths_on_other_photos_each_time_stop_the_run():
    tries = Attempts(Photos(tuple("abc")), Guard(again, 1.0))
    assert tries.died("was killed by signal 9", frozenset("a")) is None
    assert tries.current.alone
    assert tries.died("was killed by signal 9", frozenset("b")) is None
    assert "same command again" in str(tries.died("was killed by signal 9", frozenset("c")))
    assert not tries.lost


def test_progress_in_a_log_is_a_few_lines():
    stream = io.StringIO()
    with Progress(1000, "photos", "scoring", stream=stream, initial=400) as progress:
        for _ in range(600):
            progress.update()
    first, last = stream.getvalue().splitlines()
    assert first == "scoring: 400 of 1,000 (40%) photos were done before"
    assert last.startswith("scoring: 1,000 of 1,000 (100%) photos, ")

    stream = io.StringIO()
    with Progress(None, "files", "finding", stream=stream, every_s=0.0) as progress:
        progress.update(3)
        progress.update(4)
    lines = stream.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "finding: 3 files",
        "finding: 7 files",
        "finding: 7 files",
    ]


@pytest.mark.parametrize("total", [None, 0])
def test_progress_says_nothing_where_there_was_nothing_to_do(total):
    stream = io.StringIO()
    with Progress(total, "pictures", "cut", stream=stream):
        pass
    assert stream.getvalue() == ""


def test_progress_on_a_terminal_is_a_bar():
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 100))
    with os.fdopen(slave, "w") as terminal, Progress(10, "photos", "scoring", stream=terminal) as progress:
        progress.update(10)
    written = b""
    with contextlib.suppress(OSError):  # the end of what was written, on Linux
        while piece := os.read(master, 65536):
            written += piece
    os.close(master)
    assert b"scoring: 100%" in written
    assert b"10/10" in written
