"""``catalog add`` and ``catalog remove``: a shop whose items come and go, against one that was built of all at once."""

import json
import re
import shutil
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY
from program import DEFAULT_INDEX, EXAMPLES, call, digests, rows, scored
from test_catalog_build import build, pictures, write_table  # noqa: F401 - a fixture

from stylematch.pipelines.indexing.equal_columns import with_equal_columns
from stylematch.report.item_pictures import ItemPictures
from stylematch.search.directory import load_index_directory

FIRST = [
    *(f"sku-{n},{n:03d}.png,{'Jeans' if n % 2 else ''},{10 * n},{'Female' if n < 3 else ''}" for n in range(6)),
    "gone,none.png,Robes,1,Men",
]
SECOND = [
    *(f"sku-{n},{n:03d}.png,{'Robes' if n % 2 else ''},{10 * n}.5," for n in range(6, 12)),
    "half,half.jpg,Robes,1,Men",
    "sku-6,000.png,Robes,1,Men",
]


def add(source, index, *options):
    inline = ("--workers", 1, "--photo-timeout-s", 0)
    return call("catalog", "add", source, "--index", index, "--device", "cpu", *inline, *options)


def remove(index, tmp_path, ids, *options):
    (tmp_path / "ids.txt").write_text("\n".join(ids))
    return call("catalog", "remove", "--index", index, "--ids", tmp_path / "ids.txt", *options)


def told(catalog):
    return json.loads((catalog / "catalog.json").read_text())


@pytest.fixture(scope="module")
def half(pictures, tmp_path_factory):  # noqa: F811
    """A shop of the first six items."""
    out = tmp_path_factory.mktemp("half") / "shop"
    table = write_table(pictures / "first.csv", FIRST)
    assert build(table, out, "--workers", 1).code == 0
    return out


@pytest.fixture
def shop(half, tmp_path):
    return shutil.copytree(half, tmp_path / "shop")


@pytest.fixture(scope="module")
def grown(half, pictures, tmp_path_factory):  # noqa: F811
    """The same with the other six added."""
    shop = shutil.copytree(half, tmp_path_factory.mktemp("grown") / "shop")
    result = add(write_table(pictures / "second.csv", SECOND), shop)
    assert result.code == 0, result.err
    assert "8 rows: 6 items, 2 rejected" in result.out
    assert "6 added; 12 vectors now" in result.out
    assert [path.name for path in shop.parent.iterdir()] == ["shop"]
    return shop


@pytest.fixture(scope="module")
def whole(pictures, tmp_path_factory):  # noqa: F811
    out = tmp_path_factory.mktemp("whole") / "shop"
    assert build(write_table(pictures / "whole.csv", [*FIRST, *SECOND]), out, "--workers", 1).code == 0
    return out


def test_a_half_added_is_the_whole_built(grown, whole, tmp_path):
    tables = [pq.read_table(shop / "items" / "rows.parquet") for shop in (grown, whole)]
    assert tables[0].equals(tables[1])  # with the types: a price of 10 and one of 60.5 are both numbers of one column
    assert (grown / "items" / "index.faiss").read_bytes() == (whole / "items" / "index.faiss").read_bytes()
    assert digests(grown / "garments") == digests(whole / "garments")
    assert (grown / "pictures.parquet").read_bytes() == (whole / "pictures.parquet").read_bytes()
    found, expected = told(grown), told(whole)
    assert found["sources"] == ["first.csv", "second.csv"]
    assert found["rows"] == found["items"] + sum(found["rejected"].values()) == 15
    assert {k: v for k, v in found.items() if k not in ("sources", "files")} == {
        k: v for k, v in expected.items() if k not in ("sources", "files")
    }
    listed, at_once = (pq.read_table(shop / "rejected.parquet") for shop in (grown, whole))
    assert listed["source"].to_pylist() == ["first.csv", "second.csv", "second.csv"]
    assert listed.drop_columns(["source", "row"]).equals(at_once.drop_columns(["source", "row"]))
    recommended = [
        rows(scored(EXAMPLES / "astronaut.jpg", tmp_path / name, "--index", shop), "recommendations")
        for name, shop in (("grown", grown), ("whole", whole))
    ]
    for row in (row for table in recommended for row in table):
        del row["run_id"]  # it names the index's sources
    assert recommended[0] == recommended[1]
    assert recommended[0]


