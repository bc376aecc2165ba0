import errno
import functools
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from engine_jobs import load, square
from program import PATIENCE_S, command, environment, wait_for

from stylematch.engines import early
from stylematch.engines import template as template_module
from stylematch.engines.early import started_early
from stylematch.engines.local import run_partitions
from stylematch.engines.named import Named
from stylematch.engines.template import Template


@pytest.fixture
def folder(tmp_path):
    """A folder of photos, and another one for what the workers leave."""
    photos, left = tmp_path / "photos", tmp_path / "left"
    photos.mkdir()
    left.mkdir()
    return photos, left


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def run_squares(left, workers=2):
    """Run some partitions and return the processes that did."""
    done = []
    setup = functools.partial(load, left)
    run_partitions(square, range(40), workers=workers, setup=setup, on_done=lambda _, answer: done.append(answer))
    assert sorted(square for square, _ in done) == [number**2 for number in range(40)]
    return {pid for _, pid in done}


def parent_told(folder, partition, advance):
    return os.getppid(), os.getpid()


def test_workers_are_forked_from_what_started_early(folder):
    photos, left = folder
    with started_early("test_early_workers", photos):
        (template,) = early._waiting
        told = []
        run_partitions(
            parent_told,
            range(2),
            workers=2,
            setup=functools.partial(load, left),
            on_done=lambda _, answer: told.append(answer),
        )
        assert {parent for parent, _ in told} == {template.process.pid}
        assert not early._waiting
        assert not any(is_alive(pid) for pid in (template.process.pid, *(worker for _, worker in told)))


def test_what_nobody_took_is_ended(folder):
    photos, left = folder
    with started_early("engine_jobs", photos):
        (template,) = early._waiting
        assert run_squares(left, workers=1) == {os.getpid()}
        assert is_alive(template.process.pid)
    assert not is_alive(template.process.pid)


def test_a_mistake_leaves_no_process(tmp_path):
    started = []

    def fail():
        with started_early("no.such.module", tmp_path / "absent"):
            started.extend(early._waiting)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fail()
    (template,) = started
    assert not is_alive(template.process.pid)


def test_a_module_that_cannot_be_imported_is_the_jobs_to_report(folder):
    photos, left = folder
    with started_early("no.such.module", photos):
        run_squares(left)


def greet(pipe):
    os.write(pipe, b"hello")


def fail_with_seven(pipe):
    sys.exit(7)


def test_how_a_forked_process_ended_is_known():
    template, (read, write) = Template(), os.pipe()
    try:
        one, other = (template.fork(target, [write], __name__) for target in (greet, fail_with_seven))
        assert os.read(read, 5) == b"hello"
        assert one.join(PATIENCE_S)
        assert other.join(PATIENCE_S)
        assert (one.exit_code(), other.exit_code()) == (0, 7)
        assert one.exit_code() is None  # it is told once
    finally:
        template.end()


def tell_blas_threads(pipe):
    # By what the library did: every thread but the first waits for products.
    np.ones((300, 300)) @ np.ones((300, 300))
    os.write(pipe, f"{os.environ.get('OPENBLAS_NUM_THREADS')} {len([*Path('/proc/self/task').iterdir()])}".encode())


