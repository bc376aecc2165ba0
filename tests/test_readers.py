import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from damaged import kinds
from hostile import make_hostile_directory
from program import PATIENCE_S, command, environment, manifest, rows

from stylematch.data import listing
from stylematch.data import readers as readers_module
from stylematch.data.directories import _NAMES_AT_ONCE, Ignored
from stylematch.data.listing import MAX_LOST, write_listing
from stylematch.data.photo_file import photo_id_of
from stylematch.data.photos import FindCounts, FoundPhoto, find_photos
from stylematch.data.readers import LateError, Readers
from stylematch.errors import StylematchError
from stylematch.tables.contract import Reason

LIMIT_S = 1.0


def act(item):
    if item == "hangs":
        time.sleep(3600)
    if item == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "raises":
        raise ValueError("a fault of ours")
    return item, os.getpid()


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("limit_s", [None, 60.0])
def test_every_file_is_read_once_and_the_answers_are_in_order(count, limit_s):
    items = [str(number) for number in range(200)]
    with Readers(act, count, limit_s) as readers:
        answers = readers.read(items) + readers.read(items[:3]) + readers.read([])
    assert [item for item, _ in answers] == items + items[:3]
    processes = {process for _, process in answers}
    assert os.getpid() not in processes
    assert len(processes) <= count


def test_what_hangs_or_dies_is_lost_alone():
    items = [str(number) for number in range(50)]
    culprits = {3: "hangs", 4: "raises", 20: "dies", 40: "hangs"}
    began = time.monotonic()
    with Readers(act, 2, LIMIT_S) as readers:
        answers = readers.read([culprits.get(number, item) for number, item in enumerate(items)])
    assert time.monotonic() - began < PATIENCE_S
    for number, answer in enumerate(answers):
        if number not in culprits:
            assert answer[0] == items[number]
        else:
            assert isinstance(answer, OSError)
            assert isinstance(answer, LateError) == (culprits[number] == "hangs")


def test_readers_keep_nothing_open_and_end_with_their_block(monkeypatch):
    monkeypatch.setattr(readers_module, "_END_S", PATIENCE_S)  # a busy machine takes longer to let a child end

    def descriptors(_):
        return os.getpid(), sorted(int(path.name) for path in Path("/dev/fd").iterdir())

    with Path(__file__).open("rb"), Readers(descriptors, 1, None) as readers:
        ((process, found),) = readers.read([1])
    # The standard ones, which lead nowhere, its pipe, and that of the look itself.
    assert len(found) == 5
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


@pytest.mark.slow
def test_a_disk_that_does_not_answer_is_not_the_photos_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "hash_photo", lambda *_, **__: time.sleep(3600))
    photos = [FoundPhoto(f"{number}.jpg", b"%d.jpg" % number, 1) for number in range(40)]
    write = functools.partial(write_listing, root=tmp_path, path=tmp_path / "listing", readers=8)
    with pytest.raises(StylematchError, match=f"{MAX_LOST} of the first .* hardly the photos' fault"):
        write(photos, advance=lambda _: None, limit_s=0.2)


