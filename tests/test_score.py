"""``score`` from end to end: real photos, the shipped models and indexes, real files."""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hostile import make_hostile_directory
from PIL import Image
from program import (
    DEFAULT_INDEX,
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
    table,
    table_digests,
    wait_for,
)

from stylematch.data.celeba import ATTRIBUTES
from stylematch.data.listing import MIN_PARTITION_PHOTOS, write_listing
from stylematch.data.photo_file import photo_id_of, unescape_path
from stylematch.data.photos import FindCounts, find_photos
from stylematch.pipelines.run_spec import RunSpec
from stylematch.pipelines.score_job import ScoreJob
from stylematch.pipelines.score_partition import load_state, score_partition
from stylematch.report.packed import GalleryPictures
from stylematch.settings.score import ScoreSettings
from stylematch.style.rules import load_rules
from stylematch.tables.contract import (
    KEYS,
    LANDMARKS,
    TABLES,
    Reason,
    Status,
    faces_schema,
    photos_schema,
    recommendations_schema,
)
from stylematch.tables.environment import OPTIONAL_PACKAGES, PACKAGES, code_version
from stylematch.vision.bundle import Bundle
from stylematch.vision.yunet import YUNET_FILE

ASTRONAUT = EXAMPLES / "astronaut.jpg"
WARDROBE = load_rules("wardrobe", attribute_names=ATTRIBUTES)
# Path: reason and number of faces.
EXPECTED = {
    "astronaut.jpg": ("ok", 1),
    "coffee.jpg": ("no_face_found", 0),
    "exif_rotated.jpg": ("ok", 1),
    "grace_hopper.jpg": ("ok", 1),
    "grayscale.jpg": ("ok", 1),
    "group.jpg": ("ok", 3),
    "more photos/chelsea.png": ("no_face_found", 0),
    "more photos/hopper_mirrored.jpg": ("ok", 1),
    "notes.jpg": ("not_a_picture", 0),
    "rocket.jpg": ("no_face_found", 0),
    "truncated.jpg": ("truncated", 0),
}
STATUS = {"ok": "scored", "no_face_found": "no_face", "face_too_small": "no_face"}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return make_hostile_directory(tmp_path_factory.mktemp("hostile") / "photos")


@pytest.fixture(scope="module")
def hostile_run(hostile, tmp_path_factory):
    return scored(hostile.root, tmp_path_factory.mktemp("hostile-run") / "out", "--report")


