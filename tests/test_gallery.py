"""The gallery: what it writes, and that no name gets through as code. What a browser shows: test_gallery_page."""

import base64
import filecmp
import hashlib
import json
import re
import shutil
import tracemalloc
from collections.abc import Sequence
from html.parser import HTMLParser
from importlib.resources import files
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from galleries import write_gallery
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stylematch.errors import StylematchError, UserError
from stylematch.report.chunks import write_page
from stylematch.report.finding import FindingColumns
from stylematch.report.join import read_photos
from stylematch.report.packed import GalleryPictures
from stylematch.report.page_rows import LabelledFace, NearestFaces
from stylematch.report.pictures import (
    encode_item_picture,
    item_picture_name,
    make_thumbnail,
    thumbnail_path,
)
from stylematch.tables.contract import LANDMARKS, faces_schema, photos_schema, recommendations_schema
from stylematch.tables.manifest import Stage

ATTRIBUTES = (
    "Smiling",
    "Young",
    "Eyeglasses",
    "No_Beard",
    "Bangs",
    "Wearing_Hat",
    "Male",
    "5_o_Clock_Shadow",
)
STYLES = ("Casual", "Formal", "Sunny Chic Female")
HOSTILE_NAMES = [
    "<script>document.title='owned'</script>.jpg",
    "<img src=x onerror=\"document.title='owned'\">.jpg",
    "two\nlines\tand a\x1bbell\x07.jpg",
    "\u202egpj.exe\u202c.jpg",
    "quotes ' \" ` & </script><!--.jpg",
    "line\u2028paragraph\u2029.jpg",
    "file-bytes://caf%E9.jpg",
    "javascript:alert(1)",
    "{{title}} \\u003c \\n.jpg",
]


def photo_row(path: str, faces: int = 1, *, status: str = "scored", reason: str = "ok", message=None) -> dict:
    rejected = status == "rejected"
    return {
        "path": path,
        "photo_id": None if rejected else hashlib.sha256(path.encode()).hexdigest(),
        "bytes": 12345,
        "width": None if rejected else 400,
        "height": None if rejected else 800,
        "format": None if rejected else "JPEG",
        "status": status,
        "reason": reason,
        "message": message,
        "faces": faces,
    }


def face_row(photo: dict, face: int = 0, style: str = "Casual", **changes) -> dict:
    row = dict.fromkeys((*LANDMARKS, *ATTRIBUTES, "detection_score", "style_margin", "rule_score"), 0.0)
    row |= {"path": photo["path"], "photo_id": photo["photo_id"], "face": face, "neighbour_score": 0.5}
    row |= {"lefteye_x": 150.5, "lefteye_y": 300.0}
    row |= {"x": 100.0, "y": 200.0, "width": 200.0, "height": 400.0, "Smiling": 0.9, "Young": 0.95}
    row |= {
        "style": style,
        "style_score": 0.7,
        "rule_style": style,
        "neighbour_style": style,
        "rule": "casual",
    }
    return row | {"why": f"{style} because Young is probable.", "embedding": [0.0, 0.0]} | changes


def item_row(photo: dict, face: int = 0, rank: int = 1, **changes) -> dict:
    row = {"run_id": "r", "path": photo["path"], "photo_id": photo["photo_id"], "face": face, "rank": rank}
    row |= {"item_id": f"test/{rank:05d}", "category": "Trouser", "score": 0.5, "similarity": 0.87654, "query": "worn"}
    return row | {"style": "Casual", "style_score": 0.7, "rule": "casual", "reason": "A typical Trouser."} | changes


def write_run(
    run: Path,
    photos: Sequence[dict],
    faces: Sequence[dict] = (),
    items: Sequence[dict] = (),
    shard_rows: int = 700,
) -> Path:
    """Write three tables in shards that don't break at the same photos."""
    tables = {
        "photos": (photos_schema(), photos, shard_rows),
        "faces": (faces_schema(ATTRIBUTES, 2), faces, shard_rows + 37),
        "recommendations": (recommendations_schema(), items, shard_rows + 111),
    }
    for name, (schema, rows, size) in tables.items():
        (run / name).mkdir(parents=True)
        for number, first in enumerate(range(0, max(1, len(rows)), size)):
            table = pa.Table.from_pylist(list(rows[first : first + size]), schema=schema)
            pq.write_table(table, run / name / f"part-{number:05d}.parquet")
    return run


