"""Whatever happens to a run or lies among its photos: the same command goes on, and no file is missing.

Each test is quick here; ``STYLEMATCH_LONG=1`` (``make test-long``) makes them as long as what is promised: 50 kills,
10,000 damaged files.
"""

import contextlib
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest
from conftest import REPOSITORY
from damaged import FAULTS, entries_of, kinds, make_damaged, remove_damaged
from PIL import Image
from program import EXAMPLES, PATIENCE_S, command, environment, manifest, rows, score, table_digests, wait_for
from test_export import job_file, kept_ids

from stylematch.data.listing import MIN_PARTITION_PHOTOS
from stylematch.data.photo_file import unescape_path
from stylematch.tables.contract import TABLES, Reason
from stylematch.tables.shards import is_done, shard_path

LONG = os.environ.get("STYLEMATCH_LONG") == "1"
KILLS = 50 if LONG else 4
STOPS = 50 if LONG else 2
DISK_SIZES = 20 if LONG else 2
DAMAGED = 10_000 if LONG else 250
WORKERS = 2
OPTIONS = ("--device", "cpu", "--faces", "aligned", "--workers", WORKERS, "--batch-size", 8)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """Files for five partitions, a third of them face crops and the rest cut short, to be quick; no two are equal."""
    root = tmp_path_factory.mktemp("crowd") / "photos"
    root.mkdir()
    with Image.open(EXAMPLES / "astronaut.jpg") as photo:
        photo.crop((140, 30, 310, 238)).resize((178, 218)).save(root / "face.jpg")
    data = (root / "face.jpg").read_bytes()
    (root / "face.jpg").unlink()
    for number in range(5 * MIN_PARTITION_PHOTOS):
        (root / f"{number:04d}.jpg").write_bytes((data[:900] if number % 3 else data) + b"%d" % number)
    return root


def start(photos, out, *options, **more):
    """Start a run in a process group of its own."""
    return begin("score", photos, "--out", out, *options, **more)


def begin(*arguments, path=(), **more):
    """Start a command in a process group of its own."""
    given = environment()
    given["PYTHONPATH"] = os.pathsep.join([*map(str, path), given["PYTHONPATH"]])
    return subprocess.Popen(
        command(*arguments),
        env=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **more,
    )


def ended(process):
    """Wait for a run; return its exit code and what it said."""
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out + err


def finish(photos, out, *options, **more):
    code, said = ended(start(photos, out, *options, **more))
    assert code == 0, said
    return said


@pytest.fixture(scope="module")
def whole(crowd, tmp_path_factory):
    """The run that nobody disturbed: OUT, and how many seconds it took."""
    out = tmp_path_factory.mktemp("whole") / "out"
    began = time.monotonic()
    finish(crowd, out, *OPTIONS)
    assert len(list((out / "photos").glob("*.parquet"))) == 4
    return out, time.monotonic() - began


def staging_of(out):
    return next(out.parent.glob(f".{out.name}.stylematch-staging-*"), None)


def done_shards(out):
    """Return the identity of every partition that is done, wherever it lies; a partition done again has another."""
    folder = out if (out / "manifest.json").is_file() else staging_of(out)
    if folder is None or not (folder / "photos").is_dir():
        return {}
    numbers = [int(path.stem[5:]) for path in (folder / "photos").glob("part-*.parquet")]
    done = [number for number in numbers if all(is_done(folder / table, number) for table in TABLES)]
    statuses = {number: shard_path(folder / "photos", number).stat() for number in done}
    return {number: (status.st_ino, status.st_mtime_ns) for number, status in statuses.items()}


def half_done(out):
    """Return the partitions that were begun and are lost."""
    folder = staging_of(out)
    begun = set() if folder is None else {int(path.name.split("part-")[1][:5]) for path in folder.rglob("*part-*")}
    return begun - set(done_shards(out))


def assert_as_whole(out, whole):
    assert table_digests(out) == table_digests(whole[0])
    assert manifest(out)["run_id"] == manifest(whole[0])["run_id"]
    assert manifest(out)["counts"] == manifest(whole[0])["counts"]
    assert staging_of(out) is None
    assert sorted(path.name for path in out.parent.iterdir()) == [out.name]
    assert (out / "report" / "index.html").is_file()


def but_for_orphans(said, code):
    """Return what was said, but for a process whose parent was killed between starting it and telling it what to do.

    Its few words are Python's own (``multiprocessing.spawn``), said before any code of ours runs there.
    """
    if code != -signal.SIGKILL:
        return said
    lines = r'  File "<string>", line 1, in <module>\n  File ".*spawn.py", line \d+, in spawn_main\n(?:  .*\n)*'
    return re.sub(rf"Traceback \(most recent call last\):\n{lines}EOFError: Ran out of input\n", "", said)