@pytest.fixture(params=["examples", "hostile"])
def any_run(request, example_run, hostile_run):
    return example_run if request.param == "examples" else hostile_run


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Three partitions of small pictures: faces, no faces, equal ones, damaged ones."""
    root = tmp_path_factory.mktemp("many") / "photos"
    root.mkdir()
    with Image.open(ASTRONAUT) as astronaut, Image.open(EXAMPLES / "coffee.jpg") as coffee:
        astronaut.crop((130, 30, 280, 200)).save(root / "face.jpg", quality=92)
        coffee.crop((0, 0, 48, 48)).save(root / "cup.jpg", quality=92)
    face, cup = (root / "face.jpg").read_bytes(), (root / "cup.jpg").read_bytes()
    for number in range(9 * MIN_PARTITION_PHOTOS + 8):
        data = face if number % 4 == 0 else cup
        # Bytes after a JPEG's end make another file of the same picture.
        data = data[:500] if number % 50 == 7 else data + b"%d" % (number // 2 if number % 40 < 2 else number)
        (root / f"{number:04d}.jpg").write_bytes(data)
    return root


@pytest.fixture(scope="module")
def many_run(many, tmp_path_factory):
    out = scored(many, tmp_path_factory.mktemp("many-run") / "out")
    counts = manifest(out)["counts"]
    assert min(counts["scored"], counts["no_face"], counts["rejected"]) > 5
    assert len(list((out / "photos").glob("*.parquet"))) == 8
    return out


# Every photo, once


def test_every_example_is_in_photos_once_with_its_reason(example_run):
    found = rows(example_run, "photos")
    assert [row["path"] for row in found] == sorted(EXPECTED)
    assert {row["path"]: (row["reason"], row["faces"]) for row in found} == EXPECTED
    for row in found:
        data = (EXAMPLES / row["path"]).read_bytes()
        assert row["status"] == STATUS.get(row["reason"], "rejected")
        assert (row["bytes"], row["photo_id"]) == (len(data), photo_id_of(data))
        assert (row["message"] is not None) == (row["status"] == "rejected")
    sizes = {row["path"]: (row["width"], row["height"], row["format"]) for row in found}
    assert sizes["exif_rotated.jpg"] == sizes["astronaut.jpg"] == (512, 512, "JPEG")
    assert sizes["more photos/chelsea.png"] == (300, 200, "PNG")
    assert sizes["notes.jpg"] == (None, None, None)


def test_every_hostile_file_is_in_photos_once_with_its_reason(hostile, hostile_run):
    found = rows(hostile_run, "photos")
    assert len(found) == len(hostile.reasons)
    assert {row["path"]: row["reason"] for row in found} == hostile.reasons
    assert [row["path"] for row in found] == sorted(hostile.reasons, key=unescape_path)
    for row in found:
        assert row["status"] == STATUS.get(row["reason"], "rejected")
        assert (hostile.root / os.fsdecode(unescape_path(row["path"]))).is_file()
    assert next(row for row in found if row["path"] == "bomb.png")["width"] == 60_000
    assert manifest(hostile_run)["counts"]["ignored"] == {str(why): n for why, n in hostile.ignored.items()}


def test_counts_add_up(any_run):
    photos, counts = rows(any_run, "photos"), manifest(any_run)["counts"]
    assert counts["scored"] + counts["no_face"] + counts["rejected"] == counts["found"] == len(photos)
    statuses = Counter(row["status"] for row in photos)
    assert {name: counts[name] for name in ("scored", "no_face", "rejected")} == {
        status.value: statuses[status] for status in Status
    }
    assert counts["reasons"] == Counter(row["reason"] for row in photos)
    assert counts["faces"] == sum(row["faces"] for row in photos) == table(any_run, "faces").num_rows
    assert counts["recommendations"] == 5 * counts["faces"] == table(any_run, "recommendations").num_rows


def test_equal_contents_have_one_photo_id_and_equal_faces_and_items(hostile, hostile_run):
    plain = [row for row in rows(hostile_run, "photos") if row["reason"] == "ok"]
    assert len(plain) >= 8
    assert {row["photo_id"] for row in plain} == {photo_id_of((hostile.root / "plain.jpg").read_bytes())}
    for name in ("faces", "recommendations"):
        contents = Counter(
            json.dumps({key: value for key, value in row.items() if key != "path"}) for row in rows(hostile_run, name)
        )
        assert set(contents.values()) == {len(plain)}


def test_a_picture_alone_is_scored_as_in_its_folder(example_run, tmp_path):
    alone = scored(ASTRONAUT, tmp_path / "out")
    assert [row["path"] for row in rows(alone, "photos")] == ["astronaut.jpg"]
    assert rows(alone, "faces") == [row for row in rows(example_run, "faces") if row["path"] == "astronaut.jpg"]


# The tables


def test_the_schemas_are_the_contracts(any_run):
    dim = Bundle.open(DEFAULT_INDEX / "attributes").embedding_dim
    assert dim <= 128
    expected = {
        "photos": photos_schema(),
        "faces": faces_schema(ATTRIBUTES, dim),
        "recommendations": recommendations_schema(),
    }
    assert set(expected) == set(TABLES)
    for name, schema in expected.items():
        shards = sorted((any_run / name).glob("*"))
        assert [shard.name for shard in shards] == ["_done", "part-00000.parquet"]
        with pq.ParquetFile(shards[1]) as file:
            assert file.schema_arrow.equals(schema), name
            used = {file.metadata.row_group(0).column(c).compression for c in range(file.metadata.num_columns)}
            assert used == {"ZSTD"}


def test_keys_are_unique_and_lead_from_table_to_table(any_run):
    photos, faces, items = (rows(any_run, name) for name in TABLES)
    for name, found in zip(TABLES, (photos, faces, items), strict=True):
        keys = Counter(tuple(row[column] for column in KEYS[name]) for row in found)
        assert max(keys.values()) == 1, name
    by_path = {row["path"]: row for row in photos}
    for path, row in by_path.items():
        own = [face for face in faces if face["path"] == path]
        assert [face["face"] for face in own] == list(range(row["faces"]))
        assert (row["faces"] > 0) == (row["status"] == "scored")
    assert {(f["path"], f["face"]) for f in faces} == {(i["path"], i["face"]) for i in items}
    assert all(row["photo_id"] == by_path[row["path"]]["photo_id"] for row in faces + items)
    assert {row["run_id"] for row in items} == {manifest(any_run)["run_id"]}


def test_faces_are_numbered_from_the_largest(example_run):
    group = [row for row in rows(example_run, "faces") if row["path"] == "group.jpg"]
    areas = [row["width"] * row["height"] for row in group]
    assert len(areas) == 3
    assert areas == sorted(areas, reverse=True)


def test_what_is_measured_of_a_face_is_in_range(any_run):
    faces = table(any_run, "faces")
    sizes = {row["path"]: (row["width"], row["height"]) for row in rows(any_run, "photos")}
    for name in (*ATTRIBUTES, "detection_score", "style_score", "rule_score", "neighbour_score", "style_margin"):
        values = faces[name].to_numpy()
        assert ((values >= 0) & (values <= 1)).all(), name
    vectors = np.array(faces["embedding"].to_pylist())
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5
    for row in faces.to_pylist():
        width, height = sizes[row["path"]]
        assert row["width"] > 10
        assert row["height"] > 10
        assert 0 < row["x"] + row["width"] / 2 < width
        assert 0 < row["y"] + row["height"] / 2 < height
        for name in LANDMARKS:  # near: a face may be cut off by the photo's edge
            side = width if name.endswith("_x") else height
            assert -0.1 * side < row[name] < 1.1 * side, name
        assert row["style_margin"] <= row["style_score"]
        assert {row["style"], row["rule_style"], row["neighbour_style"]} <= set(WARDROBE.styles)
        assert row["rule"] == WARDROBE.rule_text(row["style"])
        assert row["why"].strip()


def test_boxes_and_landmarks_are_in_the_upright_photos_pixels(example_run):
    faces = {row["path"]: row for row in rows(example_run, "faces")}
    upright, turned = faces["astronaut.jpg"], faces["exif_rotated.jpg"]
    for name in ("x", "y", "width", "height", *LANDMARKS):
        assert turned[name] == pytest.approx(upright[name], abs=0.1 * upright["width"]), name
    for face in faces.values():  # CelebA's left is the picture's, also in a mirrored photo
        assert face["lefteye_x"] < face["nose_x"] < face["righteye_x"]
        assert face["lefteye_y"] < face["nose_y"] < face["leftmouth_y"]
        assert face["x"] < face["nose_x"] < face["x"] + face["width"]
        assert face["y"] < face["nose_y"] < face["y"] + face["height"]


def test_every_face_has_its_ranked_items(any_run):
    stock = {
        row["id"]: row["category"]
        for row in pq.read_table(DEFAULT_INDEX / "items" / "rows.parquet", columns=["id", "category"]).to_pylist()
    }
    faces = {(row["path"], row["face"]): row for row in rows(any_run, "faces")}
    by_face: dict[tuple, list[dict]] = {key: [] for key in faces}
    for row in rows(any_run, "recommendations"):
        by_face[row["path"], row["face"]].append(row)
    for key, items in by_face.items():
        assert [row["rank"] for row in items] == [1, 2, 3, 4, 5]
        assert len({row["item_id"] for row in items}) == 5
        assert [stock[row["item_id"]] for row in items] == [row["category"] for row in items]
        assert {row["category"] for row in items} == set(WARDROBE.items(faces[key]["style"]))
        scores = [row["score"] for row in items]
        assert scores == sorted(scores, reverse=True)
        for row in items:
            assert (row["style"], row["style_score"], row["rule"]) == tuple(
                faces[key][name] for name in ("style", "style_score", "rule")
            )
            if row["similarity"] is None:  # what worn clothes say nothing of
                assert row["category"] in {"Ankle boot", "Bag", "Sandal", "Sneaker", "Trouser"}
                assert row["query"] == "style"
                assert "by the clothes worn" not in row["reason"]
            else:
                assert -1 <= row["similarity"] <= 1
                assert ("the clothes worn" if row["query"] == "worn" else "Typical") in row["reason"]


# The manifest


def test_the_manifest_says_what_the_run_was_made_from(example_run):
    content = manifest(example_run)
    assert content["code_version"] == code_version()
    assert set(PACKAGES) <= set(content["packages"]) <= set(PACKAGES + OPTIONAL_PACKAGES)
    assert "absent" not in content["packages"].values()
    assert content["outputs"] == ["faces", "manifest.json", "photos", "recommendations", "report"]
    assert content["device"] == "cpu"
    assert content["host"]["cores"] >= 1
    started, finished = (datetime.fromisoformat(content[name]) for name in ("started", "finished"))
    assert started <= finished
    assert started.utcoffset().total_seconds() == 0
    assert content["sha256"]["bundle"] == Bundle.open(DEFAULT_INDEX / "attributes").sha256
    assert content["sha256"]["rules"] == WARDROBE.sha256
    assert content["sha256"]["garments"] == Bundle.open(DEFAULT_INDEX / "garments").sha256
    assert content["sha256"]["face_finder"] == hashlib.sha256(YUNET_FILE.read_bytes()).hexdigest()
    named = {"bundle", "garments", "face_finder", "faces", "items", "rules", "settings", "inputs"}
    assert set(content["sha256"]) == named
    assert all(len(digest) == 64 for digest in content["sha256"].values())
    assert content["settings"]["top_k"] == 5


def test_the_manifest_says_how_long_each_stage_took(example_run):
    content = manifest(example_run)
    stages = content["stages"]
    measured = {name: (stage["items"], stage["unit"]) for name, stage in stages.items()}
    assert measured == {
        "list": (11, "photos"),
        "score": (11, "photos"),
        "load": (1, "workers"),
        "read": (11, "photos"),
        "decode": (11, "photos"),
        "find faces": (9, "photos"),
        "cut": (9, "photos"),
        "thumbnails": (9, "photos"),
        "attributes": (8, "faces"),
        "clothes": (5, "faces"),
        "style": (8, "faces"),
        "items": (8, "faces"),
        "write": (11 + 8 + 40, "rows"),
        "gallery": (11, "photos"),
    }
    for stage in stages.values():
        assert stage["seconds"] >= 0
        assert stage["per_second"] is None or stage["per_second"] > 0
    whole = [stages[name]["seconds"] for name in ("list", "score", "gallery")]
    assert sum(whole) <= content["seconds"] + 0.1


def test_the_table_of_stages_is_in_the_manifest_and_printed(tmp_path):
    done = score(EXAMPLES, tmp_path / "out", "--no-report", "--profile")
    profile = manifest(tmp_path / "out")["profile"]
    names = [row["stage"] for row in profile["rows"]]
    assert names[0] == "list"
    assert {"read", "decode", "find faces", "cut", "attributes", "style", "items", "write", "load"} <= set(names)
    assert sum(row["limit_share"] for row in profile["rows"]) == pytest.approx(1, abs=0.01)
    assert 0 < profile["limit_reached"] <= 1.01
    assert profile["photos"] == 11
    assert "of limit" in done.out
    assert all(f"\n{name} " in done.out for name in names)
    stages = done.out[done.out.index("stage ") :]
    again = score(EXAMPLES, tmp_path / "out", "--no-report", "--profile")
    assert "Nothing was run now; the run of " in again.out
    assert again.out[again.out.index("stage ") :] == stages
    assert "busy s" not in score(EXAMPLES, tmp_path / "out", "--no-report").out
    content = manifest(tmp_path / "out")
    del content["profile"]
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(content))
    assert "has no table of stages" in score(EXAMPLES, tmp_path / "out", "--no-report", "--profile").out


def test_the_gallery_is_there_with_every_thumbnail(any_run):
    page = (any_run / "report" / "index.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page
    assert not (any_run / "report" / "thumbs").exists()
    pictures = GalleryPictures(any_run)
    for row in rows(any_run, "photos"):
        if row["status"] != "rejected":
            with Image.open(io.BytesIO(pictures.thumbnail(row["photo_id"]))) as thumbnail:
                thumbnail.load()
                large = max(row["width"], row["height"])
                assert max(thumbnail.size) == large if large <= 256 else 192 <= max(thumbnail.size) <= 256


# Equal inputs, equal tables


@pytest.mark.parametrize(
    ("batch_size", "workers"),
    [
        (1, 1),
        (7, 2),
        (32, 3),
        *(pytest.param(b, w, marks=pytest.mark.slow) for b, w in [(1, 2), (1, 3), (7, 1), (7, 3), (32, 2), (300, 1)]),
    ],
)
def test_batches_and_workers_change_no_byte(many, many_run, tmp_path, batch_size, workers):
    out = scored(many, tmp_path / "another name", "--batch-size", batch_size, "--workers", workers)
    assert table_digests(out) == table_digests(many_run)
    assert manifest(out)["run_id"] == manifest(many_run)["run_id"]


def test_a_copy_of_the_photos_gives_the_same_bytes(example_run, tmp_path):
    copied = tmp_path / "copied"
    shutil.copytree(EXAMPLES, copied, copy_function=shutil.copyfile)
    for number, path in enumerate(copied.rglob("*")):
        os.utime(path, (number, number))
    out = scored(copied, tmp_path / "out", "--batch-size", 3)
    assert table_digests(out) == table_digests(example_run)


# Running again


def state_of(out: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in [out, *out.rglob("*")]}


@pytest.mark.slow
def test_a_second_run_has_nothing_to_do_until_something_changes(tmp_path):
    out = scored(ASTRONAUT, tmp_path / "out")
    tables, before = table_digests(out), state_of(out)

    again = score(ASTRONAUT, out, "--batch-size", 5, "--workers", 2)
    assert again.code == 0
    assert "Nothing to do" in again.out
    assert manifest(out)["run_id"] in again.out
    assert state_of(out) == before

    repeated = score(ASTRONAUT, out, "--overwrite")
    assert "found 1: scored 1" in repeated.out
    assert table_digests(out) == tables
    assert state_of(out)[out] != before[out]

    with_report = score(ASTRONAUT, out, "--report")
    assert "Nothing to do" not in with_report.out
    assert (out / "report" / "index.html").is_file()
    assert table_digests(out) == tables
    assert "Nothing to do" in score(ASTRONAUT, out).out
    shutil.rmtree(out / "report" / "data")  # without which the page is empty
    assert "Nothing to do" not in score(ASTRONAUT, out, "--report").out
    assert (out / "report" / "data").is_dir()

    replaced = score(ASTRONAUT, out, "--top-k", 2)
    assert replaced.code == 0
    assert table(out, "recommendations").num_rows == 2
    assert not (out / "report").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_an_out_that_is_not_ours_is_refused_untouched(tmp_path):
    out = tmp_path / "holiday"
    out.mkdir()
    (out / "diary.txt").write_text("dear diary")
    result = score(ASTRONAUT, out)
    assert result.code == 2
    assert "holiday" in result.sentence
    assert digests(out).keys() == {"diary.txt"}
    assert [path.name for path in tmp_path.iterdir()] == ["holiday"]


def test_photos_in_out_are_refused(tmp_path):
    photos = tmp_path / "out" / "photos"
    photos.mkdir(parents=True)
    for out in (tmp_path / "out", photos):
        result = score(photos, out)
        assert result.code == 2
        assert "holds" in result.sentence
    run = scored(ASTRONAUT, tmp_path / "run", "--report")
    before = state_of(run)
    assert score(run / "report", run).code == 2
    assert state_of(run) == before


@pytest.mark.slow
@pytest.mark.parametrize("default_out", [True, False])
def test_a_run_among_its_photos_does_not_score_its_own_pictures(tmp_path, monkeypatch, default_out):
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(ASTRONAUT, photos)
    monkeypatch.chdir(photos)
    out = photos / ("stylematch-out" if default_out else "results")
    options = ["--device", "cpu", "--workers", "1", *([] if default_out else ["--out", "results"])]

    first = call("score", ".", *options)
    assert "found 1: scored 1" in first.out
    assert "Nothing to do" in call("score", ".", *options).out
    assert "found 1: scored 1" in call("score", ".", *options, "--top-k", "2").out
    assert manifest(out)["counts"]["ignored"] == {"own_output": 1}
    assert [row["path"] for row in rows(out, "photos")] == ["astronaut.jpg"]


# Kills


def staged(out: Path) -> Path | None:
    return next(out.parent.glob(f".{out.name}.stylematch-staging-*"), None)


def first_shard_is_done(out: Path):
    def check():
        folder = staged(out)
        return folder is not None and list(folder.glob("photos/_done/part-*.json"))  # the last to be written

    return check


def started(tmp_path, photos, out, *options):
    (tmp_path / "scratch").mkdir()
    return subprocess.Popen(
        command("score", photos, "--out", out, "--device", "cpu", *options),
        cwd=tmp_path,
        env=environment(TMPDIR=tmp_path / "scratch"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )


def test_a_killed_run_is_gone_on_with_to_the_same_bytes(many, many_run, tmp_path):
    out = tmp_path / "out"
    process = started(tmp_path, many, out, "--no-report", "--workers", 2, "--batch-size", 4)
    wait_for(first_shard_is_done(out), process)
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    assert not out.exists()
    run_id = manifest(many_run)["run_id"]
    assert staged(out).name.endswith(run_id[:16]), "another process names the run otherwise: did the sources change?"
    done = {path.name: path.stat().st_ino for path in staged(out).glob("recommendations/*.parquet")}

    resumed = score(many, out)
    assert resumed.code == 0, resumed.err
    assert table_digests(out) == table_digests(many_run)
    assert manifest(out)["counts"] == manifest(many_run)["counts"]
    kept = [name for name, inode in done.items() if (out / "recommendations" / name).stat().st_ino == inode]
    assert kept, "no shard of the killed run was kept"
    assert manifest(out)["stages"]["score"]["items"] < manifest(out)["counts"]["found"]
    assert staged(out) is None


def has_an_unnamed_file_in(process, folder):
    """Say whether a process has a file without a name open there: the listing, once it is begun.

    Python's `tempfile` tries a folder with a named file first, which a signal just then would leave there.
    """
    for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            file = descriptor.readlink()
            if folder in file.parents and file.name.endswith(" (deleted)"):
                return True
        except OSError:
            continue  # closed meanwhile
    return False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stop", "when"), [(signal.SIGTERM, "score"), (signal.SIGINT, "score"), (signal.SIGTERM, "list")]
)
def test_an_interrupted_run_says_so_and_can_be_gone_on_with(many, many_run, tmp_path, stop, when):
    out = tmp_path / "out"
    process = started(tmp_path, many, out, "--no-report", "--workers", 2 if stop == signal.SIGINT else 1)
    listing = tmp_path / "scratch"
    wait_for(first_shard_is_done(out) if when == "score" else lambda: has_an_unnamed_file_in(process, listing), process)
    if stop == signal.SIGINT:
        os.killpg(process.pid, stop)  # as a terminal does it
    else:
        process.send_signal(stop)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert err.rstrip().endswith("interrupted; the same command goes on where it stopped")
    assert not out.exists()
    assert not list(listing.iterdir())
    if (stop, when) == (signal.SIGTERM, "score"):
        # The gallery is no part of a run's name, so it may be wanted only now: no thumbnail may be missing.
        assert score(many, out, "--report").code == 0
        assert table_digests(out) == table_digests(many_run)
        pictures = GalleryPictures(out)
        assert all(
            (pictures.thumbnail(row["photo_id"]) is not None) == (row["status"] != "rejected")
            for row in rows(out, "photos")
        )


@pytest.mark.slow
def test_a_gallery_begun_and_given_up_leaves_nothing(many, many_run, tmp_path):
    out = tmp_path / "out"
    process = started(tmp_path, many, out, "--report", "--workers", 1)
    wait_for(first_shard_is_done(out), process)
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    assert list(staged(out).glob("report/thumbs/*.jsonl"))
    assert score(many, out).code == 0
    assert sorted(path.name for path in out.iterdir()) == ["faces", "manifest.json", "photos", "recommendations"]
    assert table_digests(out) == table_digests(many_run)


@pytest.mark.slow
def test_a_stop_between_the_gallery_and_the_publication_scores_nothing_again(many, many_run, tmp_path, monkeypatch):
    """Nor is anything left of what workers kept for the gallery where the stop comes after the publication."""
    out = tmp_path / "out"

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("stylematch.tables.staging.Staging.publish", stopped)
        assert call("score", many, "--out", out, "--device", "cpu", "--report", "--workers", 1).code == 130
    shards = {path.name: path.stat().st_ino for path in staged(out).glob("photos/*.parquet")}
    assert (staged(out) / "report" / "index.html").is_file()
    with monkeypatch.context() as patched:
        patched.setattr("stylematch.pipelines.score.forget_kept", stopped)
        assert call("score", many, "--out", out, "--device", "cpu", "--report", "--workers", 1).code == 130
    assert {path.name: path.stat().st_ino for path in out.glob("photos/*.parquet")} == shards
    assert manifest(out)["stages"]["score"]["items"] == 0
    again = score(many, out, "--report")
    assert again.code == 0
    assert "Nothing to do" in again.out
    assert sorted(path.name for path in (out / "report").iterdir()) == ["assets", "data", "index.html"]
    assert table_digests(out) == table_digests(many_run)


def test_photos_that_change_or_go_between_listing_and_scoring(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    for name in ("changed.jpg", "gone.jpg", "replaced.jpg", "stays.jpg"):
        shutil.copy(ASTRONAUT, root / name)
    listing = write_listing(
        find_photos(root, counts=FindCounts()), root, tmp_path / "listing", readers=2, advance=lambda _: None
    )
    (root / "changed.jpg").write_bytes(ASTRONAUT.read_bytes() + b"later")
    (root / "gone.jpg").unlink()
    (root / "replaced.jpg").unlink()
    os.mkfifo(root / "replaced.jpg")
    settings = ScoreSettings(report=False)
    job = ScoreJob(RunSpec.of(settings), root, listing.path, tmp_path / "staged", "run")
    score_partition(load_state(job), listing.partitions[0], lambda _: None)
    found = {row["path"]: row for row in rows(tmp_path / "staged", "photos")}
    assert {path: row["reason"] for path, row in found.items()} == {
        "changed.jpg": Reason.CHANGED_DURING_RUN,
        "gone.jpg": Reason.UNREADABLE_FILE,
        "replaced.jpg": Reason.UNREADABLE_FILE,
        "stays.jpg": Reason.OK,
    }
    assert all(row["message"] for path, row in found.items() if path != "stays.jpg")
    assert [row["path"] for row in rows(tmp_path / "staged", "faces")] == ["stays.jpg"]


def test_a_run_leaves_nothing_but_its_out(tmp_path):
    # ONNX Runtime's own wheels would leave an identifier in the home folder, and send it with the model's name
    # to their maker; where CI is set they do not.
    home = tmp_path / "home"
    home.mkdir()
    variables = {name: value for name, value in environment(TMPDIR=home, HOME=home).items() if name != "CI"}
    for name in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        variables.pop(name, None)
    done = subprocess.run(
        command("score", ASTRONAUT, "--out", tmp_path / "out", "--device", "cpu", "--workers", "1"),
        env=variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "found 1: scored 1, no face 0, rejected 0" in done.stdout
    assert f"to see them, open {tmp_path / 'out' / 'report' / 'index.html'}" in done.stdout
    assert list(home.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "out"]


def test_a_program_says_nothing_of_what_a_library_left_in_memory(tmp_path):
    options = ("--where", "category = 'Coat'", "--device", "cpu", "--workers", 1, "--overwrite")
    done = subprocess.run(
        command("score", ASTRONAUT, "--out", tmp_path / "out", *options),
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "items that --where allows: 1,000" in done.stdout
    assert "leaked" not in done.stderr


# Nothing and nowhere


def test_an_empty_directory_is_a_finished_run_of_empty_tables(tmp_path):
    (tmp_path / "photos").mkdir()
    out = scored(tmp_path / "photos", tmp_path / "out", "--report")
    for name, schema in (("photos", photos_schema()), ("recommendations", recommendations_schema())):
        assert table(out, name).schema.equals(schema)
        assert table(out, name).num_rows == 0
    assert table(out, "faces").num_rows == 0
    assert table(out, "faces").schema.names[-1] == "embedding"
    counts = manifest(out)["counts"]
    assert (counts["found"], counts["faces"], counts["recommendations"]) == (0, 0, 0)
    assert (out / "report" / "index.html").is_file()
    assert "Nothing to do" in score(tmp_path / "photos", out, "--report").out
    assert score(tmp_path / "photos", out, "--overwrite", "--max-reject-share", 0).code == 0


@pytest.mark.parametrize("name", ["nowhere", "a file.txt/below", "new\nline"])
def test_a_missing_directory_is_one_sentence(tmp_path, name):
    (tmp_path / "a file.txt").write_text("")
    result = score(tmp_path / name, tmp_path / "out")
    assert (result.code, result.out) == (2, "")
    assert result.err == result.sentence + "\n"
    assert not (tmp_path / "out").exists()


# Options


def test_limit_takes_the_first_photos(example_run, tmp_path):
    out = scored(EXAMPLES, tmp_path / "out", "--limit", 3, "--top-k", 1)
    assert rows(out, "photos") == rows(example_run, "photos")[:3]
    assert table(out, "recommendations")["rank"].to_pylist() == [1] * table(out, "faces").num_rows
    assert not (out / "report").exists()


def test_another_seed_is_another_choice_for_the_same_styles(example_run, tmp_path):
    out = scored(EXAMPLES, tmp_path / "out", "--seed", 1)
    assert table(out, "faces").equals(table(example_run, "faces"))
    choice = {name: table(run, "recommendations") for name, run in (("one", out), ("other", example_run))}
    assert choice["one"]["style"].equals(choice["other"]["style"])
    for face in range(table(out, "faces").num_rows):
        picked = [c.slice(face * 5, 5) for c in choice.values()]
        worn = set(picked[0]["query"].to_pylist()) == {"worn"}  # what is worn leaves no choice among equals
        assert worn or set(picked[0]["item_id"].to_pylist()) != set(picked[1]["item_id"].to_pylist())
    assert set(choice["one"]["query"].to_pylist()) == {"worn", "style"}


def test_top_k_12_has_every_category_at_least_once(tmp_path):
    out = scored(ASTRONAUT, tmp_path / "out", "--top-k", 12)
    items = rows(out, "recommendations")
    assert [row["rank"] for row in items] == list(range(1, 13))
    assert len({row["item_id"] for row in items}) == 12
    assert {row["category"] for row in items} == set(WARDROBE.items(items[0]["style"]))


def test_aligned_pictures_are_faces_as_they_are(tmp_path):
    out = scored(EXAMPLES, tmp_path / "out", "--faces", "aligned", "--limit", 4)
    found = {row["path"]: row for row in rows(out, "photos")}
    assert all((row["status"], row["faces"]) == ("scored", 1) for row in found.values())
    for face in rows(out, "faces"):
        photo = found[face["path"]]
        assert (face["face"], face["detection_score"]) == (0, 1.0)
        assert 0 <= face["x"] < face["x"] + face["width"] <= photo["width"]
        assert 0 <= face["y"] < face["y"] + face["height"] <= photo["height"]


def test_faces_under_the_smallest_size_are_told_from_no_faces(tmp_path):
    out = scored(EXAMPLES, tmp_path / "out", "--min-face-px", 5000, "--limit", 2)
    astronaut, coffee = rows(out, "photos")
    assert (astronaut["status"], astronaut["reason"]) == ("no_face", "face_too_small")
    assert "--min-face-px" in astronaut["message"]
    assert (coffee["status"], coffee["reason"]) == ("no_face", "no_face_found")
    assert table(out, "faces").num_rows == 0


def test_links_are_followed_only_when_asked_for(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    (root / "link.jpg").symlink_to(ASTRONAUT)
    (root / "loop").symlink_to(root)
    out = scored(root, tmp_path / "out")
    assert manifest(out)["counts"]["ignored"] == {"link": 2}
    assert table(out, "photos").num_rows == 0
    scored(root, out, "--follow-links")
    assert [(row["path"], row["reason"]) for row in rows(out, "photos")] == [("link.jpg", "ok")]


def test_limits_on_size_reject(tmp_path):
    out = scored(ASTRONAUT, tmp_path / "out", "--max-file-mb", 0.01)
    assert rows(out, "photos")[0]["reason"] == "file_too_large"
    scored(ASTRONAUT, out, "--max-megapixels", 0.1)
    assert rows(out, "photos")[0]["reason"] == "too_large"
    assert rows(out, "photos")[0]["width"] == 512


def test_too_many_rejects_are_exit_code_4_with_the_tables_published(tmp_path):
    out = tmp_path / "out"
    options = ("--limit", 11, "--max-reject-share")
    first = score(EXAMPLES, out, *options, 0.1)
    assert first.code == 4
    assert "2 of 11 photos (18.2%) were rejected" in first.sentence
    assert "found 11: scored 6, no face 3, rejected 2" in first.out
    assert table(out, "photos").num_rows == 11
    assert "busy s" not in first.out
    before = state_of(out)
    again = score(EXAMPLES, out, *options, 0.1, "--profile")
    assert again.code == 4, "a retry must not hide what the first run said"
    assert "Nothing was run now; the run of " in again.out
    assert "busy s" in again.out
    assert score(EXAMPLES, out, *options, 0.2).code == 0
    assert state_of(out) == before


@pytest.mark.slow
@pytest.mark.parametrize("command", ["score", "predict"])
def test_a_named_file_that_is_no_picture_is_a_mistake(command, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    bundle = [DEFAULT_INDEX / "attributes"] if command == "predict" else []
    result = call(command, *bundle, tmp_path / "notes.txt", "--out", tmp_path / "out")
    assert result.code == 2
    assert "notes.txt neither is named nor begins like a picture: name a picture, or a directory" in result.sentence
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "picture").write_bytes(ASTRONAUT.read_bytes())  # without an extension, but it begins like one
    assert call(command, *bundle, tmp_path / "picture", "--out", tmp_path / "out").code == 0
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").rename(tmp_path / "folder" / "notes.txt")
    assert call(command, *bundle, tmp_path / "folder", "--out", tmp_path / "out").code == 0  # there it is passed over


def test_a_rejected_file_that_was_named_is_a_row_and_a_limit_makes_it_exit_code_4(tmp_path):
    (tmp_path / "broken.jpg").write_text("no picture")
    result = score(tmp_path / "broken.jpg", tmp_path / "out")
    assert result.code == 0
    assert "\nevery photo was rejected, the photos table says why; --max-reject-share X " in result.out
    assert [row["reason"] for row in rows(tmp_path / "out", "photos")] == ["not_a_picture"]
    limited = score(tmp_path / "broken.jpg", tmp_path / "out", "--max-reject-share", 0.9)
    assert limited.code == 4
    assert "would" not in limited.out  # it did
    assert "every photo" not in score(EXAMPLES, tmp_path / "most", "--limit", 3).out


def test_own_rules_give_own_styles(tmp_path):
    rules = tmp_path / "mine.toml"
    rules.write_text('name = "mine"\n' + MY_RULES)
    out = scored(ASTRONAUT, tmp_path / "out", "--rules", rules)
    face = rows(out, "faces")[0]
    assert face["style"] in ("Cheerful", "Plain")
    assert {row["category"] for row in rows(out, "recommendations")} == (
        {"Bag", "Dress"} if face["style"] == "Cheerful" else {"Coat"}
    )


MY_RULES = """
[[rules]]
style = "Cheerful"
all = ["Smiling"]
items = ["Bag", "Dress"]

