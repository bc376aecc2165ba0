"""``export`` where something is damaged, denied or in the way: a night mends its own, and touches nothing else."""

import errno
import json
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from damaged import flip
from program import call, command, environment, rows, table_digests
from test_export import (
    FIRST,
    SECOND,
    THIRD,
    assert_is_what_score_makes,
    first_night,  # noqa: F401  # a fixture, as the next and the last
    folder,  # noqa: F401
    job_file,
    kept_ids,
    night,
    nothing_is_read,  # noqa: F401
)

from stylematch.data.object_folder import ObjectFolder
from stylematch.data.photos import FindCounts
from stylematch.errors import StylematchError, UserError
from stylematch.pipelines.nights import feature_damage
from stylematch.pipelines.nights import night as module
from stylematch.pipelines.nights.feature_store import FeatureDraft
from stylematch.tables.manifest import read_manifest
from stylematch.tables.place import Place, place_of
from stylematch.tables.snapshots import Snapshots


@pytest.mark.parametrize("damage", ["cut", "shard", "folder", "sidecars"])
def test_a_damaged_snapshot_is_made_again_by_its_night(folder, damage, nothing_is_read):  # noqa: F811
    snapshot = folder / "out" / "snapshots" / FIRST
    before, (shard,) = table_digests(snapshot), (snapshot / "faces").glob("*.parquet")
    if damage == "cut":
        shard.write_bytes(shard.read_bytes()[:50])
    elif damage == "shard":
        shard.unlink()
    else:
        shutil.rmtree(snapshot / "faces" / ("_done" if damage == "sidecars" else ""))
    if damage != "sidecars":
        for run in (snapshot, folder / "out" / "latest"):
            assert f"export JOB.toml --date {FIRST}" in call("query", run, "SELECT count(*) FROM faces").sentence
    _, summary, result = night(folder, FIRST)
    assert ("nothing to do" in result.out, summary["changes"]["read"]) == (False, 0)
    assert table_digests(snapshot) == before
    assert "nothing to do" in night(folder, FIRST)[2].out


