"""``catalog update``, and what a catalogue remembers of its table: nights of a shop's stock and prices."""

import errno
import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from program import call, digests
from test_catalog_build import build, pictures, write_table  # noqa: F401 - a fixture
from test_catalog_change import add, told

from stylematch.data.item_cells import ItemReading
from stylematch.data.item_updates import read_updates
from stylematch.pipelines.indexing.index_rows import with_new_cells
from stylematch.search.directory import load_index_directory

LINES = [
    *(f"sku-{n},{n:03d}.png,{'Jeans' * (n % 2)},Item {n},{10 * n},{'Kerle' * (n < 3)},5" for n in range(6)),
    "gone,none.png,Robes,Gone,1,Kerle,0",
]
HEADER = "sku,image,kind,name,price,sex,stock"
MAPPED = ("--column", "item_id=sku", "--column", "category=kind", "--column", "title=name", "--column", "gender=sex",
          "--value", "gender:Kerle=Men")  # fmt: skip
CELLS = ("category", "title", "price", "gender", "gender_probability", "stock")


def update(catalog, table, *options):
    return call("catalog", "update", catalog, table, *options)


def items(catalog):
    return {row["id"]: row for row in pq.read_table(catalog / "items" / "rows.parquet").to_pylist()}


def cells(row, *names):
    return tuple(row[name] for name in names or CELLS)


@pytest.fixture(scope="module")
def built(pictures, tmp_path_factory):  # noqa: F811
    out = tmp_path_factory.mktemp("mapped") / "shop"
    result = build(write_table(pictures / "mapped.csv", LINES, HEADER), out, "--workers", 1, *MAPPED)
    assert result.code == 0, result.err
    return out


@pytest.fixture
def shop(built, tmp_path):
    return shutil.copytree(built, tmp_path / "shop")


def test_only_the_cells_that_are_given_change(built, shop, tmp_path):
    before, infos = items(shop), json.loads((shop / "items" / "infos.json").read_text())
    lines = ["sku-1;7,50;19;girls;a.jpg", "sku-4;;0;;", "sku-4;1;1;;", ";3;3;;", "sku-5;soon;N/A;Kerle;"]
    table = write_table(tmp_path / "stock.csv", lines, "SKU;price;stock;sex;image")
    result = update(shop, table, "--column", "item_id=SKU")
    assert result.code == 0, result.err
    assert result.out.splitlines() == [
        "5 rows: 3 of 6 items updated",
        "new values in: price, gender, stock; all other columns stay",
        "rows left out: no_id 1, duplicate_id 1",
        "columns not taken: image (catalog add reads pictures)",
        "price: 1 cell is no number, e.g. line 6 'soon'",
    ]
    after = items(shop)
    assert list(after) == list(before)
    new = {"sku-1": {"price": 7.5, "stock": 19, "gender": "Girls", "gender_probability": None}, "sku-4": {"stock": 0},
           "sku-5": {"gender": "Men", "gender_probability": None}}  # fmt: skip
    for name, row in before.items():
        assert after[name] == row | new.get(name, {})
    assert before["sku-5"]["gender_probability"] > 0
    was, now = digests(built), digests(shop)
    assert {name for name in was if was[name] != now[name]} == {
        "items/rows.parquet",
        "items/infos.json",
        "catalog.json",
    }
    assert was.keys() == now.keys()
    now = json.loads((shop / "items" / "infos.json").read_text())
    assert {key for key in infos if infos[key] != now[key]} == {"files"}
    assert now["files"]["index.faiss"] == infos["files"]["index.faiss"]
    assert load_index_directory(shop / "items").rows.num_rows == 6
    assert told(shop)["files"] == now["files"]
    assert told(shop)["predicted"]["gender"] == 2
    assert {path.name for path in tmp_path.iterdir()} == {"shop", "stock.csv"}


