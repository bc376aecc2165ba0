import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stylematch.data.article_types import TYPES_OF_CATEGORY, fashion_mnist_category
from stylematch.data.fashion_mnist import CLASSES
from stylematch.data.fashion_product import (
    GROUPS,
    class_counts,
    fashion_mnist_categories,
    mask_rare,
    never_trained,
    read_fashion_product,
    restrict,
    schema,
    split_by_year,
)
from stylematch.data.splits import split_stratified
from stylematch.errors import UserError

COLUMNS = ("id", "gender", "masterCategory", "subCategory", "articleType", "baseColour", "season", "year", "usage")
JPEG = b"\xff\xd8\xff\xe0" + bytes(60)


def line(product, article="Shirts", year="2011", *, gender="Men", colour="Blue", usage="Casual", name=None):
    cells = [str(product), gender, "Apparel", "Topwear", article, colour, "Fall", year, usage]
    return ",".join(cells if name is None else [*cells, name])


def write(root, lines, *, named=False, pictures=(), newline="\n"):
    """Write a table, and a picture for each id."""
    header = ",".join([*COLUMNS, "productDisplayName"] if named else COLUMNS)
    (root / "styles.csv").write_bytes(newline.join([header, *lines, ""]).encode())
    (root / "images").mkdir(exist_ok=True)
    for product in pictures:
        (root / "images" / f"{product}.jpg").write_bytes(JPEG)
    return root


def products_of(root, articles, years=None):
    years = years or ["2011"] * len(articles)
    lines = [line(k, article, year) for k, (article, year) in enumerate(zip(articles, years, strict=True))]
    return read_fashion_product(write(root, lines, pictures=range(len(articles))))


def articles_of(products):
    return [products.classes["articleType"][code] if code >= 0 else None for code in products.labels["articleType"]]


def test_rows_keep_the_order_of_the_table_and_classes_are_sorted(tmp_path):
    lines = [line(30, "Tops", "2012"), line(7, "Shirts", "2015", gender="Women"), line(12, "Tops", "2011.0")]
    products = read_fashion_product(write(tmp_path, lines, pictures=(7, 12, 30)))
    assert products.ids == ("30", "7", "12")
    assert products.names == ("30.jpg", "7.jpg", "12.jpg")
    assert products.pictures == tmp_path / "images"
    assert len(products) == 3
    assert products.classes["articleType"] == ("Shirts", "Tops")
    assert products.labels["articleType"].tolist() == [1, 0, 1]
    assert products.labels["gender"].tolist() == [0, 1, 0]
    assert products.year.tolist() == [2012, 2015, 2011]
    assert set(products.labels) == set(products.classes) == set(GROUPS)
    assert all(labels.dtype == np.int64 for labels in products.labels.values())
    assert sum(products.dropped.values()) == 0


def test_every_row_that_cannot_be_used_is_counted(tmp_path):
    lines = [
        line(1),
        line(1, "Tops"),  # a second row: the first one is kept
        line(2),  # no picture
        line(3),  # a page instead of a picture
        line(4),  # an empty file
        line(5),  # a folder of that name
        "6,Men,Apparel",
        line(7) + ",surplus",
        line("eight"),
        line("../images/1"),
        "",
        line(9),
    ]
    write(tmp_path, lines, pictures=(1, 9, 6, 7))
    (tmp_path / "images" / "3.jpg").write_bytes(b"<html>not found</html>")
    (tmp_path / "images" / "4.jpg").touch()
    (tmp_path / "images" / "5.jpg").mkdir()
    products = read_fashion_product(tmp_path)
    assert products.ids == ("1", "9")
    assert products.classes["articleType"] == ("Shirts",)
    assert products.dropped == {
        "malformed_row": 4,
        "duplicate_id": 1,
        "no_picture": 2,
        "unreadable_picture": 0,
        "not_a_picture": 2,
    }


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_no_name_spoils_a_row_or_the_next(tmp_path, newline):
    names = [
        "plain",
        "Fabindia, Men, Blue",
        '"quoted, with a comma"',
        '"an opened quote',
        'a 5" heel',
        "",
        "\N{LINE SEPARATOR}\x0b\x0c",
        "\ufffd",
    ]
    lines = [line(number, name=name) for number, name in enumerate(names)]
    lines.append(line(len(names)))  # even without a name
    write(tmp_path, lines, named=True, pictures=range(len(lines)), newline=newline)
    products = read_fashion_product(tmp_path)
    assert products.ids == tuple(str(number) for number in range(len(lines)))
    assert sum(products.dropped.values()) == 0
    assert products.classes["usage"] == ("Casual",)
    assert "productDisplayName" not in products.labels
    assert "year" not in products.labels