def test_a_file_that_goes_on_for_ever_is_not_hashed_for_ever(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(b"x" * 3000)
    photos = [FoundPhoto("a.jpg", b"a.jpg", 10)]  # it has grown since
    made = write_listing(photos, tmp_path, tmp_path / "listing", readers=1, advance=lambda _: None, max_bytes=2000)
    (photo,) = listing.read_listing(made.path, made.partitions[0])
    assert photo.photo_id is None


@pytest.fixture
def on_hanging_disk(tmp_path):
    """A function that runs a command over a folder in which some files never answer."""
    start = ["unshare", "--mount", sys.executable, str(Path(__file__).with_name("hanging_disk.py"))]
    probe = tmp_path / "probe"
    probe.mkdir()
    try:
        tried = subprocess.run([*start, str(probe), "true"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    if tried.returncode:
        pytest.skip(f"no file system can be mounted here: {tried.stderr.splitlines()[-1]}")
    return lambda folder, *arguments: subprocess.run(
        [*start, str(folder), *command(*arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


@pytest.mark.slow
def test_a_run_over_a_disk_that_hangs_ends_with_a_row_for_every_photo(on_hanging_disk, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    good = kinds()["baseline"]
    made = {"good.jpg": good, "hangs.jpg": b"HANGS", "open.jpg": b"HANGS OPEN", "picture": good, "silent": b"HANGS"}
    made |= {"endless.jpg": b"ENDLESS", "later.jpg": b"HANGS LATER"}
    for name, data in made.items():
        (photos / name).write_bytes(data)
    options = ("--device", "cpu", "--workers", 1, "--no-report", "--photo-timeout-s", 1, "--max-file-mb", 20)
    done = on_hanging_disk(photos, "score", photos, "--out", out, *options)
    assert done.returncode == 0, done.stderr
    found = {row["path"]: row for row in rows(out, "photos")}
    for name, is_hashed in (("hangs.jpg", False), ("open.jpg", False), ("later.jpg", True)):
        assert found[name]["reason"] == Reason.TIMED_OUT
        assert found[name]["message"] == "reading it took longer than 1 s: raise --photo-timeout-s to wait"
        assert bool(found[name]["photo_id"]) == is_hashed
    assert found["endless.jpg"]["reason"] == Reason.FILE_TOO_LARGE
    assert found["good.jpg"]["photo_id"] == found["picture"]["photo_id"] == photo_id_of(good)
    assert found.keys() == made.keys() - {"silent"}
    assert manifest(out)["counts"]["ignored"] == {"unreadable_file": 1}


@pytest.mark.parametrize(
    ("what", "named", "content"),
    [
        ("score", "", "FOLDER HANGS"),
        ("score", "dead", "FOLDER HANGS AT ONCE"),
        ("export", "", "FOLDER HANGS AT ONCE"),
        ("export", "dead", "FOLDER HANGS"),
    ],
)
def test_a_folder_that_does_not_answer_ends_the_run(on_hanging_disk, tmp_path, what, named, content):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    files = {"empty": "FOLDER", "dead": content, "good.jpg": "x"}
    for name, text in files.items():
        (photos / name).write_text(text)
    if what == "score":
        arguments = ["score", photos / named, "--out", out, "--device", "cpu", "--photo-timeout-s", 1]
    else:
        job = tmp_path / "night.toml"
        job.write_text(f'photos = "{photos / named}"\nout = "{out}"\n[score]\nphoto_timeout_s = 1\ndevice = "cpu"\n')
        arguments = ["export", job]
    done = on_hanging_disk(photos, *arguments)
    assert done.returncode == 3, done.stderr
    late = photos / "dead" if named or content == "FOLDER HANGS" else photos
    said = f"stylematch-batch: the directory {late}, or what lies in it, did not answer within 1 s: look at the disk"
    assert done.stderr.splitlines()[-1].startswith(said)
    assert "Traceback" not in done.stderr
    assert not (out / "photos").exists()
    assert not (out / "latest").exists()


def test_folders_that_answer_are_listed_alike_with_and_without_a_limit(tmp_path):
    made = make_hostile_directory(tmp_path / "photos")
    many = made.root / "many"
    many.mkdir()
    for number in range(3 * _NAMES_AT_ONCE + 1):
        (many / f"{number}.jpg").touch()
    (many / "link.jpg").symlink_to("0.jpg")
    (made.root / "skipped").mkdir()
    (made.root / "skipped" / "a.jpg").touch()
    for follow_links in (False, True):
        walks = []
        for limit_s in (None, 60.0):
            counts = FindCounts()
            options = {"follow_links": follow_links, "skip": lambda path: path.name == "skipped", "limit_s": limit_s}
            walks.append((list(find_photos(made.root, counts=counts, **options)), counts))
        assert walks[0] == walks[1]
        assert len(walks[0][0]) > 3 * _NAMES_AT_ONCE
        assert walks[0][1].ignored[Ignored.OWN_OUTPUT] == 1


def test_a_lister_that_dies_ends_the_walk(tmp_path):
    (tmp_path / "folder").mkdir()
    walk = find_photos(tmp_path, skip=lambda _: os.kill(os.getpid(), signal.SIGKILL), limit_s=60.0)
    with pytest.raises(StylematchError, match="folder ended before its time"):
        list(walk)


def test_signals_come_through_again_where_no_reader_could_be_forked(monkeypatch):
    def full():
        raise BlockingIOError("no room for another process")

    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    monkeypatch.setattr(os, "fork", full)
    with Readers(act, 1, None) as readers, pytest.raises(BlockingIOError):
        readers.read(["one"])
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