def test_an_update_of_all_cells_is_the_catalogue_built_of_them(built, pictures, tmp_path):  # noqa: F811
    changed = [re.sub(r",(\d+),(Kerle)?,5$", r",\1.25,Women,7", line) for line in LINES]
    whole = build(write_table(pictures / "mapped.csv", changed, HEADER), tmp_path / "whole", "--workers", 1, *MAPPED)
    write_table(pictures / "mapped.csv", LINES, HEADER)
    assert whole.code == 0, whole.err
    for name in ("one", "two"):
        shop = shutil.copytree(built, tmp_path / name)
        table = write_table(tmp_path / "all.csv", [line.replace(".png", "") for line in changed[:6]], HEADER)
        assert update(shop, table).code == 0
        rows = [pq.read_table(folder / "items" / "rows.parquet") for folder in (shop, tmp_path / "whole")]
        assert rows[0].equals(rows[1])
        assert {**told(shop), "files": {}} == {**told(tmp_path / "whole"), "files": {}}
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    # As a build compresses it, too.
    assert digests(tmp_path / "one" / "items") == digests(tmp_path / "whole" / "items")


KEPT = ("pictures.parquet", "items/index.faiss", "garments/weights.safetensors")


def test_what_stays_is_not_written_again(shop, tmp_path):
    before = [(shop / name).stat().st_ino for name in KEPT]
    assert update(shop, write_table(tmp_path / "stock.csv", ["sku-1,3"], "sku,stock")).code == 0
    assert [(shop / name).stat().st_ino for name in KEPT] == before
    # A link to a file that is somebody else's becomes a file of the catalogue.
    (shop / KEPT[0]).rename(tmp_path / "elsewhere")
    (shop / KEPT[0]).symlink_to(tmp_path / "elsewhere")
    assert update(shop, write_table(tmp_path / "stock.csv", ["sku-1,4"], "sku,stock")).code == 0
    assert not (shop / KEPT[0]).is_symlink()
    assert (shop / KEPT[0]).stat().st_ino != before[0]
    assert (shop / KEPT[0]).read_bytes() == (tmp_path / "elsewhere").read_bytes()


def test_where_a_file_has_one_name_alone_what_stays_is_copied(built, shop, tmp_path, monkeypatch):
    def refused(new, old):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("pathlib.Path.hardlink_to", refused)
    assert update(shop, write_table(tmp_path / "stock.csv", ["sku-1,3"], "sku,stock")).code == 0
    assert [(shop / name).read_bytes() for name in KEPT] == [(built / name).read_bytes() for name in KEPT]


def test_ids_that_are_not_there_are_refused_or_counted(shop, tmp_path):
    table = write_table(tmp_path / "stock.csv", ["sku-1,3", *(f"new-{n},1" for n in range(7))], "sku,stock")
    before = digests(shop)
    result = update(shop, table)
    assert result.code == 2
    assert "7 of 8 ids are not in" in result.sentence
    assert "'new-0', 'new-1'" in result.sentence
    assert "--missing-ok" in result.sentence
    assert digests(shop) == before
    result = update(shop, table, "--missing-ok")
    assert result.code == 0, result.err
    assert result.out.startswith(
        "8 rows: 1 of 6 items updated, 7 not there: 'new-0', 'new-1', 'new-2', 'new-3', 'new-4', "
    )
    assert items(shop)["sku-1"]["stock"] == 3
    before = digests(shop)
    write_table(table, ["new-1,3"], "sku,stock")
    result = update(shop, table, "--missing-ok")
    assert (result.code, digests(shop)) == (0, before)
    assert "nothing to change" in result.out


def test_new_columns_and_other_types(built, shop, tmp_path):
    table = tmp_path / "more.parquet"
    columns = {"ID": ["sku-0", "sku-1"], "STOCK": [1.5, None], "material": ["wool", None], "sizes": [["S"], []],
               "gender_probability": [1.0, 1.0], "usage": ["Party", "none"]}  # fmt: skip
    pq.write_table(pa.table(columns), table)
    result = update(shop, table)
    assert result.code == 0, result.err
    assert "columns not taken: sizes (list" in result.out
    assert "gender_probability (the index has a column of this name)" in result.out
    after = items(shop)
    assert [row["stock"] for row in after.values()] == [1.5, 5.0, 5.0, 5.0, 5.0, 5.0]
    assert [row["material"] for row in after.values()] == ["wool", *[None] * 5]
    assert cells(after["sku-0"], "usage", "usage_probability") == ("Party", None)
    assert after["sku-1"]["usage_probability"] > 0
    assert told(shop)["given"] == [*told(built)["given"], "usage", "material"]  # not STOCK, which is stock