def test_empty_cells_and_na_are_unknown(tmp_path):
    lines = [line(1, colour="NA", usage=""), line(2, year=""), line(3, year="20x1", colour=" Red ")]
    products = read_fashion_product(write(tmp_path, lines, pictures=(1, 2, 3)))
    assert products.classes["baseColour"] == ("Blue", "Red")
    assert products.labels["baseColour"].tolist() == [-1, 0, 1]
    assert products.labels["usage"].tolist() == [-1, 0, 0]
    assert products.year.tolist() == [2011, -1, -1]


def test_columns_are_found_by_name_and_a_mark_of_utf8_is_no_part_of_one(tmp_path):
    write(tmp_path, [], pictures=(5,))
    header, row = list(reversed(COLUMNS)), list(reversed(line(5).split(",")))
    (tmp_path / "styles.csv").write_text("\ufeff" + ",".join(header) + "\n" + ",".join(row))
    products = read_fashion_product(tmp_path)
    assert (products.ids, products.classes["season"]) == (("5",), ("Fall",))


def test_bytes_that_are_no_utf8_spoil_only_their_row(tmp_path):
    write(tmp_path, [line(1), line(2)], pictures=(1, 2, 3))
    with (tmp_path / "styles.csv").open("ab") as file:
        file.write(line(3, "\N{LATIN SMALL LETTER E WITH ACUTE}").encode("latin-1"))
    products = read_fashion_product(tmp_path)
    assert products.ids == ("1", "2")
    assert products.dropped["malformed_row"] == 1


def test_what_is_missing_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="images is missing"):
        read_fashion_product(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(UserError, match=r"styles.csv is missing"):
        read_fashion_product(tmp_path)
    (tmp_path / "styles.csv").write_text("id,gender,masterCategory\n")
    with pytest.raises(UserError, match="line 1 does not name the column subCategory"):
        read_fashion_product(tmp_path)
    (tmp_path / "styles.csv").write_text("")
    with pytest.raises(UserError, match="line 1 does not name the column id"):
        read_fashion_product(tmp_path)
    write(tmp_path, [line(1)])
    with pytest.raises(UserError, match="none of the pictures"):
        read_fashion_product(tmp_path)
    (tmp_path / "images" / "1.png").touch()
    with pytest.raises(UserError, match=r"none of the pictures .* 1\.png is there, and 1\.jpg is named: "):
        read_fashion_product(tmp_path)


def test_rare_classes_become_unknown(tmp_path):
    products = products_of(tmp_path, ["Tops"] * 3 + ["Belts"] + ["Shirts"] * 2 + ["Ties"] * 3)
    masked = mask_rare(products, 3, ("articleType",))
    assert masked.classes["articleType"] == ("Ties", "Tops")
    assert articles_of(masked) == ["Tops"] * 3 + [None] * 3 + ["Ties"] * 3
    assert masked.classes["gender"] == ("Men",)
    assert len(masked) == len(products)
    assert articles_of(mask_rare(masked, 3)) == articles_of(masked)
    assert articles_of(products)[3] == "Belts"  # the argument is not changed
    assert mask_rare(products, 100).classes["articleType"] == ()


def test_restricting_keeps_the_named_classes(tmp_path):
    products = products_of(tmp_path, ["Tops", "Belts", "Shirts"])
    kept = restrict(products, {"articleType": ("Tops", "Belts")})
    assert articles_of(kept) == ["Tops", "Belts", None]
    assert articles_of(restrict(kept, {"articleType": ["Tops"]})) == ["Tops", None, None]


def test_classes_are_counted(tmp_path):
    products = products_of(tmp_path, ["Tops", "Belts", "Shirts", "Tops", "Shirts", "Ties", "Tops"])
    assert class_counts(products, "articleType", np.array([1, 2, 4])).tolist() == [1, 2, 0, 0]
    assert class_counts(products, "articleType").tolist() == [1, 2, 1, 3]


def test_only_article_types_without_doubt_have_fashion_mnists_category(tmp_path):
    products = products_of(tmp_path, ["Tshirts", "Belts", "Jeans", "Casual Shoes", "Heels", "Handbags"])
    found = [CLASSES[place] if place >= 0 else None for place in fashion_mnist_categories(products)]
    assert found == ["T-shirt/top", None, "Trouser", "Sneaker", None, "Bag"]


def test_the_schema_has_the_chosen_groups_in_order(tmp_path):
    products = products_of(tmp_path, ["Tops", "Belts"])
    made = schema(products, ("articleType",))
    assert [(group.name, group.kind, group.labels) for group in made.groups] == [
        ("articleType", "categorical", ("Belts", "Tops"))
    ]
    with pytest.raises(UserError, match="'gender' has 1 class left, "):
        schema(products)
    with pytest.raises(UserError, match="no label group 'year'; choose among gender"):
        schema(products, ("year",))


def test_years_split_even_and_odd(tmp_path):
    articles = ["Tops"] * 20 + ["Ties"] * 10 + ["Belts", "Hat", "Tops", "Caps"]
    years = ["2012", "2014"] * 15 + ["2011", "2013", "2015", ""]
    products = products_of(tmp_path, articles, years)
    split = split_by_year(products, validation=0.2, seed=1)
    assert sorted([*split.train, *split.validation]) == list(range(30))
    assert split.test.tolist() == [30, 31, 32]
    assert split.left_out.tolist() == [33]
    assert products.classes["articleType"] == ("Belts", "Caps", "Hat", "Ties", "Tops")
    assert class_counts(products, "articleType", split.validation).tolist() == [0, 0, 0, 2, 4]
    assert never_trained(products, split.train, split.test) == ("Belts", "Hat")
    assert never_trained(restrict(products, {"articleType": ["Tops", "Hat"]}), split.train, split.test) == ("Hat",)
    assert never_trained(products, split.train, split.train) == ()


labels = st.lists(st.integers(-1, 6), min_size=1, max_size=200).map(lambda values: np.array(values, np.int64))


@given(labels, st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.5, 0.9]), st.integers(0, 5))
def test_a_stratified_split_shares_out_every_class(labels, fraction, seed):
    rest, held = split_stratified(labels, fraction, seed)
    assert sorted([*rest, *held]) == list(range(len(labels)))
    assert (np.diff(rest) > 0).all()
    assert (np.diff(held) > 0).all()
    for label in np.unique(labels):
        size, got = (labels == label).sum(), (labels[held] == label).sum()
        assert abs(got - size * fraction) < 1 + 1e-9
        assert got < size
    again = split_stratified(labels.copy(), fraction, seed)
    np.testing.assert_array_equal(again[1], held)


