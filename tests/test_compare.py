"""``compare``: every kind of change is found, counted, written and shown; equal runs have none."""

import base64
import hashlib
import json
import shutil
from datetime import UTC, datetime

import numpy as np
import pyarrow.parquet as pq
import pytest
from browser import Browser, require_chromium
from damaged import flip
from galleries import write_gallery
from program import call
from test_gallery import HOSTILE_NAMES, face_row, item_picture, item_row, photo_row, write_run

from stylematch.pipelines.compare import compare
from stylematch.report.pictures import make_thumbnail
from stylematch.tables.counts import count_tables
from stylematch.tables.manifest import Manifest, write_manifest


def finished(run, photos, faces, items, *, rules: str = "r", **settings):
    """Write a run with its manifest."""
    write_run(run, photos, faces, items)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    digests = {"rules": rules, "bundle": "b"}
    counts = count_tables(run, {})
    name = hashlib.sha256(str(run).encode()).hexdigest()[:32]
    write_manifest(run, Manifest(name, counts, {}, "0.1", digests, settings, "cpu", now, now))
    return run


def two_nights(folder):
    """Two runs that differ in one way of each kind."""
    names = ("same", "gone", "status", "contents", "style", "items", "swapped")
    a = {name: photo_row(f"{name}.jpg") for name in names}
    b = {name: photo_row(f"{name}.jpg") for name in names if name != "gone"}
    b["added"] = photo_row("added.jpg")
    a["renamed"] = photo_row("was.jpg")
    b["renamed"] = {**photo_row("renamed.jpg"), "photo_id": a["renamed"]["photo_id"]}
    b["status"] = photo_row("status.jpg", 0, status="no_face", reason="no_face_found")
    b["contents"] = {**photo_row("contents.jpg"), "photo_id": "0" * 64}
    a["swapped"]["faces"] = 2
    b["swapped"]["faces"] = 3
    left, right = {"x": 10.0, "width": 100.0}, {"x": 250.0, "width": 100.0}
    faces_a = [face_row(a[name]) for name in a if name != "swapped"]
    faces_a += [face_row(a["swapped"], 0, "Casual", **left), face_row(a["swapped"], 1, "Formal", **right)]
    faces_b = [
        face_row(b[name], style="Formal" if name == "style" else "Casual") for name in b if b[name]["faces"] == 1
    ]
    faces_b[0] |= {"Smiling": 0.4, "Young": 0.96}
    # The same two faces under each other's number, and one that was not there.
    faces_b += [
        face_row(b["swapped"], 0, "Formal", **(right | {"x": 255.0})),
        face_row(b["swapped"], 1, "Casual", **left),
        face_row(b["swapped"], 2, "Casual", x=150.0, width=30.0, y=700.0, height=40.0),
    ]
    items_a, items_b = [], []
    for items, photos, faces in ((items_a, a, faces_a), (items_b, b, faces_b)):
        for face in faces:
            photo = next(photo for photo in photos.values() if photo["path"] == face["path"])
            ids = ["i/1", "i/2", "i/3"]
            if items is items_b and face["path"] == "items.jpg":
                ids = ["i/2", "i/1", "i/9"]
            items += [item_row(photo, face["face"], rank, item_id=name) for rank, name in enumerate(ids, start=1)]
    order = lambda rows: sorted(rows, key=lambda row: (row["path"], row.get("face", 0), row.get("rank", 0)))  # noqa: E731
    run_a = finished(folder / "a", order(a.values()), order(faces_a), order(items_a), top_k=3)
    asked = {"top_k": 5, "item_columns": []}  # which the version that made the other run did not know yet
    run_b = finished(folder / "b", order(b.values()), order(faces_b), order(items_b), rules="other", **asked)
    return run_a, run_b


def table(folder, name) -> list[dict]:
    return pq.read_table(folder / f"{name}.parquet").to_pylist()