def item_picture(item_id: str) -> np.ndarray:
    return np.full((28, 28), int(hashlib.sha256(item_id.encode()).hexdigest()[:2], 16), np.uint8)


def read_chunk(path: Path) -> dict:
    text = path.read_bytes().decode("ascii")
    assert text.startswith("stylematchPage.receive(")
    assert text.endswith(");\n")
    assert not re.search(r"[<>&]", text)
    return json.loads(text[len("stylematchPage.receive(") : -len(");\n")])


def gallery_of(run: Path, **options) -> Path:
    return write_gallery(run, **{"item_picture": item_picture, "title": "Test", **options}).parent


def small_run(run: Path) -> Path:
    photos = [
        photo_row("a.jpg", 2),
        photo_row("b.jpg", 0, status="no_face", reason="no_face_found"),
        photo_row("c.jpg", 0, status="rejected", reason="truncated", message="It ends early."),
        photo_row("d.jpg", 1),
    ]
    faces = [face_row(photos[0]), face_row(photos[0], 1, "Formal"), face_row(photos[3], 0, "Formal")]
    items = [item_row(photos[i], face, rank) for i, face in ((0, 0), (0, 1), (3, 0)) for rank in (1, 2)]
    return write_run(run, photos, faces, items)


def test_pages_carry_every_row_with_its_faces_and_items(tmp_path):
    run = small_run(tmp_path / "run")
    facts = {"title": "A shirt", "price": "12.5", "url": "https://example.org/1", "colour": "blue"}

    report = gallery_of(
        run,
        page_size=3,
        item_facts=lambda item_id: facts if item_id == "test/00001" else {},
        thumbnails={"a.jpg": "QQ==", "d.jpg": "RA=="}.get,
    )

    pages = [read_chunk(report / "data" / f"page-0000{n}.js") for n in (1, 2)]
    first, second = (page["photos"] for page in pages)
    assert [photo["path"] for photo in first + second] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert [photo["thumbnail"] for photo in first + second] == [True, False, False, True]
    pictures = [read_chunk(report / "data" / f"thumbs-0000{n}.js")["pictures"] for n in (1, 2)]
    assert pictures == [["QQ==", None, None], ["RA=="]]
    assert (first[2]["reason"], first[2]["message"]) == ("truncated", "It ends early.")
    face = first[0]["faces"][0]
    assert face["box"] == [100.0, 200.0, 200.0, 400.0]
    assert face["points"] == [150.5, 300.0, *[0.0] * 8]
    texts = pages[0]["texts"]
    assert (face["style"], face["score"], texts[face["why"]]) == ("Casual", 0.7, "Casual because Young is probable.")
    assert (face["rule_style"], face["neighbour_style"], face["neighbour_score"]) == ("Casual", "Casual", 0.5)
    assert texts[face["rule"]] == "casual"
    assert face["attributes"] == [900, 950, 0, 0, 0, 0, 0, 0]
    assert [row[1:4] for row in face["items"]] == [[0.5, 0.8765, None]] * 2
    assert [[texts[number] for number in row[4:]] for row in face["items"]] == [["worn", "A typical Trouser."]] * 2
    items = [pages[0]["items"][row[0]] for row in face["items"]]
    tile = read_chunk(report / "data" / "tiles-00001.js")["photos"][0]
    assert (tile["path"], tile["thumbnail"]) == ("a.jpg", True)
    assert tile["faces"][1] == {"box": [100.0, 200.0, 200.0, 400.0], "style": "Formal", "score": 0.7, "items": [0, 1]}
    assert [item["id"] for item in items] == ["test/00001", "test/00002"]
    assert {name: items[0][name] for name in ("title", "price", "url")} == {
        n: facts[n] for n in ("title", "price", "url")
    }
    assert not {"title", "price", "url", "colour"} & {*items[1]}
    packed = read_chunk(report / "data" / "pictures-00001.js")
    assert packed["ids"] == ["test/00001", "test/00002"]
    for item in items:
        chunk, place = item["picture"]
        assert (chunk, packed["ids"][place]) == (1, item["id"])
        with Image.open(BytesIO(base64.b64decode(packed["pictures"][place]))) as picture:
            assert np.array_equal(np.asarray(picture), item_picture(item["id"]))
        assert GalleryPictures(run).item(item["id"]) == base64.b64decode(packed["pictures"][place])
    assert GalleryPictures(run).item("test/00003") is None


