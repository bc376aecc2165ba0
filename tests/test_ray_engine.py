"""``--engine ray`` on a real cluster of several nodes, which are all this machine."""

import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY
from damaged import FAULTS, kinds
from engine_jobs import Photos, again, fail_to_load, load, misbehave, read_all, square, stumble
from program import (
    EXAMPLES,
    PATIENCE_S,
    call,
    command,
    digests,
    environment,
    heed_interrupts,
    manifest,
    rows,
    score,
    scored,
    table_digests,
    wait_for,
)

from stylematch.data import listing
from stylematch.data.photo_file import unescape_path
from stylematch.data.photos import find_photos
from stylematch.engines import local, ray_crew
from stylematch.engines.attempts import Guard
from stylematch.engines.ray import run_partitions
from stylematch.engines.ray_cluster import Head, crew_shape
from stylematch.errors import StylematchError, UserError
from stylematch.pipelines.on_engine import _load_where_all_is_seen, _Seen
from stylematch.tables.contract import KEYS, TABLES
from stylematch.tables.environment import code_version

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow

NODE = {"include_dashboard": False, "object_store_memory": 100 * 2**20}


@pytest.fixture(scope="module")
def cluster():
    """A head without a CPU, and two nodes of one CPU each."""
    from ray.cluster_utils import Cluster

    with (
        pytest.MonkeyPatch.context() as patch,
        # Not below pytest's folder, which is too deep for a socket.
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder,
    ):
        (Path(folder) / "ray").mkdir()
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), environment()["PYTHONPATH"]]))
        nodes = Cluster()
        for cpus in (0, 1, 1):
            add_node(nodes, cpus)
        yield nodes
        ray.shutdown()
        nodes.shutdown()


def add_node(nodes, cpus: int = 1) -> None:
    """Add a node; Ray waits 30 s for one to come up, which on a very busy machine is too short."""
    for last in (False, True):
        try:
            nodes.add_node(**NODE, num_cpus=cpus)
            return
        except Exception:
            if last:
                raise


@pytest.fixture
def connected(cluster):
    """This process as a driver, so that a test need not connect again."""
    if not ray.is_initialized():
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    return cluster


@pytest.fixture
def small_partitions(monkeypatch):
    monkeypatch.setattr(listing, "MIN_PARTITION_PHOTOS", 4)


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """The examples, four times, each with bytes of its own."""
    root = tmp_path_factory.mktemp("copies") / "photos"
    for found in find_photos(EXAMPLES):
        for number in range(4):
            path = root / str(number) / found.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((EXAMPLES / found.path).read_bytes() + b"%d" % number)
    return root


@pytest.fixture(scope="module")
def local_run(copies, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "MIN_PARTITION_PHOTOS", 4)
        out = scored(copies, tmp_path_factory.mktemp("local") / "out", "--report")
    assert len(list((out / "photos").glob("*.parquet"))) == 8
    return out


def assert_same_run(out, local_run):
    assert manifest(out)["run_id"] == manifest(local_run)["run_id"]
    assert manifest(out)["counts"] == manifest(local_run)["counts"]
    ours, theirs = digests(out), digests(local_run)
    for measured in ("manifest.json", "report/data/timing.js"):  # how long it took
        assert ours.pop(measured) != theirs.pop(measured)
    assert ours == theirs
    for table in TABLES:
        keys = [tuple(row[name] for name in KEYS[table]) for row in rows(out, table)]
        assert len(keys) == len(set(keys))
    assert [path.name for path in out.parent.iterdir()] == [out.name]


# The engine


def test_every_partition_runs_once_with_one_load_an_actor(connected, tmp_path):
    done, photos = {}, []
    run_partitions(
        square,
        iter(range(12)),
        workers=0,
        setup=functools.partial(load, tmp_path),
        on_done=lambda partition, result: done.__setitem__(partition, result),
        on_progress=photos.append,
    )
    assert {partition: result[0] for partition, result in done.items()} == {n: n * n for n in range(12)}
    assert sum(photos) == sum(n % 3 + 2 for n in range(12))
    processes = {result[1] for result in done.values()}
    loaded = {path.name for path in tmp_path.iterdir()}
    # On a busy machine one actor may have done all before the other has loaded.
    assert {f"loaded-{pid}" for pid in processes} <= loaded
    assert len(loaded) <= 2


