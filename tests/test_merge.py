import math
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from program import call
from tiny import list_text

from stylematch.data.celeba import ATTRIBUTES
from stylematch.pipelines.learning.merge import merge_celeba
from stylematch.tables.contract import LANDMARKS

PICTURES = ("b.jpg", "a.jpg", "c.jpg", "d.jpg")
BOX = ("x_1", "y_1", "width", "height")
RULES = """
name = "hats"
[[rules]]
style = "Hatted"
all = ["Wearing_Hat"]
items = ["Coat"]
[[rules]]
style = "Bare"
items = ["Dress"]
"""


@pytest.fixture
def folder(tmp_path):
    """Four pictures; of b only the attributes are known."""
    root = tmp_path / "celeba"
    (root / "img_align_celeba").mkdir(parents=True)
    (root / "img_align_celeba" / "c.jpg").touch()
    has = {"b.jpg": ("Smiling",), "a.jpg": ("Wearing_Hat",), "c.jpg": ("Wearing_Hat", "Male"), "d.jpg": ()}
    rows = [(name, *(1 if attribute in has[name] else -1 for attribute in ATTRIBUTES)) for name in PICTURES]
    (root / "list_attr_celeba.txt").write_text(list_text(ATTRIBUTES, rows))
    (root / "list_eval_partition.txt").write_text("c.jpg 2\nx.jpg 0\na.jpg 1\nd.jpg 0\n")
    points = [("x.jpg", *range(100, 110)), ("c.jpg", *range(20, 30)), ("d.jpg", *range(10)), ("a.jpg", *range(5, 15))]
    (root / "list_landmarks_align_celeba.txt").write_text(list_text(LANDMARKS, points))
    boxes = [("a.jpg", 1, 2, 30, 40), ("d.jpg", 5, 6, 7, 8)]
    (root / "list_bbox_celeba.txt").write_text(list_text(["image_id", *BOX], boxes))
    (root / "identity_CelebA.txt").write_text("\ufeffd.jpg 10177\nx.jpg 3\n\na.jpg 0\n")
    (tmp_path / "hats.toml").write_text(RULES)
    return root


def test_all_files_are_joined_by_name_and_gaps_are_null(folder, tmp_path):
    out = tmp_path / "new" / "merged.parquet"
    result = call("data", "merge", "celeba", folder, "--out", out, "--rules", tmp_path / "hats.toml")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("4 pictures in ")
    assert result.out.endswith(": 3 with a partition, 2 with an identity, 2 with a box, 3 with landmarks\n")
    table = pq.read_table(out)
    assert table.column_names == ["image_id", "partition", "identity", *ATTRIBUTES, *BOX, *LANDMARKS, "style"]
    read = table.to_pydict()
    assert read["image_id"] == list(PICTURES)
    assert read["partition"] == [None, 1, 2, 0]
    assert read["identity"] == [None, 0, None, 10177]
    assert read["x_1"] == [None, 1, None, 5]
    assert read["height"] == [None, 40, None, 8]
    assert read["lefteye_x"] == [None, 5, 20, 0]
    assert read["rightmouth_y"] == [None, 14, 29, 9]
    assert read["Smiling"] == [True, False, False, False]
    assert read["Male"] == [False, False, True, False]
    assert read["style"] == ["Bare", "Hatted", "Hatted", "Bare"]
    kinds = {str(table.schema.field(name).type) for name in ATTRIBUTES}
    assert kinds == {"bool"}
    assert table.schema.field("partition").type == pa.int8()
    assert table.schema.metadata[b"rules"] == b"hats"
    assert b"non-commercial" in table.schema.metadata[b"licence"]
    assert not any(math.isnan(value) for name in (*BOX, *LANDMARKS) for value in read[name] if value is not None)


def test_both_landmark_files_are_there_under_names_of_their_own(folder, tmp_path):
    out, pictures = tmp_path / "merged.parquet", folder / "img_align_celeba"
    points = [("x.jpg", *range(300, 310)), ("b.jpg", *range(200, 210)), ("d.jpg", *range(40, 50))]
    (folder / "list_landmarks_celeba.txt").write_text(list_text(LANDMARKS, points))
    result = call("data", "merge", "celeba", folder, "--out", out)
    assert result.out.endswith(", 3 with landmarks, 2 with landmarks (wild)\n")
    wild = [f"wild_{name}" for name in LANDMARKS]
    table = pq.read_table(out)
    assert table.column_names[-21:] == [*LANDMARKS, *wild, "style"]
    assert table.column("wild_lefteye_x").to_pylist() == [200, None, None, 40]
    assert table.column("wild_rightmouth_y").to_pylist() == [209, None, None, 49]
    assert table.column("lefteye_x").to_pylist() == [None, 5, 20, 0]
    # Of a folder of whole photos the points without more are in these photos' pixels, as everywhere.
    pictures.rename(folder / "img_celeba")
    merge_celeba(folder, out)
    table = pq.read_table(out)
    assert table.column("lefteye_x").to_pylist() == [200, None, None, 40]
    assert table.column("aligned_lefteye_x").to_pylist() == [None, 5, 20, 0]
    assert "wild_lefteye_x" not in table.column_names


