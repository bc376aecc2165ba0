from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny import CELEBA_PICTURES, write_celeba_labels

from stylematch.data.celeba import ATTRIBUTES, LICENCE, SPLITS, CelebaFolder, read_celeba
from stylematch.errors import UserError


@pytest.fixture
def folder(tmp_path):
    return write_celeba_labels(tmp_path)


def test_rows_are_joined_by_name_and_what_is_missing_is_unknown(folder):
    read = read_celeba(folder)
    assert read.image_ids == CELEBA_PICTURES
    assert read.split.tolist() == [1, -1, 2]
    np.testing.assert_array_equal(read.attributes, np.arange(120).reshape(3, 40) % 7 == 0)
    np.testing.assert_array_equal(read.landmarks_px, [range(10), [np.nan] * 10, range(20, 30)])
    np.testing.assert_array_equal(read.boxes_px, [[np.nan] * 4, [1, 2, 30, 40], [np.nan] * 4])
    assert read.pictures == folder / "img_align_celeba"
    assert read.split.dtype == read.attributes.dtype == np.int8
    assert read.landmarks_px.dtype == read.boxes_px.dtype == np.float32


def test_columns_are_found_by_name(folder):
    as_found = read_celeba(folder)
    for name in ("list_attr_celeba.txt", "list_landmarks_align_celeba.txt"):
        count, header, *rows = (folder / name).read_text().splitlines()
        turned = [" ".join([row.split()[0], "7", *row.split()[:0:-1]]) for row in rows]
        (folder / name).write_text("\n".join([count, " ".join(["More", *header.split()[::-1]]), *turned]) + "\r\n")
    read = read_celeba(folder)
    np.testing.assert_array_equal(read.attributes, as_found.attributes)
    np.testing.assert_array_equal(read.landmarks_px, as_found.landmarks_px)


def test_only_the_attribute_file_and_a_picture_are_needed(folder):
    for name in ("list_eval_partition.txt", "list_landmarks_align_celeba.txt", "list_bbox_celeba.txt"):
        (folder / name).unlink()
    (folder / "img_align_celeba" / "c.jpg").rename(folder / "c.jpg")
    read = read_celeba(folder)
    assert read.pictures == folder
    assert (read.split == -1).all()
    assert np.isnan(read.landmarks_px).all()
    assert np.isnan(read.boxes_px).all()