def test_an_orphans_words_are_all_that_is_passed_over():
    orphan = (
        'Traceback (most recent call last):\n  File "<string>", line 1, in <module>\n'
        '  File "/lib/python3.11/multiprocessing/spawn.py", line 122, in spawn_main\n    exitcode = _main(fd)\n'
        "               ^^^^^^^^^\nEOFError: Ran out of input\n"
    )
    assert but_for_orphans(f"list: 5\n{orphan}", -signal.SIGKILL) == "list: 5\n"
    assert but_for_orphans(orphan, 1) == orphan
    other = orphan.replace("EOFError: Ran out of input", "KeyError: 'x'")
    assert but_for_orphans(other, -signal.SIGKILL) == other


def disturbed(crowd, whole, tmp_path, times, disturb, allowed):
    """Disturb runs at random moments, go on with each, and compare it with the undisturbed one."""
    draw, disturbances, runs = random.Random(times), 0, 0
    while disturbances < times:
        runs += 1
        out = tmp_path / str(runs) / "out"
        out.parent.mkdir()
        code = None
        while code != 0:
            before = done_shards(out)
            process = start(crowd, out, *OPTIONS)
            if disturbances < times:
                disturb(process, draw.uniform(0, 1.1 * whole[1]))
            code, said = ended(process)
            assert code in (0, *allowed), said
            assert "Traceback" not in but_for_orphans(said, code)
            after = done_shards(out)
            assert before.items() <= after.items(), "a partition that was done was done again"
            if code != 0:
                disturbances += 1
                assert len(half_done(out)) <= WORKERS, "more partitions are lost than there are workers"
        assert_as_whole(out, whole)
        shutil.rmtree(out.parent)
    return runs


@pytest.mark.slow
def test_kill_9_at_random_moments_loses_nothing(crowd, whole, tmp_path, monkeypatch):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))

    def disturb(process, after_s):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(after_s)
        process.kill()  # the parent alone: its workers have to end themselves

    disturbed(crowd, whole, tmp_path, KILLS, disturb, (-signal.SIGKILL,))
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
def test_sigterm_at_random_moments_loses_nothing(crowd, whole, tmp_path):
    def disturb(process, after_s):
        # Before the program is there to take it, a signal ends Python as it ends anything.
        ready = wait_for(lambda: process.poll() is not None or _heeds(process, signal.SIGTERM), process)
        assert ready
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(after_s)
        process.terminate()

    disturbed(crowd, whole, tmp_path, STOPS, disturb, (130,))


@pytest.fixture
def two_nights(crowd, tmp_path):
    """The photos of two nights by date; on the second some are gone, some are others, some moved and some are new."""
    folders = {day: tmp_path / day for day in ("2025-11-20", "2025-11-21")}
    for folder in folders.values():
        shutil.copytree(crowd, folder, copy_function=os.link)
    names = sorted(path.name for path in folder.iterdir())
    for name in names[:20]:
        (folder / name).unlink()
    for name in names[20:40]:
        data = (folder / name).read_bytes()
        (folder / name).unlink()  # it is a link to the first night's
        (folder / name).write_bytes(data + b"other")
        (folder / f"new-{name}").write_bytes(data + b"new")
    for name in names[40:60]:
        (folder / name).rename(folder / f"moved-{name}")
    return folders


