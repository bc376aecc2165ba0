import numpy as np
import pytest
from PIL import Image

from stylematch.errors import PhotoRejectedError, UserError
from stylematch.vision.examples import field_px
from stylematch.vision.whole_pictures import decode_whole, read_whole, resize_whole, whole_picture_examples

SIZES = ((40, 40), (30, 50), (64, 20), (40, 40), (90, 120))
NAMES = tuple(f"{number}.png" for number in range(len(SIZES)))


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, (width, height) in zip(NAMES, SIZES, strict=True):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / name)
    return folder


def examples_of(pictures, cache, names=NAMES, **options):
    targets = {"kind": np.arange(len(names)), "points": np.arange(2 * len(names)).reshape(-1, 2)}
    options = {"input_px": 24, "mode": "squash", **options}
    return whole_picture_examples(pictures, names, targets, cache=cache, **options)


def halves(width, height):
    """A picture that is red above or left and blue beyond."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 2] = 255
    first = (slice(None), slice(0, width // 2)) if width > height else (slice(0, height // 2),)
    pixels[first] = (255, 0, 0)
    return pixels


def test_squashing_stretches_both_sides_over_the_square():
    for width, height in ((40, 80), (80, 40), (16, 16), (4, 2)):
        pixels = resize_whole(halves(width, height), 32, "squash")
        assert (pixels.shape, pixels.dtype) == ((32, 32, 3), np.uint8)
        assert pixels[0, 0].tolist() == [255, 0, 0]
        assert pixels[-1, -1].tolist() == [0, 0, 255]
        assert (pixels[..., 0] > 127).mean() == pytest.approx(0.5, abs=0.04)


def test_padding_keeps_the_shape_and_repeats_the_edge():
    tall = np.zeros((80, 40, 3), np.uint8)
    tall[:, :4], tall[:, -4:] = 200, 100
    tall[10:70, 10:30] = 255
    pixels = resize_whole(tall, 40, "pad")[..., 0]
    assert (pixels[:, :10] == 200).all()
    assert (pixels[:, 30:] == 100).all()
    rows, columns = np.nonzero(pixels > 210)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 34, 15, 24)  # half as large, still 3 to 1
    np.testing.assert_array_equal(resize_whole(tall.transpose(1, 0, 2), 40, "pad")[..., 0], pixels.T)


@pytest.mark.parametrize("mode", ["squash", "pad"])
def test_a_square_of_the_size_is_left_as_it_is(mode):
    pixels = np.random.default_rng(1).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize_whole(pixels, 24, mode), pixels)


def test_another_mode_is_refused(pictures, tmp_path):
    with pytest.raises(UserError, match=r'"crop" is no way .* squash, pad'):
        resize_whole(halves(4, 8), 4, "crop")
    with pytest.raises(UserError, match='"crop" is no way'):
        examples_of(pictures, tmp_path / "cache", mode="crop")
    assert not (tmp_path / "cache").exists()


def test_a_large_picture_is_decoded_smaller_but_never_too_small(tmp_path):
    for size in ((1600, 400), (400, 1600), (1000, 1000)):
        Image.new("RGB", size, "green").save(tmp_path / "large.jpg")
        photo = decode_whole((tmp_path / "large.jpg").read_bytes(), 96, "squash")
        assert 96 <= min(photo.pixels.shape[:2]) < 200, size
        assert (photo.width, photo.height) == size
    small = decode_whole((tmp_path / "large.jpg").read_bytes(), 4000, "squash")
    assert small.pixels.shape == (1000, 1000, 3)


@pytest.mark.parametrize("mode", ["squash", "pad"])
@pytest.mark.parametrize("input_px", [24, 25, 28])  # margins of unequal halves, too
def test_training_sees_what_inference_sees(pictures, tmp_path, mode, input_px):
    done = []
    options = {"mode": mode, "input_px": input_px}
    examples = examples_of(pictures, tmp_path / "cache", margin=True, progress=done.append, **options)
    alone = examples_of(pictures, tmp_path / "cache", **options).fields
    assert (examples.ids, examples.dropped, sum(done)) == (NAMES, 0, len(NAMES))
    assert examples.fields.shape[1:] == (field_px(input_px),) * 2 + (3,)
    for position, name in enumerate(NAMES):
        seen = read_whole((pictures / name).read_bytes(), input_px, mode)
        np.testing.assert_array_equal(alone[position], seen)
        np.testing.assert_array_equal(examples.crops()[position], seen)
        start = (examples.fields.shape[1] - input_px) // 2
        np.testing.assert_array_equal(examples.fields[position, 0, start : start + input_px], seen[0])
        np.testing.assert_array_equal(examples.fields[position, start : start + input_px, -1], seen[:, -1])


def test_the_middle_of_a_garments_field_is_what_inference_sees(tmp_path):
    picture = Image.new("RGB", (224, 224), "white")
    picture.paste(Image.linear_gradient("L").resize((90, 140)).convert("RGB"), (60, 50))
    picture.save(tmp_path / "shirt.png")
    asked = {"input_px": 28, "mode": "garment", "cache": tmp_path / "cache"}
    examples, alone = (
        whole_picture_examples(tmp_path, ["shirt.png"], {"kind": np.zeros(1)}, margin=margin, **asked)
        for margin in (True, False)
    )
    assert examples.fields.shape == (1, field_px(28), field_px(28), 3)
    seen = read_whole((tmp_path / "shirt.png").read_bytes(), 28, "garment")
    np.testing.assert_array_equal(alone.fields[0], seen)
    difference = np.abs(examples.crops()[0].astype(int) - seen)
    assert np.median(difference) <= 1
    assert difference.mean() < 3
    assert (examples.fields[0, :, :3] == 0).all()  # what lies around it is the shop's white, negated


def test_worn_clothes_need_a_face(pictures, tmp_path):
    nobody = examples_of(pictures, tmp_path / "cache", mode="worn")
    assert (len(nobody), nobody.dropped) == (0, len(NAMES))


def test_pictures_that_cannot_be_decoded_are_dropped_and_counted(pictures, tmp_path):
    whole = examples_of(pictures, tmp_path / "cache")
    kept = [0, 2, 4]
    (pictures / "1.png").write_bytes((pictures / "1.png").read_bytes()[:200])
    (pictures / "3.png").unlink()
    for attempt in range(2):  # as cut, and as found again
        examples = examples_of(pictures, tmp_path / "other")
        assert (examples.ids, examples.dropped, len(examples)) == (tuple(NAMES[row] for row in kept), 2, 3), attempt
        assert examples.targets["kind"].tolist() == kept
        assert examples.targets["points"].tolist() == [[0, 1], [4, 5], [8, 9]]
        np.testing.assert_array_equal(examples.fields, whole.fields[kept])
        assert isinstance(examples.fields, np.memmap)
    for name in NAMES:
        (pictures / name).write_bytes(b"no picture")
    with pytest.raises(UserError, match="none of the 5 pictures"):
        examples_of(pictures, tmp_path / "third")
    with pytest.raises(PhotoRejectedError):
        read_whole(b"no picture", 24, "squash")


def test_the_array_is_cut_once_and_anew_for_another_recipe(pictures, tmp_path):
    cache, done = tmp_path / "cache", []
    first = np.array(examples_of(pictures, cache, progress=done.append).fields)
    again = examples_of(pictures, cache, progress=done.append)
    assert done == [1] * len(NAMES) + [len(NAMES)]  # what was cut before is done at once
    np.testing.assert_array_equal(again.fields, first)
    for options in ({"mode": "pad"}, {"input_px": 20}, {"names": NAMES[:3]}, {"names": NAMES[::-1]}):
        before = len(done)
        examples = examples_of(pictures, cache, progress=done.append, **options)
        assert len(done) - before == len(examples), options
    np.testing.assert_array_equal(examples.fields, first[::-1])
    assert not any(path.name.startswith(".") for path in cache.iterdir())


def test_an_array_that_was_not_finished_is_cut_again(pictures, tmp_path):
    cache = tmp_path / "cache"

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        examples_of(pictures, cache, progress=stop)
    assert not list(cache.iterdir())
    examples = examples_of(pictures, cache)
    np.testing.assert_array_equal(examples.fields, examples_of(pictures, tmp_path / "other").fields)


def test_processes_change_no_result(pictures, tmp_path):
    (pictures / "1.png").write_bytes(b"no picture")
    alone = examples_of(pictures, tmp_path / "one")
    together = examples_of(pictures, tmp_path / "two", workers=2)
    assert alone.ids == together.ids
    np.testing.assert_array_equal(alone.fields, together.fields)


@pytest.mark.shared_data
def test_real_garments(shared_data, tmp_path):
    folder = shared_data / "flixstock" / "images"
    names = sorted(path.name for path in folder.iterdir())[:12]
    examples = whole_picture_examples(folder, names, {}, input_px=64, mode="pad", cache=tmp_path)
    assert (len(examples), examples.dropped) == (12, 0)
    # The pictures are 225 x 300, so a quarter of the padded square is the edge repeated: 8 columns on each side.
    crops = np.asarray(examples.crops()).astype(int)
    assert np.abs(np.diff(crops[:, :, :8], axis=2)).max() == 0
    assert np.abs(np.diff(crops[:, :, 8:56], axis=2)).mean() > 1
