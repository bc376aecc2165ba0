import io

import numpy as np
import pytest
from hostile import EXAMPLES
from PIL import Image

from stylematch.data.decode import decode_photo
from stylematch.errors import PhotoRejectedError
from stylematch.vision.crops import cut, square_around_box, square_in_aligned
from stylematch.vision.face_reader import FINDER_SIDE_PX, FaceReader
from stylematch.vision.faces import FaceBox, YunetLocator

READER = FaceReader("find", 128, min_face_px=24, max_megapixels=100)
FACE = FaceBox(180, 75, 85, 105, 1)  # the astronaut's, by eye, in a picture of 512 by 512


def encoded(image, kind="JPEG"):
    stream = io.BytesIO()
    image.save(stream, kind, quality=92)
    return stream.getvalue()


def astronaut():
    return Image.open(EXAMPLES / "astronaut.jpg").convert("RGB")


def sharpness(crop):
    return np.abs(np.diff(crop.astype(float).mean(axis=2), axis=1)).mean()


def test_the_astronauts_face():
    read = READER.read((EXAMPLES / "astronaut.jpg").read_bytes())
    (box,), (square,) = read.boxes, read.squares
    assert (read.photo.width, read.photo.height) == (512, 512)
    assert box.overlap(FACE) > 0.7
    # The whole face lies in the crop's square, and the square in the photo.
    assert square.x < FACE.x
    assert square.y < FACE.y
    assert square.x + square.side > FACE.x + FACE.width
    assert square.y + square.side > FACE.y + FACE.height
    assert square.x >= 0
    assert square.y >= 0
    assert square.x + square.side <= 512
    assert read.crops.shape == (1, 128, 128, 3)
    assert read.crops.dtype == np.uint8
    np.testing.assert_array_equal(read.crops[0], cut(np.asarray(astronaut()), 512, 512, square, 128))


def test_every_face_has_its_square_and_crop_largest_first():
    read = READER.read((EXAMPLES / "group.jpg").read_bytes())
    assert len(read.boxes) == len(read.squares) == len(read.crops) == 3
    for box, square in zip(read.boxes, read.squares, strict=True):
        assert square == square_around_box(box.x, box.y, box.width, box.height)
    areas = [box.width * box.height for box in read.boxes]
    assert areas == sorted(areas, reverse=True)


def test_a_small_face_in_a_huge_photo_is_not_enlarged():
    huge = Image.new("RGB", (4000, 3000), (90, 100, 110))
    huge.paste(astronaut(), (3000, 2000))
    data = encoded(huge)
    first = decode_photo(data, max_side_px=FINDER_SIDE_PX, max_megapixels=100)
    assert first.pixels.shape[1] == 1000  # a quarter: the crop would be 46 pixels wide in it
    read = READER.read(data)
    (square,) = read.squares
    assert read.boxes[0].overlap(FaceBox(3180, 2075, 85, 105, 1)) > 0.6
    assert 128 < square.side < 300
    assert read.photo.pixels.shape == first.pixels.shape  # what the report shows stays small
    full = decode_photo(data, max_side_px=None, max_megapixels=100)
    sharp = cut(full.pixels, 4000, 3000, square, 128)
    blurred = cut(first.pixels, 4000, 3000, square, 128)
    assert sharpness(read.crops[0]) > 0.9 * sharpness(sharp)
    assert sharpness(read.crops[0]) > 1.3 * sharpness(blurred)
    assert np.abs(read.crops[0].astype(int) - sharp).mean() < 3


def test_a_large_face_is_cut_from_the_small_decode():
    data = encoded(astronaut().resize((2048, 2048)))
    read = READER.read(data)
    small = decode_photo(data, max_side_px=FINDER_SIDE_PX, max_megapixels=100)
    np.testing.assert_array_equal(read.crops[0], cut(small.pixels, 2048, 2048, read.squares[0], 128))


def test_the_same_photo_larger_gives_the_same_crop():
    crops = []
    for side in (512, 1024, 2048):
        read = READER.read(encoded(astronaut().resize((side, side), Image.Resampling.BICUBIC)))
        crops.append(cut(np.asarray(astronaut()), side, side, read.squares[0], 128).astype(int))
        assert np.abs(read.crops[0] - crops[-1]).mean() < 5
    assert np.abs(crops[0] - crops[2]).mean() < 12


def test_upright_by_exif():
    turned = READER.read((EXAMPLES / "exif_rotated.jpg").read_bytes())
    assert turned.boxes[0].overlap(FACE) > 0.7
    straight = READER.read((EXAMPLES / "astronaut.jpg").read_bytes())
    assert np.abs(turned.crops[0].astype(int) - straight.crops[0]).mean() < 20


def test_faces_under_the_minimum_are_counted():
    strict = FaceReader("find", 128, min_face_px=300, max_megapixels=100)
    read = strict.read((EXAMPLES / "group.jpg").read_bytes())
    assert read.boxes == read.squares == ()
    assert read.crops.shape == (0, 128, 128, 3)
    assert read.too_small == 3


def test_a_photo_without_a_face_has_no_crops():
    read = READER.read((EXAMPLES / "coffee.jpg").read_bytes())
    assert read.boxes == ()
    assert read.crops.shape == (0, 128, 128, 3)
    assert read.too_small == 0


@pytest.mark.parametrize("size", [(178, 218), (90, 60), (2000, 300), (1, 1), (3, 900)])
def test_an_aligned_picture_is_one_face(size):
    reader = FaceReader("aligned", 64, min_face_px=24, max_megapixels=100)
    picture = astronaut().resize(size)
    read = reader.read(encoded(picture, "PNG"))
    assert read.boxes == (FaceBox(0, 0, *size, 1.0),)
    assert read.squares == (square_in_aligned(*size),)
    expected = cut(np.asarray(picture), *size, read.squares[0], 64).astype(int)
    difference = np.abs(read.crops[0] - expected)
    if max(size) < 2 * FINDER_SIDE_PX:  # larger ones are decoded smaller
        assert difference.max() == 0
    assert difference.mean() < 3


def test_what_cannot_be_read_is_rejected():
    for name in ("truncated.jpg", "notes.jpg"):
        with pytest.raises(PhotoRejectedError):
            READER.read((EXAMPLES / name).read_bytes())
    with pytest.raises(PhotoRejectedError, match="megapixels"):
        FaceReader("find", 128, min_face_px=24, max_megapixels=0.1).read((EXAMPLES / "astronaut.jpg").read_bytes())


def test_the_finder_is_the_one_that_the_training_crops_use():
    data = (EXAMPLES / "group.jpg").read_bytes()
    photo = decode_photo(data, max_side_px=None, max_megapixels=100)
    assert READER.read(data).boxes == YunetLocator().locate(photo).boxes
