"""Tables of items as people keep them: stray quotation marks, prices, types, names of columns."""

import codecs
import csv
import io
import re
import shutil
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stylematch.data import table_csv
from stylematch.data.item_cells import ItemReading
from stylematch.data.item_columns import name_columns
from stylematch.data.item_mapping import ItemMapping
from stylematch.data.item_numbers import only_finite, prices, typed
from stylematch.data.item_table import read_items
from stylematch.data.table_csv import read_csv
from stylematch.errors import UserError
from stylematch.search.where import positions_where

HEADER = "item_id,image,title"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.png").write_bytes(b"not looked into here")
    return tmp_path


def read(folder, lines, header=HEADER):
    (folder / "items.csv").write_text("\n".join([header, *lines]) + "\n")
    return read_items(folder / "items.csv")


@pytest.mark.parametrize("last", ['4,a.png,a "quoted" word', '4,a.png,12" wide', '4,a.png,"Bar"', "4,a.png,plain"])
def test_a_stray_quote_costs_its_own_line(folder, last):
    table = read(folder, ['1,a.png,"Nice', "2,a.png,Foo", '3,a.png,"two\nlines"', last])
    assert table.columns["item_id"].to_pylist() == ["2", "3", "4"]
    assert table.columns["title"][1].as_py() == "two\nlines"
    assert table.numbers == (3, 4, 6)
    assert [(row.row, row.reason) for row in table.rejected] == [(2, "malformed_row")]


def test_cells_that_are_too_long_are_called_that(folder):
    lines = [f"1,a.png,{'x' * 200_000}", f"2,a.png,{'x' * (table_csv.MAX_CELL_CHARACTERS + 1)}", "3,a.png,x"]
    before = csv.field_size_limit()
    table = read(folder, lines)
    assert table.numbers == (2, 4)
    assert "1,000,000 characters" in table.rejected[0].message
    assert csv.field_size_limit() == before


def test_lines_that_each_open_a_quote_are_not_read_again_and_again(folder, monkeypatch):
    monkeypatch.setattr(table_csv, "MAX_RECORD_LINES", 10)
    handed_out = 0
    following = table_csv._Lines.__next__

    def counted(lines):
        nonlocal handed_out
        handed_out += 1
        return following(lines)

    monkeypatch.setattr(table_csv._Lines, "__next__", counted)
    table = read(folder, ['a",b,"c'] * 300)  # ends the cell before and opens one
    assert len(table.rejected) == 300
    assert handed_out <= 300 * 12


CELLS = st.lists(st.sampled_from(['"', '""', ",", "a", " ", "\r", "\n", "é"]), max_size=10).map("".join)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(CELLS, max_size=12))
def test_no_line_of_a_damaged_table_is_lost(tmp_path, damaged):
    text = "\n".join([HEADER, *damaged])
    (tmp_path / "items.csv").write_bytes(text.encode())
    read_back = read_csv(tmp_path / "items.csv")
    lines = list(io.StringIO(text, newline=""))
    covered = [line for line, _ in read_back.damaged]
    for line, cells in zip(read_back.lines, read_back.rows, strict=True):
        record = ""
        while True:  # the fewest lines that say just these cells
            record += lines[line - 1]
            covered.append(line)
            line += 1
            try:
                if list(csv.reader(io.StringIO(record, newline=""), strict=True)) == [cells]:
                    break
            except csv.Error:
                assert line <= len(lines)
    empty = [number for number, line in enumerate(lines, 1) if not line.strip("\r\n")]
    assert len(covered) == len(set(covered))
    assert {*covered, *empty} >= set(range(2, len(lines) + 1))