def test_no_partitions_need_no_ray(tmp_path):
    run_partitions(square, [], workers=2, setup=functools.partial(load, tmp_path), address="nowhere:1")
    assert list(tmp_path.iterdir()) == []


def test_a_dead_workers_partition_is_done_by_another_and_its_photos_count_once(connected, tmp_path, caplog):
    done, photos = [], []
    run_partitions(
        stumble,
        range(6),
        workers=2,
        setup=functools.partial(load, tmp_path),
        on_done=lambda partition, _: done.append(partition),
        on_progress=photos.append,
    )
    assert sorted(done) == list(range(6))
    assert [(tmp_path / f"did-{n}").read_text() for n in range(6)] == ["x"] * 6
    assert sum(photos) == 24
    assert min(photos) > 0
    assert (tmp_path / "stumbled").exists()
    assert "ended while at partition 3" in caplog.text


def test_a_partition_that_ends_every_worker_is_resumable_and_the_others_finish(connected, tmp_path):
    done = []
    with pytest.raises(StylematchError, match=r"partition kill.*same command again") as caught:
        run_partitions(
            misbehave,
            ["slow", "kill", *[f"later{i}" for i in range(5000)]],
            workers=2,
            setup=functools.partial(load, tmp_path),
            on_done=lambda partition, _: done.append(partition),
        )
    assert caught.value.exit_code == 3
    assert "slow" in done
    assert "later4999" not in done


@pytest.mark.parametrize(
    ("partition", "said", "code"),
    [
        ("user", "^row 3 is wrong$", 2),
        ("extra", "^training a model needs the 'train' extra", 2),
        ("odd", "^OddError: onetwo$", 3),
    ],
)
def test_an_error_in_a_worker_keeps_its_sentence_and_code(connected, tmp_path, partition, said, code):
    with pytest.raises(StylematchError, match=said) as caught:
        run_partitions(misbehave, ["slow", partition], workers=2, setup=functools.partial(load, tmp_path))
    assert caught.value.exit_code == code
    assert (tmp_path / "did-slow").exists()


def test_an_error_while_loading_is_raised(connected):
    with pytest.raises(UserError, match=r"^the bundle is damaged$"):
        run_partitions(misbehave, ["a", "b"], workers=2, setup=fail_to_load)


def test_a_node_without_our_code_is_told_to_install_it(connected, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def setup():\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here

    with pytest.raises(StylematchError, match=r"only_here.*install the same stylematch on every node"):
        run_partitions(square, [1], workers=1, setup=only_here.setup)


@pytest.mark.parametrize("kind", ["absent", "another size", "other code"])
def test_a_node_that_sees_other_files_or_code_is_refused(connected, tmp_path, kind):
    photo = tmp_path / "photo.jpg"
    if kind != "absent":
        photo.write_bytes(b"12")
    seen = (_Seen("the photo", os.fsencode(photo), 3 if kind == "another size" else None),)
    code = "0.0.1+other" if kind == "other code" else code_version()
    setup = functools.partial(_load_where_all_is_seen, load, tmp_path, seen, code)
    said = "install the same" if kind == "other code" else r"does not see the photo .*photo\.jpg.*all nodes share"
    with pytest.raises(UserError, match=said):
        run_partitions(square, [1], workers=1, setup=setup)


def test_a_cluster_that_gives_no_worker_is_said_and_given_up(connected, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(ray_crew, "_SAY_SO_S", 0.5)
    monkeypatch.setattr(ray_crew, "PATIENCE_S", 3.0)
    with pytest.raises(StylematchError, match="gave no worker") as caught:  # there is no GPU here
        run_partitions(square, [1], workers=1, setup=functools.partial(load, tmp_path), on_gpus=True)
    assert caught.value.exit_code == 3
    assert "waiting for Ray" in caplog.text


def test_a_head_that_is_gone_is_said_before_ray_ends_the_process(monkeypatch):
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "0.4")
    with socket.create_server(("127.0.0.1", 0)) as server:
        head = Head(f"127.0.0.1:{server.getsockname()[1]}")
        assert head.answers()
        head.check()
    assert not head.answers()  # it may come back
    time.sleep(0.21)
    with pytest.raises(StylematchError, match=r"is gone .*run the same command again") as caught:
        head.check()
    assert caught.value.exit_code == 3


def test_a_head_that_is_gone_for_a_moment_ends_no_run(connected, tmp_path, monkeypatch):
    asked = []
    # On a busy machine a worker takes a while to start, and the head is asked again meanwhile.
    monkeypatch.setattr(Head, "answers", lambda _: asked.append(True) or len(asked) > 1)
    monkeypatch.setattr(ray_crew, "_ASK_EVERY_S", 0.05)
    assert run_partitions(square, [1], workers=1, setup=functools.partial(load, tmp_path)) == 1
    assert len(asked) > 1


@pytest.mark.parametrize(
    ("workers", "on_gpus", "shape"),
    [(0, False, (20, 0)), (3, False, (3, 0)), (0, True, (16, 0.25)), (4, True, (4, 1.0)), (9, True, (9, 0.3333))],
)
def test_actors_share_the_gpus_evenly(workers, on_gpus, shape):
    nodes = [
        {"Alive": True, "Resources": {"CPU": 4.0}},
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}},
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}},
        {"Alive": False, "Resources": {"CPU": 99.0, "GPU": 9.0}},
    ]
    assert crew_shape(nodes, workers, on_gpus) == shape