def test_nearest_labelled_faces_are_those_of_each_face(tmp_path):
    photos = [photo_row("a.jpg", 2), photo_row("b.jpg", 0, status="no_face"), photo_row("c.jpg")]
    faces = [face_row(photos[k], n) for k, n in ((0, 0), (0, 1), (2, 0))]
    asked = []

    def nearest(faces):
        asked.append([(face.row["path"], face.row["face"]) for face in faces])
        known = [LabelledFace(f"{path}-{face}", "Formal", ("Young", "Unknown_Name")) for path, face in asked[-1]]
        return [NearestFaces([("Formal", 0.75), ("Casual", 0.25)], [(face, 0.5)]) for face in known]

    report = gallery_of(write_run(tmp_path / "run", photos, faces), nearest=nearest)
    page = read_chunk(report / "data" / "page-00001.js")
    described = [face for photo in page["photos"] for face in photo["faces"]]
    assert [page["labelled"][face["nearest"][0][0]]["id"] for face in described] == ["a.jpg-0", "a.jpg-1", "c.jpg-0"]
    assert page["labelled"][0] == {"id": "a.jpg-0", "style": "Formal", "shows": [ATTRIBUTES.index("Young")]}
    assert described[0]["shares"] == [["Formal", 0.75], ["Casual", 0.25]]
    assert asked == [[("a.jpg", 0), ("a.jpg", 1), ("c.jpg", 0)]]


def test_summary_index_and_timing_hold_what_filters_and_overview_need(tmp_path):
    stages = {"list": Stage(0.5, 4, "photos"), "items": Stage(1.25, 3, "faces", per_worker=True)}
    report = gallery_of(small_run(tmp_path / "run"), summary={"Run": "abc"}, stages=stages)
    summary = read_chunk(report / "data" / "summary.js")
    assert summary["counts"] == {"found": 4, "scored": 2, "no_face": 1, "rejected": 1, "faces": 3}
    assert summary["styles"] == [{"name": "Casual", "faces": 1}, {"name": "Formal", "faces": 2}]
    assert summary["facts"] == [["Run", "abc"]]
    assert (summary["index_parts"], summary["attributes"]) == (1, list(ATTRIBUTES))
    index = read_chunk(report / "data" / "index-00001.js")
    assert [index["folders"][k] + name for k, name in zip(index["folder"], index["names"], strict=True)] == [
        *("a.jpg", "b.jpg", "c.jpg", "d.jpg")
    ]
    kinds = [summary["kinds"][kind]["status"] for kind in index["kinds"]]
    assert kinds == ["scored", "no_face", "rejected", "scored"]
    assert (index["faces"], index["styles"], index["scores"]) == ([2, 0, 0, 1], [0, 1, 1], [700, 700, 700])
    smiling_and_young = 1 << ATTRIBUTES.index("Smiling") | 1 << ATTRIBUTES.index("Young")
    assert (summary["attribute_words"], index["bits"]) == (1, [smiling_and_young] * 3)
    assert summary["categories"] == [{"name": "Trouser", "faces": 3}]
    assert (index["lists"], index["items"]) == ([2, 2, 2], [0, 1] * 3)
    items = read_chunk(report / "data" / "items-00001.js")
    assert (summary["items_parts"], items["ids"], items["categories"]) == (1, ["test/00001", "test/00002"], [0, 0])
    timing = read_chunk(report / "data" / "timing.js")["stages"]
    assert timing[1] == {"name": "items", "seconds": 1.25, "items": 3, "unit": "faces", "per_worker": True}


def test_forty_attributes_take_two_words():
    columns = FindingColumns(40)
    shown = np.zeros(40, np.float32)
    shown[[0, 31, 32, 39]] = [0.5, 0.9, 1.0, 0.7]
    shown[5] = 0.49
    columns.add("x/y/z.jpg", 0, [(3, 0.4999, shown, [7])])
    chunk = columns.take()
    assert chunk["bits"] == [1 | 1 << 31, 1 | 1 << 7]
    assert (chunk["folders"], chunk["names"], chunk["scores"]) == (["x/y/"], ["z.jpg"], [499])
    assert columns.take() is None