def test_only_the_attribute_file_is_needed(folder, tmp_path):
    (folder / "img_align_celeba" / "c.jpg").unlink()
    for name in ("list_eval_partition", "list_landmarks_align_celeba", "list_bbox_celeba", "identity_CelebA"):
        (folder / f"{name}.txt").unlink()
    summary = merge_celeba(folder, tmp_path / "merged.parquet", "classic")
    assert (summary.rows, set(summary.known.values())) == (4, {0})
    table = pq.read_table(tmp_path / "merged.parquet")
    assert table.column("identity").null_count == 4
    assert table.column("style").to_pylist() == ["Formal", "Formal", "Formal", "Formal"]


def test_equal_files_give_equal_bytes_and_a_table_is_replaced_whole(folder, tmp_path):
    first, second = tmp_path / "first.parquet", tmp_path / "second.parquet"
    second.write_bytes(b"older")
    merge_celeba(folder, first)
    merge_celeba(folder, second)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "first.parquet",
        "hats.toml",
        "second.parquet",
    ]


@pytest.mark.parametrize("line", ["a.jpg", "a.jpg 1 2", "a.jpg one", "a.jpg -1", "a.jpg 1.5", "a.jpg " + "9" * 30])
def test_a_malformed_identity_is_a_sentence_and_writes_nothing(folder, tmp_path, line):
    (folder / "identity_CelebA.txt").write_text(f"d.jpg 1\n{line}\n")
    result = call("data", "merge", "celeba", folder, "--out", tmp_path / "merged.parquet")
    assert result.code == 2
    assert "identity_CelebA.txt: line 2 is not a picture's name" in result.sentence
    assert not (tmp_path / "merged.parquet").exists()


def test_mistakes_are_sentences(folder, tmp_path):
    labels = folder / "list_attr_celeba.txt"
    before = labels.read_bytes()
    for out in (labels, tmp_path, tmp_path / "merged.csv"):
        result = call("data", "merge", "celeba", folder, "--out", out)
        assert (result.code, result.out) == (2, "")
        assert "ends in .parquet" in result.sentence
    assert labels.read_bytes() == before
    result = call("data", "merge", "celeba", tmp_path, "--out", tmp_path / "merged.parquet")
    assert result.code == 2
    assert "list_attr_celeba.txt is missing" in result.sentence
    result = call("data", "merge", "celeba", folder, "--out", tmp_path / "merged.parquet", "--rules", "baroque")
    assert result.code == 2
    assert "baroque" in result.sentence


def test_a_place_that_cannot_be_written_to_is_said_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    result = call("data", "merge", "celeba", tmp_path / "absent", "--out", tmp_path / "merged.parquet")
    assert (result.code, result.out) == (2, "")
    assert "cannot write to" in result.sentence


@pytest.mark.shared_data
def test_the_local_folder(shared_data, tmp_path):
    out = tmp_path / "merged.parquet"
    summary = merge_celeba(shared_data / "celeba", out, "classic")
    assert summary.rows == 15_974
    table = pq.read_table(out)
    official = pq.read_table(shared_data / "celeba" / "labels_full.parquet")
    place = {name: row for row, name in enumerate(official.column("image_id").to_pylist())}
    rows = [place[name] for name in table.column("image_id").to_pylist()]
    for name in ("identity", "Male", "Young", "Wearing_Hat", "Blurry"):
        np.testing.assert_array_equal(table.column(name).to_pylist(), official.column(name).take(rows).to_pylist())
    assert set(table.column("partition").to_pylist()) == {0, 1, 2}
    # What `rules apply` says of the same table is what its own style column holds.
    result = call("rules", "apply", out, "--rules", "classic")
    styles = table.column("style").to_pylist()
    counts = {style: int(count) for style, count in (line.split("\t") for line in result.out.splitlines())}
    assert {style: count for style, count in counts.items() if count} == {s: styles.count(s) for s in set(styles)}