# Photos that hang or kill


def test_photos_that_hang_or_kill_are_lost_alone_as_on_one_machine(connected, tmp_path):
    partitions = [
        Photos(("a", "slow", "hangs", "b")),
        Photos(("c", "dies", "locks up", "d")),
        Photos(("once", "e")),
        *[Photos((f"later {number}",)) for number in range(6)],
    ]
    said, counted = {}, {}
    for name, run in (("local", local.run_partitions), ("ray", run_partitions)):
        folder, found, photos = tmp_path / name, {}, []
        folder.mkdir()
        run(
            read_all,
            partitions,
            workers=2,
            setup=functools.partial(load, folder),
            on_done=lambda partition, result, found=found: found.update({partition: result}),
            on_progress=photos.append,
            guard=Guard(again, 1.0),
        )
        said[name], counted[name] = found, sum(photos)
        assert min(photos) >= 0
    assert said["ray"] == said["local"]
    assert said["ray"].keys() == set(partitions)
    lost = {photo: reason for result in said["ray"].values() for photo, reason in result.items() if reason != "ok"}
    assert lost == {"hangs": "timed_out", "dies": "crashed", "locks up": "timed_out"}
    assert counted == {"local": 16, "ray": 16}


def test_a_partition_with_no_photo_to_blame_stops_the_run(connected, tmp_path):
    with pytest.raises(StylematchError, match=r"exit code 9.*same command again") as caught:
        run_partitions(
            read_all,
            [Photos(("loses-heart",))],
            workers=1,
            setup=functools.partial(load, tmp_path),
            guard=Guard(again, 1.0),
        )
    assert caught.value.exit_code == 3
    assert (tmp_path / "tries").read_text() == "0 False\n0 True\n"


def test_an_error_of_a_watched_process_keeps_its_sentence_and_code(connected, tmp_path):
    with pytest.raises(UserError, match=r"^the bundle is damaged$"):
        run_partitions(misbehave, ["a"], workers=1, setup=fail_to_load, guard=Guard(again, 60.0))
    with pytest.raises(StylematchError, match=r"^OddError: onetwo$"):
        run_partitions(misbehave, ["odd"], workers=1, setup=functools.partial(load, tmp_path), guard=Guard(again, 60.0))


# The commands


def test_the_tables_and_the_gallery_are_the_local_engines(connected, copies, local_run, tmp_path, small_partitions):
    out = scored(copies, tmp_path / "out", "--report", "--engine", "ray", "--workers", 2)
    assert_same_run(out, local_run)
    again = score(copies, out, "--report")  # the engine is no part of the run's name
    assert again.out.startswith("Nothing to do")