@pytest.mark.parametrize("manifest", ["garbage", None])
def test_a_snapshot_whose_manifest_is_damaged_is_made_again(folder, manifest):  # noqa: F811
    snapshot = folder / "out" / "snapshots" / FIRST
    before = table_digests(snapshot)
    (snapshot / "manifest.json").write_text(manifest) if manifest else (snapshot / "manifest.json").unlink()
    night(folder, FIRST)
    assert table_digests(snapshot) == before
    # What is not an export's is not touched.
    (snapshot / "manifest.json").write_text("garbage")
    (snapshot / "thesis.txt").write_text("mine")
    result = call("export", job_file(folder), "--date", FIRST)
    assert (result.code, f"snapshots/{FIRST} is no snapshot: move it away" in result.sentence) == (2, True)
    # Nor where the manifest says that the rest of the folder is one's.
    (snapshot / "manifest.json").write_text('{"tool": "stylematch"}')
    result = call("export", job_file(folder), "--date", FIRST)
    assert (result.code, "holds thesis.txt beside a damaged snapshot" in result.sentence) == (2, True)
    assert (snapshot / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_damaged_night_lies_there_until_a_whole_one_takes_its_place(folder, monkeypatch, can_exchange):  # noqa: F811
    snapshot = folder / "out" / "snapshots" / FIRST
    before = table_digests(snapshot)
    (snapshot / "manifest.json").write_text("garbage")
    full = StylematchError("no space left")
    with monkeypatch.context() as patch:
        patch.setattr("stylematch.pipelines.nights.publication.write_manifest", lambda *_: (_ for _ in ()).throw(full))
        result = call("export", job_file(folder), "--date", FIRST)
    assert (result.code, "no space left" in result.sentence) == (3, True)
    assert (table_digests(snapshot), (snapshot / "manifest.json").read_text()) == (before, "garbage")
    if not can_exchange:
        monkeypatch.setattr("stylematch.tables.staging.exchange", lambda *_: False)
    night(folder, FIRST)
    assert (table_digests(snapshot), read_manifest(snapshot) is None) == (before, False)
    assert [path.name for path in snapshot.parent.iterdir()] == [FIRST]


@pytest.mark.parametrize(
    ("file", "whole", "damaged"),
    [
        ("manifest.json", '"sha256"', '"sha25v"'),
        ("manifest.json", '"reasons"', '"rfasons"'),
        ("manifest.json", '"settings": {', '"settings": 3, "x": {'),
        ("manifest.json", "{", "["),
        ("summary.json", '"faces"', '"fbces"'),
        ("summary.json", '"found"', '"gound"'),
    ],
)
def test_a_changed_byte_of_an_earlier_night_stops_no_night_and_is_told(folder, file, whole, damaged):  # noqa: F811
    path = folder / "out" / "snapshots" / FIRST / file
    intact = path.read_text()
    path.write_text(intact.replace(whole, damaged, 1))
    _, summary, result = night(folder, SECOND)
    assert (summary["changes"]["kept"], summary["drift"]["psi"]) == (11, 0.0)
    told = (
        f"warning: of other nights these files are damaged or missing: snapshots/{FIRST}/{file}; such a night is kept"
    )
    assert told in result.err
    # A night that was there tells once what still holds, and no longer what is mended.
    assert night(folder, SECOND)[2].err.count("these files are damaged") == 1
    assert path.read_text() != intact
    path.write_text(intact)
    result = night(folder, SECOND)[2]
    (line,) = [line for line in result.err.splitlines() if "these files are damaged" in line]
    assert "as published: of other nights" in line
    _, summary, _ = night(folder, THIRD)
    assert summary["warnings"] == []


def test_a_night_with_a_damaged_manifest_counts_as_one_that_is_kept(folder):  # noqa: F811
    night(folder, SECOND)
    manifest = folder / "out" / "snapshots" / SECOND / "manifest.json"
    manifest.write_text(manifest.read_text()[:100])
    night(folder, THIRD, keep_snapshots=2)
    assert sorted(path.name for path in (folder / "out" / "snapshots").iterdir()) == [SECOND, THIRD]


def test_a_night_that_lost_its_manifest_alone_is_kept_and_told(folder):  # noqa: F811
    snapshot = folder / "out" / "snapshots" / FIRST
    whole = table_digests(snapshot)
    manifest = (snapshot / "manifest.json").read_bytes()
    (snapshot / "manifest.json").unlink()
    told = f"of other nights these files are damaged or missing: snapshots/{FIRST}/manifest.json;"
    for day in (SECOND, THIRD):
        assert told in night(folder, day)[2].err
    assert table_digests(snapshot) == whole
    asked = call("query", folder / "out", "SELECT DISTINCT snapshot_date FROM faces_history")
    assert (FIRST not in asked.out, f"{snapshot}/manifest.json; put the file back" in asked.sentence) == (True, True)
    (snapshot / "manifest.json").write_bytes(manifest)
    assert "missing" not in night(folder, "2025-11-23")[2].err
    # Half a night, as one whose removal was cut off leaves, goes.
    (snapshot / "manifest.json").unlink()
    next((snapshot / "faces").glob("*.parquet")).unlink()
    night(folder, "2025-11-24")
    assert not snapshot.exists()


def test_a_night_of_other_photos_says_whose_it_replaces(folder):  # noqa: F811
    """Paths that two jobs share hide that the other's photos are gone; a disk that moved is no other job."""
    other = folder / "other"
    shutil.copytree(folder / "photos", other)
    for path in other.glob("*.jpg"):
        path.write_bytes(path.read_bytes() + b"x")
    _, summary, result = night(folder, FIRST, photos=str(other))
    said = (
        f"the snapshot {FIRST}, which this night replaced, was made of the photos at {folder}/photos, and this one of"
    )
    assert said in result.err
    assert said in " ".join(summary["warnings"])
    assert summary["changes"]["gone"] == 0
    assert f"as published: {said}" in night(folder, FIRST, photos=str(other))[2].err
    _, summary, _ = night(folder, SECOND)
    assert f"the snapshot {FIRST}, the newest so far, was made of the photos at {other}, and" in summary["warnings"][0]
    # Equal photos somewhere else are the same run, and nothing is replaced.
    shutil.copytree(folder / "photos", folder / "moved")
    result = night(folder, SECOND, photos=str(folder / "moved"))[2]
    assert "nothing to do" in result.out
    assert night(folder, THIRD)[1]["warnings"] == []


@pytest.mark.parametrize(
    ("pattern", "column"),
    [
        ("files", "stamp"),
        ("features-*/photos", "photo_id"),
        ("features-*/photos", "reason"),
        ("features-*/faces", "embedding"),
        ("features-*/faces", "photo_id"),
    ],
)
def test_a_file_of_the_store_that_is_damaged_inside_costs_what_it_held(folder, pattern, column):  # noqa: F811
    kept = kept_ids(folder / "out")
    (file,) = (folder / "out" / "store").glob(f"{pattern}/*.parquet")
    flip(file, column)
    # Other rules, so that features are read.
    snapshot, summary, result = night(folder, SECOND, score={"rules": "classic"})
    assert "damaged, so what they held was read again" in result.err
    assert f"{pattern.rpartition('/')[2]}/{file.name}" in result.err
    assert (summary["changes"]["read"], len(rows(snapshot, "photos"))) == (11, 11)
    assert (kept_ids(folder / "out"), file.exists()) == (kept, False)
    assert_is_what_score_makes(snapshot, folder / "photos", folder / "score", "--rules", "classic")
    _, summary, result = night(folder, THIRD, score={"rules": "classic"})
    assert (summary["changes"]["read"], "warning" in result.err) == (0, False)


def test_a_footer_that_is_damaged_inside_is_no_failing_disk(folder):  # noqa: F811
    (file,) = (folder / "out" / "store").glob("features-*/faces/*.parquet")
    data = bytearray(file.read_bytes())
    at = data.rindex(b"ARROW:schema") + len(b"ARROW:schema") + 40
    data[at : at + 8] = b"/" * 8
    file.write_bytes(data)
    with pytest.raises(OSError, match="flatbuffers"):
        pq.read_schema(file)
    _, summary, result = night(folder, SECOND)
    assert (summary["changes"]["read"], f"faces/{file.name}" in result.err) == (11, True)


def test_damage_that_a_night_meets_when_it_tidies_is_told_and_mended(folder):  # noqa: F811
    """Its tables are taken over, so nothing read the features before; those of the photo that is gone are to go."""
    night(folder, SECOND)
    (file,) = (folder / "out" / "store").glob("features-*/faces/*.parquet")
    flip(file, "embedding")
    (folder / "photos" / "rocket.jpg").unlink()
    with_all = folder / "out" / "snapshots" / SECOND
    _, summary, result = night(folder, SECOND)
    assert ("nothing to do" in result.out, f"faces/{file.name}" in result.err) == (False, True)
    assert len(rows(with_all, "photos")) == summary["photos"]["found"] == 10
    _, summary, result = night(folder, THIRD)
    assert (summary["changes"]["read"], "warning" in result.err, file.exists()) == (0, False, False)


def test_a_disk_that_damages_all_that_is_written_ends_a_night(folder, monkeypatch):  # noqa: F811
    published = FeatureDraft.publish

    def damaged(draft):
        published(draft)
        flip(folder / "out" / draft._store.folder / "faces" / draft._name, "embedding")

    monkeypatch.setattr(FeatureDraft, "publish", damaged)
    shutil.copy(folder / "photos" / "astronaut.jpg", folder / "photos" / "copy.jpg")
    with (folder / "photos" / "copy.jpg").open("ab") as file:
        file.write(b"other contents")
    (file,) = (folder / "out" / "store").glob("features-*/faces/*.parquet")
    flip(file, "embedding")
    result = call("export", job_file(folder), "--date", SECOND)
    assert (result.code, "moments after being written" in result.sentence) == (3, True)
    assert not (folder / "out" / "snapshots" / SECOND).exists()
    monkeypatch.undo()
    _, summary, _ = night(folder, SECOND)
    assert summary["photos"]["found"] == 12


def test_a_disk_that_fails_is_no_damage(folder, monkeypatch):  # noqa: F811
    """What cannot be read at all may be whole: nothing is thrown away for it."""
    (file,) = (folder / "out" / "store").glob("features-*/faces/*.parquet")
    flip(file, "embedding")

    def failing(*_):
        raise StylematchError("could not read it: Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(feature_damage, "leave_out_damaged", failing)
        result = call("export", job_file(folder, score={"rules": "classic"}), "--date", SECOND)
    assert (result.code, "Input/output error" in result.sentence, file.exists()) == (3, True, True)
    with monkeypatch.context() as patch:
        patch.setattr(feature_damage, "leave_out_damaged", lambda *_: set())
        result = call("export", job_file(folder, score={"rules": "classic"}), "--date", SECOND)
    assert (result.code, f"faces/{file.name}" in result.sentence, "make room" in result.sentence) == (3, True, False)


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        ('{"some": "other tool"}', "an export.json of another tool"),
        ('{"tool": "stylematch", "layout": 2}', "an export.json of another tool"),
        *(
            (damaged, "/export.json is damaged: if an export made that folder, put")
            for damaged in ("garbage", "", "[1]")
        ),
    ],
)
def test_a_marker_of_another_tool_claims_nothing(folder, marker, said):  # noqa: F811
    foreign = folder / "foo" / "snapshots" / "2025-01-01"
    foreign.mkdir(parents=True)
    (folder / "foo" / "export.json").write_text(marker)
    result = call("export", job_file(folder, out=f"{folder}/foo"), "--date", SECOND)
    assert (result.code, said in result.sentence) == (2, True)
    assert foreign.is_dir()