[[rules]]
style = "Plain"
items = ["Coat"]
"""


@pytest.mark.parametrize(("good", "bad"), [("Smiling", "Grinning"), ("Coat", "Overcoat")])
def test_rules_that_name_what_is_not_there_are_refused(tmp_path, good, bad):
    rules = tmp_path / "mine.toml"
    rules.write_text('name = "mine"\n' + MY_RULES.replace(good, bad))
    result = score(EXAMPLES, tmp_path / "out", "--rules", rules)
    assert result.code == 2
    assert bad in result.sentence
    assert "mine.toml" in result.sentence
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


def test_an_index_of_a_wrong_kind_is_refused(tmp_path):
    foreign = tmp_path / "items"
    shutil.copytree(DEFAULT_INDEX / "items", foreign)
    infos = json.loads((foreign / "infos.json").read_text())
    (foreign / "infos.json").write_text(json.dumps(infos | {"bundle_sha256": "0" * 64}))
    for wrong, part in (
        (EXAMPLES, "neither an index"),
        (tmp_path / "nowhere", "nowhere: there is no such directory; check the path."),
        (DEFAULT_INDEX / "attributes", "is a model's bundle and no index: name the folder that it lies in"),
        (foreign, "was not made by the model"),
        (foreign, "build it again (a catalogue by 'stylematch-batch catalog build')"),
    ):
        result = score(ASTRONAUT, tmp_path / "out", "--index", wrong)
        assert result.code == 2
        assert part in result.sentence
    assert not (tmp_path / "out").exists()


def test_a_damaged_index_is_refused(tmp_path):
    damaged = tmp_path / "items"
    shutil.copytree(DEFAULT_INDEX / "items", damaged)
    data = bytearray((damaged / "index.faiss").read_bytes())
    data[len(data) // 2] ^= 1
    (damaged / "index.faiss").write_bytes(data)
    result = score(ASTRONAUT, tmp_path / "out", "--index", damaged)
    assert result.code == 2
    assert "damaged" in result.sentence


def test_half_a_collection_is_not_filled_up_from_the_default_unsaid(tmp_path):
    for part in ("garments", "items"):
        shutil.copytree(DEFAULT_INDEX / part, tmp_path / "mine" / part)
    (tmp_path / "mine" / "items" / "infos.json").unlink()
    result = score(ASTRONAUT, tmp_path / "out", "--index", tmp_path / "mine")
    assert (result.code, "mine/items has no infos.json" in result.sentence) == (2, True)
    shutil.rmtree(tmp_path / "mine" / "items")
    assert score(ASTRONAUT, tmp_path / "out", "--index", tmp_path / "mine").code == 0


def test_the_default_named_as_an_index_is_the_same_run(tmp_path):
    out = scored(ASTRONAUT, tmp_path / "out", "--index", DEFAULT_INDEX, "--index", DEFAULT_INDEX / "items")
    assert "Nothing to do" in score(ASTRONAUT, out).out


def test_cuda_without_torch_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # what an import finds where it is not installed
    result = score(ASTRONAUT, tmp_path / "out", "--device", "cuda")
    assert result.code == 2
    assert "pip install 'stylematch[gpu]'" in result.sentence
    assert score(ASTRONAUT, tmp_path / "out", "--device", "auto").code == 0
    assert manifest(tmp_path / "out")["device"] == "cpu"


@pytest.mark.train
def test_cuda_without_a_gpu_says_so(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'stylematch[train]'")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    result = score(ASTRONAUT, tmp_path / "out", "--device", "cuda")
    assert result.code == 2
    assert "--device cpu" in result.sentence
    assert not (tmp_path / "out").exists()
    assert manifest(scored(ASTRONAUT, tmp_path / "out", "--device", "auto"))["device"] == "cpu"


def test_pyarrow_does_without_pandas_in_a_worker():
    code = (
        "import sys, pyarrow as pa, numpy as np\n"
        "from stylematch.tables.arrow import without_pandas\n"
        "without_pandas()\n"
        "assert pa.array([True, None]).to_pylist() == [True, None]\n"
        "pa.scalar('a'), pa.array(np.arange(3)), np.asarray(pa.array([1])), pa.array([True]).to_numpy(False)\n"
        "assert 'pandas' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("damage", ["table", "shard", "size", "sidecar"])
def test_a_damaged_run_is_made_again(tmp_path, damage):
    out = scored(ASTRONAUT, tmp_path / "out")
    before = table_digests(out)
    shard = next((out / "faces").glob("*.parquet"))
    if damage == "table":
        shutil.rmtree(out / "photos")
    elif damage == "shard":
        shard.unlink()
    elif damage == "size":
        shard.write_bytes(shard.read_bytes() + b"x")
    else:
        next((out / "faces" / "_done").iterdir()).write_text("{}")
    result = score(ASTRONAUT, out)
    assert (result.code, "Nothing to do" in result.out) == (0, False)
    assert table_digests(out) == before
    assert "Nothing to do" in score(ASTRONAUT, out).out


def test_an_option_that_is_given_twice_counts_twice(tmp_path):
    out = scored(ASTRONAUT, tmp_path / "out", "--without", "Male", "--without", "Young, Attractive")
    assert manifest(out)["settings"]["without"] == ["Attractive", "Male", "Young"]
    assert not {"Male", "Young", "Attractive"} & set(table(out, "faces").column_names)
    conditions = ("--where", "category = 'Coat' OR category = 'Bag'", "--where", "category <> 'Bag'")
    result = score(ASTRONAUT, tmp_path / "coats", *conditions)
    assert "items that --where allows: 1,000" in result.out
    assert {row["category"] for row in rows(tmp_path / "coats", "recommendations")} == {"Coat"}


def test_nothing_found_is_told(tmp_path):
    (tmp_path / "photos").mkdir()
    result = score(tmp_path / "photos", tmp_path / "out")
    assert (result.code, "no photo was found there: is it the right folder?" in result.out) == (0, True)