@pytest.mark.parametrize(
    ("cells", "comma", "numbers"),
    [
        (["$19.90", "5.00", " 7 € ", "N/A", "nan", None], False, [19.9, 5.0, 7.0, None, None, None]),
        (["19,90", "1,299.00", "1,299", "EUR 3.50"], False, [19.9, 1299.0, 1299.0, 3.5]),
        (["19,90", "1.299,00", "1.299", "5.50", "1 299,5 EUR"], True, [19.9, 1299.0, 1299.0, 5.5, 1299.5]),
        (["1.299", "2"], True, [1.299, 2.0]),
        (["12", "n/a", "-3", "123456789012345678"], False, [12, None, -3, 123456789012345678]),
        (["CHF 1'299.50", "Fr. 20", "49.-", "49.\u2013 CHF", "2\u2019000"], False, [1299.5, 20.0, 49.0, 49.0, 2000.0]),
        (["49,-", "1.299,- kr.", "499 kr", "19,90 zł"], True, [49.0, 1299.0, 499.0, 19.9]),
        (["US$ 20", "Rs. 1,499", "R 99.90", "A$5", "-5"], False, [20.0, 1499.0, 99.9, 5.0, -5.0]),
        (["₹ 1,29,900", "1,00,00,000.50", "12,990"], False, [129900.0, 10000000.5, 12990.0]),
        (["19,90", "$1,299.00", "1.299,00 €", "-1,299.5"], True, [19.9, 1299.0, 1299.0, -1299.5]),
        (["19.90", "1.299,00 €", "1,299.00", "12.345.678,9"], False, [19.9, 1299.0, 1299.0, 12345678.9]),
        (["N/A"], False, [None]),
    ],
)
def test_prices_are_numbers(cells, comma, numbers):
    found, unread = prices(pa.chunked_array([pa.array(cells, pa.string())]), decimal_comma=comma)
    assert found.to_pylist() == numbers
    assert found.type in (pa.int64(), pa.float64())
    assert unread == []


def test_a_column_without_a_name_is_left_out(folder):
    table = read(folder, ["0,1,a.png,3,"], ",item_id,image,size,")
    assert table.columns.column_names == ["item_id", "image", "size"]
    assert table.left_out == ("those without a name",)


def test_what_is_no_price_is_null_and_said(folder):
    lines = ["1,a.png,$5.50", "2,a.png,N/A", "3,a.png,abc", "4,a.png,9", "5,a.png,abc", "6,a.png,$5.50"]
    table = read(folder, lines, "item_id,image,price")
    assert table.columns["price"].to_pylist() == [5.5, None, None, 9.0, None, 5.5]
    assert table.remarks == ("price: 2 cells are no numbers, e.g. line 4 'abc'",)
    assert positions_where(table.columns, "price < 50").tolist() == [0, 3, 5]
    columns = {"ID": ["1", "2"], "image": ["a.png"] * 2, "price": ["1.50", "soon"], "size": [float("nan"), 1.0]}
    pq.write_table(pa.table(columns), folder / "items.parquet")
    table = read_items(folder / "items.parquet")
    assert table.columns["item_id"].to_pylist() == ["1", "2"]
    assert table.columns["price"].to_pylist() == [1.5, None]
    assert table.columns["size"].to_pylist() == [None, 1.0]
    assert table.remarks == ("price: 1 cell is no number, e.g. row 2 'soon'",)


def test_words_that_no_rule_knows_are_kept_and_said(folder):
    lines = ["1,a.png,Kerle,navy", "2,a.png,N/A,Zinnober", "3,a.png,,red", "4,a.png,Ladies,Zinnober"]
    table = read(folder, lines, "item_id,image,gender,baseColour")
    assert table.columns["gender"].to_pylist() == ["Kerle", "N/A", None, "Ladies"]
    assert table.remarks == (
        "gender: 1 cell is no known word, e.g. line 2 'Kerle' ('Kerle' 1); unknown to rules, unless "
        "--value 'gender:Kerle=NAME' names what it means",
        "baseColour: 2 cells are no known words, e.g. line 3 'Zinnober' ('Zinnober' 2); unknown to rules, unless "
        "--value 'baseColour:Zinnober=NAME' names what it means",
    )