def test_every_kind_of_change_is_found(tmp_path):
    run_a, run_b = two_nights(tmp_path)
    figures = compare(run_a, run_b, tmp_path / "out").figures
    assert figures["photos"] == {
        **{"same": 3, "added": 1, "gone": 1, "renamed": 1},
        **{"status": 1, "contents": 1, "faces": 1},
    }
    assert figures["differing"] == ["rules", "settings.top_k"]
    # Faces in both: same, style, items, renamed, and the two of swapped, whatever their numbers.
    assert figures["faces"] == {"in_both": 6, "style_moved": 1, "items_changed": 1, "added": 3, "gone": 3}
    assert sorted(map(tuple, figures["styles"])) == [
        *(("Casual", "Casual", 4), ("Casual", "Formal", 1), ("Formal", "Formal", 1))
    ]
    items = figures["items"]
    assert (items["lists"], items["same_lists"], items["same_first_item"], items["ranks_moved"]) == (6, 5, 5, 2)
    assert items["overlap"] == pytest.approx(17 / 18, abs=1e-6)
    assert (items["same"], items["moved"], items["new"], items["gone"]) == (15, 2, 1, 1)

    photos = {row["path"]: row for row in table(tmp_path / "out", "photos")}
    assert {path: row["change"] for path, row in photos.items()} == {
        "added.jpg": "added",
        "contents.jpg": "contents",
        "gone.jpg": "gone",
        "renamed.jpg": "renamed",
        "status.jpg": "status",
        "swapped.jpg": "faces",
    }
    assert {path: row["path_a"] for path, row in photos.items() if row["path_a"]} == {"renamed.jpg": "was.jpg"}
    assert (photos["status.jpg"]["status_a"], photos["status.jpg"]["reason_b"]) == ("scored", "no_face_found")
    faces = {(row["path"], row["face_a"], row["face_b"]): row for row in table(tmp_path / "out", "faces")}
    moved = faces["style.jpg", 0, 0]
    assert (moved["change"], moved["style_a"], moved["style_b"], moved["overlap"]) == ("style", "Casual", "Formal", 1.0)
    assert faces["swapped.jpg", None, 2]["change"] == "added"
    assert faces["items.jpg", 0, 0]["overlap"] == pytest.approx(2 / 3)
    assert [row for row in faces if row[0] == "same.jpg"] == []
    changed = {
        (row["path"], row["item_id"]): (row["change"], row["rank_a"], row["rank_b"])
        for row in table(tmp_path / "out", "items")
    }
    assert changed == {
        ("items.jpg", "i/1"): ("moved", 1, 2),
        ("items.jpg", "i/2"): ("moved", 2, 1),
        ("items.jpg", "i/3"): ("gone", 3, None),
        ("items.jpg", "i/9"): ("new", None, 3),
    }


def test_attributes_tell_how_far_they_moved_and_which_way(tmp_path):
    photos = [photo_row(f"{number}.jpg") for number in range(4)]
    before = [face_row(photo, Smiling=0.4, Young=0.9) for photo in photos]
    after = [
        face_row(photo, Smiling=value, Young=0.9) for photo, value in zip(photos, (0.6, 0.7, 0.4, 0.3), strict=True)
    ]
    run_a, run_b = finished(tmp_path / "a", photos, before, []), finished(tmp_path / "b", photos, after, [])
    comparison = compare(run_a, run_b, tmp_path / "out")
    first = comparison.figures["attributes"][0]
    assert first["attribute"] == "Smiling"
    assert first["mean_shift"] == pytest.approx(0.1, abs=1e-5)
    assert first["mean_size"] == pytest.approx(0.15, abs=1e-5)
    assert first["largest"] == pytest.approx(0.3, abs=1e-5)
    assert (first["became_likely"], first["became_unlikely"]) == (2, 0)
    assert table(tmp_path / "out", "attributes")[0] == first
    assert "Smiling" in "\n".join(comparison.lines())
    # Neither style nor items moved, so no face is a change.
    assert table(tmp_path / "out", "faces") == []


def test_equal_runs_have_no_change_and_equal_comparisons_equal_bytes(tmp_path):
    run_a, run_b = two_nights(tmp_path)
    same = compare(run_a, run_a).figures
    assert same["differing"] == []
    assert sum(same["photos"].values()) == same["photos"]["same"] == 8
    assert same["faces"] == {"in_both": 9, "style_moved": 0, "items_changed": 0, "added": 0, "gone": 0}
    assert same["items"]["overlap"] == 1
    for name in ("one", "two"):
        compare(run_a, run_b, tmp_path / name)
    files = [path.relative_to(tmp_path / "one") for path in sorted((tmp_path / "one").rglob("*")) if path.is_file()]
    assert len(files) > 10
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