def test_a_folder_that_no_export_made_is_never_retired(folder):  # noqa: F811
    snapshots = folder / "out" / "snapshots"
    kept = {"2025-01-01": "thesis.txt", "2025-01-02": "manifest.json", "2025-01-03": ""}
    for name, file in kept.items():
        (snapshots / name).mkdir()
        if file:
            (snapshots / name / "thesis.txt").write_text("mine")
            (snapshots / name / file).write_text(json.dumps({"some": "other tool"}))
    kept["2025-01-05"] = "manifest.json"  # which alone may be anybody's
    (snapshots / "2025-01-05").mkdir()
    (snapshots / "2025-01-05" / "manifest.json").write_text(json.dumps({"some": "other tool"}))
    left = snapshots / "2025-01-04"  # of an upload that was cut off
    (left / "faces").mkdir(parents=True)
    night(folder, SECOND, keep_snapshots=1)
    assert {path.name for path in snapshots.iterdir()} == {*kept, SECOND}


@pytest.mark.parametrize("key", ["photos", "out"])
def test_a_path_that_counts_on_a_shell_is_refused(tmp_path, key):
    result = call("export", job_file(tmp_path, **{key: "~/x"}))
    assert (result.code, f"{key}: no shell writes out the ~ of '~/x'" in result.sentence) == (2, True)


