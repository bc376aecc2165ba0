"""``export``: nights one after the other, on real photos, each held to what ``score`` makes of the same photos."""

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import pwd
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY
from damaged import FAULTS, kinds
from PIL import Image, ImageEnhance
from program import EXAMPLES, call, command, environment, heed_interrupts, rows, score, table, table_digests, wait_for

from stylematch.data.listing import MAX_LOST, LostPhoto
from stylematch.data.photo_file import photo_id_of
from stylematch.data.photo_folders import LocalFolder
from stylematch.data.photos import FoundPhoto
from stylematch.errors import StylematchError, UserError
from stylematch.pipelines.advice import Adviser
from stylematch.pipelines.face_features import FeatureExtractor
from stylematch.pipelines.nights import night as module
from stylematch.pipelines.nights.drift import style_drift
from stylematch.pipelines.nights.export import _work_folder
from stylematch.pipelines.nights.export_summary import drift_warning
from stylematch.pipelines.nights.keep_partition import KeepState, _look
from stylematch.pipelines.nights.night_lists import write_plan, write_todo
from stylematch.report.packed import GalleryPictures
from stylematch.settings.export import ExportJob
from stylematch.settings.load import validated
from stylematch.settings.score import ScoreSettings
from stylematch.tables.contract import TABLES, Reason
from stylematch.tables.manifest import read_manifest
from stylematch.tables.place import Place, place_of
from stylematch.tables.snapshots import Snapshots
from stylematch.tables.staging import Staging

IN_OPEN, IN_Q_OVERFLOW, IN_ISDIR = 0x20, 0x4000, 0x40000000
FIRST, SECOND, THIRD = "2025-11-20", "2025-11-21", "2025-11-22"


def job_file(folder: Path, **keys) -> Path:
    """Write a job over ``folder/photos`` into ``folder/out``."""
    # Inline, as in ``program.score``: a test has no time for one process more, and spies see only this one.
    scoring = {"device": "cpu", "workers": 1, "photo_timeout_s": 0} | keys.pop("score", {})
    lines = [
        f"{name} = {json.dumps(value)}"
        for name, value in ({"photos": f"{folder}/photos", "out": f"{folder}/out"} | keys).items()
    ]
    lines += ["[score]", *(f"{name} = {json.dumps(value)}" for name, value in scoring.items())]
    path = folder / "job.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def night(folder: Path, day: str, *options, code: int = 0, **keys):
    """Run a night and return its snapshot's folder and its summary."""
    result = call("export", job_file(folder, **keys), "--date", day, *options)
    assert result.code == code, result.err
    snapshot = folder / "out" / "snapshots" / day
    return snapshot, json.loads((snapshot / "summary.json").read_text()), result


def assert_is_what_score_makes(snapshot: Path, photos: Path, out: Path, *options) -> None:
    assert score(photos, out, *options).code == 0
    for name in TABLES:
        kept = table(snapshot, name)
        assert set(kept.column("snapshot_date").to_pylist()) <= {date.fromisoformat(snapshot.name)}
        assert kept.drop_columns(["snapshot_date"]).equals(table(out, name)), name


def kept_ids(out: Path) -> list[str]:
    """Return the photo_ids that the store has features of."""
    return sorted(
        photo_id
        for path in (out / "store").glob("features-*/photos/*.parquet")
        for photo_id in pq.read_table(path, columns=["photo_id"]).column("photo_id").to_pylist()
    )


@pytest.fixture(scope="module")
def first_night(tmp_path_factory) -> Path:
    """A folder of photos and its first night; not to be changed."""
    folder = tmp_path_factory.mktemp("first")
    shutil.copytree(EXAMPLES, folder / "photos")
    night(folder, FIRST)
    return folder


@pytest.fixture
def folder(first_night, tmp_path) -> Path:
    """The same, to be changed; modification times stay."""
    shutil.copytree(first_night, tmp_path / "n", symlinks=True)
    path = tmp_path / "n" / "out" / "snapshots" / FIRST / "manifest.json"
    path.write_text(path.read_text().replace(f'"{first_night}/photos"', f'"{tmp_path}/n/photos"'))  # as if made there
    return tmp_path / "n"


@pytest.fixture
def nothing_is_read(monkeypatch):
    """Reading or decoding a photo fails the test."""

    def fail(*_, **__):
        raise AssertionError("a photo was read")

    monkeypatch.setattr(LocalFolder, "read", fail)
    monkeypatch.setattr(LocalFolder, "hash", fail)
    monkeypatch.setattr(FeatureExtractor, "extract", fail)
    monkeypatch.setattr(FeatureExtractor, "__init__", fail)


def make_unreadable(photos: Path) -> None:
    """Leave of every file only its size and time; whoever reads one can tell."""
    for path in [path for path in photos.rglob("*") if path.is_file()]:
        status = path.stat()
        path.write_bytes(b"\0" * status.st_size)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_night_is_what_score_makes(first_night, tmp_path):
    snapshot = first_night / "out" / "snapshots" / FIRST
    assert_is_what_score_makes(snapshot, first_night / "photos", tmp_path / "out")
    summary = json.loads((snapshot / "summary.json").read_text())
    assert summary["changes"] == {"new": 11, "changed": 0, "kept": 0, "gone": 0, "before": 0, "read": 11}
    assert sum(part["faces"] for part in summary["styles"].values()) == summary["photos"]["faces"] == 8
    assert summary["drift"] is None
    assert read_manifest(snapshot)["run_id"] == read_manifest(tmp_path / "out")["run_id"] == summary["run_id"]
    assert (first_night / "out" / "latest").readlink() == Path("snapshots") / FIRST
    assert (
        call("query", first_night / "out" / "latest", "SELECT snapshot_date FROM faces LIMIT 1").out.count(FIRST) == 1
    )