def test_a_column_of_pictures_that_is_not_there_is_said(folder):
    assert read(folder, ["a,x"], "item_id,img").columns["image"].to_pylist() == ["a.png"]
    row = read(folder, ["1,a.png"], "item_id,img").rejected[0]
    assert row.message == "the table has no column image, and no picture in the folder is called as the item"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("item_id,image\n1,a.png\n".encode("utf-16"), r"is in UTF-16; save it as CSV in UTF-8\.$"),
        (codecs.BOM_UTF16_BE + "item_id,image\n1,a.png\n".encode("utf-16-be"), "is in UTF-16"),
        ("item_id,image,Gr\u00f6\u00dfe\n1,a.png,M\n".encode("latin-1"), "the header, .* save the table as UTF-8"),
    ],
)
def test_a_table_of_other_characters_is_refused_with_what_to_do(folder, data, said):
    (folder / "items.csv").write_bytes(data)
    with pytest.raises(UserError, match=said):
        read_items(folder / "items.csv")


def test_a_semicolon_brings_the_decimal_comma(folder):
    table = read(folder, ["1;a.png;19,90;3", "2;a.png;5,00;N/A"], "item_id;image;price;stock")
    assert table.columns["price"].to_pylist() == [19.9, 5.0]
    assert table.columns["stock"].to_pylist() == [3, None]


def test_a_semicolon_brings_it_to_every_column_of_numbers_alone(folder):
    lines = [
        "1;a.png;19,90;1.299,50;0401234;1,2,3;1.5;9;-0,5",
        "2;a.png;5;N/A;0401235;4,5;2,5;8,25;",
        "3;a.png;;1.299;0401236;6;3;;1",
    ]
    table = read(folder, lines, "item_id;image;UVP;sum;ean;list;mixed;stock;change").columns
    assert table["UVP"].to_pylist() == [19.9, 5.0, None]
    assert table["sum"].to_pylist() == [1299.5, None, 1299.0]
    assert table["ean"].to_pylist() == ["0401234", "0401235", "0401236"]
    assert table["list"].to_pylist() == ["1,2,3", "4,5", "6"]
    assert table["mixed"].to_pylist() == ["1.5", "2,5", "3"]
    assert table["stock"].to_pylist() == [9.0, 8.25, None]
    assert table["change"].to_pylist() == [-0.5, None, 1.0]
    assert positions_where(table, "UVP < 25").tolist() == [0, 1]
    lists = read(folder, ['1,a.png,"36,38"', '2,a.png,"40,42"'], "item_id,image,sizes").columns["sizes"]
    assert lists.to_pylist() == ["36,38", "40,42"]  # commas stand between cells here, so they are no decimal sign


@given(st.lists(st.text("0123456789,.-", max_size=8), min_size=1, max_size=5))
def test_no_digit_is_lost_to_a_decimal_comma(cells):
    found = typed(pa.chunked_array([pa.array(cells)]), decimal_comma=True)
    if pa.types.is_string(found.type):
        assert found.to_pylist() == cells
    for cell, number in zip(cells, found.to_pylist(), strict=True):
        if isinstance(number, float) and "," in "".join(cells):
            assert number == float(cell.replace(".", "").replace(",", "."))
            assert not re.match("-?0[0-9]", cell)
            assert cell.count(",") < 2


def test_all_words_that_nothing_means_are_listed_the_most_frequent_first(folder):
    words = ["Kerle"] * 3 + ["Zwerge"] * 5 + ["\x1b[1m"] + [f"W{n}x" for n in range(12)]
    table = read(folder, [f"{n},a.png,{word}" for n, word in enumerate(words)], "item_id,image,gender")
    (said,) = table.remarks
    assert said.startswith(
        "gender: 21 cells are no known words, e.g. line 2 'Kerle' ('Zwerge' 5, 'Kerle' 3, '\\x1b[1m' 1"
    )
    assert "'W6x' 1, and 5 words more); " in said
    assert said.endswith("--value 'gender:Zwerge=NAME' names what it means")