def test_a_folder_called_latest_is_told_and_nothing_is_left(folder):  # noqa: F811
    out = folder / "out"
    (out / "latest").unlink()
    (out / "latest").mkdir()
    result = call("export", job_file(folder), "--date", SECOND)
    assert (result.code, "out/latest is no link to the newest night" in result.sentence) == (2, True)
    with pytest.raises(StylematchError, match="could not write"):
        Snapshots(place_of(str(out), "out")).point_to(SECOND)
    assert not list(out.glob(".latest*"))


def test_what_a_night_that_was_there_says(folder, monkeypatch):  # noqa: F811
    """Its warnings are those of then; and where only the pointer was missing, it says that it names it now."""
    with monkeypatch.context() as patch:
        patch.setattr(Snapshots, "point_to", lambda *_: pytest.fail("no pointer"))
        with pytest.raises(BaseException, match="no pointer"):
            call("export", job_file(folder, score={"rules": "classic"}), "--date", SECOND)
    assert (folder / "out" / "latest").readlink().name == FIRST
    _, _, result = night(folder, SECOND, score={"rules": "classic"})
    assert "latest names it now" in result.out
    assert "warning: as published: the styles drift" in result.err
    assert result.err.rstrip().endswith("; the rules changed, too")
    assert (folder / "out" / "latest").readlink().name == SECOND
    assert "nothing to do" in night(folder, SECOND, score={"rules": "classic"})[2].out