def test_a_night_without_changes_reads_no_photo_and_asks_no_rule(folder, tmp_path, nothing_is_read, monkeypatch):
    before = table(folder / "out" / "snapshots" / FIRST, "faces").drop_columns(["snapshot_date"])
    make_unreadable(folder / "photos")
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged, symlinks=True)
    with monkeypatch.context() as patch:
        patch.setattr(Adviser, "__init__", lambda *_, **__: pytest.fail("rules and indexes were loaded"))
        snapshot, summary, result = night(folder, SECOND)
    assert table(snapshot, "faces").drop_columns(["snapshot_date"]).equals(before)
    # It is what rules and items make of the kept features, byte for byte: as where last night's table is damaged.
    (shard,) = (damaged / "out" / "snapshots" / FIRST / "faces").glob("*.parquet")
    with shard.open("r+b") as file:
        file.seek(1000)
        file.write(b"damage")
    assert table_digests(night(damaged, SECOND)[0]) == table_digests(snapshot)
    assert summary["changes"] == {"new": 0, "changed": 0, "kept": 11, "gone": 0, "before": 11, "read": 0}
    by_chance = (len(summary["styles"]) - 1) * (1 / 8 + 1 / 8)  # eight faces each night
    assert summary["drift"] == {"against": FIRST, "psi": 0.0, "by_chance": by_chance, "level": "none"}
    assert all(part["share"] == part["share_before"] for part in summary["styles"].values())
    assert result.out.count("\n") == 1
    assert (folder / "out" / "latest").readlink().name == SECOND
    again = call("export", folder / "job.toml", "--date", SECOND)
    assert again.code == 0
    assert "nothing to do" in again.out


@contextlib.contextmanager
def opened_files(folder: Path):
    """Yield a set that holds, after the block, the names of the files that any process opened below a folder.

    The kernel tells (inotify), so nothing that opens a file goes unseen.
    """
    libc, opened = ctypes.CDLL(None, use_errno=True), set()
    queue = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert queue >= 0, os.strerror(ctypes.get_errno())
    try:
        for path in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
            assert libc.inotify_add_watch(queue, os.fsencode(path), IN_OPEN) >= 0, os.strerror(ctypes.get_errno())
        yield opened
        with contextlib.suppress(BlockingIOError):
            while events := os.read(queue, 1 << 16):
                while events:
                    _, mask, _, length = struct.unpack_from("iIII", events)
                    name, events = events[16 : 16 + length].rstrip(b"\0"), events[16 + length :]
                    assert not mask & IN_Q_OVERFLOW
                    if not mask & IN_ISDIR:
                        opened.add(os.fsdecode(name))
    finally:
        os.close(queue)


def test_a_night_asks_twice_which_nights_are_finished(folder, monkeypatch):
    """Before it publishes and before it removes: in a bucket that is a request for each night."""
    asked = []
    finished = Snapshots.finished

    def counted(self, day=None):
        if day is None:
            asked.append(str(self.place))
        return finished(self, day)

    monkeypatch.setattr(Snapshots, "finished", counted)
    night(folder, SECOND)
    assert asked == [f"{folder}/out"] * 2


@pytest.mark.slow
def test_a_night_without_changes_opens_no_file(folder):
    """Nor one whose name does not say whether it is a picture: it was looked into on the night before."""
    photos = folder / "photos"
    shutil.copy(EXAMPLES / "coffee.jpg", photos / "more photos" / "coffee")
    for number, name in enumerate(("a.txt", "more photos.txt", "zz")):  # around the folders in order
        (photos / name).write_text("no picture" * number)
    unnamed = {"a.txt", "more photos.txt", "zz", "coffee"}
    with opened_files(photos) as opened:
        _, summary, _ = night(folder, SECOND)
    assert (summary["changes"]["new"], summary["photos"]["found"]) == (1, 12)
    assert unnamed <= opened
    ignored = summary["photos"]["ignored"]
    with opened_files(photos) as opened:
        _, summary, _ = night(folder, THIRD)
    assert (opened, summary["changes"]["kept"], summary["photos"]["ignored"]) == (set(), 12, ignored)
    with opened_files(photos) as opened:
        night(folder, "2025-11-23", "--verify-content")
    assert unnamed < opened
    # What is another file now is looked into, and that alone; what is gone is forgotten.
    shutil.copy(EXAMPLES / "coffee.jpg", photos / "zz")
    (photos / "a.txt").unlink()
    with opened_files(photos) as opened:
        _, summary, _ = night(folder, "2025-11-24")
    assert (opened, summary["changes"]["new"]) == ({"zz"}, 1)
    (kept,) = (folder / "out" / "store").glob("features-*/looks/*.parquet")
    paths = pq.read_table(kept).column("raw_path").to_pylist()
    assert paths == [b"more photos.txt", b"more photos/coffee", b"zz"]
    # A damaged file of looks costs these looks, once.
    kept.write_bytes(kept.read_bytes()[:100])
    for expected in ({"more photos.txt", "zz", "coffee"}, set()):
        with opened_files(photos) as opened:
            night(folder, "2025-11-25")
        assert opened == expected


def test_new_changed_renamed_and_gone_photos(folder, tmp_path, monkeypatch):
    photos, extracted = folder / "photos", []
    gone_ids = {
        row["photo_id"] for row in rows(folder / "out" / "snapshots" / FIRST, "photos") if row["path"] == "group.jpg"
    }
    (photos / "group.jpg").unlink()
    (photos / "astronaut.jpg").rename(photos / "renamed \udcff.jpg")
    shutil.copy(photos / "rocket.jpg", photos / "coffee.jpg")
    Image.open(photos / "grace_hopper.jpg").rotate(3).save(photos / "new.png")
    extract = FeatureExtractor.extract
    monkeypatch.setattr(
        FeatureExtractor, "extract", lambda self, batch, *rest: extracted.extend(batch) or extract(self, batch, *rest)
    )
    snapshot, summary, _ = night(folder, SECOND)
    assert summary["changes"] == {"new": 2, "changed": 1, "kept": 8, "gone": 2, "before": 11, "read": 3}
    assert [photo.path for photo in extracted] == ["new.png"]  # the others' contents are known
    monkeypatch.undo()
    assert_is_what_score_makes(snapshot, photos, tmp_path / "out")
    # What is gone is gone from the store, and a store that has never known anything else gives equal bytes.
    assert gone_ids.isdisjoint(kept_ids(folder / "out"))
    assert kept_ids(folder / "out") == sorted({row["photo_id"] for row in rows(snapshot, "photos")})
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    shutil.copytree(photos, fresh / "photos", copy_function=shutil.copy2)
    assert table_digests(night(fresh, SECOND)[0]) == table_digests(snapshot)


