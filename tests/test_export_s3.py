"""``export`` from a bucket into a bucket, on moto's server program: an S3 server that is spoken to over HTTP."""

import contextlib
import json
import shutil
import subprocess
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest
from program import EXAMPLES, call, command, environment, rows, table_digests
from pyarrow import fs
from test_export import job_file, kept_ids
from test_gallery import read_chunk

from stylematch.data.looks import Look, Looks
from stylematch.data.object_folder import ObjectFolder, _Listed, _Opened
from stylematch.data.photos import FindCounts, FoundPhoto
from stylematch.errors import StylematchError
from stylematch.tables.place import Place, place_of
from stylematch.tables.snapshots import Snapshots

FIRST, SECOND = "2025-11-20", "2025-11-21"
ODD = ("more photos/é ü.jpg", "x%20+#?&.jpg", "..name.jpg", "group")
NAMES = {
    "astronaut.jpg": ODD[0],
    "rocket.jpg": ODD[1],
    "truncated.jpg": ODD[2],
    "group.jpg": ODD[3],
    "coffee.jpg": "coffee.jpg",
}


def upload(client, folder: Path) -> None:
    """Upload some examples under odd names, and put the same into ``folder``."""
    for name, key in NAMES.items():
        client.upload_file(str(EXAMPLES / name), "photos", f"in/{key}")
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(EXAMPLES / name, folder / key)