def test_photos_that_were_moved_are_not_gone(folder):  # noqa: F811
    photos = folder / "photos"
    (photos / "inner").mkdir()
    for path in [path for path in photos.iterdir() if path.is_file()]:
        path.rename(photos / "inner" / path.name)
    _, summary, _ = night(folder, SECOND)
    assert (summary["changes"]["gone"], summary["changes"]["new"]) == (9, 9)
    # Others that came in their place are no reason to believe it.
    for path in (photos / "inner").iterdir():
        path.write_bytes(path.read_bytes() + b"x")
    (photos / "inner").rename(photos / "other")
    result = call("export", job_file(folder), "--date", THIRD)
    assert (result.code, "9 of last night's 11 photos are gone" in result.sentence) == (3, True)


def test_the_first_error_is_the_one_that_is_told(folder, monkeypatch):  # noqa: F811
    """On a disk that became read-only nothing can be removed either."""

    def read_only(path, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    def fails(*_):
        for name in ("unlink", "rmdir"):
            monkeypatch.setattr(os, name, read_only)
        raise StylematchError("could not write the first file")

    monkeypatch.setattr(module, "write_found", fails)
    result = call("export", job_file(folder), "--date", SECOND)
    monkeypatch.undo()
    assert (result.code, "could not write the first file" in result.sentence) == (3, True)


@pytest.mark.parametrize("what", ["list", "write"])
def test_what_a_bucket_denies_is_a_mistake(what, monkeypatch):
    def denied(*_):
        raise OSError("When listing objects: AWS Error ACCESS_DENIED during ListObjectsV2 operation: Access Denied.")

    def absent(*_):
        raise FileNotFoundError

    allowed = SimpleNamespace(open_input_file=absent, get_file_info=lambda _: [])
    deny = {"list": "get_file_info", "write": "open_output_stream"}[what]
    monkeypatch.setattr(Place, "filesystem", property(lambda _: SimpleNamespace(**vars(allowed) | {deny: denied})))
    monkeypatch.setattr(Place, "key", lambda _, name="": f"bucket/{name}")
    with pytest.raises(UserError, match=f"could not {what} s3://bucket/out.*: have these credentials allowed"):
        Snapshots(Place("s3://bucket/out")).claim()
    monkeypatch.setattr(Place, "filesystem", property(lambda _: SimpleNamespace(get_file_info=denied)))
    found = ObjectFolder(Place("s3://bucket/out")).find(FindCounts())
    with pytest.raises(UserError, match="could not list s3://bucket/out"):
        next(found)


@pytest.mark.parametrize(
    "command_line", [("export", "{job}", "--date", SECOND), ("score", "{photos}", "--out", "{out}")]
)
def test_a_summary_that_nobody_can_hear_changes_no_exit_code(folder, command_line):  # noqa: F811
    named = {"job": job_file(folder), "photos": folder / "photos", "out": folder / "scored"}
    words = [word.format(**named) for word in command_line]
    if words[0] == "score":
        words += ["--device", "cpu", "--workers", "1", "--photo-timeout-s", "0", "--no-report"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command(*words), env=environment(), stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stderr