def test_a_photo_without_numbers_is_shown_without_them(tmp_path):
    photo = photo_row("a.jpg", 1)
    face = face_row(photo, nose_x=float("nan"), style_score=float("nan"))
    report = gallery_of(write_run(tmp_path / "run", [photo], [face], [item_row(photo, similarity=None)]))
    page = read_chunk(report / "data" / "page-00001.js")
    face = page["photos"][0]["faces"][0]
    assert (face["points"][4], face["score"], face["items"][0][2]) == (None, None, None)
    assert read_chunk(report / "data" / "index-00001.js")["scores"] == [0]


def test_an_item_of_two_categories_counts_once_and_the_most_frequent_come_first(tmp_path):
    photos = [photo_row(f"{n}.jpg") for n in range(3)]
    lists = [[("rare", "Coat"), ("both", "Coat")], [("both", "Dress"), ("often", "Coat")], [("often", "Coat")]]
    items = [
        item_row(photo, rank=rank, item_id=item_id, category=category)
        for photo, listed in zip(photos, lists, strict=True)
        for rank, (item_id, category) in enumerate(listed, start=1)
    ]
    run = write_run(tmp_path / "run", photos, [face_row(photo) for photo in photos], items)
    report = gallery_of(run, item_facts=lambda item_id: {"title": "A <b>"} if item_id == "often" else {})
    summary = read_chunk(report / "data" / "summary.js")
    assert [(item["id"], item["faces"]) for item in summary["most"]] == [("both", 2), ("often", 2), ("rare", 1)]
    assert summary["items"] == 3
    assert summary["categories"] == [{"name": "Coat", "faces": 3}, {"name": "Dress", "faces": 1}]
    columns = read_chunk(report / "data" / "items-00001.js")
    assert columns["ids"] == ["rare", "both", "both", "often"]
    assert (columns["titles"], columns["categories"]) == ([None, None, None, "A <b>"], [0, 0, 1, 0])
    assert read_chunk(report / "data" / "index-00001.js")["items"] == [0, 1, 2, 3, 3]
    # A list of photos names each item once, with the place of its one picture.
    tiles = read_chunk(report / "data" / "tiles-00001.js")
    assert tiles["items"] == [
        [0, "Coat rare", 1, 0],
        [1, "Coat both", 1, 1],
        [2, "Dress both", 1, 1],
        [3, "A <b>", 1, 2],
    ]
    assert [photo["faces"][0]["items"] for photo in tiles["photos"]] == [[0, 1], [2, 3], [3]]
    assert read_chunk(report / "data" / "pictures-00001.js")["ids"] == ["rare", "both", "often"]


def test_a_list_shows_five_items_of_a_face_and_a_person_s_page_all(tmp_path):
    photo = photo_row("a.jpg")
    items = [item_row(photo, rank=rank) for rank in range(1, 8)]
    data = gallery_of(write_run(tmp_path / "run", [photo], [face_row(photo)], items)) / "data"
    assert read_chunk(data / "tiles-00001.js")["photos"][0]["faces"][0]["items"] == [0, 1, 2, 3, 4]
    assert len(read_chunk(data / "page-00001.js")["photos"][0]["faces"][0]["items"]) == 7


def test_a_picture_that_is_a_jpeg_is_kept_as_it_is(tmp_path):
    photo = photo_row("a.jpg")
    run = write_run(tmp_path / "run", [photo], [face_row(photo)], [item_row(photo)])
    jpeg = make_thumbnail(np.full((12, 9, 3), 200, np.uint8))
    gallery_of(run, item_picture=lambda item_id: jpeg)
    assert GalleryPictures(run).item("test/00001") == jpeg


def test_missing_pictures_are_said(tmp_path):
    photo = photo_row("a.jpg", 1)
    run = write_run(tmp_path / "run", [photo], [face_row(photo)], [item_row(photo)])
    report = gallery_of(run, item_picture=lambda item_id: None)
    assert read_chunk(report / "data" / "page-00001.js")["items"][0]["picture"] is None
    assert read_chunk(report / "data" / "tiles-00001.js")["items"] == [[0, "Trouser test/00001"]]