def test_other_rules_read_no_photo(folder, tmp_path, nothing_is_read, monkeypatch):
    snapshot, summary, _ = night(folder, SECOND, score={"rules": "classic", "top_k": 3, "seed": 7})
    assert summary["changes"]["read"] == 0
    assert {row["style"] for row in rows(snapshot, "faces")} != {
        row["style"] for row in rows(folder / "out/snapshots" / FIRST, "faces")
    }
    monkeypatch.undo()
    assert_is_what_score_makes(
        snapshot, folder / "photos", tmp_path / "out", "--rules", "classic", "--top-k", 3, "--seed", 7
    )
    # The nights, by date and by the pointer, and a night and the run that score made of the same photos.
    told = call("compare", folder / "out" / "snapshots" / FIRST, folder / "out" / "latest", "--out", tmp_path / "seen")
    assert told.code == 0, told.err
    assert told.out.splitlines()[1].startswith(f"B: {folder}/out/latest, night of {SECOND} (")
    seen = json.loads((tmp_path / "seen" / "changes.json").read_text())
    assert [run["snapshot_date"] for run in seen["runs"]] == [FIRST, SECOND]
    assert seen["differing"] == [
        *("rules", "settings.rules", "settings.seed", "settings.style_fusion", "settings.top_k")
    ]
    assert (seen["photos"]["same"], seen["faces"]["in_both"]) == (11, 8)
    assert seen["faces"]["style_moved"] > 0
    assert "made differently: nothing" in call("compare", snapshot, tmp_path / "out").out
    root = call("compare", folder / "out", snapshot)
    assert root.code == 2
    assert f"holds 2 nights and is no run itself: name one of them, such as {snapshot}" in root.sentence


def test_verify_content_finds_what_size_and_time_hide(folder, tmp_path):
    photo = folder / "photos" / "notes.jpg"
    status, data = photo.stat(), bytearray(photo.read_bytes())
    data[-1] ^= 1
    photo.write_bytes(data)
    os.utime(photo, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert night(folder, SECOND)[1]["changes"]["changed"] == 0
    snapshot, summary, _ = night(folder, THIRD, "--verify-content")
    assert (summary["changes"]["changed"], summary["changes"]["kept"], summary["changes"]["read"]) == (1, 10, 11)
    assert_is_what_score_makes(snapshot, folder / "photos", tmp_path / "out")


def test_a_clock_that_goes_back_hides_no_change(folder, tmp_path, monkeypatch):
    night(folder, FIRST)
    monkeypatch.setattr(time, "time_ns", lambda: 10**18)  # of 2001
    shutil.copy(EXAMPLES / "grace_hopper.jpg", folder / "photos/astronaut.jpg")
    snapshot, summary, _ = night(folder, SECOND)
    assert summary["changes"]["read"] == 1
    assert_is_what_score_makes(snapshot, folder / "photos", tmp_path / "score")
    _, summary, _ = night(folder, THIRD, "--verify-content")
    assert summary["changes"]["read"] == summary["photos"]["found"]


def test_another_face_finder_reads_all_again(folder):
    (before,) = (folder / "out" / "store").glob("features-*")
    _, summary, _ = night(folder, SECOND, score={"min_face_px": 60})
    assert summary["changes"]["read"] == summary["changes"]["kept"] == 11
    (after,) = (folder / "out" / "store").glob("features-*")
    assert after != before


def thumbnails_of(snapshot):
    pictures = GalleryPictures(snapshot)
    ids = pq.read_table(snapshot / "photos", columns=["photo_id"])["photo_id"].to_pylist()
    return {photo_id: pictures.thumbnail(photo_id) for photo_id in ids if photo_id}


def test_the_gallery_of_kept_photos(folder):
    snapshot, summary, _ = night(folder, SECOND, score={"report": True})
    assert summary["changes"]["read"] == 9  # all that can be decoded: no thumbnail was kept
    thumbs = thumbnails_of(snapshot)
    assert sum(jpeg is not None for jpeg in thumbs.values()) == 9
    make_unreadable(folder / "photos")
    later, summary, _ = night(folder, THIRD, score={"report": True})
    assert summary["changes"]["read"] == 0
    assert thumbnails_of(later) == thumbs
    assert (later / "report" / "index.html").is_file()


def test_retention_and_a_night_that_is_made_up_for(folder):
    night(folder, SECOND)
    night(folder, "2025-11-25", keep_snapshots=2)
    assert sorted(path.name for path in (folder / "out" / "snapshots").glob("2*")) == [SECOND, "2025-11-25"]
    _, _, result = night(folder, THIRD, keep_snapshots=2)  # an older night does not become the latest
    assert "latest still names the later night 2025-11-25" in result.err
    assert f"remove {folder}/out/snapshots/2025-11-25 and run" in result.err
    assert (folder / "out" / "latest").readlink().name == "2025-11-25"
    assert json.loads((folder / "out/snapshots" / THIRD / "summary.json").read_text())["drift"]["against"] == SECOND


def test_no_night_is_later_than_tomorrow(folder):
    tomorrow = date.today() + timedelta(days=1)
    result = call("export", job_file(folder), "--date", tomorrow + timedelta(days=1))
    assert (result.code, "later than tomorrow" in result.sentence) == (2, True)
    night(folder, tomorrow.isoformat())


def test_a_snapshot_that_was_never_finished_is_removed(folder):
    left = folder / "out" / "snapshots" / "2025-11-18.0123abcd"
    (left / "faces").mkdir(parents=True)
    night(folder, SECOND)
    assert not left.exists()
    assert (folder / "out" / "snapshots" / FIRST).is_dir()


@pytest.mark.parametrize("pattern", ["features-*/photos", "features-*/faces", "files"])
@pytest.mark.parametrize("size", [0, 1000, None])
def test_a_damaged_file_of_the_store_costs_what_it_held(folder, pattern, size):
    kept = kept_ids(folder / "out")
    (file,) = (folder / "out" / "store").glob(f"{pattern}/*.parquet")
    if size is None:  # whole, but something else
        pq.write_table(pa.table({"other": [1]}), file)
    else:
        file.write_bytes(file.read_bytes()[:size])
    snapshot, summary, result = night(folder, SECOND)
    assert f"{pattern.rpartition('/')[2]}/{file.name}" in result.err
    assert (summary["changes"]["read"], len(rows(snapshot, "photos"))) == (11, 11)
    assert (
        table(snapshot, "faces")
        .drop_columns(["snapshot_date"])
        .equals(table(folder / "out" / "snapshots" / FIRST, "faces").drop_columns(["snapshot_date"]))
    )
    _, summary, result = night(folder, THIRD)
    assert (summary["changes"]["read"], "warning" in result.err) == (0, False)
    assert (kept_ids(folder / "out"), file.exists()) == (kept, False)


def test_a_store_that_forgot_its_files_says_so_and_still_sees_a_disk_that_is_not_mounted(folder):
    shutil.rmtree(folder / "out" / "store" / "files")
    (folder / "photos").rename(folder / "elsewhere")
    (folder / "photos").mkdir()
    result = call("export", job_file(folder, max_gone_share=0.5), "--date", SECOND)
    assert (result.code, "11 of last night's 11 photos are gone" in result.sentence) == (3, True)
    (folder / "photos").rmdir()
    (folder / "elsewhere").rename(folder / "photos")
    _, summary, result = night(folder, SECOND, max_gone_share=0.5)
    assert (summary["changes"]["new"], "photos is lost (store/files)" in result.err) == (11, True)
    _, summary, _ = night(folder, THIRD)
    assert (summary["changes"]["kept"], summary["warnings"]) == (11, [])


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text('{"half')])
def test_a_lost_summary_is_written_again_and_stops_no_night(folder, damage):
    snapshot = folder / "out" / "snapshots" / FIRST
    before = table_digests(snapshot)
    damage(snapshot / "summary.json")
    _, summary, _ = night(folder, SECOND)
    assert (summary["drift"]["against"], summary["drift"]["psi"]) == (FIRST, 0.0)  # its tables have its styles, too
    assert f"of other nights these files are damaged or missing: snapshots/{FIRST}/summary.json" in " ".join(
        summary["warnings"]
    )
    _, summary, _ = night(folder, FIRST)
    assert (summary["snapshot_date"], summary["photos"]["found"]) == (FIRST, 11)
    assert table_digests(snapshot) == before