def test_a_category_whose_name_tells_is_no_guess(shop, tmp_path):
    before = items(shop)
    table = write_table(tmp_path / "kinds.csv", ["sku-0,dress", "sku-2,Watches", "sku-4,Sonderposten"], "sku,kind")
    assert update(shop, table).code == 0
    after = items(shop)
    names = ("category", "category_predicted", "category_predicted_probability")
    assert cells(after["sku-0"], *names) == ("Dress", "Dress", None)
    assert cells(after["sku-2"], *names) == ("Watches", None, None)
    assert cells(after["sku-4"], *names) == ("Sonderposten", *cells(before["sku-4"], *names[1:]))
    assert "Sonderposten" in json.loads((shop / "items" / "infos.json").read_text())["categories"]


def test_a_mistake_changes_nothing(shop, tmp_path):
    before = digests(shop)
    stock = write_table(tmp_path / "stock.csv", ["sku-1,3"], "sku,stock")
    for catalog, table, options, said in (
        (tmp_path, stock, (), "is not a catalogue"),
        (shop, tmp_path / "absent.csv", (), "There is no table at"),
        (shop, write_table(tmp_path / "ids.csv", ["sku-1"], "sku"), (), "no column of new values"),
        (shop, write_table(tmp_path / "none.csv", [",3"], "sku,stock"), (), "no row with an id"),
        (shop, stock, ("--column", "title=nope"), "no column 'nope'"),
        (shop, stock, ("--value", "gender:x=Robes"), "'Robes' means no name"),
        (shop, stock, ("--encoding", "nope"), "--encoding nope"),
    ):
        result = update(catalog, table, *options)
        assert result.code == 2, result
        assert said in result.sentence
        assert digests(shop) == before
    rows = shop / "items" / "rows.parquet"
    rows.write_bytes(rows.read_bytes() + b"x")
    before = digests(shop)
    result = update(shop, stock)
    assert (result.code, digests(shop)) == (2, before)
    assert "is damaged" in result.sentence


def test_what_the_build_was_told_is_remembered(shop, pictures, tmp_path):  # noqa: F811
    remembered = {"item_id": "sku", "category": "kind", "title": "name", "gender": "sex"}
    assert (told(shop)["columns"], told(shop)["values"]) == (remembered, {"gender": {"Kerle": "Men"}})
    table = write_table(tmp_path / "news.csv", ["sku-7,007.png,Robes,New,7,Kerle,1"], HEADER)
    result = add(table, shop, "--images", pictures, "--value", "gender:Kerle=Boys")
    assert result.code == 0, result.err
    assert cells(items(shop)["sku-7"]) == ("Robes", "New", 7, "Boys", None, 1)
    assert add(table, shop, "--images", pictures).code == 0
    assert cells(items(shop)["sku-7"]) == ("Robes", "New", 7, "Men", None, 1)
    assert told(shop)["columns"] == remembered
    # An empty column of text is none that could turn numbers into text.
    table = write_table(tmp_path / "news.csv", ["sku-8,008.png,Robes,New,7,Kerle,"], HEADER)
    assert add(table, shop, "--images", pictures).code == 0
    assert [row["stock"] for row in items(shop).values()] == [*[5] * 6, 1, None]


def test_a_catalogue_of_before_remembers_nothing_and_a_damaged_one_is_refused(shop, tmp_path):
    path = shop / "catalog.json"
    content = told(shop)
    table = write_table(tmp_path / "stock.csv", ["sku-1,3"], "sku,stock")
    for damaged in ({"columns": []}, {"columns": {"x": "y"}}, {"values": {"gender": 1}}, {"values": {"x": {}}}):
        path.write_text(json.dumps(content | damaged))
        result = update(shop, table)
        assert result.code == 2
        assert "build the catalogue again" in result.sentence
    path.write_text(json.dumps({key: value for key, value in content.items() if key not in ("columns", "values")}))
    assert "has no column item_id" in update(shop, table).sentence
    assert update(shop, table, "--column", "item_id=sku").code == 0
    assert (told(shop)["columns"], told(shop)["values"]) == ({}, {})