def test_what_comes_is_found_and_what_goes_is_not(grown, tmp_path):
    shop = shutil.copytree(grown, tmp_path / "shop")
    gone = [f"sku-{n}" for n in range(6, 10)]
    result = remove(shop, tmp_path, gone)
    assert result.code == 0, result.err
    assert "4 removed; 8 vectors now" in result.out
    assert told(shop)["items"] == 8
    assert told(shop)["files"] == json.loads((shop / "items" / "infos.json").read_text())["files"]
    pictures_left = ItemPictures(shop / "pictures.parquet")
    assert pictures_left("sku-7") is None
    assert pictures_left("sku-11").shape == (115, 128, 3)
    found = {
        row["item_id"]
        for row in rows(
            scored(EXAMPLES / "astronaut.jpg", tmp_path / "out", "--index", shop, "--top-k", 8), "recommendations"
        )
    }
    assert found == {*(f"sku-{n}" for n in range(6)), "sku-10", "sku-11"}


def test_an_item_that_is_there_is_updated(shop, pictures, tmp_path):  # noqa: F811
    before = {row["id"]: row for row in pq.read_table(shop / "items" / "rows.parquet").to_pylist()}
    lines = ["sku-1,007.png,Robes,99,,blue", "sku-2,none.png,Robes,1,,", "sku-20,008.png,,5,Men,red"]
    table = write_table(tmp_path / "news.csv", lines, "item_id,image,category,PRICE,gender,fabric")
    result = add(table, shop, "--images", pictures)
    assert result.code == 0, result.err
    assert "1 added, 1 updated; 7 vectors now" in result.out
    after = {row["id"]: row for row in pq.read_table(shop / "items" / "rows.parquet").to_pylist()}
    assert list(after) == [*before, "sku-20"]
    assert (after["sku-1"]["category"], after["sku-1"]["price"], after["sku-1"]["fabric"]) == ("Robes", 99, "blue")
    assert after["sku-1"]["picture"] != before["sku-1"]["picture"]
    for name in ("sku-0", "sku-2"):  # one untouched, one whose new row gives no item
        assert after[name] == before[name] | {"fabric": None}
    index = load_index_directory(shop / "items").index
    fresh = load_index_directory(DEFAULT_INDEX / "items").index
    assert index.dim == fresh.dim
    assert int(index.search(index.vectors([1]), 1).positions[0, 0]) == 1
    assert (told(shop)["items"], told(shop)["rejected"]) == (7, {"missing_picture": 2})
    # The same table again, mended: its own rejected rows are listed no more, the first table's still are.
    lines[1] = "sku-2,009.png,Robes,1,,"
    assert add(write_table(tmp_path / "news.csv", lines, "item_id,image,category,PRICE,gender,fabric"), shop,
               "--images", pictures).code == 0  # fmt: skip
    assert pq.read_table(shop / "rejected.parquet")["item_id"].to_pylist() == ["gone"]


def test_columns_are_told_once_however_they_are_spelled(shop, pictures, tmp_path):  # noqa: F811
    before = told(shop)["given"]
    for number, name in enumerate(("Size", "size", "SIZE")):
        table = write_table(tmp_path / f"{number}.csv", [f"new-{number},00{number}.png,4"], f"item_id,image,{name}")
        assert add(table, shop, "--images", pictures).code == 0
    assert told(shop)["given"] == [*before, "Size"]
    assert {*told(shop)["given"]} <= {*pq.read_schema(shop / "items" / "rows.parquet").names}


