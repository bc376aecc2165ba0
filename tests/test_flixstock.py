import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stylematch.data.flixstock import read_flixstock
from stylematch.data.splits import split_random
from stylematch.errors import UserError

PNG = b"\x89PNG\r\n\x1a\n" + bytes(60)
HEADER = "filename,neck,sleeve_length,pattern"


def write(root, lines, pictures, header=HEADER):
    (root / "attributes.csv").write_text("\n".join([header, *lines]) + "\n")
    (root / "images").mkdir(exist_ok=True)
    for name in pictures:
        (root / "images" / name).write_bytes(PNG)
    return root


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path, ["b.jpg,6,#N/A,4", "a.jpg,0,3,9", "c d.jpg,2,0,0"], ["a.jpg", "b.jpg", "c d.jpg"])


def test_na_is_unknown_or_a_class_of_its_own(folder):
    unknown = read_flixstock(folder)
    assert unknown.names == ("b.jpg", "a.jpg", "c d.jpg")
    assert unknown.pictures == folder / "images"
    assert {group: codes.tolist() for group, codes in unknown.labels.items()} == {
        "neck": [6, 0, 2],
        "sleeve_length": [-1, 3, 0],
        "pattern": [4, 9, 0],
    }
    assert [(group.name, group.width) for group in unknown.schema.groups] == [
        ("neck", 7),
        ("sleeve_length", 4),
        ("pattern", 10),
    ]
    assert all(codes.dtype == np.int64 for codes in unknown.labels.values())

    category = read_flixstock(folder, na="category")
    assert category.labels["sleeve_length"].tolist() == [4, 3, 0]
    assert category.classes["sleeve_length"] == ("0", "1", "2", "3", "N/A")
    assert [group.width for group in category.schema.groups] == [7, 5, 10]  # only where N/A occurs
    np.testing.assert_array_equal(category.labels["neck"], unknown.labels["neck"])

    with pytest.raises(UserError, match="na is"):
        read_flixstock(folder, na="drop")


def test_every_row_that_cannot_be_used_is_counted(tmp_path):
    lines = [
        "a.jpg,1,1,1",
        "a.jpg,2,2,2",  # a second row: the first one is kept
        "none.jpg,1,1,1",
        "page.jpg,1,1,1",
        "../attributes.csv,1,1,1",
        "b.jpg,7,1,1",  # no such neck
        "c.jpg,-1,1,1",
        "d.jpg,1,1",
        "e.jpg,1,1,1,1",
        "f.jpg,1,round,1",
        "g.jpg,1,1.5,1",
        ",1,1,1",
        "",
        '"h, i.jpg",3,#N/A,3',
    ]
    write(tmp_path, lines, ["a.jpg", *(f"{letter}.jpg" for letter in "bcdefg"), "h, i.jpg"])
    (tmp_path / "images" / "page.jpg").write_text("<html>")
    garments = read_flixstock(tmp_path)
    assert garments.names == ("a.jpg", "h, i.jpg")
    assert garments.labels["neck"].tolist() == [1, 3]
    assert garments.dropped == {
        "malformed_row": 7,
        "duplicate_name": 1,
        "no_picture": 2,
        "unreadable_picture": 0,
        "not_a_picture": 1,
    }


def test_a_table_that_pandas_wrote_again_says_the_same(folder):
    as_found = read_flixstock(folder)
    (folder / "attributes.csv").write_text(
        ",pattern,filename,neck,sleeve_length,colour\r\n0,4.0,b.jpg,6.0,,red\r\n1,9.0,a.jpg,0.0,3.0,\r\n"
        "2,0.0,c d.jpg,2.0,0.0,blue\r\n"
    )
    again = read_flixstock(folder)
    assert (again.names, again.dropped) == (as_found.names, as_found.dropped)
    for group, codes in as_found.labels.items():
        assert again.labels[group].tolist() == codes.tolist()
    assert sum(again.dropped.values()) == 0


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_quoted_headers_and_other_separators_say_the_same(delimiter, folder):
    as_found = read_flixstock(folder)
    rows = [HEADER, "b.jpg,6,#N/A,4", " a.jpg , 0, 3, 9", "c d.jpg,2,0,0"]
    quoted = [delimiter.join(f'"{cell}"' for cell in row.split(",")) for row in rows]
    (folder / "attributes.csv").write_text("\n".join(quoted) + "\n")
    again = read_flixstock(folder)
    assert (again.names, again.dropped) == (as_found.names, as_found.dropped)
    for group, codes in as_found.labels.items():
        assert again.labels[group].tolist() == codes.tolist()


def test_pictures_that_were_stored_anew_are_named_beside_the_tables_names(folder):
    write(folder, ["z.jpg,1,1,1"], [])
    (folder / "images" / "z.webp").touch()
    with pytest.raises(UserError, match=r"none of the pictures .* z\.webp is there, and z\.jpg is named: "):
        read_flixstock(folder)


def test_what_is_missing_is_a_sentence(folder, tmp_path):
    (folder / "attributes.csv").write_text("name,neck\n")
    with pytest.raises(UserError, match="line 1 does not name the column filename"):
        read_flixstock(folder)
    write(folder, ["z.jpg,1,1,1"], [])
    with pytest.raises(UserError, match="none of the pictures"):
        read_flixstock(folder)
    (folder / "attributes.csv").unlink()
    with pytest.raises(UserError, match=r"attributes.csv is missing"):
        read_flixstock(folder)
    with pytest.raises(UserError, match="images is missing"):
        read_flixstock(tmp_path / "nowhere")


@given(st.integers(0, 300), st.floats(0, 1), st.integers(0, 9))
def test_a_random_split_has_every_row_once(count, fraction, seed):
    rest, held = split_random(count, fraction, seed)
    assert sorted([*rest, *held]) == list(range(count))
    assert len(held) == round(count * fraction)
    assert (np.diff(rest) > 0).all()
    assert (np.diff(held) > 0).all()
    np.testing.assert_array_equal(split_random(count, fraction, seed)[1], held)


def test_another_seed_is_another_split():
    assert len({tuple(split_random(50, 0.2, seed)[1]) for seed in range(5)}) == 5
    with pytest.raises(ValueError, match="within 0 to 1"):
        split_random(50, 20, 0)


@pytest.mark.shared_data
def test_the_real_table(shared_data):
    garments = read_flixstock(shared_data / "flixstock")
    assert len(garments) == 1_772
    assert {reason: count for reason, count in garments.dropped.items() if count} == {
        "duplicate_name": 15,
        "no_picture": 451,
    }
    assert len(garments) + sum(garments.dropped.values()) == 2_238
    assert sum(group.width for group in garments.schema.groups) == 21
    unknown = {group: int((codes < 0).sum()) for group, codes in garments.labels.items()}
    assert unknown == {"neck": 368, "sleeve_length": 358, "pattern": 356}
    category = read_flixstock(shared_data / "flixstock", na="category")
    assert [group.width for group in category.schema.groups] == [8, 5, 11]
    assert {group: int(np.bincount(codes)[-1]) for group, codes in category.labels.items()} == unknown