def test_a_stratified_split_holds_the_share_and_heeds_the_seed():
    labels = np.repeat(np.arange(30), 17)
    parts = [split_stratified(labels, 0.2, seed)[1] for seed in range(4)]
    assert {len(part) for part in parts} == {102}
    assert len({tuple(part) for part in parts}) == 4
    with pytest.raises(ValueError, match="within 0 to 1"):
        split_stratified(labels, 20, 0)


@pytest.mark.shared_data
def test_the_real_table(shared_data):
    products = read_fashion_product(shared_data / "fashion_product")
    assert len(products) == 8_630
    assert len(products) + sum(products.dropped.values()) == 43_493
    assert {reason: count for reason, count in products.dropped.items() if count} == {"no_picture": 34_863}
    sizes = dict(zip(GROUPS, (5, 5, 29, 74, 43, 4, 6), strict=True))
    assert {group: len(classes) for group, classes in products.classes.items()} == sizes
    unknown = {group: int((codes < 0).sum()) for group, codes in products.labels.items()}
    assert unknown == {**dict.fromkeys(GROUPS, 0), "baseColour": 3, "usage": 6}

    frequent = mask_rare(products, 100)
    assert [len(frequent.classes[group]) for group in GROUPS] == [3, 3, 12, 24, 13, 4, 4]
    assert (frequent.labels["articleType"] < 0).sum() == 898
    as_the_seed = mask_rare(products, 500)
    assert [len(as_the_seed.classes[group]) for group in GROUPS] == [2, 3, 3, 3, 6, 3, 3]
    assert as_the_seed.classes["articleType"] == ("Casual Shoes", "Shirts", "Tshirts")

    split = split_by_year(products)
    assert [len(part) for part in split] == [1_508, 167, 6_955, 0]
    unseen = never_trained(products, split.train, split.test)
    assert len(unseen) == 33
    assert {"Dresses", "Kurtis", "Leggings"} <= set(unseen)
    rest, held = split_stratified(products.labels["articleType"], 0.2, 0)
    assert (len(rest), len(held)) == (6_905, 1_725)
    assert never_trained(products, rest, held) == ()


def test_a_shop_finds_formal_shoes_with_its_boots_and_no_model_learns_so():
    assert fashion_mnist_category("Formal Shoes") == fashion_mnist_category("Booties") == "Ankle boot"
    assert fashion_mnist_category("Heels") is None
    assert "Ankle boot" not in TYPES_OF_CATEGORY
