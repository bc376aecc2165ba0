import io

import numpy as np
import pytest
from hostile import EXAMPLES
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from stylematch.data.celeba import read_celeba
from stylematch.data.decode import decode_photo
from stylematch.vision.crops import (
    EYE_IN_BOX,
    EYE_LINE,
    SIDE_PER_BOX,
    Square,
    cut,
    square_around_box,
    square_in_aligned,
)

SIZES = st.floats(1, 3000)
PLACES = st.floats(-2000, 5000)


def cut_whole(pixels, square, size_px):
    return cut(pixels, pixels.shape[1], pixels.shape[0], square, size_px)


def test_the_official_alignment_puts_the_eyes_on_the_eye_line():
    # In the official aligned pictures, 178 x 218, the eyes lie at (69.5, 112) and (108, 112) on the average.
    square = square_in_aligned(178, 218)
    assert (square.x, square.side) == (0, 178)
    assert (112 - square.y) / square.side == pytest.approx(EYE_LINE, abs=0.04)


@settings(max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90), st.floats(-150, 150), st.floats(-150, 150), st.floats(1, 300))
def test_four_channels_are_cut_as_three(width, height, x, y, side):
    four = np.random.default_rng(0).integers(0, 256, (height, width, 4), dtype=np.uint8)
    square = Square(x, y, side)
    assert np.array_equal(cut_whole(four[..., :3], square, 32), cut_whole(four[..., :3].copy(), square, 32))


@given(PLACES, PLACES, SIZES, SIZES)
def test_the_eye_line_of_a_box_lies_on_that_of_its_square(x, y, width, height):
    square = square_around_box(x, y, width, height)
    assert square.side == pytest.approx(SIDE_PER_BOX * np.sqrt(width * height))
    assert square.x + square.side / 2 == pytest.approx(x + width / 2, abs=1e-6)
    assert square.y + EYE_LINE * square.side == pytest.approx(y + EYE_IN_BOX * height, abs=1e-6)


@given(PLACES, PLACES, SIZES, SIZES, st.floats(0.1, 10))
def test_a_scaled_picture_gives_the_scaled_square(x, y, width, height, scale):
    square = square_around_box(x, y, width, height)
    scaled = square_around_box(x * scale, y * scale, width * scale, height * scale)
    expected = (square.x * scale, square.y * scale, square.side * scale)
    assert (scaled.x, scaled.y, scaled.side) == pytest.approx(expected, abs=1e-5)


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_the_square_of_an_aligned_picture_is_its_largest(width, height):
    square = square_in_aligned(width, height)
    assert square.side == min(width, height)
    assert 0 <= square.x <= width - square.side
    assert 0 <= square.y <= height - square.side


@given(PLACES, PLACES, SIZES, st.floats(0.1, 10))
def test_a_grown_square_keeps_its_centre(x, y, side, factor):
    square, grown = Square(x, y, side), Square(x, y, side).grown(factor)
    assert grown.side == pytest.approx(side * factor)
    assert grown.x + grown.side / 2 == pytest.approx(square.x + square.side / 2, abs=1e-6)
    assert grown.y + grown.side / 2 == pytest.approx(square.y + square.side / 2, abs=1e-6)


def test_a_square_of_whole_pixels_at_its_own_size_is_a_slice():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    np.testing.assert_array_equal(cut_whole(pixels, Square(20, 10, 32), 32), pixels[10:42, 20:52])
    np.testing.assert_array_equal(cut_whole(pixels, Square(0, 0, 60), 60), pixels[:, :60])


def test_outside_the_photo_its_edge_is_repeated():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    padded = np.pad(pixels, ((100, 100), (100, 100), (0, 0)), mode="edge")
    for x, y in ((-30, 5), (70, 5), (20, -25), (20, 50), (-30, -30), (70, 50), (-90, -90), (120, 90)):
        crop = cut_whole(pixels, Square(x, y, 40), 40)
        np.testing.assert_array_equal(crop, padded[y + 100 : y + 140, x + 100 : x + 140])
    # And scaled, it is what the padded photo gives, so that nothing outside darkens the crop.
    for side, size_px in ((64.3, 20), (33.7, 90)):
        left = cut_whole(pixels, Square(-20.4, -10.2, side), size_px)
        np.testing.assert_array_equal(left, cut_whole(padded, Square(79.6, 89.8, side), size_px))


