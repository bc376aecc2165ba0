"""``catalog build`` and ``score --where``: small shops of real pictures, as people keep them."""

import io
import json
import os
import shutil
import subprocess

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY
from damaged import FAULTS
from PIL import Image
from program import DEFAULT_INDEX, EXAMPLES, call, command, digests, environment, rows, score, scored

from stylematch.data.fashion_mnist import CLASSES
from stylematch.data.item_table import read_items
from stylematch.errors import UserError
from stylematch.pipelines.indexing.item_tags import category_columns
from stylematch.report.item_pictures import ItemPictures
from stylematch.report.packed import GalleryPictures
from stylematch.search.catalog import ItemCatalog
from stylematch.search.directory import load_index_directory
from stylematch.vision.bundle import Bundle
from stylematch.vision.runtime import Predictions

HEADER = "item_id,image,category,price,gender"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Twelve items of Fashion-MNIST as a shop shows them: dark on white, larger; two people; two bad files."""
    folder = tmp_path_factory.mktemp("shop") / "pictures"
    folder.mkdir()
    items = pq.read_table(DEFAULT_INDEX / "items" / "rows.parquet").slice(0, 12).to_pylist()
    for number, item in enumerate(items):
        shown = Image.frombytes("L", (28, 28), item["picture"]).point(lambda value: 255 - value).resize((140, 140))
        canvas = Image.new("RGB", (200, 180), "white")
        canvas.paste(shown, (30, 20))
        canvas.save(folder / f"{number:03d}.png")
    shutil.copy(EXAMPLES / "astronaut.jpg", folder / "person.jpg")
    shutil.copy(EXAMPLES / "truncated.jpg", folder / "half.jpg")
    (folder / "notes.jpg").write_text("no picture")
    (folder.parent / "secret.png").write_bytes((folder / "000.png").read_bytes())
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    return folder


def write_table(path, lines, header=HEADER):
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def table(pictures):
    lines = [
        f"sku-{n},{n:03d}.png,{'Jeans' if n % 2 else 'Robes'},{10 * n}.5,{'women' if n < 8 else ''}" for n in range(12)
    ]
    lines += [
        ",000.png,Robes,1,Men",
        "sku-3,000.png,Robes,1,Men",
        "gone,none.png,Robes,1,Men",
        "none,,Robes,1,Men",
        "up,../secret.png,Robes,1,Men",
        "linked,link.png,Robes,1,Men",
        "absolute,/etc/hostname,Robes,1,Men",
        "web,https://example.org/a.jpg,Robes,1,Men",
        "half,half.jpg,Robes,1,Men",
        "text,notes.jpg,Robes,1,Men",
        "short,000.png",
        '"broken"quote",000.png,Robes,1,Men',
        "",
        "person,person.jpg,T-shirt/Top,1,Men",
    ]
    return write_table(pictures / "items.csv", lines)


WHY = {
    None: "no_id",
    "sku-3": "duplicate_id",
    "gone": "missing_picture",
    "none": "no_image",
    "up": "outside_folder",
    "linked": "outside_folder",
    "absolute": "outside_folder",
    "web": "missing_picture",
    "half": "truncated",
    "text": "not_a_picture",
}


def build(source, out, *options):
    """Build in this process, unless the options say otherwise: a test has no time for one process more."""
    inline = [] if "--photo-timeout-s" in options else ["--photo-timeout-s", 0]
    return call("catalog", "build", source, "--out", out, "--device", "cpu", *inline, *options)


@pytest.fixture(scope="module")
def shop(table, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "shop"
    result = build(table, out)
    assert result.code == 0, result.err
    assert "25 rows: 13 items, 12 rejected" in result.out
    assert "outside_folder 3" in result.out
    assert "category: given for 13\n" in result.out
    assert "tags predicted where none was given: articleType 13 (the encoder's word " in result.out
    assert ", gender 4" in result.out
    return out


def test_every_row_is_an_item_or_rejected_with_its_reason(shop):
    items = pq.read_table(shop / "items" / "rows.parquet")
    assert items["id"].to_pylist() == [*(f"sku-{n}" for n in range(12)), "person"]
    rejected = pq.read_table(shop / "rejected.parquet").to_pylist()
    assert len(rejected) == 12
    malformed = [row["row"] for row in rejected if row["reason"] == "malformed_row"]
    assert malformed == [24, 25]  # lines of the file
    assert {row["item_id"]: row["reason"] for row in rejected if row["reason"] != "malformed_row"} == WHY
    assert all(row["message"] for row in rejected)
    assert [row["row"] for row in rejected] == sorted(row["row"] for row in rejected)


def test_columns_given_and_predicted(shop):
    items = pq.read_table(shop / "items" / "rows.parquet")
    assert items.schema.field("price").type == pa.float64()
    assert items["price"].to_pylist()[:3] == [0.5, 10.5, 20.5]
    given = np.array([True] * 8 + [False] * 4 + [True])
    genders = np.array(items["gender"].to_pylist())
    assert genders[given].tolist() == ["Women"] * 8 + ["Men"]  # as the rule sets spell it
    assert set(genders[~given]) <= {"Men", "Women", "Unisex", "Boys", "Girls"}
    assert [chance is None for chance in items["gender_probability"].to_pylist()] == given.tolist()
    by_id = {row["id"]: row for row in items.to_pylist()}
    assert by_id["sku-1"]["category"] == "Jeans"
    assert by_id["sku-1"]["category_predicted"] == "Trouser"  # known by its name, not guessed
    assert by_id["sku-1"]["category_predicted_probability"] is None
    assert by_id["sku-2"]["category"] == "Robes"
    assert by_id["person"]["category"] == by_id["person"]["category_predicted"] == "T-shirt/top"
    true = pq.read_table(DEFAULT_INDEX / "items" / "rows.parquet", columns=["category"])["category"].to_pylist()
    guessed = [by_id[f"sku-{n}"]["category_predicted"] for n in range(0, 12, 2)]
    assert sum(guess == kind for guess, kind in zip(guessed, true[:12:2], strict=True)) >= 4
    assert set(json.loads((shop / "items" / "infos.json").read_text())["categories"]) == {*CLASSES, "Jeans", "Robes"}


def test_what_is_given_is_told_from_what_is_predicted(pictures, tmp_path):
    lines = ["a,000.png,Jeans,Casual", "b,001.png,,Casual", "c,002.png,Robes,"]
    table = write_table(tmp_path / "items.csv", lines, "item_id,image,type,usage")
    result = build(table, tmp_path / "shop", "--images", pictures, "--column", "category=type")
    assert "\ncategory: given for 2, predicted for 1\n" in result.out
    assert "usage 1" in result.out
    bare = write_table(tmp_path / "bare.csv", ["a,000.png", "b,001.png"], "item_id,image")
    result = build(bare, tmp_path / "bare", "--images", pictures)
    assert "\ncategory: predicted for 2\n" in result.out
    assert "articleType 2, " in result.out  # no category was given that it could be taken to replace


def test_a_watch_without_a_category_is_no_bag():
    """The ten categories have nothing to call it by, whatever the head of categories makes of its picture."""
    bundle = Bundle.open(DEFAULT_INDEX / "garments")
    kinds = bundle.schema.group("articleType").labels
    said = [{"Watches": 0.97}, {"Watches": 0.5, "Socks": 0.45}, {"Watches": 0.6, "Handbags": 0.4}, {"Watches": 0.97}]
    category = np.tile(np.float32([label == "Bag" for label in CLASSES]), (4, 1))
    kind = np.float32([[row.get(label, 0) for label in kinds] for row in said])
    predictions = Predictions(np.zeros((4, 1), np.float32), {"category": category, "articleType": kind})
    columns = category_columns(bundle, predictions, [None, None, None, "Clocks"])
    assert columns["category"] == ["Watches", "Watches", "Bag", "Clocks"]
    assert columns["category_predicted"] == [None, None, "Bag", None]


def test_a_category_that_says_nothing_is_none(pictures, tmp_path):
    cells = ["", " ", "N/A", "NaN", "none", None, " Robes "]
    table = {"item_id": [f"sku-{n}" for n in range(7)], "image": [f"{n:03d}.png" for n in range(7)], "category": cells}
    pq.write_table(pa.table(table), tmp_path / "items.parquet")
    result = build(tmp_path / "items.parquet", tmp_path / "shop", "--images", pictures)
    assert "category: given for 1, predicted for 6\n" in result.out
    items = pq.read_table(tmp_path / "shop" / "items" / "rows.parquet")
    assert items["category"][6].as_py() == "Robes"
    assert set(json.loads((tmp_path / "shop" / "items" / "infos.json").read_text())["categories"]) == {
        *CLASSES,
        "Robes",
    }
    assert items["category_predicted"].null_count < 6


def test_a_colour_is_predicted_only_where_there_is_colour(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    picture = Image.new("RGB", (120, 120), "white")
    picture.paste((200, 20, 30), (30, 20, 90, 100))
    picture.save(folder / "red.png")
    for grey in ("grey.png", "grey.jpg", "given.png"):
        picture.convert("L").convert("RGB" if grey == "grey.png" else "L").save(folder / grey)
    lines = ["red,red.png,", "grey,grey.png,", "jpeg,grey.jpg,", "given,given.png,Red"]
    result = build(write_table(folder / "items.csv", lines, "id,image,baseColour"), tmp_path / "shop")
    assert result.code == 0, result.err
    assert "baseColour 1" in result.out
    items = {row["id"]: row for row in pq.read_table(tmp_path / "shop" / "items" / "rows.parquet").to_pylist()}
    assert items["red"]["baseColour"] is not None
    assert items["red"]["baseColour_probability"] > 0
    assert items["given"]["baseColour"] == "Red"
    for name in ("grey", "jpeg"):
        assert items[name]["baseColour"] is items[name]["baseColour_probability"] is None
        assert items[name]["gender"] is not None
    catalog = ItemCatalog(load_index_directory(tmp_path / "shop" / "items"))
    fits = dict(zip(catalog.item_ids, catalog.tag_fit("baseColour", ["Red"]), strict=True))
    assert (fits["grey"], fits["jpeg"], fits["given"]) == (0.5, 0.5, 1.0)


def test_equal_tables_give_equal_bytes(table, shop, tmp_path):
    for options in (("--batch-size", 3, "--workers", 1), ("--batch-size", 64)):
        assert build(table, tmp_path / "again", *options).code == 0
        assert digests(tmp_path / "again") == digests(shop)
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_it_scores_with_the_pictures_in_colour(shop, tmp_path):
    out = scored(EXAMPLES / "group.jpg", tmp_path / "out", "--index", shop, "--rules", "wardrobe", "--report")
    items = rows(out, "recommendations")
    assert len(items) == 5 * 3
    assert {row["item_id"] for row in items} <= {*(f"sku-{n}" for n in range(12)), "person"}
    assert {row["query"] for row in items} <= {"worn", "style"}
    picture = ItemPictures(shop / "pictures.parquet")
    assert picture("person").shape == (128, 128, 3)
    assert picture("nobody") is None
    gallery = GalleryPictures(out)
    shown = {row["item_id"]: gallery.item(row["item_id"]) for row in items}
    assert {Image.open(io.BytesIO(picture)).mode for picture in shown.values()} == {"RGB"}


def test_where_keeps_to_the_condition_and_names_the_run(shop, tmp_path):
    def run(name, where):
        return score(EXAMPLES / "group.jpg", tmp_path / name, "--index", shop, "--rules", "wardrobe", "--where", where)

    cheap = run("cheap", "price < 50 AND gender = 'Women'")
    assert cheap.code == 0
    assert "items that --where allows: 5\n" in cheap.out
    assert "items that --where allows: 2, fewer than --top-k 5\n" in run("two", "item_id IN ('sku-1', 'person')").out
    assert {row["item_id"] for row in rows(tmp_path / "cheap", "recommendations")} == {f"sku-{n}" for n in range(5)}
    assert run("other", "price < 40 AND gender = 'Women'").code == 0
    ids = [rows(tmp_path / name, "recommendations")[0]["run_id"] for name in ("cheap", "other")]
    assert ids[0] != ids[1]
    for where, said in (
        ("price < 0", "none of the items"),
        ("prise < 50", "prise"),
        ("price <", "cannot be read"),
        ("true) ; DROP TABLE items; (", "cannot be read"),
        ("1=1) UNION ALL SELECT 999999 WHERE (1=1", "cannot be read"),
        ("id IN (SELECT content FROM read_text('/etc/hostname'))", "cannot be read"),
    ):
        result = run("none", where)
        assert result.code == 2
        assert said in result.sentence
    assert not (tmp_path / "none").exists()


def test_a_directory_and_a_table_without_images(pictures, tmp_path):
    assert build(pictures, tmp_path / "folder").code == 0
    items = pq.read_table(tmp_path / "folder" / "items" / "rows.parquet")
    assert items["id"].to_pylist() == [*(f"{n:03d}.png" for n in range(12)), "person.jpg"]
    assert items["category"].to_pylist() == items["category_predicted"].to_pylist()
    rejected = pq.read_table(tmp_path / "folder" / "rejected.parquet")
    assert {"half.jpg", "notes.jpg"} == set(rejected["item_id"].to_pylist())
    bare = write_table(tmp_path / "bare.csv", ["001,Jeans,3", "777,Jeans,4"], "id,kind,id2")
    result = build(bare, tmp_path / "bare", "--images", pictures, "--column", "category=kind")
    assert result.code == 0, result.err
    items = pq.read_table(tmp_path / "bare" / "items" / "rows.parquet")
    assert items["id"].to_pylist() == ["001"]
    assert items["id2"].to_pylist() == [3]


def test_parquet_says_the_same_as_csv(pictures, shop, tmp_path):
    columns = {
        "item_id": [f"sku-{n}" for n in range(4)],
        "image": [f"{n:03d}.png" for n in range(4)],
        "price": [0.5, 10.5, 20.5, 30.5],
        "sizes": [["S"], ["M"], [], ["L"]],
    }
    pq.write_table(pa.table(columns), pictures / "items.parquet")
    result = build(pictures / "items.parquet", tmp_path / "out")
    (pictures / "items.parquet").unlink()
    assert result.code == 0, result.err
    assert "columns not kept: sizes" in result.out
    found, expected = (pq.read_table(f / "items" / "rows.parquet") for f in (tmp_path / "out", shop))
    assert found["picture"].to_pylist() == expected["picture"].to_pylist()[:4]
    assert found["price"].to_pylist() == expected["price"].to_pylist()[:4]


def test_mistakes_are_one_sentence_and_leave_nothing(pictures, table, tmp_path):
    open_quote = write_table(tmp_path / "open.csv", ["a,000.png,x,1,y"], '"item_id,image')
    doubled = write_table(tmp_path / "twice.csv", ["a,b"], "item_id,item_id")
    nameless = write_table(tmp_path / "nameless.csv", ["a,b"], "sku,image")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mine.txt").write_text("keep me")
    header = write_table(tmp_path / "header.csv", [], "item_id,image")
    for source, options, said in (
        (tmp_path / "absent.csv", (), "absent.csv"),
        (open_quote, (), "header"),
        (doubled, (), "twice"),
        (nameless, (), "--column item_id"),
        (header, (), "has no rows"),
        (tmp_path / "here", (), "has no pictures"),
        (table, ("--column", "item_id=nope"), "nope"),
        (table, ("--column", "colour=x"), "baseColour"),
        (table, ("--images", tmp_path), "picture '000.png'): there is no such file"),
        (table, ("--bundle", DEFAULT_INDEX / "attributes"), "category"),
    ):
        result = build(source, tmp_path / "out", *options)
        assert result.code == 2, (source, result)
        assert said in result.sentence
        assert not (tmp_path / "out").exists()
    assert build(table, tmp_path / "here").code == 2
    assert digests(tmp_path / "here").keys() == {"mine.txt"}
    assert build(table, DEFAULT_INDEX).code == 2


def test_outside_only_where_it_is_allowed(pictures, tmp_path):
    table = write_table(pictures / "out.csv", ["up,../secret.png"], "item_id,image")
    assert len(read_items(table)) == 0
    assert len(read_items(table, allow_outside=True)) == 1
    lines = [f"within,{pictures / '000.png'}", f"without,{pictures.parent / 'secret.png'}"]
    write_table(table, lines, "item_id,image")
    for options, ids in (((), ["within"]), (("--allow-outside",), ["within", "without"])):
        result = build(table, tmp_path / "shop", *options)
        assert result.code == 0, result.err
        assert pq.read_table(tmp_path / "shop" / "items" / "rows.parquet")["id"].to_pylist() == ids
    table.unlink()
    with pytest.raises(UserError, match="directory of pictures"):
        read_items(pictures, images=pictures)


@pytest.mark.slow
def test_pictures_that_hang_or_crash_are_rejected_alone(pictures, tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    faults = {name: fault for name, fault in FAULTS.items() if name.isprintable()}
    for number in range(16):
        data = (pictures / f"{number % 12:03d}.png").read_bytes()
        name = f"{number:02d}.jpg"
        (folder / name).write_bytes(data + (faults[name][0] if name in faults else b"%d" % number))
    path = os.pathsep.join([str(REPOSITORY / "tests" / "faults"), environment()["PYTHONPATH"]])
    words = ("catalog", "build", folder, "--out", tmp_path / "out", "--device", "cpu", "--photo-timeout-s", 3)
    done = subprocess.run(command(*words), env=environment(PYTHONPATH=path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "16 rows: 13 items, 3 rejected" in done.stdout
    rejected = {row["item_id"]: row for row in pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()}
    assert rejected.keys() == faults.keys()
    for name, row in rejected.items():
        assert row["reason"] == faults[name][1]