def test_a_folder_of_which_most_is_missing_replaces_nothing(built, pictures, tmp_path):  # noqa: F811
    shop = shutil.copytree(built, tmp_path / "shop")
    lines = [f"sku-{n},{'' if n < 2 else 'un'}mounted/{n:03d}.png,1" for n in range(6)]
    (tmp_path / "mounted").mkdir()
    for n in range(2):
        shutil.copy(pictures / f"{n:03d}.png", tmp_path / "mounted")
    table, before = write_table(tmp_path / "items.csv", lines, "item_id,image,stock"), digests(shop)
    for result in (build(table, shop), add(table, shop)):
        assert result.code == 3, result
        assert "4 of the 6 rows of" in result.sentence
        assert "(67%), over --max-reject-share 0.5: nothing is written" in result.sentence
        assert "missing_picture 4; the first missing_picture, row 4 (sku-2, picture 'unmounted/" in result.sentence
        assert digests(shop) == before
    assert build(table, tmp_path / "none").code == 3
    assert not (tmp_path / "none").exists()
    # What can only be seen when the pictures are read counts as well.
    for n in range(2, 6):
        (tmp_path / "mounted" / f"{n:03d}.png").write_text("no picture")
    write_table(table, [line.replace("unmounted", "mounted") for line in lines], "item_id,image,stock")
    result = build(table, shop)
    assert (result.code, digests(shop)) == (3, before)
    assert "not_a_picture 4" in result.sentence
    assert build(table, shop, "--max-reject-share", 0.7).code == 0
    assert list(items(shop)) == ["sku-0", "sku-1"]


def test_options_that_are_no_pairs_are_refused(shop, tmp_path):
    for options in (
        ("--column", "sku"),
        ("--value", "gender=Men"),
        ("--value", "gender:=Men"),
        ("--value", "gender:x="),
    ):
        result = update(shop, tmp_path / "stock.csv", *options)
        assert result.code == 2
        assert "is no " in result.err


def test_many_items_are_updated_in_any_order():
    count = 200_000
    ids = pa.array([f"sku-{n}" for n in range(count)])
    numbers = np.arange(count)
    gender = pa.array(["Women"]).take(pa.array(numbers * 0))
    chance = pa.array(np.full(count, 0.5, np.float32))
    rows = pa.table({"id": ids, "category": gender, "gender": gender, "gender_probability": chance, "price": numbers})
    at = numbers[::-1].copy()
    new = pa.table({"price": numbers / 2, "gender": pa.array(["men"]).take(pa.array(numbers * 0))})
    after, changed = with_new_cells(rows, at, new, ["Dress"])
    assert changed == ["price", "gender"]
    assert after["price"].to_numpy().tolist() == (numbers[::-1] / 2).tolist()
    assert after["gender"].unique().to_pylist() == ["Men"]
    assert after["gender_probability"].null_count == count


def test_rows_of_an_update_are_told_apart_by_their_ids(tmp_path):
    table = write_table(tmp_path / "stock.csv", ["a,1", "b", "b,2", "a,3", ",4"], "id,stock")
    updates = read_updates(table, ItemReading())
    assert updates.ids.to_pylist() == ["a", "b"]
    assert updates.columns.to_pydict() == {"stock": [1, 2]}
    assert (updates.rows, updates.reasons) == (5, {"malformed_row": 1, "no_id": 1, "duplicate_id": 1})


def test_a_column_of_numbers_stays_one(shop, tmp_path):
    """Else a night's --where would fail on a stock that became text."""
    before = digests(shop)
    table = write_table(tmp_path / "stock.csv", ["sku-1,12", "sku-2,viele"], "item_id,stock")
    result = update(shop, table)
    said = "the catalogue's column 'stock' is of int64, and the table has string there"
    assert (result.code, said in result.sentence) == (2, True), result.sentence
    assert digests(shop) == before


@pytest.mark.parametrize("name", ["items/index.faiss", "items/rows.parquet", "pictures.parquet"])
def test_a_file_that_is_missing_is_named(shop, tmp_path, name):
    (shop / name).unlink()
    result = update(shop, write_table(tmp_path / "stock.csv", ["sku-1,12"], "item_id,stock"))
    assert (result.code, f"{name} cannot be read" in result.sentence) == (2, True), result.sentence