@pytest.mark.parametrize(
    ("name", "break_it", "message"),
    [
        ("list_attr_celeba.txt", lambda text: text.replace("Male ", "Mail "), "line 2 does not name"),
        ("list_attr_celeba.txt", lambda text: text.replace("a.jpg -1", "a.jpg"), "line 4 has 39 values"),
        (
            "list_attr_celeba.txt",
            lambda text: text.replace("\na.jpg -1", "\n\na.jpg"),
            "line 5 has 39 values",
        ),
        ("list_attr_celeba.txt", lambda text: text.replace("c.jpg -1", "c.jpg yes"), "line 5 .* no number"),
        ("list_attr_celeba.txt", lambda text: text.replace("c.jpg -1", "c.jpg 0"), "c.jpg has an attribute"),
        ("list_attr_celeba.txt", lambda text: text.replace("c.jpg -1", "c.jpg nan"), "line 5 .* not finite"),
        ("list_attr_celeba.txt", lambda text: text.replace("c.jpg", "b.jpg"), "line 5 names b.jpg a second"),
        (
            "list_attr_celeba.txt",
            lambda text: text[: text.index("c.jpg")],
            "line 1 says '3' rows, there are 2",
        ),
        ("list_attr_celeba.txt", lambda text: "", "line 2 does not name"),
        ("list_attr_celeba.txt", lambda text: text.replace("a.jpg", "\udcff.jpg"), "cannot be read"),
        ("list_eval_partition.txt", lambda text: text.replace("x.jpg 0", "x.jpg 3"), "line 2 is not a pic"),
        ("list_eval_partition.txt", lambda text: text.replace("b.jpg 1", "b.jpg"), "line 3 is not a picture"),
        ("list_eval_partition.txt", lambda text: text.replace("x.jpg 0", "x.jpg 0 1"), "line 2 is not a pic"),
        (
            "list_landmarks_align_celeba.txt",
            lambda text: text.replace("nose_x nose_y", "nose_x nose_z"),
            "line 2 does not name the column nose_y",
        ),
        (
            "list_landmarks_align_celeba.txt",
            lambda text: text.replace("c.jpg 20", "c.jpg 3e38"),
            "line 4 .* not finite, or over 65,535 pixels",
        ),
        (
            "list_landmarks_align_celeba.txt",
            lambda text: text.replace("c.jpg 20", "c.jpg"),
            "line 4 has 9 val",
        ),
        (
            "list_bbox_celeba.txt",
            lambda text: text.replace("width height", "x_2 y_2"),
            "line 2 does not name",
        ),
    ],
)
def test_a_malformed_file_is_named_with_its_line(folder, name, break_it, message):
    path = folder / name
    text = path.read_text()
    broken = break_it(text)
    assert broken != text
    path.write_text(broken, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(UserError, match=message) as caught:
        read_celeba(folder)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_blank_lines_wide_gaps_and_a_mark_in_front_do_no_harm(folder):
    before = read_celeba(folder)
    for path in folder.glob("list_*.txt"):
        first, *rest = path.read_text().splitlines()
        path.write_text("\ufeff" + "\n".join([first, *(line.replace(" ", "\t  ") for line in rest)]) + "\n\n  \n")
    after = read_celeba(folder)
    assert after.split.tolist() == before.split.tolist()
    np.testing.assert_array_equal(after.attributes, before.attributes)
    np.testing.assert_array_equal(after.landmarks_px, before.landmarks_px)


def test_pictures_that_were_stored_anew_are_named_beside_the_labels_names(folder):
    picture = folder / "img_align_celeba" / "c.jpg"
    picture.rename(picture.with_suffix(".png"))
    with pytest.raises(UserError, match=r"none of the pictures .* c\.png is there, and c\.jpg is named: "):
        read_celeba(folder)


def test_a_folder_without_labels_or_pictures_says_so(folder, tmp_path):
    with pytest.raises(UserError, match=r"list_attr_celeba.txt is missing"):
        read_celeba(tmp_path / "nowhere")
    (folder / "img_align_celeba" / "c.jpg").unlink()
    with pytest.raises(UserError, match="none of the pictures"):
        read_celeba(folder)


@pytest.mark.parametrize(("pictures", "called"), [(202_599, "official partition"), (19_960, "local split")])
def test_splits_are_celebas_own_where_all_its_pictures_are(pictures, called):
    empty = np.zeros(0)
    assert CelebaFolder(Path(), ("1.jpg",) * pictures, empty, empty, empty, empty).partition == called


def test_the_licence_forbids_commerce():
    assert "non-commercial research" in LICENCE


@pytest.mark.shared_data
def test_the_local_split_is_read_whole(shared_data):
    read = read_celeba(shared_data / "celeba")
    assert len(read.image_ids) == len(set(read.image_ids)) == 15_974
    assert dict(zip(SPLITS, np.bincount(read.split).tolist(), strict=True)) == {
        "train": 11_838,
        "val": 2_199,
        "test": 1_937,
    }
    assert read.attributes.shape == (15_974, 40)
    assert np.isfinite(read.landmarks_px).all()
    assert np.isfinite(read.boxes_px).all()
    left, right = read.landmarks_px[:, 0], read.landmarks_px[:, 2]
    assert (left < right).mean() > 0.999  # left and right as the viewer sees them


@pytest.mark.shared_data
def test_the_smaller_folders_and_their_missing_rows(shared_data):
    for name, pictures, without_points, without_box in (
        ("celeba_aligned_sample", 279, 0, 1),
        ("celeba_wild", 1_283, 1, 1),
        ("photos", 600, 1, 1),
    ):
        read = read_celeba(shared_data / name)
        assert len(read.image_ids) == pictures
        assert np.isnan(read.landmarks_px).any(axis=1).sum() == without_points
        assert np.isnan(read.boxes_px).any(axis=1).sum() == without_box
        assert all((read.pictures / image_id).is_file() for image_id in read.image_ids)


@pytest.mark.shared_data
def test_attributes_agree_with_the_official_table(shared_data):
    official = pq.read_table(shared_data / "celeba" / "labels_full.parquet", columns=["image_id", *ATTRIBUTES])
    row_of = {image_id: row for row, image_id in enumerate(official["image_id"].to_pylist())}
    values = np.stack([official[name].to_numpy() for name in ATTRIBUTES], axis=1)
    for name in ("celeba", "celeba_aligned_sample", "celeba_wild", "photos"):
        read = read_celeba(shared_data / name)
        rows = [row_of[image_id] for image_id in read.image_ids]
        np.testing.assert_array_equal(read.attributes, values[rows])


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("celeba", "pseudo-labels of a face detector"),
        ("celeba_aligned_sample", "official points"),
        ("celeba_wild", "pseudo-labels of a face detector"),
        ("photos", "pseudo-labels of a face detector"),
    ],
)
def test_whose_points_they_are_follows_from_the_file(name, source, shared_data, tmp_path):
    assert read_celeba(shared_data / name).points_source == source
    # Not from the folder's name: a file with other points is of unknown origin.
    folder = tmp_path / "celeba_aligned_sample"
    folder.mkdir()
    for labels in (shared_data / name).glob("list_*.txt"):
        (folder / labels.name).write_text(labels.read_text())
    picture = next((shared_data / name).glob("**/*.jpg"))
    (folder / picture.name).symlink_to(picture)
    points = folder / "list_landmarks_align_celeba.txt"
    count, header, *rows = points.read_text().splitlines()
    points.write_text("\n".join([count, header, *(row + "0" for row in rows)]) + "\n")
    assert read_celeba(folder).points_source == ""
    (folder / "landmarks_source.txt").write_text("\nour annotators, 2024\n")
    assert read_celeba(folder).points_source == "our annotators, 2024"