@pytest.mark.slow
def test_an_export_that_is_killed_at_random_moments_publishes_the_same_bytes(two_nights, tmp_path, monkeypatch):
    """Nor does ``latest`` name half a snapshot at any of them."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    scoring = {"device": "cpu", "faces": "aligned", "workers": WORKERS, "batch_size": 8, "photo_timeout_s": 60}

    def night(root, day):
        root.mkdir(exist_ok=True)
        job = job_file(root, photos=str(two_nights[day]), score=scoring)
        return begin("export", job, "--date", day)

    whole, seconds, bytes_of, kept = tmp_path / "whole", {}, {}, {}
    for day in two_nights:
        began = time.monotonic()
        code, said = ended(night(whole, day))
        assert code == 0, said
        seconds[day] = time.monotonic() - began
        bytes_of[day], kept[day] = table_digests(whole / "out" / "snapshots" / day), kept_ids(whole / "out")

    draw, kills, runs = random.Random(KILLS), 0, 0
    while kills < KILLS:
        runs += 1
        root = tmp_path / str(runs)
        out = root / "out"
        for day in two_nights:
            code = None
            while code != 0:
                process = night(root, day)
                if kills < KILLS:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(draw.uniform(0, 1.1 * seconds[day]))
                    process.kill()
                code, said = ended(process)
                assert code in (0, -signal.SIGKILL), said
                assert "Traceback" not in but_for_orphans(said, code)
                kills += code != 0
                if (out / "latest").is_symlink():
                    assert table_digests(out / "latest") == bytes_of[(out / "latest").readlink().name]
            assert (out / "latest").readlink().name == day
            assert manifest(out / "latest")["run_id"] == manifest(whole / "out" / "snapshots" / day)["run_id"]
            assert kept_ids(out) == kept[day]
        for folder in ("snapshots", ".work", "store", "store/pending"):
            assert names_in(out / folder) == names_in(whole / "out" / folder), folder
        shutil.rmtree(root)
    assert list(temporary.iterdir()) == []


def names_in(folder):
    return {path.name for path in folder.glob("*")}


def _heeds(process, number):
    """Say whether a process has a handler for a signal."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def children_of(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def template_of(process):
    """Return the process id of what a run's workers are forked from."""
    return next(pid for pid in children_of(process.pid) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes())


def workers_of(process):
    """Return the process ids of a run's workers."""
    return children_of(template_of(process))


def test_a_worker_that_the_system_kills_is_replaced(crowd, whole, tmp_path):
    out = tmp_path / "out"
    process = start(crowd, out, *OPTIONS)
    wait_for(lambda: done_shards(out), process)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    code, said = ended(process)
    assert code == 0, said
    assert_as_whole(out, whole)


@pytest.mark.slow
def test_what_workers_are_forked_from_is_replaced_with_them(crowd, whole, tmp_path):
    out = tmp_path / "out"
    process = start(crowd, out, *OPTIONS)
    wait_for(lambda: done_shards(out), process)
    os.kill(template_of(process), signal.SIGKILL)
    code, said = ended(process)
    assert code == 0, said
    assert_as_whole(out, whole)


# Photos that hang or crash


@pytest.mark.parametrize(
    ("workers", "names"), [(1, ("03.jpg", "07.jpg", "15.jpg")), pytest.param(2, tuple(FAULTS), marks=pytest.mark.slow)]
)
def test_photos_that_hang_or_crash_are_lost_alone(tmp_path, workers, names):
    photos, out, healthy = (tmp_path / name for name in ("photos", "out", "healthy"))
    photos.mkdir()
    face = kinds()["baseline"]
    for number in range(20):
        (photos / f"{number:02d}.jpg").write_bytes(face + b"%d" % number)
    for name in names:
        (photos / name).write_bytes(face + FAULTS[name][0])
    options = ("--device", "cpu", "--workers", workers, "--photo-timeout-s", 3, "--report")
    said = finish(photos, out, *options, path=[REPOSITORY / "tests" / "faults"])
    assert f"rejected {len(names)}\n" in said
    found = {os.fsdecode(unescape_path(row["path"])): row for row in rows(out, "photos")}
    assert found.keys() == {path.name for path in photos.iterdir()}
    for name, row in found.items():
        _, reason, message = FAULTS[name] if name in names else (b"", Reason.OK, None)
        assert row["reason"] == reason
        assert row["message"] == message if message is None else message in row["message"]
        assert row["photo_id"]
    assert not list(out.glob(".*"))
    # The rest is what a run makes of it on which nothing is lost, and the limit leaves no trace in the run's name.
    assert score(photos, healthy, "--report").code == 0
    assert manifest(healthy)["run_id"] == manifest(out)["run_id"]
    assert rows(out, "faces") == [
        row for row in rows(healthy, "faces") if os.fsdecode(unescape_path(row["path"])) not in names
    ]


def test_the_guard_changes_no_byte(crowd, whole, tmp_path):
    out = tmp_path / "out"
    options = ("--faces", "aligned", "--report")
    assert score(crowd, out, *options).code == 0  # in this process, without a guard
    assert_as_whole(out, whole)


@pytest.fixture
def memory_limit():
    """A function that limits a process and its children to some memory, as the kernel does for a container."""
    root, limit, swap = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", None
    if not root.is_dir():
        root, limit, swap = Path("/sys/fs/cgroup"), "memory.max", "memory.swap.max"
    group = root / f"stylematch-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text("max" if swap else "-1")
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        pytest.skip(f"no control group for memory can be made here: {error.strerror}")

    def enter(limit_bytes):
        if swap:
            (group / swap).write_text("0")
        (group / limit).write_text(str(limit_bytes))
        (group / "cgroup.procs").write_text(str(os.getpid()))

    yield enter
    deadline = time.monotonic() + 20
    while group.is_dir() and time.monotonic() < deadline:
        with contextlib.suppress(OSError):  # what was in it may still be on its way out
            group.rmdir()
        time.sleep(0.1)


