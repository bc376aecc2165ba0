import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stylematch.vision.faces import FaceBox
from stylematch.vision.garments import TORSO_VISIBLE, cut_garment, garment_square, torso_square


def shop_picture(ground=(255, 255, 255), garment=(200, 30, 30), box=(30, 20, 70, 90), size=(120, 100)):
    picture = Image.new("RGB", size, ground)
    picture.paste(garment, box)
    return np.asarray(picture)


def test_a_garment_is_trimmed_squared_and_negated():
    square, negated = garment_square(shop_picture())
    assert (square.x, square.y, square.side) == (15, 20, 70)
    assert not negated
    seen = cut_garment(shop_picture(), 28)
    assert seen.shape == (28, 28, 3)
    np.testing.assert_array_equal(seen[14, 14], [55, 225, 225])
    np.testing.assert_array_equal(seen[14, 1], [0, 0, 0])


def test_a_picture_on_black_is_as_fashion_mnist_is_already():
    picture = shop_picture(ground=(0, 0, 0), garment=(180, 180, 180))
    seen = cut_garment(picture, 28)
    np.testing.assert_array_equal(seen[14, 14], [180, 180, 180])
    np.testing.assert_array_equal(seen[14, 1], [0, 0, 0])


def test_a_garment_that_touches_the_border_of_its_black_picture_is_not_negated():
    picture = shop_picture(ground=(0, 0, 0), garment=(180, 180, 180), box=(0, 40, 100, 110), size=(100, 120))
    square, negated = garment_square(picture)
    assert (square.side, negated) == (120, True)  # the border is not even: the picture is taken whole
    np.testing.assert_array_equal(cut_garment(picture, 28)[14, 14], [180, 180, 180])


def test_a_black_garment_that_fills_its_picture_is_not_its_ground():
    picture = shop_picture(ground=(250, 250, 250), garment=(24, 22, 26), box=(20, 0, 100, 120), size=(100, 120))
    square, negated = garment_square(picture)
    assert (square.side, negated) == (120, False)


def test_a_picture_without_an_even_border_is_taken_whole():
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    square, negated = garment_square(noise)
    assert (square.x, square.y, square.side, negated) == (0, -10, 80, False)
    blank = np.full((50, 40, 3), 250, np.uint8)  # nothing stands out
    assert garment_square(blank)[0].side == 50


@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60), st.integers(1, 50), st.integers(1, 40)),
    st.integers(0, 255).filter(lambda level: abs(level - 128) > 60),
)
def test_the_square_holds_just_what_stands_out(place, level):
    left, top, width, height = place
    picture = np.full((110, 130, 3), level, np.uint8)
    picture[top : top + height, left : left + width] = 128
    square, _ = garment_square(picture)
    assert square.side == max(width, height)
    assert square.x <= left
    assert square.x + square.side >= left + width
    assert square.y <= top
    assert square.y + square.side >= top + height


def test_a_torso_lies_below_its_face_and_has_to_be_visible():
    face = FaceBox(100, 50, 40, 50, 1.0)
    square = torso_square(face, 300, 400)
    assert square.x + square.side / 2 == pytest.approx(120)
    assert square.y > 100
    assert torso_square(face, 300, 110) is None  # the photo ends at the chin
    seen = min(square.x + square.side, 300) - max(square.x, 0)
    enough = int(square.y + TORSO_VISIBLE * square.side**2 / seen) + 1
    assert torso_square(face, 300, enough) == square
    assert torso_square(face, 300, enough - 2) is None