def test_the_root_of_a_volume_can_be_out(folder):
    (folder / "volume" / "lost+found").mkdir(parents=True)
    assert call("export", job_file(folder, out=f"{folder}/volume"), "--date", FIRST).code == 0


def test_half_a_shard_is_removed(folder):
    (faces,) = (folder / "out" / "store").glob("features-*/faces")
    whole = {path.name for path in faces.iterdir()}
    (faces / "0-left-00000.parquet").write_bytes(b"x")
    night(folder, SECOND)
    assert {path.name for path in faces.iterdir()} == whole


def test_the_same_night_again_after_a_change(folder):
    (folder / "photos" / "group.jpg").unlink()
    snapshot, summary, _ = night(folder, FIRST)
    assert summary["changes"]["gone"] == 1
    assert len(rows(snapshot, "photos")) == 10


def test_drift_is_told_and_may_be_too_much(folder):
    shutil.rmtree(folder / "photos" / "more photos")
    for name in ("astronaut.jpg", "exif_rotated.jpg", "grayscale.jpg", "group.jpg"):  # one face of eight is left
        (folder / "photos" / name).unlink()
    _, summary, result = night(folder, SECOND, max_gone_share=1.0)
    assert summary["drift"]["psi"] >= 0.1
    assert result.err.count("warning: the styles drift") == 1
    _, summary, result = night(folder, THIRD, drift_warning=100.0)
    assert "warning" not in result.err
    shutil.rmtree(folder / "out" / "snapshots" / THIRD)
    shutil.rmtree(folder / "out" / "snapshots" / SECOND)
    _, _, result = night(folder, THIRD, max_gone_share=1.0, max_drift=0.01, code=4)
    assert "max_drift is 0.01; the snapshot is published" in result.err


def test_a_night_that_lost_all_faces_drifts_and_is_passed_over_by_the_next(folder):
    away = folder / "away"
    (folder / "photos").rename(away)
    (folder / "photos").mkdir()
    shutil.copy(EXAMPLES / "coffee.jpg", folder / "photos")  # which has no face
    _, summary, result = night(folder, SECOND, max_gone_share=1.0, max_drift=0.5, code=4)
    assert summary["drift"] == {"against": FIRST, "psi": None, "by_chance": None, "level": "large"}
    assert f"warning: the styles drift: only one of tonight and {FIRST} has faces" in result.out + result.err
    shutil.rmtree(folder / "out" / "snapshots" / SECOND)
    for keys, code in (({}, 0), ({"max_drift": 0.5}, 4)):  # warnings are objects where these are asked for
        shutil.rmtree(folder / "out" / "snapshots" / SECOND, ignore_errors=True)
        result = call("--log-format=json", "export", job_file(folder, max_gone_share=1.0, **keys), "--date", SECOND)
        told = [line for line in map(json.loads, result.err.splitlines()) if line.get("level") == "warning"]
        assert (result.code, len(told), "drift" in told[0]["message"]) == (code, 1, True)
        assert "warning" not in result.out
    shutil.copytree(away, folder / "photos", dirs_exist_ok=True)
    _, summary, result = night(folder, THIRD, max_drift=0.5)
    assert (summary["drift"]["against"], summary["drift"]["psi"]) == (FIRST, 0.0)
    assert "warning" not in result.err


def test_too_many_rejected_is_exit_code_4_and_published(folder):
    snapshot, _, result = night(folder, SECOND, code=4, score={"max_reject_share": 0.1})
    assert "2 of 11 photos (18.2%) were rejected" in result.err
    assert len(rows(snapshot, "photos")) == 11