@pytest.mark.slow
def test_a_photo_that_takes_more_memory_than_there_is_is_lost_alone(memory_limit, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(kinds()["baseline"])
    Image.new("L", (13_500, 13_500)).save(photos / "b.png", compress_level=1)  # 182 MB, and 547 MB as RGB
    (photos / "c.jpg").write_bytes(kinds()["progressive"])
    options = ("--device", "cpu", "--workers", 1, "--no-report")
    finish(photos, tmp_path / "out", *options, preexec_fn=lambda: memory_limit(700 << 20))
    found = {row["path"]: row for row in rows(tmp_path / "out", "photos")}
    assert {path: row["reason"] for path, row in found.items()} == {"a.jpg": "ok", "b.png": "crashed", "c.jpg": "ok"}
    assert "signal 9 (often the system's answer to memory running out" in found["b.png"]["message"]


# The target


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts a tmpfs of some bytes at a folder, or makes it that large."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size_bytes, *more):
        call = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size_bytes}", *more]), "tmpfs", str(folder)]
        done = subprocess.run(call, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], capture_output=True)


def size_of(folder):
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*"))


def test_a_full_disk_stops_the_run_until_there_is_room(crowd, whole, tmp_path, small_disk):
    full = size_of(whole[0])
    for place in range(DISK_SIZES):
        size_bytes = int(full * (place + 0.6) / (DISK_SIZES + 0.2))  # from hardly anything to all but the last files
        out = small_disk(size_bytes) / "out"
        options = [option if option != WORKERS else 1 for option in OPTIONS]
        result = score(crowd, out, *options, "--report")
        assert result.code == 3, result.err
        assert "No space left on device" in result.sentence
        assert "same command again" in result.sentence
        assert not out.exists()
        before = done_shards(out)
        small_disk(0, "remount")  # 0 is without a limit
        assert score(crowd, out, *options, "--report").code == 0
        assert before.items() <= done_shards(out).items()
        assert_as_whole(out, whole)
        subprocess.run(["umount", str(out.parent)], check=True)


@pytest.mark.slow
def test_a_limit_on_file_sizes_is_a_full_disk_too(crowd, whole, tmp_path):
    import resource

    out = tmp_path / "target" / "out"
    limit_bytes = max(path.stat().st_size for path in (whole[0] / "faces").glob("*.parquet")) * 2 // 3
    limits = (limit_bytes, resource.RLIM_INFINITY)
    process = start(crowd, out, *OPTIONS, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits))
    code, said = ended(process)
    assert code == 3, said
    assert "File too large" in said
    assert "Traceback" not in said
    assert not out.exists()
    finish(crowd, out, *OPTIONS)
    assert_as_whole(out, whole)


def test_a_target_that_becomes_read_only_stops_the_run_until_it_is_writable(crowd, whole, tmp_path):
    """A disk with an error: ext4 makes itself read-only under a run, and what was synced is there after a mount."""
    image, folder = tmp_path / "image", tmp_path / "disk"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    made = subprocess.run(["mkfs.ext4", "-q", "-F", image], capture_output=True) if shutil.which("mkfs.ext4") else None
    mount = ["mount", "-o", "loop,errors=remount-ro", image, folder]
    if made is None or made.returncode or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no ext4 image can be made and mounted here")
    try:
        out = folder / "target" / "out"
        process = start(crowd, out, *OPTIONS)
        wait_for(lambda: done_shards(out), process)
        subprocess.run(["mount", "-o", "remount,abort", folder], capture_output=True)
        code, said = ended(process)
        assert code == 3, said
        # The kernel says the second where the stop falls into a write to its journal.
        assert "Read-only file system" in said or "Input/output error" in said
        assert "Traceback" not in said
        # While it is read-only, that is said at once.
        code, said = ended(start(crowd, out, *OPTIONS))
        assert code == 2, said
        assert "Read-only file system" in said
        assert not out.exists()
        subprocess.run(["umount", folder], check=True)
        subprocess.run(["e2fsck", "-p", image], capture_output=True)
        subprocess.run(mount, check=True)
        before = done_shards(out)
        assert before, "what was done was not on the disk"
        finish(crowd, out, *OPTIONS)
        assert before.items() <= done_shards(out).items()
        assert_as_whole(out, whole)
    finally:
        subprocess.run(["umount", folder], capture_output=True)