def download(client, key: str, folder: Path) -> Path:
    """Download all below a key."""
    for entry in client.list_objects_v2(Bucket="photos", Prefix=f"{key}/")["Contents"]:
        path = folder / entry["Key"].removeprefix(f"{key}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        client.download_file("photos", entry["Key"], str(path))
    return folder


def latest(client) -> dict:
    return json.loads(client.get_object(Bucket="photos", Key="in/out/latest.json")["Body"].read())


def test_nights_in_a_bucket(bucket, server, tmp_path, monkeypatch):
    upload(bucket, tmp_path / "photos")
    bucket.put_object(Bucket="photos", Key="in/empty//part.jpg", Body=b"x")  # no file for pyarrow: told, not lost
    # OUT lies among the photos and is passed over; the URL names the server, photos' the environment.
    query = f"endpoint_override={server}&scheme=http"
    keys = {"photos": "s3://photos/in", "out": f"s3://photos/in/out?{query}", "work": f"{tmp_path}/work"}
    job = job_file(tmp_path, **keys, score={"photo_timeout_s": 60})  # guarded, so in a process of its own
    result = call("export", job, "--date", FIRST)
    assert result.code == 0, result.err
    assert "5 photos (5 new" in result.out
    assert "could not be listed" in result.err
    assert latest(bucket)["path"] == f"snapshots/{FIRST}"
    snapshot = download(bucket, f"in/out/snapshots/{FIRST}", tmp_path / "snapshot")
    assert {row["path"] for row in rows(snapshot, "photos")} == set(NAMES.values())
    # The same photos in folders of this machine give equal bytes.
    local = call("export", job_file(tmp_path), "--date", FIRST)
    assert local.code == 0, local.err
    assert table_digests(tmp_path / "out" / "latest") == table_digests(snapshot)
    assert list((tmp_path / "work" / "snapshots").glob("*")) == []

    job = job_file(tmp_path, **keys)
    with monkeypatch.context() as patch:
        patch.setattr(ObjectFolder, "read", lambda *_: pytest.fail("an object was read"))
        patch.setattr("stylematch.data.object_folder.sniff_format", lambda _: pytest.fail("an object was looked into"))
        bucket.put_object(
            Bucket="photos", Key="in/coffee.jpg", Body=(EXAMPLES / "coffee.jpg").read_bytes()
        )  # equal ETag
        result = call("export", job, "--date", SECOND)
        assert result.code == 0, result.err
        assert "5 kept; 0 read" in result.out
        assert "nothing to do" in call("export", job, "--date", SECOND).out
    # The same night after a change: beside what is there, and then in its place.
    bucket.put_object(Bucket="photos", Key="in/coffee.jpg", Body=(EXAMPLES / "grayscale.jpg").read_bytes())
    bucket.delete_object(Bucket="photos", Key=f"in/{ODD[1]}")
    result = call("export", job, "--date", SECOND)
    assert result.code == 0, result.err
    assert "1 changed, 1 gone, 3 kept; 1 read" in result.out
    name = latest(bucket)["snapshot"]
    assert name.startswith(f"{SECOND}.")
    found = bucket.list_objects_v2(Bucket="photos", Prefix="in/out/snapshots/")["Contents"]
    assert {entry["Key"].split("/")[3] for entry in found if not entry["Key"].endswith("/")} == {FIRST, name}
    assert len(rows(download(bucket, f"in/out/snapshots/{name}", tmp_path / "second"), "photos")) == 4


def keys_below(client, prefix: str) -> set[str]:
    return {entry["Key"] for entry in client.list_objects_v2(Bucket="photos", Prefix=prefix).get("Contents", ())}


@pytest.mark.slow
def test_the_same_night_again_with_a_gallery(bucket, tmp_path, monkeypatch):
    """The run's name is the same, with a gallery or without; what is published then has one, and is not made again."""
    (tmp_path / "photos").mkdir()
    for name in ("coffee.jpg", "astronaut.jpg"):
        shutil.copy(EXAMPLES / name, tmp_path / "photos")
    keys = {"out": "s3://photos/in/out", "work": f"{tmp_path}/work"}
    with_gallery = keys | {"score": {"report": True}}
    assert call("export", job_file(tmp_path, **keys, score={"report": False}), "--date", FIRST).code == 0
    before = latest(bucket)
    tables = table_digests(download(bucket, f"in/out/{before['path']}", tmp_path / "first"))
    result = call("export", job_file(tmp_path, **with_gallery), "--date", FIRST)
    assert result.code == 0, result.err
    after = latest(bucket)
    assert (after["run_id"], after["snapshot"] != before["snapshot"]) == (before["run_id"], True)
    published = download(bucket, f"in/out/{after['path']}", tmp_path / "second")
    assert (published / "report" / "index.html").is_file()
    (thumbnails,) = (published / "report" / "data").glob("thumbs-*.js")
    assert [bool(picture) for picture in read_chunk(thumbnails)["pictures"]] == [True, True]
    assert table_digests(published) == tables
    with_one = keys_below(bucket, "in/out/snapshots/")
    assert {key.split("/")[3] for key in with_one if not key.endswith("/")} == {after["snapshot"]}
    with monkeypatch.context() as patch:
        patch.setattr(Snapshots, "upload", lambda *_: pytest.fail("uploaded again"))
        for job in (with_gallery, keys | {"score": {"report": False}}):
            result = call("export", job_file(tmp_path, **job), "--date", FIRST)
            assert (result.code, "nothing to do" in result.out) == (0, True), result.err
    assert keys_below(bucket, "in/out/snapshots/") == with_one


def test_no_upload_takes_the_place_of_a_finished_snapshot(bucket, tmp_path):
    """Not even where uploads of a night were cut off before what they replace was removed."""
    (tmp_path / "manifest.json").write_text('{"run_id": "0123456789abcdef"}')
    snapshots = Snapshots(place_of("s3://photos/in/out", "out"))
    names = [snapshots.upload(tmp_path, date.fromisoformat(FIRST), "0123456789abcdef") for _ in range(4)]
    assert names[:2] == [FIRST, f"{FIRST}.01234567"]
    assert len(set(names)) == 4
    assert snapshots.finished() == dict.fromkeys(sorted(names), FIRST)


def test_a_put_that_fails_leaves_what_was_there(bucket, monkeypatch):
    place = place_of("s3://photos/in/out", "out")
    place.write("latest.json", b"before")

    class Failing:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            raise OSError("503 SlowDown")

        def write(self, data):
            assert data == b"after"

    filesystem = place.filesystem

    class Throttled:
        def open_output_stream(self, _):
            return Failing()

        def __getattr__(self, name):
            return getattr(filesystem, name)

    with monkeypatch.context() as patch:
        patch.setattr(Place, "filesystem", property(lambda _: Throttled()))
        with pytest.raises(StylematchError, match="503"):
            place.write("latest.json", b"after")
    assert place.read("latest.json") == b"before"


def test_a_work_folder_is_the_users_but_for_one_of_its_own(bucket, tmp_path):
    """What lies there is not removed, not even the nights of an export."""
    photos, work = tmp_path / "photos", tmp_path / "work"
    photos.mkdir()
    shutil.copy(EXAMPLES / "astronaut.jpg", photos)
    (photos / "sheet").mkdir()  # a run's, whose pictures are no photos
    shutil.copy(EXAMPLES / "group.jpg", photos / "sheet" / "contact_sheet.jpg")
    manifest = {"tool": "stylematch", "run_id": "x", "outputs": ["contact_sheet.jpg"]}
    (photos / "sheet" / "manifest.json").write_text(json.dumps(manifest))
    for name in ("night-mine", "snapshots/2026-01-01"):
        (work / name).mkdir(parents=True)
        (work / name / "file").write_text("mine")
    result = call("export", job_file(tmp_path, out="s3://photos/in/out", work=str(work)), "--date", FIRST)
    assert result.code == 0, result.err
    summary = json.loads(
        bucket.get_object(Bucket="photos", Key=f"in/out/snapshots/{FIRST}/summary.json")["Body"].read()
    )
    assert summary["photos"]["found"] == 1
    assert all((work / name / "file").read_text() == "mine" for name in ("night-mine", "snapshots/2026-01-01"))


def test_a_mistake_in_a_url_is_told(bucket, server, tmp_path):
    for keys, named in (
        ({"photos": "s3://nobody/x"}, "no bucket 'nobody'"),
        ({"photos": "s3://photos/nothing"}, "no photos at s3://photos/nothing"),
        ({"photos": "https://photos/in"}, "https:// is not known"),
        ({"out": "s3://nobody/x"}, "no bucket 'nobody'"),
        ({"out": "s3://"}, "names no bucket"),
    ):
        (tmp_path / "photos").mkdir(exist_ok=True)
        result = call("export", job_file(tmp_path, **keys))
        assert (result.code, named in result.sentence) == (2, True), result.err
    place = place_of(f"s3://key:secret@photos/in?endpoint_override={server}&scheme=http", "photos")
    assert str(place) == "s3://photos/in"


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_worth_another_try(tmp_path):
    servers = ("127.0.0.1:9", "no-such-host.invalid:80")
    alone, tried = environment(AWS_EC2_METADATA_DISABLED="true"), []
    for number, server in enumerate(servers):  # side by side: every client tries again for six seconds
        photos = f"s3://key:secret@photos/in?endpoint_override={server}&scheme=http"
        (tmp_path / str(number)).mkdir()
        asked = command("export", job_file(tmp_path / str(number), photos=photos))
        tried.append(subprocess.Popen(asked, env=alone, stderr=subprocess.PIPE, text=True))
    for process in tried:
        said = process.communicate()[1]
        assert (process.returncode, "s3://photos/in cannot be reached" in said) == (3, True), said


def test_a_secret_is_never_shown(tmp_path):
    secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    for photos in (f"s3://AKIAEXAMPLE:{secret}@photos/in", f"s3://AKIAEXAMPLE:{secret}@photos/in?region=x"):
        result = call("export", job_file(tmp_path, photos=photos))
        assert (result.code, "s3://photos/in" in result.sentence) == (2, True), result.err
        assert not [part for part in ("AKIA", *secret.split("/")) if part in result.err + result.out]
    assert str(Place("s3://photos/a@b:c")) == "s3://photos/a@b:c"


def test_an_object_that_goes_away_is_a_row_and_a_server_that_does_ends_the_run(bucket, tmp_path):
    from stylematch.errors import PhotoRejectedError, StylematchError

    bucket.put_object(Bucket="photos", Key="in/a.jpg", Body=b"12345")
    folder = ObjectFolder(place_of("s3://photos/in", "photos"))
    (photo,) = folder.find(FindCounts())
    assert (photo.path, photo.bytes, photo.stamp != "") == ("a.jpg", 5, True)
    assert folder.read(photo.raw_path, 5) == b"12345"
    with pytest.raises(PhotoRejectedError, match="over the limit of 4"):
        folder.read(photo.raw_path, 4)
    bucket.delete_object(Bucket="photos", Key="in/a.jpg")
    with pytest.raises(PhotoRejectedError, match="could not be read"):
        folder.read(photo.raw_path, 5)

    class Broken(fs.LocalFileSystem):
        def open_input_file(self, path):
            raise OSError("the connection was reset")

    broken = ObjectFolder(place_of("s3://photos/in", "photos"))
    broken.place.__dict__["_remote"] = (Broken(), "photos/in")
    with pytest.raises(StylematchError, match="connection was reset") as told:
        broken.read(b"a.jpg", 5)
    assert not isinstance(told.value, PhotoRejectedError)
    assert told.value.exit_code == 3


def test_settled_objects_are_not_asked_again(bucket, monkeypatch):
    folder, names = ObjectFolder(place_of("s3://photos/in", "photos")), ("a.jpg", "group", "notes")
    for name, body in zip(names, (b"1", (EXAMPLES / "group.jpg").read_bytes(), b"2"), strict=True):
        bucket.put_object(Bucket="photos", Key=f"in/{name}", Body=body)
    asked, opened = [], ObjectFolder._opened
    monkeypatch.setattr(ObjectFolder, "_opened", lambda self, raw: asked.append(raw.decode()) or opened(self, raw))

    def night(known: list[Look]) -> tuple[list[FoundPhoto], list[Look], list[str]]:
        kept: list[Look] = []
        asked.clear()
        return list(folder.find(FindCounts(), looks=Looks(known, kept.append))), kept, sorted(asked)

    # What was written just now may be written again in the same second, so it is asked again each night.
    photos, looks, questions = night([])
    assert [photo.path for photo in photos] == ["a.jpg", "group"]
    assert questions == list(names)
    assert night(looks) == (photos, looks, questions)
    monkeypatch.setattr("stylematch.data.object_folder._SETTLED_AFTER_NS", -(10**9))
    _, looks, _ = night(looks)
    with monkeypatch.context() as patch:  # nor is a thread, which costs more than the look at the listing
        patch.setattr(ObjectFolder, "_ask", lambda *_: pytest.fail("asked"))
        patch.setattr("concurrent.futures.ThreadPoolExecutor.submit", lambda *_: pytest.fail("in a thread"))
        assert night(looks) == (photos, looks, [])
    # What was written again after it was listed has another time, to which an undone write may bring it back.
    times = [look.settled_ns - 10**9 for look in looks] + [None, 0, -(10**9)]
    for written_ns in times:
        _, _, look = folder._look(FindCounts(), _Listed(b"a.jpg", 1, written_ns), None)
        assert (look.stamp, look.settled_ns) == (photos[0].stamp, None)
    # Another second, and another size, each tells of a write; a look's own stamp of nothing.
    later = [replace(look, settled_ns=look.settled_ns - 10**9) for look in looks]
    assert night(later) == (photos, looks, list(names))
    bucket.put_object(Bucket="photos", Key="in/a.jpg", Body=b"12")
    (changed, same), _, questions = night(looks)
    assert (changed.bytes, same, questions) == (2, photos[1], ["a.jpg"])
    assert changed.stamp != photos[0].stamp


@pytest.mark.parametrize(
    ("headers", "stamp", "is_settled"),
    [
        ({"ETag": b'"e"', "Last-Modified": b"2025-11-20T10:00:07Z"}, '"e"', True),
        ({"Last-Modified": b"2025-11-20T10:00:07Z"}, "2025-11-20T10:00:07Z", True),
        ({"ETag": b'"e"', "Last-Modified": b"2025-11-20T10:00:06Z"}, '"e"', False),
        ({"ETag": b'"e"', "Last-Modified": b"yesterday"}, '"e"', False),
        ({"ETag": b'"e"'}, '"e"', False),
    ],
)
def test_what_a_server_leaves_out_hides_no_change(headers, stamp, is_settled, monkeypatch):
    answer = SimpleNamespace(metadata=lambda: headers, size=lambda: 1)
    monkeypatch.setattr(ObjectFolder, "_opened", lambda *_: contextlib.nullcontext(answer))
    written_ns = 1763632807_250000000  # 2025-11-20T10:00:07.25Z: some servers list more than whole seconds
    listed = _Listed(b"a.jpg", 1, written_ns)
    _, _, look = ObjectFolder(Place("s3://photos/in"))._look(FindCounts(), listed, None)
    assert look == Look(b"a.jpg", 1, stamp, True, written_ns if is_settled else None)


def test_objects_that_may_not_be_read_any_more_cost_no_features(bucket, tmp_path, monkeypatch):
    for key in ("coffee.jpg", "group", "rocket.jpg"):
        source = EXAMPLES / (key if key.endswith(".jpg") else "group.jpg")
        bucket.upload_file(str(source), "photos", f"in/{key}")
    keys = {"photos": "s3://photos/in", "out": f"{tmp_path}/out"}
    job = job_file(tmp_path, **keys)
    assert call("export", job, "--date", FIRST).code == 0
    kept = kept_ids(tmp_path / "out")
    assert len(kept) == 3

    denied, enter = set(), _Opened.__enter__

    def guarded(opened):
        if opened._name in denied:
            opened._explain(OSError("AWS Error ACCESS_DENIED during HeadObject operation: No response body."))
        return enter(opened)

    with monkeypatch.context() as patch:
        patch.setattr(_Opened, "__enter__", guarded)
        denied |= {"coffee.jpg", "group"}
        result = call("export", job_file(tmp_path, **keys), "--date", SECOND)
        assert (result.code, "2 of last night's 3 photos cannot be read any more" in result.sentence) == (3, True)
        assert not (tmp_path / "out" / "snapshots" / SECOND).exists()
        result = call("export", job_file(tmp_path, **keys, max_gone_share=1.0), "--date", SECOND)
        assert (result.code, "2 known photos may not be read any more" in result.err) == (0, True)
        assert kept_ids(tmp_path / "out") == kept
        status = {row["path"]: row["status"] for row in rows(tmp_path / "out" / "latest", "photos")}
        assert status["coffee.jpg"] == "rejected"
    result = call("export", job_file(tmp_path, **keys), "--date", "2025-11-22")
    assert (result.code, "3 kept; 0 read" in result.out) == (0, True), result.out
    assert kept_ids(tmp_path / "out") == kept


def test_file_urls(tmp_path):
    assert place_of(f"file://{tmp_path}/a%20b", "photos").directory == tmp_path / "a b"
    place = place_of(str(tmp_path), "out")
    place.write("x/y", b"1")
    assert (place.read("x/y"), place.read("x/z"), place.list("x"), place.list("none")) == (b"1", None, {"y": 1}, {})
    place.remove("x")
    assert place.list() == {}
    place.remove("x")


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["shard", "cut", "manifest"])
def test_a_night_in_a_bucket_that_is_damaged_is_made_again(bucket, tmp_path, monkeypatch, lost):
    (tmp_path / "photos").mkdir()
    shutil.copy(EXAMPLES / "astronaut.jpg", tmp_path / "photos")
    job = job_file(tmp_path, out="s3://photos/in/out", work=f"{tmp_path}/work")
    assert call("export", job, "--date", FIRST).code == 0
    tables = table_digests(download(bucket, f"in/out/snapshots/{FIRST}", tmp_path / "first"))
    shard = f"in/out/snapshots/{FIRST}/faces/part-00000.parquet"
    if lost == "shard":
        bucket.delete_object(Bucket="photos", Key=shard)
    elif lost == "cut":
        bucket.put_object(Bucket="photos", Key=shard, Body=b"cut")
    else:
        bucket.put_object(Bucket="photos", Key=f"in/out/snapshots/{FIRST}/manifest.json", Body=b"garbage")
    monkeypatch.setattr("stylematch.data.photo_folders.LocalFolder.read", lambda *_: pytest.fail("a photo was read"))
    result = call("export", job, "--date", FIRST)
    assert (result.code, "nothing to do" in result.out) == (0, False), result.err
    name = latest(bucket)["snapshot"]
    assert table_digests(download(bucket, f"in/out/snapshots/{name}", tmp_path / "second")) == tables
    assert {key.split("/")[3] for key in keys_below(bucket, "in/out/snapshots/") if not key.endswith("/")} == {name}
    assert "nothing to do" in call("export", job, "--date", FIRST).out


def test_a_night_without_photos_in_a_bucket_is_whole(bucket, tmp_path):
    (tmp_path / "photos").mkdir()
    job = job_file(tmp_path, out="s3://photos/in/out", work=f"{tmp_path}/work")
    for expected in (False, True):
        result = call("export", job, "--date", FIRST)
        assert (result.code, "nothing to do" in result.out) == (0, expected), result.err