def test_a_folder_that_lost_its_photos_is_no_night(folder):
    kept = kept_ids(folder / "out")
    (folder / "photos").rename(folder / "elsewhere")
    (folder / "photos").mkdir()
    result = call("export", job_file(folder), "--date", SECOND)
    assert (result.code, "11 of last night's 11 photos are gone" in result.err) == (3, True)
    assert not (folder / "out" / "snapshots" / SECOND).exists()
    assert kept_ids(folder / "out") == kept
    snapshot, summary, _ = night(folder, SECOND, max_gone_share=1.0)
    assert (len(rows(snapshot, "photos")), summary["changes"]["gone"], kept_ids(folder / "out")) == (0, 11, [])


@pytest.mark.parametrize(
    ("fails", "there", "rejected"),
    [("scandir", b"/more photos", 0), ("lstat", b"/more photos", 2), ("lstat", b"/more photos/", 2)],
    ids=["cannot be listed", "cannot be looked at", "cannot be entered"],
)
def test_a_folder_that_is_closed_for_a_night_costs_no_features(folder, fails, there, rejected, monkeypatch):
    kept = kept_ids(folder / "out")

    def guarded(system_call):
        def denied(path, *arguments, **options):
            beside = options.get("dir_fd")
            above = b"" if beside is None else os.fsencode(Path(f"/proc/self/fd/{beside}").readlink() / "")
            above += b"/" if above else b""
            if isinstance(path, bytes) and there in above + path:
                raise PermissionError(errno.EACCES, "Permission denied")
            return system_call(path, *arguments, **options)

        return denied

    with monkeypatch.context() as patch:
        for name in (fails, "open"):
            patch.setattr(os, name, guarded(getattr(os, name)))
        result = call("export", job_file(folder, max_gone_share=0.1), "--date", SECOND)
        assert (result.code, "2 of last night's 11 photos cannot be read any more" in result.sentence) == (3, True)
        snapshot, summary, result = night(folder, SECOND)
        shown = rows(snapshot, "photos")
        assert len([row for row in shown if row["path"].startswith("more photos/")]) == rejected
        assert {row["status"] for row in shown if row["path"].startswith("more photos/")} <= {"rejected"}
        assert (summary["changes"]["gone"], summary["changes"]["changed"]) == (0, 0)
        assert "2 known photos may not be read any more" in result.err
    assert kept_ids(folder / "out") == kept
    snapshot, summary, _ = night(folder, THIRD)
    assert (len(rows(snapshot, "photos")), summary["changes"]["read"]) == (11, 0)


def test_a_user_without_a_home_is_asked_for_a_work_folder(monkeypatch):
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    job = validated(ExportJob, "job.toml", photos="photos", out="s3://bucket/out")
    with pytest.raises(UserError, match="work: this user has no home folder"):
        _work_folder(job, Place(job.out, None))


