"""The contact sheet: what is written under a picture, where marks are drawn, and that no name can break it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageColor

from stylematch.data.labels import BinaryGroup, CategoricalGroup, LabelSchema, PointGroup
from stylematch.errors import StylematchError
from stylematch.report import contact_sheet
from stylematch.report.contact_sheet import (
    MAX_PICTURES,
    TILE_PX,
    SheetPicture,
    Subject,
    subject_of,
    write_contact_sheet,
)

LABELS = LabelSchema(
    (
        BinaryGroup("attributes", tuple("abcdefgh")),
        CategoricalGroup("kind", ("Coat", "Bag")),
        PointGroup("landmarks", ("eye_x", "eye_y")),
    )
)
NO_POINTS = np.empty((0, 2))
FIRST_TILE = (12, 52)  # left and top of the first tile on the sheet


def row(**probabilities):
    box = dict.fromkeys(("x", "y", "width", "height"), 10.0)
    values = {name: probabilities.get(name, 0.0) for name in "abcdefgh"}
    return {**box, **values, "kind": "Coat", "kind_score": 0.871, "eye_x": 12.0, "eye_y": 14.0}


def grey(width, height, name="a.jpg", **more):
    return SheetPicture(name, np.full((height, width, 3), 128, np.uint8), (width, height), **more)


def sheet(tmp_path, pictures, title="model"):
    path = tmp_path / "sheet.jpg"
    write_contact_sheet(iter(pictures), path, title=title)
    with Image.open(path) as image:
        return image.convert("RGB")


def is_near(pixel, colour):
    return max(abs(a - b) for a, b in zip(pixel, ImageColor.getrgb(colour), strict=True)) < 40


def test_labels_are_the_likely_ones_most_probable_first_and_the_class():
    subject = subject_of(LABELS, row(c=0.5, a=0.61, h=0.994, b=0.49), {})
    assert subject.labels == ("h 99 %", "a 61 %", "c 50 %", "kind: Coat 87 %")
    assert subject.box == (10.0, 10.0, 10.0, 10.0)
    assert subject.points.tolist() == [[12.0, 14.0]]


def test_a_label_is_drawn_from_the_threshold_that_its_model_has_for_it():
    thresholds = {"attributes": {"a": 0.1, "b": 0.9}}
    assert subject_of(LABELS, row(a=0.2, b=0.8, c=0.6), thresholds).labels[:-1] == ("c 60 %", "a 20 %")


def test_at_most_six_labels_of_a_group_and_a_word_where_there_is_none():
    everything = subject_of(LABELS, row(**{name: 0.9 - place / 100 for place, name in enumerate("abcdefgh")}), {})
    assert [label[0] for label in everything.labels[:-1]] == list("abcdef")
    assert subject_of(LABELS, row(), {}).labels[0] == "no attributes"


def test_a_whole_picture_has_no_box():
    whole = {**row(), "x": None, "y": None, "width": None, "height": None}
    assert subject_of(LABELS, whole, {}).box is None


def test_boxes_and_points_are_drawn_where_they_lie_in_the_full_size_photo(tmp_path):
    # A photo of 1200 x 600 px, decoded at half its size: on the tile it is 300 x 150, in the middle.
    subject = Subject((400, 200, 400, 200), np.array([[600.0, 300.0]]), ("x",))
    pixels = np.full((300, 600, 3), 128, np.uint8)
    image = sheet(tmp_path, [SheetPicture("a.jpg", pixels, (1200, 600), (subject,))])
    left, top = FIRST_TILE[0], FIRST_TILE[1] + 75
    colour = contact_sheet._COLOURS[0]
    assert is_near(image.getpixel((left + 100, top + 75)), colour)
    assert is_near(image.getpixel((left + 150, top + 50)), colour)
    assert is_near(image.getpixel((left + 199, top + 75)), colour)
    assert is_near(image.getpixel((left + 150, top + 75)), colour)
    assert is_near(image.getpixel((left + 125, top + 75)), "#808080")
    assert is_near(image.getpixel((left + 50, top + 20)), "#808080")


def test_no_more_pictures_are_taken_than_are_drawn(tmp_path):
    taken = []

    def pictures():
        for number in range(1000):
            taken.append(number)
            yield grey(4, 4, f"{number}.jpg")

    path = tmp_path / "sheet.jpg"
    write_contact_sheet(pictures(), path, title="many")
    assert len(taken) == MAX_PICTURES == 48
    with Image.open(path) as image:
        assert image.width == 6 * (TILE_PX + 12) + 12


def test_a_sheet_without_pictures_and_a_picture_without_pixels(tmp_path):
    assert sheet(tmp_path, []).width > TILE_PX
    image = sheet(tmp_path, [SheetPicture("torn.jpg", None, (0, 0), note="rejected: truncated")])
    assert is_near(image.getpixel((FIRST_TILE[0] + 150, FIRST_TILE[1] + 150)), contact_sheet._BLANK)


@pytest.mark.parametrize(("width", "height"), [(1, 5000), (5000, 1), (1, 1), (3, 7)])
def test_pictures_of_any_shape(tmp_path, width, height):
    subject = Subject((0, 0, width, height), np.array([[0.0, 0.0]]), ("x",))
    assert sheet(tmp_path, [grey(width, height, subjects=(subject,))]).height > TILE_PX


@settings(max_examples=40)
@given(
    name=st.text(min_size=1, max_size=400),
    labels=st.lists(st.text(max_size=80), max_size=30),
    note=st.none() | st.text(max_size=300),
    title=st.text(max_size=300),
)
def test_no_text_breaks_the_sheet_or_leaves_its_tile(tmp_path_factory, name, labels, note, title):
    subjects = (Subject((1, 1, 5, 5), NO_POINTS, tuple(labels)), Subject(None, NO_POINTS, ("b",)))
    picture = grey(20, 20, name, subjects=subjects, note=note)
    lines = [text for text, _ in contact_sheet._lines(picture)]
    assert len(lines) <= contact_sheet._MAX_LINES + 1
    for line in lines:
        assert line.isascii()
        assert contact_sheet._font(13).getlength(line) <= TILE_PX
    image = sheet(tmp_path_factory.mktemp("sheet"), [picture], title)
    assert image.width == 2 * (TILE_PX + 12) + 12


def test_what_finds_no_room_is_counted():
    crowd = tuple(Subject((0, 0, 5, 5), NO_POINTS, ("Smiling 99 %",)) for _ in range(30))
    lines = [text for text, _ in contact_sheet._lines(grey(20, 20, subjects=crowd))]
    assert lines[0].startswith("0: Smiling")
    assert lines[-1] == f"and {30 - (len(lines) - 1)} more"


def test_equal_pictures_give_equal_bytes(tmp_path):
    pictures = [grey(40, 30, subjects=(Subject((1, 1, 20, 20), NO_POINTS, ("a 99 %",)),))] * 3
    for name in ("one.jpg", "two.jpg"):
        write_contact_sheet(pictures, tmp_path / name, title="t")
    assert (tmp_path / "one.jpg").read_bytes() == (tmp_path / "two.jpg").read_bytes()


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(StylematchError, match="could not write"):
        write_contact_sheet([], tmp_path / "gone" / "sheet.jpg", title="t")