# Whatever lies among the photos


def assert_accounted(root, out):
    """Every entry below ``root`` is a row of ``photos``, once, or counted."""
    entries = dict(entries_of(root))
    found = [unescape_path(row["path"]) for row in rows(out, "photos")]
    counts = manifest(out)["counts"]
    assert len(set(found)) == len(found) == counts["found"]
    assert set(found) <= set(entries)
    assert counts["scored"] + counts["no_face"] + counts["rejected"] == counts["found"]
    assert len(found) + sum(counts["ignored"].values()) == len(entries), counts["ignored"]
    passed_over = {path: status for path, status in entries.items() if path not in set(found)}
    regular = [path for path, status in passed_over.items() if stat.S_ISREG(status.st_mode)]
    # A file that is passed over is not named like a picture, nor does it begin like one.
    assert len(regular) == counts["ignored"].get("not_a_picture", 0) + counts["ignored"].get("unreadable_file", 0)
    assert not [path for path in regular if path.lower().endswith((b".jpg", b".jpeg", b".png", b".tif", b".heic"))]
    return counts


@pytest.mark.slow
def test_damaged_files_are_all_in_photos_or_counted(tmp_path):
    root, out = tmp_path / "photos", tmp_path / "out"
    root.mkdir()
    make_damaged(root, DAMAGED)
    try:
        began = time.monotonic()
        said = finish(root, out, "--device", "cpu", *(["--report"] if LONG else ["--no-report", "--workers", 1]))
        took_s = time.monotonic() - began
        counts = assert_accounted(root, out)
        reasons = Counter(row["reason"] for row in rows(out, "photos"))
        print(f"{DAMAGED:,} damaged files, {counts['found']:,} found, {took_s:.0f} s: {dict(reasons.most_common())}")
        print(f"ignored: {counts['ignored']}")
        # Nothing met a fault of ours, ran out of time or of memory.
        assert not reasons.keys() & {Reason.CRASHED, Reason.TIMED_OUT, Reason.OUT_OF_MEMORY}
        assert min(reasons[reason] for reason in (Reason.OK, Reason.TRUNCATED, Reason.CORRUPT, Reason.TOO_LARGE)) > 0
        assert reasons[Reason.FILE_TOO_LARGE] == 1, "the terabyte"
        assert "Traceback" not in said
        if not LONG:  # equal whatever the workers
            other = tmp_path / "other"
            finish(root, other, "--device", "cpu", "--workers", 2, "--batch-size", 5, "--no-report")
            assert table_digests(other) == table_digests(out)
    finally:
        remove_damaged(root)


def test_folders_that_cannot_be_read_count_as_rejected(tmp_path, monkeypatch):
    from stylematch.errors import LimitExceededError
    from stylematch.pipelines.nights.export_summary import ExportSummary, check_limits
    from stylematch.pipelines.score import _check_limit
    from stylematch.pipelines.score_summary import ScoreSummary
    from stylematch.settings.export import ExportJob
    from stylematch.settings.score import ScoreSettings
    from stylematch.tables.counts import Counts

    def summary(found, rejected, **ignored):
        counts = Counts(
            found=found, scored=found - rejected, no_face=0, rejected=rejected, faces=0, recommendations=0, reasons={},
            ignored=ignored,
        )  # fmt: skip
        return ScoreSummary(tmp_path, "run", counts, False, 1.0, found, ())

    limit = ScoreSettings(max_reject_share=0.5)
    _check_limit(summary(10, 5, not_a_picture=100), limit)
    _check_limit(summary(0, 0, not_a_picture=1), limit)
    with pytest.raises(LimitExceededError, match=r"6 of 11 photos .* or could not be listed \(1 "):
        _check_limit(summary(10, 5, unreadable_directory=1), limit)
    with pytest.raises(LimitExceededError, match="1 of 1 photos"):
        _check_limit(summary(0, 0, unreadable_directory=1), limit)
    # A night's limit is the same.
    job = ExportJob(photos="p", out="o", score={"max_reject_share": 0.5})
    check_limits(job, ExportSummary("o", {"photos": asdict(summary(10, 5).counts)}, False, []))
    night = ExportSummary("o", {"photos": asdict(summary(10, 5, unreadable_file=1).counts)}, True, [])
    night.content.update(snapshot_date="2025-11-20", run_id="run")
    with pytest.raises(LimitExceededError, match=r"6 of 11 photos .* over max_reject_share 0.5"):
        check_limits(job, night)