def test_photos_of_equal_contents_are_renamed_one_to_one_and_never_where_their_path_stayed(tmp_path):
    contents = "c" * 32
    rows = lambda *paths: [{**photo_row(path), "photo_id": contents} for path in paths]  # noqa: E731
    before, after = rows("a/1.jpg", "a/2.jpg", "stays.jpg"), rows("b/1.jpg", "stays.jpg")
    run_a = finished(tmp_path / "a", before, [face_row(photo) for photo in before], [])
    run_b = finished(tmp_path / "b", after, [face_row(photo, style="Formal") for photo in after], [])
    figures = compare(run_a, run_b, tmp_path / "out").figures
    there = {"same": 1, "renamed": 1, "gone": 1}
    assert {change: number for change, number in figures["photos"].items() if number} == there
    photos = {row["path"]: (row["change"], row["path_a"]) for row in table(tmp_path / "out", "photos")}
    assert photos == {"a/2.jpg": ("gone", None), "b/1.jpg": ("renamed", "a/1.jpg")}
    faces = {row["path"]: row["change"] for row in table(tmp_path / "out", "faces")}
    assert faces == {"a/2.jpg": "gone", "b/1.jpg": "style", "stays.jpg": "style"}
    back = compare(run_b, run_a).figures["photos"]
    assert (back["renamed"], back["added"], back["gone"]) == (1, 1, 0)


def test_runs_without_photos_compare(tmp_path):
    run_a, run_b = finished(tmp_path / "a", [], [], []), finished(tmp_path / "b", [photo_row("x.jpg", 0)], [], [])
    comparison = compare(run_a, run_b, tmp_path / "out")
    assert (comparison.figures["photos"]["added"], comparison.figures["attributes"]) == (1, [])
    assert comparison.lines()


def test_the_command_prints_replaces_its_own_and_refuses_what_is_not(tmp_path):
    run_a, run_b = two_nights(tmp_path)
    out = tmp_path / "out"
    for _ in range(2):
        done = call("compare", run_a, run_b, "--out", out)
        assert done.code == 0, done.err
    assert "Casual -> Formal" in done.out
    assert json.loads((out / "changes.json").read_text())["photos"]["added"] == 1
    assert call("compare", run_a, run_b).out.splitlines()[:-1] == done.out.splitlines()[:-2]
    assert call("compare", run_a, tmp_path).code == 2
    assert "not a finished run" in call("compare", run_a, tmp_path).sentence
    predicted = tmp_path / "predicted"
    (predicted / "predictions").mkdir(parents=True)
    shutil.copy(run_a / "manifest.json", predicted)
    manifest = json.loads((predicted / "manifest.json").read_text())
    (predicted / "manifest.json").write_text(json.dumps(manifest | {"settings": {"command": "predict"}}))
    assert "is a run of predict, which has neither styles nor items" in call("compare", run_a, predicted).sentence
    (out / "mine.txt").write_text("keep me")
    refused = call("compare", run_a, run_b, "--out", out)
    assert refused.code == 2
    assert "mine.txt" in refused.sentence
    shutil.rmtree(run_b / "faces")
    assert call("compare", run_a, run_b).code in (2, 3)


def test_a_damaged_page_of_a_table_is_told_in_a_sentence(tmp_path):
    run_a, run_b = two_nights(tmp_path)
    file = run_b / "recommendations" / "part-00000.parquet"
    content = bytearray(file.read_bytes())
    content[4:400] = bytes(255 - byte for byte in content[4:400])  # behind the magic bytes; the footer stays
    file.write_bytes(content)
    done = call("compare", run_a, run_b, "--out", tmp_path / "out")
    assert done.code == 2
    assert f"{run_b} could not be compared" in done.sentence
    assert not (tmp_path / "out").exists()


def test_a_flipped_bit_of_a_table_is_no_difference(tmp_path):
    run_a, run_b = two_nights(tmp_path)
    file = run_b / "faces" / "part-00000.parquet"
    pq.write_table(pq.ParquetFile(file).read(), file, write_page_checksum=True)  # as ShardWriter writes
    assert call("compare", run_a, run_b).code == 0
    flip(file, "width")
    done = call("compare", run_a, run_b)
    assert (done.code, f"could not be compared: {file} is damaged: " in done.sentence) == (2, True)
    assert "again" in done.sentence


@pytest.mark.parametrize(
    "within", ["manifest.json", "photos", "faces/part-00000.parquet", "recommendations/part-00001.parquet", "report"]
)
def test_nothing_is_read_through_a_link_in_a_run(tmp_path, within):
    run_a, run_b = two_nights(tmp_path)
    write_gallery(run_b, item_picture=item_picture, title="B")
    outside, link = tmp_path / "outside", run_b / within
    if link.exists():
        link.rename(outside)
    else:  # a shard more, as whoever adds one would
        shutil.copyfile(link.with_name("part-00000.parquet"), outside)
    link.symlink_to(outside)
    for runs in ((run_a, run_b), (run_b, run_a)):
        refused = call("compare", *runs, "--out", tmp_path / "out")
        assert refused.code == 2
        assert f"{link} is a symbolic link" in refused.sentence
    assert not (tmp_path / "out").exists()