def test_an_empty_run_has_a_page(tmp_path):
    report = gallery_of(write_run(tmp_path / "run", []))
    assert read_chunk(report / "data" / "summary.js")["counts"]["found"] == 0
    assert (report / "index.html").is_file()


def test_equal_tables_give_equal_bytes_and_leftovers_go(tmp_path):
    first = gallery_of(small_run(tmp_path / "one"))
    second_run = small_run(tmp_path / "two")
    (second_run / "report" / "data").mkdir(parents=True)
    (second_run / "report" / "data" / "page-00009.js").write_text("left by a run that was killed")
    second = gallery_of(second_run)
    names = sorted(p.relative_to(first).as_posix() for p in first.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(second).as_posix() for p in second.rglob("*") if p.is_file())
    assert filecmp.cmpfiles(first, second, names, shallow=False) == (names, [], [])


@pytest.mark.parametrize("wrong", ["face without photo", "item without face", "count", "no table"])
def test_tables_that_do_not_belong_together_are_an_error(tmp_path, wrong):
    photo = photo_row("a.jpg", 2 if wrong == "count" else 1)
    faces = [face_row(photo)] + ([face_row(photo_row("zz.jpg"))] if wrong == "face without photo" else [])
    items = [item_row(photo), *([item_row(photo, face=4)] if wrong == "item without face" else [])]
    run = write_run(tmp_path / "run", [photo], faces, items)
    if wrong == "no table":
        shutil.rmtree(run / "faces")
    with pytest.raises(StylematchError, match="score again"):
        gallery_of(run)
    assert not (run / "report" / "index.html").exists()


def test_page_size_is_checked(tmp_path):
    with pytest.raises(UserError, match="page_size"):
        gallery_of(write_run(tmp_path / "run", []), page_size=0)


@settings(max_examples=40)
@given(
    names=st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=40) | st.sampled_from(HOSTILE_NAMES)),
    style=st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
)
def test_any_name_comes_back_as_it_was(tmp_path_factory, names, style):
    names = list(dict.fromkeys(names))
    photos = [photo_row(name) for name in names]
    faces = [face_row(photo, style=style, why=style) for photo in photos]
    items = [item_row(photo, item_id=photo["path"], category=style, reason=style) for photo in photos]
    run = write_run(tmp_path_factory.mktemp("run"), photos, faces, items)
    report = gallery_of(run, title=style, summary={style: style}, page_size=3)

    parts = [read_chunk(path) for path in sorted((report / "data").glob("page-*.js"))]
    shown = [photo for part in parts for photo in part["photos"]]
    assert [photo["path"] for photo in shown] == names
    items = [part["items"][photo["faces"][0]["items"][0][0]] for part in parts for photo in part["photos"]]
    assert [item["id"] for item in items] == names
    assert {photo["faces"][0]["style"] for photo in shown} <= {style}
    chunks = [read_chunk(part) for part in sorted((report / "data").glob("index-*.js"))]
    folders = [chunk["folders"][number] for chunk in chunks for number in chunk["folder"]]
    assert [a + b for a, b in zip(folders, [n for chunk in chunks for n in chunk["names"]], strict=True)] == names
    assert read_chunk(report / "data" / "summary.js")["facts"] == [[style, style]]
    # No name becomes a file's name.
    assert {path.name for path in report.iterdir()} == {"assets", "data", "index.html"}
    assert all(re.fullmatch(r"[a-z]+(-\d{5})?\.js", path.name) for path in (report / "data").iterdir())


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.heading = ""
        self._in_heading = False

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in_heading = tag == "h1"

    def handle_data(self, data):
        if self._in_heading:
            self.heading += data
            self._in_heading = False


def test_the_page_allows_only_its_own_files(tmp_path):
    title = '<script>alert(1)</script> & "more" {{title}}'
    page = (gallery_of(small_run(tmp_path / "run"), title=title) / "index.html").read_text("utf-8")
    parser = _Tags()
    parser.feed(page)
    assert parser.heading == title
    policies = [a["content"] for tag, a in parser.tags if a.get("http-equiv") == "Content-Security-Policy"]
    directives = dict(part.split(maxsplit=1) for part in policies[0].split("; "))
    assert directives.pop("default-src") == directives.pop("base-uri") == directives.pop("form-action") == "'none'"
    assert directives == dict.fromkeys(["img-src", "script-src", "style-src"], "'self' file:")
    for tag, attributes in parser.tags:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        if tag in ("script", "link", "img"):
            assert (tmp_path / "run" / "report" / (attributes.get("src") or attributes["href"])).is_file()