def test_one_night_at_a_time_and_no_stale_lock(folder):
    lock = folder / "out" / ".work" / "lock"
    with lock.open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        result = call("export", job_file(folder), "--date", SECOND)
        assert (result.code, "another export" in result.sentence) == (2, True)
    assert lock.exists()  # left by a process that has ended
    night(folder, SECOND)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("keep_snapshots = 0", "keep_snapshots"),
        ("photo = 1", "photo"),
        ("drift_warning = -1.0", "drift_warning"),
        ("work = '/x'", "work"),
        ("score.rules = 3", "score.rules"),
        ("score.overwrite = true", "score.overwrite"),
        ("score.topk = 3", "score.topk"),
        ("out = 'gs://bucket/x'", "gs://"),
        ("photos = ''", "photos"),
        ("photos = 'nowhere'", "nowhere"),
        ("out = 'photos'", "out"),
    ],
)
def test_a_wrong_job_is_told_by_its_key(tmp_path, monkeypatch, line, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    keys = {"photos": "photos = 'photos'", "out": "out = 'out'"} | {line.partition(" ")[0]: line}
    (tmp_path / "job.toml").write_text("\n".join(keys.values()))
    result = call("export", "job.toml")
    assert result.code == 2
    assert named in result.sentence


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    result = call("export", job_file(tmp_path))
    assert (result.code, "thesis.txt" in result.sentence) == (2, True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


@pytest.mark.slow
def test_photos_that_hang_or_crash_are_lost_alone_and_for_one_night(tmp_path):
    """The parent watches a night's workers as it does those of ``score``."""
    photos, names = tmp_path / "photos", ("03.jpg", "07.jpg", "15.jpg")
    photos.mkdir()
    for number in range(20):
        name = f"{number:02d}.jpg"
        (photos / name).write_bytes(kinds()["baseline"] + (FAULTS[name][0] if name in names else b"%d" % number))
    job = job_file(tmp_path, score={"photo_timeout_s": 3})
    path = os.pathsep.join([str(REPOSITORY / "tests" / "faults"), environment()["PYTHONPATH"]])
    done = subprocess.run(
        command("export", job, "--date", FIRST), env=environment(PYTHONPATH=path), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "3 rejected" in done.stdout
    for row in rows(tmp_path / "out" / "latest", "photos"):
        _, reason, message = FAULTS[row["path"]] if row["path"] in names else (b"", Reason.OK, None)
        assert (row["reason"], bool(row["photo_id"])) == (reason, True)
        assert row["message"] == message if message is None else message in row["message"]
    # It may have been the machine's fault: the next night tries again, and what it finds replaces what was kept.
    snapshot, summary, _ = night(tmp_path, SECOND)
    assert (summary["changes"]["read"], summary["changes"]["kept"]) == (3, 20)
    assert_is_what_score_makes(snapshot, photos, tmp_path / "scored")
    assert len(kept_ids(tmp_path / "out")) == 20
    assert night(tmp_path, THIRD)[1]["changes"]["read"] == 0


@pytest.mark.slow
def test_many_photos_that_crash_are_no_reason_to_end_the_next_night(tmp_path):
    """More of them than are taken for the machine's fault, and the next night reads no others."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3 * MAX_LOST):
        fault = b"SEGFAULTS" if number % 3 == 2 else b"%d" % number
        (photos / f"{number:03d}.jpg").write_bytes(kinds()["baseline"] + b"%d" % number + fault)
    job = job_file(tmp_path, score={"photo_timeout_s": 20})
    path = os.pathsep.join([str(REPOSITORY / "tests" / "faults"), environment()["PYTHONPATH"]])
    for day in (FIRST, SECOND):
        done = subprocess.run(
            command("export", job, "--date", day), env=environment(PYTHONPATH=path), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert f"{MAX_LOST} rejected" in done.stdout


def test_a_photo_that_is_given_up_is_hashed_and_after_that_left_alone(tmp_path):
    """As a photo that hangs while it is decoded, and one that hangs whenever it is read."""
    (tmp_path / "a.jpg").write_bytes(b"12")
    job = SimpleNamespace(photos=LocalFolder(tmp_path), settings=ScoreSettings())
    photo, lost = FoundPhoto("a.jpg", b"a.jpg", 2), LostPhoto("a.jpg", Reason.TIMED_OUT, "why")
    once, twice = _look(job, photo, [lost]), _look(job, photo, [lost, lost])
    assert (once.photo.photo_id, once.data, once.error.reason) == (photo_id_of(b"12"), None, Reason.TIMED_OUT)
    assert (twice.photo.photo_id, twice.data, twice.error.message) == (None, None, "why")


@pytest.mark.slow
def test_a_file_of_a_terabyte_is_not_read_any_night(tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "small.jpg").write_bytes(kinds()["baseline"])
    with (photos / "large.jpg").open("wb") as sparse:
        try:
            sparse.truncate(1 << 40)
        except OSError:
            pytest.skip("this file system has no sparse files of that size")
    monkeypatch.setattr(LocalFolder, "hash", lambda *_: pytest.fail("a file was hashed"))
    snapshot, summary, _ = night(tmp_path, FIRST)
    assert (summary["changes"]["new"], summary["changes"]["read"]) == (2, 1)
    assert_is_what_score_makes(snapshot, photos, tmp_path / "scored")
    assert read_manifest(snapshot)["run_id"] == read_manifest(tmp_path / "scored")["run_id"]
    summary = night(tmp_path, SECOND)[1]
    assert (summary["changes"]["kept"], summary["changes"]["read"]) == (2, 0)
    os.truncate(photos / "large.jpg", (1 << 40) + 1)
    summary = night(tmp_path, THIRD)[1]
    assert (summary["changes"]["changed"], summary["changes"]["read"]) == (1, 0)


def test_killed_in_the_middle_goes_on(tmp_path):
    """Many small pictures, so that there are several partitions; the second run reads only what the first had not."""
    photos = tmp_path / "photos"
    photos.mkdir()
    face = Image.open(EXAMPLES / "astronaut.jpg").crop((150, 40, 310, 200)).resize((64, 64))
    for number in range(130):
        ImageEnhance.Brightness(face).enhance(0.5 + number / 130).save(photos / f"{number:03}.jpg", quality=80)
    job = job_file(tmp_path, score={"faces": "aligned", "batch_size": 16})
    process = subprocess.Popen(
        command("export", job, "--date", FIRST), env=environment(OMP_NUM_THREADS=1), preexec_fn=heed_interrupts
    )
    pending = tmp_path / "out" / "store" / "pending"
    wait_for(lambda: list(pending.glob("*.parquet")), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = len(kept_ids(tmp_path / "out"))
    (tmp_path / "out" / "snapshots" / ".2026-11-01.stylematch-staging-0").mkdir(parents=True)  # a night given up
    assert not (tmp_path / "out" / "latest").exists()
    snapshot, summary, _ = night(tmp_path, FIRST, score={"faces": "aligned", "batch_size": 16})
    assert summary["changes"]["read"] == 130 - kept < 130
    assert not list(pending.glob("*"))
    assert not list((tmp_path / "out" / ".work").glob("*"))
    assert [path.name for path in (tmp_path / "out" / "snapshots").iterdir()] == [FIRST]
    assert_is_what_score_makes(snapshot, photos, tmp_path / "scored", "--faces", "aligned")
    # Two processes give equal bytes.
    keys = {"out": f"{tmp_path}/two", "score": {"faces": "aligned", "workers": 2}}
    assert call("export", job_file(tmp_path, **keys), "--date", FIRST).code == 0
    assert table_digests(tmp_path / "two" / "latest") == table_digests(snapshot)


@pytest.mark.slow
def test_the_same_night_again_after_a_fault_that_has_passed(tmp_path):
    """A run's name does not say whether a worker died: the second try of a night must not find nothing to do."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(4):
        fault = b"RAISES" if number == 2 else b"%d" % number
        (photos / f"{number}.jpg").write_bytes(kinds()["baseline"] + fault)
    path = os.pathsep.join([str(REPOSITORY / "tests" / "faults"), environment()["PYTHONPATH"]])
    job = job_file(tmp_path)
    for _ in range(2):  # as long as it is not settled there is nothing to do
        done = subprocess.run(
            command("export", job, "--date", FIRST), env=environment(PYTHONPATH=path), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert "nothing to do" in done.stdout
    snapshot, summary, result = night(tmp_path, FIRST)
    assert "nothing to do" not in result.out
    assert summary["photos"]["rejected"] == 0
    assert_is_what_score_makes(snapshot, photos, tmp_path / "scored")
    assert "nothing to do" in night(tmp_path, FIRST)[2].out


def test_a_verification_that_was_stopped_goes_on(folder, monkeypatch):
    keep, kept = module.keep_partition, []

    def stopped(state, partition, advance):
        if kept:
            raise KeyboardInterrupt
        kept.append(partition.photos)
        return keep(state, partition, advance)

    monkeypatch.setattr("stylematch.data.listing.MIN_PARTITION_PHOTOS", 1)
    with monkeypatch.context() as patched:
        patched.setattr(module, "keep_partition", stopped)
        assert call("export", job_file(folder), "--date", SECOND, "--verify-content").code == 130
    _, summary, _ = night(folder, SECOND, "--verify-content")
    found = summary["photos"]["found"]
    assert summary["changes"]["read"] == found - kept[0] < found
    assert not list((folder / "out" / ".work").glob("verify-*"))
    assert night(folder, THIRD, "--verify-content")[1]["changes"]["read"] == found


@pytest.mark.parametrize(("write", "columns"), [(write_todo, 4), (write_plan, 7)])
def test_a_list_that_finds_no_room_names_its_file(write, columns):
    row = ("a.jpg", 10, "0" * 32, *[None] * (columns - 3))
    with pytest.raises(StylematchError, match="could not write /dev/full: No space left on device"):
        write([row], Path("/dev/full"))


def test_a_join_without_room_is_a_sentence(folder, monkeypatch):
    def full(*_):
        raise duckdb.OutOfMemoryException("Out of Memory Error: failed to offload data block\n\nand more")

    monkeypatch.setattr(module.FeaturePlan, "gone", full)
    result = call("export", job_file(folder), "--date", SECOND)
    assert result.code == 3
    assert "failed to offload data block; make room there and run the same command again" in result.sentence


def test_a_night_that_loses_what_it_kept_to_another_publishes_nothing(folder, monkeypatch):
    """As where another export took this one for dead, or into a folder that machines share."""
    keep = module.Night._keep
    (folder / "photos" / "more.jpg").write_bytes(kinds()["baseline"])

    def robbed(self, listed):
        keep(self, listed)
        for path in (folder / "out" / "store" / "pending").glob("*.parquet"):
            path.unlink()

    with monkeypatch.context() as patched:
        patched.setattr(module.Night, "_keep", robbed)
        result = call("export", job_file(folder), "--date", SECOND)
    assert result.code == 3
    assert "of 1 photos that were read the store has neither features nor a reason: another export" in result.sentence
    assert (folder / "out" / "latest").readlink().name == FIRST
    assert night(folder, SECOND)[1]["changes"]["new"] == 1


def test_most_photos_gone_publish_nothing_unless_it_is_asked_for(folder):
    for path in sorted((folder / "photos").rglob("*")):
        if path.is_file():
            path.unlink()
    result = call("export", job_file(folder), "--date", SECOND)
    assert result.code == 3
    assert "over max_gone_share 0.5" in result.sentence
    assert night(folder, SECOND, max_gone_share=1.0)[1]["photos"]["found"] == 0


def test_a_drift_that_chance_explains_says_so():
    few = style_drift({"a": 1, "b": 2, "c": 1}, {"a": 2, "b": 1, "c": 1}, FIRST)
    assert 0.1 <= few.psi < few.by_chance
    assert drift_warning(few, 0.1).endswith("(large; drift_warning 0.1) (chance alone: about 1.000)")
    many = style_drift({"a": 1000, "b": 2000}, {"a": 2000, "b": 1000}, FIRST)
    assert drift_warning(many, 0.1).endswith("(large; drift_warning 0.1)")
    assert drift_warning(many, 0.5) is None
    assert drift_warning(many, 0.1, other_rules=True).endswith("(large; drift_warning 0.1); the rules changed, too")


# Nights that go wrong half-way


def few_photos(folder: Path, *names: str) -> Path:
    (folder / "photos").mkdir()
    for name in names:
        shutil.copy(EXAMPLES / name, folder / "photos")
    return folder


def out_of_memory_at(patch, name: bytes):
    read = LocalFolder.read

    def limited(self, raw_path, max_bytes):
        if raw_path == name:
            raise MemoryError
        return read(self, raw_path, max_bytes)

    patch.setattr(LocalFolder, "read", limited)


def test_a_photo_that_another_try_could_read_is_not_published_as_rejected(tmp_path, monkeypatch):
    few_photos(tmp_path, "astronaut.jpg", "coffee.jpg")
    with monkeypatch.context() as patch:
        out_of_memory_at(patch, b"astronaut.jpg")
        patch.setattr(Staging, "publish", lambda _: (_ for _ in ()).throw(StylematchError("no room")))
        assert call("export", job_file(tmp_path), "--date", FIRST).code == 3
    (staged,) = (tmp_path / "out" / "snapshots").glob(".*staging*")
    shard = staged / "photos" / "part-00000.parquet"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])  # nor does one that a kill has torn end every later try
    snapshot, summary, _ = night(tmp_path, FIRST)
    assert summary["photos"]["rejected"] == 0
    assert_is_what_score_makes(snapshot, tmp_path / "photos", tmp_path / "scored")


def test_empty_files_are_kept_once_whatever_the_batch(tmp_path):
    few_photos(tmp_path, "astronaut.jpg")
    for number in range(3):
        (tmp_path / "photos" / f"empty-{number}.jpg").touch()
    night(tmp_path, FIRST, score={"batch_size": 1})
    assert list((tmp_path / "out" / "store").rglob("*tidy*")) == []
    assert len(kept_ids(tmp_path / "out")) == 2


@pytest.mark.parametrize("batch_size", [64, 1])
def test_of_equal_photos_one_that_could_be_read_is_enough(tmp_path, monkeypatch, batch_size):
    few_photos(tmp_path, "astronaut.jpg")
    shutil.copy(tmp_path / "photos" / "astronaut.jpg", tmp_path / "photos" / "later.jpg")
    out_of_memory_at(monkeypatch, b"later.jpg")
    _, summary, _ = night(tmp_path, FIRST, score={"batch_size": batch_size})
    assert (summary["photos"]["scored"], summary["photos"]["rejected"]) == (2, 0)


def test_a_night_that_was_half_replaced_is_back_the_night_after(tmp_path, monkeypatch):
    few_photos(tmp_path, "astronaut.jpg")
    night(tmp_path, FIRST)
    shutil.copy(EXAMPLES / "coffee.jpg", tmp_path / "photos")
    rename = Path.rename

    def interrupted(self, target):
        if "stylematch-staging" in self.name:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr("stylematch.tables.staging.exchange", lambda *_: False)
        patch.setattr(Path, "rename", interrupted)
        assert call("export", job_file(tmp_path), "--date", FIRST).code == 130
    assert not (tmp_path / "out" / "snapshots" / FIRST).exists()
    night(tmp_path, SECOND)
    assert sorted(path.name for path in (tmp_path / "out" / "snapshots").iterdir()) == [FIRST, SECOND]
    assert read_manifest(tmp_path / "out" / "snapshots" / FIRST) is not None


def test_what_is_known_of_files_counts_once_after_a_night_that_could_not_tidy(tmp_path, monkeypatch):
    few_photos(tmp_path, "astronaut.jpg", "coffee.jpg", "group.jpg")
    night(tmp_path, FIRST)
    (tmp_path / "photos" / "coffee.jpg").unlink()
    remove = Place.remove

    def failing(self, name):
        if name.startswith("store/files"):
            raise StylematchError("the network is gone")
        return remove(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(Place, "remove", failing)
        assert call("export", job_file(tmp_path), "--date", SECOND).code == 3
    assert len(list((tmp_path / "out" / "store" / "files").iterdir())) == 2
    _, summary, _ = night(tmp_path, THIRD)
    assert summary["changes"] == {"new": 0, "changed": 0, "kept": 2, "gone": 0, "before": 2, "read": 0}
    assert len(list((tmp_path / "out" / "store" / "files").iterdir())) == 1


def test_odd_names_in_a_folder_that_may_not_be_listed_are_spared(tmp_path, monkeypatch):
    few_photos(tmp_path, "coffee.jpg", "group.jpg")
    closed = tmp_path / "photos" / "closed"
    closed.mkdir()
    shutil.copy(EXAMPLES / "astronaut.jpg", os.fsencode(closed) + b"/caf\xe9.jpg")
    night(tmp_path, FIRST)
    before, scandir = kept_ids(tmp_path / "out"), os.scandir

    def refused(path="."):
        if not isinstance(path, int) and os.fsencode(path).endswith(b"/closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refused)
        _, summary, _ = night(tmp_path, SECOND)
    assert summary["changes"]["gone"] == 0
    assert kept_ids(tmp_path / "out") == before


def test_photos_that_go_away_while_they_are_read_are_worth_another_try(tmp_path, monkeypatch):
    few_photos(tmp_path, "coffee.jpg", "astronaut.jpg")
    started = KeepState.__init__

    def unmounted(self, job):
        (tmp_path / "photos").rename(tmp_path / "away")
        started(self, job)

    with monkeypatch.context() as patch:
        patch.setattr(KeepState, "__init__", unmounted)
        result = call("export", job_file(tmp_path), "--date", FIRST)
    assert result.code == 3
    assert "is no longer there (No such file or directory): run the same command again" in result.sentence
    (tmp_path / "away").rename(tmp_path / "photos")
    for step in ("_list", "_keep"):
        done = getattr(module.Night, step)

        def unmounted_before(self, *arguments, done=done):
            (tmp_path / "photos").rename(tmp_path / "away")
            return done(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(module.Night, step, unmounted_before)
            assert call("export", job_file(tmp_path), "--date", FIRST).code == 3, step
        (tmp_path / "away").rename(tmp_path / "photos")
    stat = Path.stat

    def stale(self, **options):
        if self == tmp_path / "photos":
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return stat(self, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", stale)
        assert call("export", job_file(tmp_path), "--date", FIRST).code == 3
        assert score(tmp_path / "photos", tmp_path / "scored").code == 3
    _, summary, _ = night(tmp_path, FIRST)
    assert (summary["photos"]["scored"], summary["photos"]["no_face"]) == (1, 1)


def test_score_does_not_replace_a_night(folder):
    result = score(folder / "photos", folder / "out" / "latest", "--top-k", "3")
    assert result.code == 2
    assert "holds a run that score did not write" in result.sentence
    assert (folder / "out" / "snapshots" / FIRST / "summary.json").is_file()


@pytest.mark.slow
def test_a_warning_that_nobody_reads_changes_no_exit_code(folder):
    """Over a limit is over a limit, whether standard error is full or closed."""
    summary = folder / "out" / "snapshots" / FIRST / "summary.json"
    summary.write_text(json.dumps(json.loads(summary.read_text()) | {"warnings": ["something"]}))
    job = job_file(folder, score={"max_reject_share": 0.01})
    arguments = command("export", job, "--date", FIRST)
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(arguments, env=environment(), stdout=subprocess.DEVNULL, stderr=full, check=False)
    assert done.returncode == 4
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as deaf:
        done = subprocess.run(arguments, env=environment(), stdout=subprocess.DEVNULL, stderr=deaf, check=False)
    assert done.returncode == 4


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_an_out_that_may_not_be_written_to_is_the_users_to_mend():
    with tempfile.TemporaryDirectory() as out:  # which nobody else may get at below pytest's own
        Path(out).chmod(0o755)
        place = Snapshots(Place(out, Path(out)))
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
        try:
            with pytest.raises(UserError, match="name a folder that you may write to"):
                place.claim()
        finally:
            os.seteuid(0)
        place.claim()
        job = validated(ExportJob, "job.toml", photos="photos", out=out)
        _work_folder(job, place.place)
        nobody = pwd.getpwnam("nobody").pw_uid
        os.setresuid(nobody, nobody, 0)  # an earlier night, of another user, has made all of it
        try:
            with pytest.raises(UserError, match="name a folder that you may write to"):
                _work_folder(job, place.place)
        finally:
            os.setresuid(0, 0, 0)


@pytest.mark.parametrize(
    ("url", "said"),
    [("s3://photos/pre#fix", "has a # in it; write %23"), ("file:///tmp/a?b", r"has a \? in it; write %3F")],
)
def test_signs_that_would_end_a_name_are_refused(url, said):
    with pytest.raises(UserError, match=said):
        place_of(url, "out")


def test_a_name_that_standard_output_cannot_hold_is_escaped(tmp_path):
    few_photos(tmp_path, "coffee.jpg")
    arguments = command("score", tmp_path / "photos", "--out", tmp_path / "写真", "--no-report", "--device", "cpu")
    done = subprocess.run(
        arguments, env=environment() | {"PYTHONIOENCODING": "latin-1"}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert rb"\u5199\u771f" in done.stdout