@pytest.mark.skipif(os.cpu_count() == 1, reason="a single core has no others to take")
@pytest.mark.parametrize(("set_to", "threads"), [(None, 1), ("2", 2)])
def test_products_of_a_worker_keep_to_one_core_unless_told_otherwise(monkeypatch, set_to, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    if set_to is not None:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", set_to)
    template, (read, write) = Template(), os.pipe()
    try:
        assert os.environ.get("OPENBLAS_NUM_THREADS") == set_to
        template.fork(tell_blas_threads, [write], __name__)
        assert os.read(read, 20).decode() == f"{set_to or 1} {threads}"
    finally:
        template.end()


def test_a_template_that_is_gone_is_started_again():
    template, (read, write) = Template(), os.pipe()
    try:
        first = template.process
        first.kill()
        first.join()
        again = template.fork(greet, [write], __name__)
        assert os.read(read, 5) == b"hello"
        assert again.join(PATIENCE_S)
        assert template.process is not first
    finally:
        template.end()


def no_fork():
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def test_a_system_without_processes_is_said_and_ends_no_worker(monkeypatch):
    monkeypatch.setattr(os, "fork", no_fork)
    ours, theirs = multiprocessing.Pipe()
    served = threading.Thread(target=template_module._answer, args=(theirs,), daemon=True)
    served.start()
    template = Template.__new__(Template)
    template._pipe = ours
    template.process = SimpleNamespace(pid=os.getpid())
    read, write = os.pipe()
    for _ in range(2):  # it goes on serving
        with pytest.raises(OSError, match="no worker can be started: Resource temporarily unavailable"):
            template.fork(greet, [write], __name__)
    ours.close()
    served.join(PATIENCE_S)
    assert not served.is_alive()
    os.close(read)
    os.close(write)


_THREADS = """
import os, sys
from stylematch.tables.arrow import without_pandas
without_pandas()
before = len(os.listdir("/proc/self/task"))
import stylematch.pipelines.score_partition
print(len(os.listdir("/proc/self/task")) - before, "onnxruntime" in sys.modules, "torch" in sys.modules)
"""


def test_what_is_imported_before_workers_are_forked_starts_no_thread():
    """But for those of numpy and pyarrow, which are mended in a forked process."""
    said = subprocess.run([sys.executable, "-c", _THREADS], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["0", "False", "False"]


@pytest.mark.slow
def test_a_stop_while_workers_start_leaves_none_half_started(folder, tmp_path):
    """A worker that never hears what it is to do would say so with a traceback."""
    photos, _ = folder
    for number in range(70):
        (photos / str(number)).touch()
    for number in range(12):
        process = subprocess.Popen(
            command("score", photos, "--out", tmp_path / "out", "--device", "cpu", "--workers", 2),
            env=environment(),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        # The tracker of shared memory, then what workers are forked from.
        wait_for(functools.partial(has_so_many, children, 1 + number % 2), process)
        time.sleep(number / 2 % 3 * 0.1)
        process.terminate()
        _, said = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, "Traceback" in said) == (130, False), said


def has_so_many(children, count):
    return len(children.read_text().split()) >= count


def said_by(code, *arguments):
    """Run some Python in a process of its own; return the lines that it printed."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=environment(), capture_output=True, text=True)
    return done.stdout.splitlines()


BEGUN = """
import sys
from stylematch.engines import early
early.begin = lambda module: print(module, "typer" in sys.modules)
from stylematch.cli.start import main
main()
"""


@pytest.mark.parametrize("before", [(), ("--log-format", "json")])
def test_what_scores_begins_before_its_commands_are_made(before):
    assert said_by(BEGUN, *before, "score", "--unknown") == ["stylematch.pipelines.score_partition False"]


def fails_at_once(error):
    """Return a program whose workers cannot be begun."""
    return BEGUN.replace("early.begin = ", f"def fail(_): raise {error}\nearly.begin = fail\nunused = ")


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        ("OSError(11, 'no process is left')", 3, "no process is left; mend that and run the same command again"),
        ("UserError('the current folder is gone')", 2, "stylematch-batch: the current folder is gone"),
    ],
)
def test_what_cannot_be_begun_is_the_commands_to_report(error, code, sentence, tmp_path):
    program = fails_at_once(error).replace("import sys", "import sys\nfrom stylematch.errors import UserError", 1)
    done = subprocess.run(
        [sys.executable, "-c", program, "score", str(tmp_path / "photos"), "--out", str(tmp_path / "out")],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr
    assert (done.returncode, sentence in done.stderr) == (code, True), done.stderr


@pytest.mark.parametrize("arguments", [("query", "score", "SELECT 1"), ("score", "--help"), ()])
def test_what_does_not_score_begins_nothing(arguments):
    assert not any("score_partition" in line for line in said_by(BEGUN, *arguments))


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("stylematch.pipelines.score", "pyarrow faiss onnxruntime simplejpeg stylematch.pipelines.score_partition"),
        (
            "stylematch.pipelines.score_partition",
            "pandas torch onnxruntime stylematch.settings.train stylematch.report.gallery stylematch.vision.examples "
            "stylematch.style.fitting stylematch.engines.local",
        ),
        ("stylematch.pipelines.gallery_pages", "faiss torch onnxruntime stylematch.search.directory"),
    ],
)
def test_each_process_imports_its_own_alone(module, unwanted):
    code = "import importlib, sys; importlib.import_module(sys.argv[1]); print(*sys.modules)"
    (loaded,) = said_by(code, module)
    assert set(loaded.split()).isdisjoint(unwanted.split())


def test_a_function_is_named_without_being_imported_and_travels_so():
    named = Named("engine_jobs", "square")
    travelled = pickle.loads(pickle.dumps(named))
    assert (travelled.__module__, travelled.__name__) == (square.__module__, square.__name__)
    assert Named("operator", "add")(2, 3) == 5
    lost = Named("no.such.module", "f")
    with pytest.raises(ModuleNotFoundError):
        lost()


def test_what_is_hidden_is_absent_whoever_asks():
    code = """
import sys
from stylematch.tables.hidden import hide
hide("pandas")
hide("json")
try:
    import pandas
except ModuleNotFoundError as error:
    print(error.name)
import json, pyarrow
print(json.dumps(pyarrow.array([1.5, None]).to_pylist()), "pandas" in sys.modules)
"""
    assert said_by(code.replace("import sys", "import json, sys")) == ["pandas", "[1.5, null] False"]