def test_a_mistake_changes_nothing(shop, pictures, tmp_path):  # noqa: F811
    table = write_table(tmp_path / "bad.csv", ["a,none.png"], "item_id,image")
    (tmp_path / "empty").mkdir()
    before = digests(shop)
    ids = tmp_path / "ids.txt"
    ids.write_text("nobody")
    for result, said in (
        (add(table, shop), "None of the 1 rows"),
        (add(tmp_path / "absent.csv", shop), "absent.csv"),
        (add(pictures / "first.csv", tmp_path / "empty"), "is not a catalogue"),
        (add(pictures / "first.csv", DEFAULT_INDEX), "is not a catalogue"),
        (remove(shop, tmp_path, ["nobody"]), "'nobody'"),
        (call("index", "remove", shop / "items", "--ids", ids), "catalog remove --index"),
        (call("index", "add", shop / "items", tmp_path), "catalog add ITEMS --index"),
    ):
        assert result.code == 2, result
        assert said in result.sentence
        assert digests(shop) == before
    assert remove(shop, tmp_path, ["nobody", "sku-0"], "--missing-ok").code == 0
    assert told(shop)["items"] == 5


def test_the_reference_says_what_is_in_these_files(grown):
    page = (REPOSITORY / "docs" / "reference" / "shards.md").read_text(encoding="utf-8")

    def told_of(heading):
        section = page.split(f"### {heading}", 1)[1].split("\n#")[0]
        return re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.MULTILINE)

    for heading, name in (("`pictures.parquet`", "pictures"), ("`rejected.parquet`", "rejected")):
        schema = pq.read_schema(grown / f"{name}.parquet")
        assert told_of(heading) == [(field.name, str(field.type)) for field in schema]
    assert [key for key, _ in told_of("`catalog.json`")] == list(told(grown))
    schema = pq.read_schema(grown / "items" / "rows.parquet")
    expected = {field.name: str(field.type) for field in schema if field.name not in ("price", "picture")}
    items = dict(told_of("`part-*.parquet` of items"))
    assert {name: kind for name, kind in items.items() if name not in ("embedding", "picture")} == expected


def test_columns_of_two_types_become_one_that_holds_both():
    first = pa.table({"id": ["a"], "n": [1], "Mixed": [1], "only": ["x"], "picture": [b"p"]})
    second = pa.table({"id": ["b"], "n": [2.5], "mixed": ["x"], "new": [True], "picture": [b"q"]})
    one, two = with_equal_columns(first, second)
    assert one.schema == two.schema
    assert pa.concat_tables([one, two]).to_pylist() == [
        {"id": "a", "n": 1.0, "Mixed": "1", "only": "x", "new": None, "picture": b"p"},
        {"id": "b", "n": 2.5, "Mixed": "x", "only": None, "new": True, "picture": b"q"},
    ]


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        (pa.array([2**63], pa.uint64()), pa.array([-1], pa.int64()), [str(2**63), "-1"]),
        (pa.array([5], pa.uint64()), pa.array([-1], pa.int64()), [5, -1]),
        (pa.array([2**53 + 1]), pa.array([0.5]), [str(2**53 + 1), "0.5"]),
        (pa.array([2**53 + 1]), pa.array([Decimal("0.5")]), [str(2**53 + 1), "0.5"]),
        (pa.array([2**53]), pa.array([Decimal("0.5")]), [2.0**53, 0.5]),
        (pa.array([Decimal("12345678901234567.89")]), pa.array([0.5]), ["12345678901234567.89", "0.5"]),
        (pa.array([0.1], pa.float32()), pa.array([0.5]), [float(np.float32(0.1)), 0.5]),
        (pa.array([Decimal("19.90")], pa.decimal128(8, 2)), pa.array([0.07]), [19.9, 0.07]),
        (pa.array([Decimal("19.90")], pa.decimal128(8, 2)), pa.array([Decimal("5.5")]), [19.9, 5.5]),
    ],
)
def test_no_cell_is_changed_by_a_column_of_two_types(first, second, together):
    one, two = with_equal_columns(pa.table({"n": first}), pa.table({"n": second}))
    assert pa.concat_tables([one, two])["n"].to_pylist() == together