def test_relative_paths_and_own_rules_go_to_every_node(connected, tmp_path, monkeypatch):
    shutil.copytree(EXAMPLES, tmp_path / "photos")
    rules = Path(__file__).parents[1] / "stylematch" / "style" / "rulesets" / "classic.toml"
    shutil.copy(rules, tmp_path / "own.toml")
    monkeypatch.chdir(tmp_path)
    scored("photos", "local", "--rules", "own.toml")
    scored("photos", "ray", "--rules", "own.toml", "--engine", "ray")
    assert table_digests(tmp_path / "ray") == table_digests(tmp_path / "local")


def test_predictions_are_the_local_engines(connected, tmp_path, small_partitions):
    bundle = Path(__file__).parents[1] / "indexes" / "default" / "attributes"
    for engine in ("local", "ray"):
        result = call("predict", bundle, EXAMPLES, "--out", tmp_path / engine, "--device", "cpu", "--engine", engine)
        assert result.code == 0, result.err
    ours, theirs = digests(tmp_path / "ray"), digests(tmp_path / "local")
    assert {**ours, "manifest.json": ""} == {**theirs, "manifest.json": ""}


def test_a_night_is_the_local_engines(connected, tmp_path, small_partitions):
    """Features are kept, and a snapshot is made of them, by actors."""
    inline, actors = {"workers": 1, "photo_timeout_s": 0}, {"workers": 2, "engine": "ray"}
    for name, scoring in (("local", inline), ("ray", actors)):
        job = tmp_path / f"{name}.toml"
        lines = [f"photos = {json.dumps(str(EXAMPLES))}", f"out = {json.dumps(str(tmp_path / name))}", "[score]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in ({"device": "cpu"} | scoring).items()]
        job.write_text("\n".join(lines))
        result = call("export", job, "--date", "2025-11-20")
        assert result.code == 0, result.err
    assert table_digests(tmp_path / "ray" / "latest") == table_digests(tmp_path / "local" / "latest")
    assert len(list((tmp_path / "ray" / "latest" / "photos").glob("*.parquet"))) == 2


def test_photos_that_hang_or_crash_have_the_rows_of_the_local_engine(cluster, tmp_path, small_partitions, monkeypatch):
    photos, names = tmp_path / "photos", ("03.jpg", "07.jpg", "15.jpg")
    photos.mkdir()
    for number in range(20):
        name = f"{number:02d}.jpg"
        (photos / name).write_bytes(kinds()["baseline"] + (FAULTS[name][0] if name in names else b"%d" % number))
    path = os.pathsep.join([str(REPOSITORY / "tests" / "faults"), environment()["PYTHONPATH"]])
    monkeypatch.setenv("PYTHONPATH", path)
    ray.shutdown()
    ray.init(
        address=cluster.address,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": path}},
    )
    try:
        for engine in ("ray", "local"):
            options = ("--report", "--workers", 2, "--photo-timeout-s", 3, "--engine", engine)
            scored(photos, tmp_path / "runs" / engine / "out", *options)
    finally:
        ray.shutdown()
    assert_same_run(tmp_path / "runs" / "ray" / "out", tmp_path / "runs" / "local" / "out")
    found = {os.fsdecode(unescape_path(row["path"])): row for row in rows(tmp_path / "runs" / "ray" / "out", "photos")}
    assert found.keys() == {path.name for path in photos.iterdir()}
    for name, row in found.items():
        _, reason, message = FAULTS[name] if name in names else (b"", "ok", None)
        assert row["reason"] == reason
        assert row["message"] == message if message is None else message in row["message"]


def writer_of(folder: Path) -> int | None:
    """Return the process that has a shard in the folder open, half written."""
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            target = str(descriptor.readlink())
            if target.startswith(str(folder)) and target.endswith(".tmp") and ".parquet" in target:
                return int(descriptor.parts[2])
    return None


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_node_killed_in_the_middle_costs_nothing(connected, copies, local_run, tmp_path, small_partitions, caplog):
    """One of three nodes goes, by SIGKILL, while its worker is writing a shard and others are done."""
    add_node(connected)
    killed = []

    def kill_a_node() -> None:
        deadline = time.monotonic() + PATIENCE_S
        staged = None
        while not killed and time.monotonic() < deadline:
            time.sleep(0.01)
            staged = staged or next(tmp_path.glob(".out.stylematch-staging-*"), None)
            if staged is None or not list(staged.glob("photos/_done/*.json")):
                continue
            with contextlib.suppress(OSError):
                if (pid := writer_of(staged)) is None:
                    continue
                raylets = {node.all_processes["raylet"][0].process.pid: node for node in connected.worker_nodes}
                # What reads photos, what it was forked from, the actor that watches it, their node's raylet.
                line = [pid]
                while line[-1] not in raylets:
                    line.append(parent_of(line[-1]))
                for process in line[:-1]:
                    os.kill(process, signal.SIGKILL)  # the machine is gone at once
                connected.remove_node(raylets[line[-1]], allow_graceful=False)
                killed.extend(line[:-1])

    killer = threading.Thread(target=kill_a_node)
    killer.start()
    try:
        options = ("--engine", "ray", "--workers", 3, "--photo-timeout-s", PATIENCE_S)
        out = scored(copies, tmp_path / "out", "--report", *options)
    finally:
        killer.join()
    assert len(killed) == 3
    assert "ended while at partition" in caplog.text
    assert_same_run(out, local_run)


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    result = score(EXAMPLES, tmp_path / "out", "--engine", "ray")
    assert result.code == 2
    assert "stylematch[ray]" in result.sentence
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--address", "here:6379"], "add --engine ray"), (["--engine", "ray", "--address", "ray://h:1"], "HOST:PORT")],
)
def test_an_address_that_is_none_is_refused(tmp_path, options, said):
    result = score(EXAMPLES, tmp_path / "out", *options)
    assert result.code == 2
    assert said in result.sentence