def test_a_shop_s_own_words_are_mapped(folder):
    lines = ["1,a.png,Kerle,x", "2,a.png, KERLE ,y", "3,a.png,Zwerge,", "4,a.png,,Kerle"]
    (folder / "items.csv").write_text("\n".join(["item_id,image,gender,fabric", *lines]))
    mapping = ItemMapping({}, {"gender": {"Kerle": "Men"}})
    table = read_items(folder / "items.csv", reading=ItemReading(mapping))
    assert table.columns["gender"].to_pylist() == ["Men", "Men", "Zwerge", None]
    assert table.columns["fabric"].to_pylist() == ["x", "y", None, "Kerle"]
    later = ItemMapping({}, {"gender": {"kerle": "Boys", "Zwerge": "Kids"}})
    table = read_items(folder / "items.csv", reading=ItemReading(later, remembered=mapping))
    assert table.columns["gender"].to_pylist() == ["Boys", "Boys", "Kids", None]
    for values, said in (
        ({"fabric": {"x": "y"}}, "--value fabric:...: the columns whose words are known are gender, "),
        ({"gender": {"Kerle": "Robes"}}, "'Robes' means no name that rules use; they are Men, Women, "),
        ({"gender": {" N/A": "Men"}}, "such a cell says nothing"),
    ):
        with pytest.raises(UserError, match=re.escape(said)):
            read_items(folder / "items.csv", reading=ItemReading(ItemMapping({}, values)))


def test_a_column_that_is_remembered_holds_where_it_is_there(folder):
    remembered = ItemMapping({"item_id": "sku", "category": "kind", "title": "name"})
    (folder / "items.csv").write_text("sku,image,kind\n1,a.png,Jeans\n")
    table = read_items(folder / "items.csv", reading=ItemReading(remembered=remembered)).columns
    assert (table["item_id"].to_pylist(), table["category"].to_pylist()) == (["1"], ["Jeans"])
    given = ItemMapping({"title": "kind"})
    table = read_items(folder / "items.csv", reading=ItemReading(given, remembered)).columns
    assert table.column_names == ["item_id", "image", "title"]
    with pytest.raises(UserError, match="has no column 'nope'"):
        read_items(folder / "items.csv", reading=ItemReading(ItemMapping({"title": "nope"}), remembered))


def test_a_table_in_another_encoding_is_read_where_it_is_said(folder):
    text = "item_id;image;title\n1;a.png;Gr\u00fcn \u20ac\n2;a.png;plain\n"
    (folder / "items.csv").write_bytes(text.encode("cp1252"))
    table = read_items(folder / "items.csv", reading=ItemReading(encoding="cp1252"))
    assert table.columns["title"].to_pylist() == ["Gr\u00fcn \u20ac", "plain"]
    table = read_items(
        folder / "items.csv", reading=ItemReading(encoding="UTF-8")
    )  # each bad row is one, by its reason
    assert table.columns["item_id"].to_pylist() == ["2"]
    assert [(row.row, row.reason) for row in table.rejected] == [(2, "malformed_row")]
    assert table.rejected[0].message.endswith("save the table as UTF-8, or say --encoding cp1252")
    (folder / "items.csv").write_text(text, encoding="utf-16")
    with pytest.raises(UserError, match=r"save it as CSV in UTF-8, or say --encoding utf-16\.$"):
        read_items(folder / "items.csv", reading=ItemReading(encoding="utf-8"))
    assert len(read_items(folder / "items.csv", reading=ItemReading(encoding="utf-16"))) == 2
    (folder / "items.csv").write_bytes(text.encode("utf-8-sig"))
    for name in (None, "utf8", "UTF-8", "utf-8-sig"):
        assert len(read_items(folder / "items.csv", reading=ItemReading(encoding=name))) == 2
    for name in ("nope", "base64", "rot13", "undefined", "idna", "a\0b"):
        with pytest.raises(UserError, match=r"--encoding .* is none that is known"):
            read_items(folder / "items.csv", reading=ItemReading(encoding=name))


def test_a_row_without_a_picture_takes_no_id(folder):
    table = read(folder, ["1,a.png,x", "1,a.png,x", "2,gone.png,x", "2,a.png,x"])
    assert table.numbers == (2, 5)
    assert [row.reason for row in table.rejected] == ["duplicate_id", "missing_picture"]


