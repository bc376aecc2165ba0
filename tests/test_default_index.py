"""``default-index``: a collection from the shipped models and small copies of the data sets."""

import json

import pyarrow.parquet as pq
import pytest
from program import DEFAULT_INDEX, EXAMPLES, call, digests, rows, scored
from tiny import FACES, TEST_ITEMS, write_celeba, write_fashion_mnist

from stylematch.data.celeba import ATTRIBUTES


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return {
        "--root": write_celeba(folder / "celeba"),
        "--fashion-mnist": write_fashion_mnist(folder / "fashion_mnist"),
        "--attributes": DEFAULT_INDEX / "attributes",
        "--garments": DEFAULT_INDEX / "garments",
    }


def build(data, out):
    return call("default-index", "--out", out, *(word for pair in data.items() for word in pair))


@pytest.fixture(scope="module")
def collection(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("default") / "collection"
    result = build(data, out)
    assert result.code == 0, result.err
    assert "MB in all" in result.out
    return out


def test_it_holds_both_models_and_both_indexes(collection):
    assert sorted(path.name for path in collection.iterdir()) == [
        "LICENCES.md",
        "attributes",
        "collection.json",
        "faces",
        "garments",
        "items",
    ]
    for model in ("attributes", "garments"):
        assert digests(collection / model) == digests(DEFAULT_INDEX / model)
    shown = call("index", "info", collection)
    assert shown.code == 0
    assert "WARNING" not in shown.out
    content = json.loads((collection / "collection.json").read_text())
    assert set(content) == {"attributes", "garments", "faces", "items"}
    licences = (collection / "LICENCES.md").read_text()
    assert "non-commercial" in licences
    assert "Zalando" in licences


def test_the_gallery_has_the_training_faces_alone_and_no_pictures(collection):
    found = pq.read_table(collection / "faces" / "rows.parquet")
    train = [name for name, (_, _, split) in FACES.items() if split == 0]
    assert found.num_rows == len(train)
    assert set(ATTRIBUTES) <= set(found.column_names)
    assert "picture" not in found.column_names
    assert not any("identity" in name for name in found.column_names)


def test_the_items_are_the_test_items_with_their_pictures(collection):
    found = pq.read_table(collection / "items" / "rows.parquet")
    assert found["id"].to_pylist() == [f"fashion-mnist-test-{number:05d}" for number in range(TEST_ITEMS)]
    assert {len(picture) for picture in found["picture"].to_pylist()} == {784}


def test_it_scores(collection, tmp_path):
    out = scored(EXAMPLES / "group.jpg", tmp_path / "out", "--index", collection)
    assert {row["neighbour_style"] for row in rows(out, "faces")} == {"Minimalist"}
    assert all(row["item_id"].startswith("fashion-mnist-test-00") for row in rows(out, "recommendations"))


def test_building_it_again_replaces_it_by_equal_bytes(data, collection, tmp_path):
    out = tmp_path / "again"
    for _ in range(2):
        assert build(data, out).code == 0
        assert digests(out) == digests(collection)
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_another_folder_is_left_alone(data, tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    result = build(data, tmp_path)
    assert result.code == 2
    assert digests(tmp_path).keys() == {"mine.txt"}


@pytest.mark.parametrize("option", ["--attributes", "--garments", "--root", "--fashion-mnist"])
def test_a_part_that_is_missing_is_named(data, tmp_path, option):
    result = build(data | {option: tmp_path / "nowhere"}, tmp_path / "out")
    assert result.code == 2
    assert "nowhere" in result.sentence
    assert list(tmp_path.iterdir()) == []