def test_both_pages_have_one_head(tmp_path):
    gallery, comparison = (write_page(tmp_path / name, name, "A & B").read_text() for name in ("gallery", "compare"))
    head = gallery[gallery.index("<meta charset") : gallery.index('<script src="assets/text.js"')]
    assert "Content-Security-Policy" in head
    assert "<title>A &amp; B</title>" in head
    assert head in comparison
    assert "{{" not in gallery + comparison


def test_no_shipped_asset_names_another_machine_or_inserts_html():
    for asset in (files("stylematch.report") / "page").iterdir():
        text = asset.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        text = text.replace(r"/^https?:\/\//i", "")  # what an item's address must begin with to become a link
        assert not re.search(r"https?:|//[a-z]+\.[a-z]|@import|url\(", text), asset.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|fetch\(|XMLHttp", text), (
            asset.name
        )


def test_five_thousand_photos_stream(tmp_path):
    photos = [photo_row(f"{n // 100:03d}/IMG_{n:05d}.jpg") for n in range(5000)]
    faces = [face_row(photo, style=STYLES[n % 3]) for n, photo in enumerate(photos)]
    items = [
        item_row(photo, rank=rank, item_id=f"test/{(n + rank) % 50}")
        for n, photo in enumerate(photos)
        for rank in (1, 2)
    ]
    run = write_run(tmp_path / "run", photos, faces, items)
    del photos, faces, items

    tracemalloc.start()
    kept = 0
    for photo in read_photos(run):
        kept += len(photo.faces)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert kept == 5000
    assert peak_bytes < 4e6  # a few batches take 2 MB here; all 5,000 photos at once take 17 MB

    report = gallery_of(run)
    pages = sorted((report / "data").glob("page-*.js"))
    assert len(pages) == 84
    assert max(page.stat().st_size for page in pages) < 200_000
    assert sum(path.stat().st_size for path in (report / "data").glob("index-*.js")) < 400_000
    packed = sorted((report / "data").glob("pictures-*.js"))
    assert sum(len(read_chunk(path)["ids"]) for path in packed) == 50


def test_thumbnails_are_small_upright_jpegs():
    pixels = np.random.default_rng(0).integers(0, 255, (600, 300, 3)).astype(np.uint8)
    data = make_thumbnail(pixels)
    with Image.open(BytesIO(data)) as picture:
        assert (picture.format, picture.size, picture.mode) == ("JPEG", (128, 256), "RGB")
        assert not picture.getexif()
    assert make_thumbnail(pixels[:, ::1].copy(order="F")) == data
    small = pixels[:200, :100]
    four = np.dstack([small, np.full(small.shape[:2], 7, np.uint8)])
    for same, plain in ((four[..., :3], small), (four[..., 2::-1], small[..., ::-1]), (four[::-1, :, :3], small[::-1])):
        assert make_thumbnail(same) == make_thumbnail(plain.copy())
    with Image.open(BytesIO(make_thumbnail(np.zeros((1, 5000, 3), np.uint8)))) as picture:
        assert picture.size == (256, 1)
    with Image.open(BytesIO(make_thumbnail(pixels[:20, :10]))) as picture:
        assert picture.size == (10, 20)
    with pytest.raises(ValueError, match="shape"):
        make_thumbnail(np.zeros((5, 5), np.uint8))


def test_picture_names_and_formats(tmp_path):
    with pytest.raises(ValueError, match="photo_id"):
        thumbnail_path("../../etc/passwd")
    name = hashlib.sha256(b"../x").hexdigest()[:16]
    assert item_picture_name("../x", encode_item_picture(item_picture("../x"))) == f"{name}.png"
    assert item_picture_name("../x", make_thumbnail(np.zeros((4, 4, 3), np.uint8))) == f"{name}.jpg"
    colour = np.random.default_rng(0).integers(0, 255, (30, 20, 3)).astype(np.uint8)
    with Image.open(BytesIO(encode_item_picture(colour))) as picture:
        assert np.array_equal(np.asarray(picture), colour)