def test_paths_that_windows_wrote_are_found(folder):
    (folder / "shirts").mkdir()
    for name in ("shirts/b.png", "shirts\\c.png"):  # the second is a name here
        shutil.copy(folder / "a.png", folder / name)
    paths = [".\\a.png", "shirts\\b.png", "shirts\\c.png", "shirts\\gone.png", "..\\a.png", "C:\\a.png"]
    table = read(folder, [f"{number},{path},x" for number, path in enumerate(paths)])
    assert table.columns["image"].to_pylist() == ["./a.png", "shirts/b.png", "shirts\\c.png"]
    assert [row.reason for row in table.rejected] == ["missing_picture", "outside_folder", "missing_picture"]


def test_parquet_types_are_kept_in_ones_that_can_be_asked_for(folder):
    half = pa.array(np.array([1, 2], np.float16))
    columns = {
        "item_id": pa.array(["1", "2"], pa.string_view()),
        "image": pa.array(["a.png"] * 2, pa.large_string()),
        "price": pa.array([Decimal("1.5"), Decimal("19.9")], pa.decimal256(50, 2)),
        "half": half,
        "view": pa.array(["x", "y"], pa.string_view()),
        "kind": pa.array(["x", "y"]).dictionary_encode(),
        "bytes": pa.array([b"x", b"y"], pa.large_binary()),
        "fixed": pa.array([b"x", b"y"], pa.binary(1)),
    }
    pq.write_table(pa.table(columns), folder / "items.parquet")
    table = read_items(folder / "items.parquet")
    assert len(table) == 2
    assert [left.split()[0] for left in table.left_out] == ["bytes", "fixed"]
    assert positions_where(table.columns, "half < 2 AND price < 2 AND view = 'x' AND kind = 'x'").tolist() == [0]
    assert table.columns["price"].to_pylist() == [1.5, 19.9]  # not 19.900000000000002, as Arrow casts it


def test_what_is_no_finite_number_is_null(folder):
    column = pa.chunked_array([pa.array([1.0, float("nan"), float("inf"), -float("inf"), None])])
    assert only_finite(column).to_pylist() == [1.0, None, None, None, None]
    prices = pa.array([float("inf"), 5.0])
    pq.write_table(pa.table({"item_id": ["1", "2"], "image": ["a.png"] * 2, "price": prices}), folder / "i.parquet")
    assert positions_where(read_items(folder / "i.parquet").columns, "price > 1").tolist() == [1]
    digits = "9" * 400  # a number as text says it, none as a double holds it
    table = read(folder, [f"1,a.png,{digits}.5", "2,a.png,2.5"], "item_id,image,size")
    assert table.columns["size"].to_pylist() == [None, 2.5]


def test_an_interval_is_left_out():
    columns = {"item_id": ["1"], "age": pa.array([(1, 2, 3)], pa.month_day_nano_interval())}
    kept, left_out = name_columns(pa.table(columns), Path("items.parquet"), {}, ())
    assert kept.column_names == ["item_id"]
    assert left_out == ["age (month_day_nano_interval)"]


@pytest.mark.parametrize("before", ["\n", "\r\n\r\n", "  \n"])
def test_empty_lines_before_the_header(tmp_path, before):
    path = tmp_path / "items.csv"
    path.write_bytes(f"{before}id;title;price\na;b,c;1\n".encode())
    cells = read_csv(path)
    assert cells.names == ("id", "title", "price")
    assert cells.rows == (["a", "b,c", "1"],)
    path.write_bytes(f"{before}id;id\na;b\n".encode())
    with pytest.raises(UserError, match=f"line {before.count(chr(10)) + 1} names the column 'id' twice"):
        read_csv(path)


def test_decimal_commas_are_told_since_two_sizes_look_the_same(folder):
    table = read(folder, ["1;a.png;38,40", "2;a.png;36,38"], "item_id;image;sizes")
    assert table.columns["sizes"].to_pylist() == [38.4, 36.38]
    assert table.remarks == ("sizes: numbers with decimal commas, such as '38,40'",)