def test_a_cluster_that_is_not_there_is_a_sentence(tmp_path):
    options = ["--no-report", "--engine", "ray", "--address", "127.0.0.1:9"]
    result = subprocess.run(
        command("score", EXAMPLES, "--out", tmp_path / "out", "--device", "cpu", *options),
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2, result.stderr
    assert result.stderr.splitlines()[-1].startswith("stylematch-batch: no Ray cluster answers at 127.0.0.1:9")
    assert "Traceback" not in result.stderr


SCRIPT = """
import functools, json, sys
from pathlib import Path
from engine_jobs import again, load, misbehave
from stylematch.engines.attempts import Guard
from stylematch.engines.ray import run_partitions
guard = Guard(again, 600.0)
address = None if sys.argv[2] == "own" else sys.argv[2]
try:
    setup = functools.partial(load, Path(sys.argv[1]))
    run_partitions(misbehave, ["hang"] * 2, workers=2, setup=setup, guard=guard, address=address)
except KeyboardInterrupt:
    sys.exit(130)
"""


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize("where", ["cluster", "own"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_leaves_no_worker_and_no_traceback(cluster, tmp_path, how, where):
    ray.shutdown()  # its actors need the cluster's CPUs
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    path = os.pathsep.join([str(Path(__file__).parent), environment()["PYTHONPATH"]])
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as temporary:
        run = subprocess.Popen(
            [sys.executable, str(script), str(tmp_path), cluster.address if where == "cluster" else "own"],
            env=environment(PYTHONPATH=path, TMPDIR=temporary, RAY_ADDRESS=""),
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=heed_interrupts,
        )
        try:
            hanging = wait_for(lambda: len(found := list(tmp_path.glob("hangs-*"))) == 2 and found, run)
            readers = [int(path.name.removeprefix("hangs-")) for path in hanging]
            workers = [*readers, *map(parent_of, readers)]  # and the actors that watch them
            assert run.pid not in workers
            # A terminal sends Ctrl-C to the whole group; a scheduler sends SIGTERM to the process.
            (os.killpg if how == signal.SIGINT else os.kill)(run.pid, how)
            assert run.wait(60) == 130
            deadline = time.monotonic() + 30
            while not all(map(gone, workers)):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert run.stderr.read() == b""
            assert list(Path(temporary).iterdir()) == []
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)
            run.stderr.close()


def test_the_manifest_says_which_engine(connected, tmp_path):
    out = scored(EXAMPLES, tmp_path / "out", "--engine", "ray")
    assert manifest(out)["settings"]["engine"] == "ray"
    assert json.loads((out / "manifest.json").read_text())["stages"]["score"]["items"] == 11