def test_the_cut_does_not_show_in_the_resampling():
    pixels = np.asarray(Image.open(EXAMPLES / "astronaut.jpg"))
    square, size_px = Square(150.3, 50.7, 140.9), 64
    box = (square.x, square.y, square.x + square.side, square.y + square.side)
    whole = Image.fromarray(pixels).resize((size_px, size_px), Image.Resampling.BILINEAR, box=box)
    difference = cut_whole(pixels, square, size_px).astype(int) - np.asarray(whole).astype(int)
    assert np.abs(difference).max() <= 1


def test_a_point_lands_where_the_square_says():
    picture = Image.new("RGB", (400, 300))
    ImageDraw.Draw(picture).ellipse((205, 115, 215, 125), fill="white")  # its middle is (210.5, 120.5)
    square = Square(170.25, 80.5, 90)
    crop = cut_whole(np.asarray(picture), square, 128).astype(float)[..., 0]
    rows, columns = np.indices(crop.shape) + 0.5
    found = ((columns * crop).sum() / crop.sum(), (rows * crop).sum() / crop.sum())
    expected = ((210.5 - square.x) / square.side * 128, (120.5 - square.y) / square.side * 128)
    assert found == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("factor", [2, 4])
def test_a_photo_decoded_smaller_gives_nearly_the_same_crop(factor):
    astronaut = Image.open(EXAMPLES / "astronaut.jpg").resize((2048, 2048), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    astronaut.save(stream, "JPEG", quality=92)
    full = decode_photo(stream.getvalue(), max_side_px=None, max_megapixels=100)
    small = decode_photo(stream.getvalue(), max_side_px=2048 // factor, max_megapixels=100)
    assert full.pixels.shape[0] == factor * small.pixels.shape[0]
    square = square_around_box(720, 300, 340, 420)
    crops = [cut(p.pixels, p.width, p.height, square, 128).astype(int) for p in (full, small)]
    difference = np.abs(crops[0] - crops[1])
    assert difference.mean() < 2
    shifted = np.abs(crops[0][:, 1:] - crops[1][:, :-1])  # one pixel beside is clearly worse
    assert shifted.mean() > 2 * difference.mean()


@settings(max_examples=60)
@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.floats(0.2, 4),
    st.floats(-300, 300),
    st.floats(-300, 300),
    st.floats(0.5, 400),
    st.integers(1, 64),
)
def test_any_square_gives_a_crop_of_the_size_asked_for(width, height, scale, x, y, side, size_px):
    pixels = np.full((height, width, 3), 77, np.uint8)
    photo_width, photo_height = max(1, round(width * scale)), max(1, round(height * scale))
    crop = cut(pixels, photo_width, photo_height, Square(x, y, side), size_px)
    assert crop.shape == (size_px, size_px, 3)
    assert crop.dtype == np.uint8
    assert (crop == 77).all()


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["celeba", "celeba_aligned_sample"])
def test_the_eyes_of_real_face_crops_lie_on_the_eye_line(shared_data, name):
    folder = read_celeba(shared_data / name)
    heights = []
    for row in range(0, 270, 3):
        with Image.open(folder.pictures / folder.image_ids[row]) as picture:
            square = square_in_aligned(*picture.size)
        eyes = folder.landmarks_px[row][[1, 3]].mean()
        heights.append((eyes - square.y) / square.side)
    assert np.mean(heights) == pytest.approx(EYE_LINE, abs=0.06)


@pytest.mark.shared_data
def test_boxes_and_face_crops_are_framed_alike(shared_data):
    # A network that learned from the one must not be surprised by the other.
    folder = read_celeba(shared_data / "celeba_wild")
    from stylematch.vision.faces import FaceBox, YunetLocator

    locator, points = YunetLocator(), []
    for row in range(0, 400, 8):
        data = (folder.pictures / folder.image_ids[row]).read_bytes()
        photo = decode_photo(data, max_side_px=640, max_megapixels=100)
        labelled = FaceBox(*map(float, folder.boxes_px[row]), score=1.0)
        for box in locator.locate(photo).boxes:
            if box.overlap(labelled) > 0.5:
                square = square_around_box(box.x, box.y, box.width, box.height)
                points.append((folder.landmarks_px[row].reshape(5, 2) - (square.x, square.y)) / square.side)
    mean = np.nanmean(points, axis=0)
    assert len(points) > 30
    assert mean[:2, 1].mean() == pytest.approx(EYE_LINE, abs=0.03)
    assert mean[:, 0].mean() == pytest.approx(0.5, abs=0.03)
    assert mean[1, 0] - mean[0, 0] == pytest.approx(0.229, abs=0.04)