def test_a_run_itself_may_be_a_link(tmp_path):
    run_a, run_b = two_nights(tmp_path)
    (tmp_path / "latest").symlink_to("b")
    assert compare(run_a, tmp_path / "latest").figures["photos"] == compare(run_a, run_b).figures["photos"]


@pytest.mark.slow
def test_its_page_shows_changes_filters_and_has_no_serious_fault(tmp_path, request):
    program = require_chromium()
    run_a, run_b = two_nights(tmp_path)
    thumbnail = base64.b64encode(make_thumbnail(np.zeros((80, 40, 3), np.uint8))).decode()
    write_gallery(run_b, item_picture=item_picture, title="B", thumbnails={"style.jpg": thumbnail}.get)
    compare(run_a, run_b, tmp_path / "out")
    index = tmp_path / "out" / "report" / "index.html"
    with Browser(program, tmp_path / "profile") as browser:
        page = browser.open(index.as_uri())
        page.ready("list")
        assert page.texts("#counts strong") == ["1", "1", "1", "1", "1", "1", "3", "3", "1", "1"]
        assert len(page.texts(".change")) == 14
        page.go("kind=photo renamed", "list")
        assert "was was.jpg" in " ".join(page.texts(".change")[0].split())
        page.go("kind=face style", "list")
        assert [" ".join(text.split()) for text in page.texts(".change h3")] == ["style.jpg"]
        assert "Casual" in page.texts(".change")[0]
        assert "Formal" in page.texts(".change")[0]
        assert page.evaluate("document.querySelector('.change img').naturalWidth") == 40
        page.evaluate("document.querySelector('#matrix button').click(), 0")
        page.wait("location.hash.includes('from=Casual&to=Formal')")
        page.go("q=ITEMS", "list")
        assert page.texts(".ranks li")[0].startswith("2 \u2192 1")
        page.wait("document.querySelector('.ranks img').naturalWidth === 28")
        page.go("q=nowhere", "list")
        assert page.texts("#empty") == ["No change matches."]
        assert page.errors == []
        folder = index.parent.as_uri()
        assert [url for url in page.requests if not url.startswith(folder)] == []
        axe = request.getfixturevalue("axe")
        for width_px, dark in ((1280, False), (390, True)):
            page = browser.open(index.as_uri(), width_px=width_px, dark=dark)
            page.ready("list")
            assert axe(page) == []
            assert page.evaluate("document.documentElement.scrollWidth") <= width_px
        shutil.rmtree(run_b / "report")
        compare(run_a, run_b, tmp_path / "out")
        page = browser.open(index.as_uri())
        page.ready("list")
        categories = {row["category"] for row in table(run_a, "recommendations/part-00000")}
        assert set(page.texts(".ranks .unseen")) == categories  # no gallery, no pictures: an empty square says nothing


def test_arrows_turn_the_page_from_wherever_the_address_leads(tmp_path):
    program = require_chromium()
    run_a = finished(tmp_path / "a", [photo_row(f"{number:03d}.jpg", 0) for number in range(150)], [], [])
    compare(run_a, finished(tmp_path / "b", [], [], []), tmp_path / "out")
    with Browser(program, tmp_path / "profile") as browser:
        page = browser.open((tmp_path / "out" / "report" / "index.html").as_uri() + "#page=99")
        page.ready("list 3")
        page.press("ArrowLeft", shift=True)  # as whoever selects text does
        page.press("ArrowLeft")
        page.wait("location.hash.includes('page=2')")
        page.ready("list 2")
        page.press("ArrowRight")
        page.ready("list 3")


def test_hostile_names_stay_text(tmp_path):
    photos = [photo_row(name) for name in HOSTILE_NAMES]
    faces = [face_row(photo, style=photo["path"]) for photo in photos]
    items = [item_row(photo, item_id=photo["path"], category=photo["path"]) for photo in photos]
    run_a = finished(tmp_path / "a", photos, faces, items)
    run_b = finished(tmp_path / "b", photos, [{**face, "style": "x"} for face in faces], items)
    comparison = compare(run_a, run_b, tmp_path / "out")
    assert all(line.isprintable() for line in comparison.lines())
    for data in (tmp_path / "out" / "report" / "data").iterdir():
        assert not {*"<>&"} & {*data.read_text("ascii")}
