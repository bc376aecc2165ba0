import errno
import fcntl
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from stylematch.data import fashion_mnist
from stylematch.data.celeba import ATTRIBUTES
from stylematch.data.decode import decode_photo
from stylematch.errors import StylematchError
from stylematch.tables.contract import LANDMARKS
from stylematch.tables.disk import TEMPORARY_SUFFIX, sync_file
from stylematch.vision import array_files
from stylematch.vision.array_files import passing_folder, wait_until_kept
from stylematch.vision.crops import ALIGNED_TOP, Square, cut, square_in_aligned
from stylematch.vision.cut_cache import cut_once
from stylematch.vision.examples import Examples, celeba_examples, fashion_mnist_examples, field_px, joined

WIDTH, HEIGHT, COUNT = 60, 80, 6


def write_labels(root, partitions):
    names = [f"{number:06d}.png" for number in range(COUNT)]
    attributes = [f"{name} " + " ".join(["1" if n == k else "-1" for k in range(40)]) for n, name in enumerate(names)]
    points = [f"{name} " + " ".join(str(20 + number + k) for k in range(10)) for number, name in enumerate(names)]
    for file, header, rows in (
        ("list_attr_celeba.txt", ATTRIBUTES, attributes),
        ("list_landmarks_align_celeba.txt", LANDMARKS, points[:-1]),
    ):
        (root / file).write_text("\n".join([str(len(rows)), " ".join(header), *rows]) + "\n")
    (root / "list_eval_partition.txt").write_text(
        "\n".join(f"{name} {partition}" for name, partition in zip(names, partitions, strict=True))
    )


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "celeba"
    root.mkdir()
    write_labels(root, [0, 0, 0, 1, 2, 0])
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{number:06d}.png")
    return root


def test_fields_are_the_canonical_crop_grown(folder, tmp_path):
    done = []
    examples = celeba_examples(folder, 0, input_px=48, margin=True, cache=tmp_path / "cache", progress=done.append)
    assert examples.ids == ("000000.png", "000001.png", "000002.png", "000005.png")
    assert sum(done) == len(examples) == 4
    assert examples.fields.shape == (4, 60, 60, 3)
    square = square_in_aligned(WIDTH, HEIGHT)
    for position, name in enumerate(examples.ids):
        pixels = np.asarray(Image.open(folder / name))
        field = cut(pixels, WIDTH, HEIGHT, square.grown(60 / 48), 60)
        np.testing.assert_array_equal(examples.fields[position], field)
    crops = examples.crops()
    np.testing.assert_array_equal(crops, examples.fields[:, 6:54, 6:54])
    alone = celeba_examples(folder, 0, input_px=48, cache=tmp_path / "cache")
    for position, name in enumerate(alone.ids):
        crop = cut(np.asarray(Image.open(folder / name)), WIDTH, HEIGHT, square, 48)
        np.testing.assert_array_equal(alone.fields[position], crop)
    np.testing.assert_array_equal(alone.crops(), alone.fields)
    for name, values in examples.targets.items():
        np.testing.assert_array_equal(alone.targets[name], values)


@pytest.mark.parametrize("side_px", [128, 150, 75])
def test_the_middle_of_a_field_is_what_scoring_cuts(side_px, folder, tmp_path):
    smooth = Image.new("RGB", (8, 8))
    smooth.putdata([(x * 4, y * 4, 100) for y in range(8) for x in range(8)])
    smooth.resize((178, 218), Image.Resampling.BICUBIC).save(folder / "000000.png")
    examples = celeba_examples(folder, 0, input_px=side_px, margin=True, cache=tmp_path / "cache")
    assert examples.fields.shape[1] == field_px(side_px) >= 1.25 * side_px
    photo = decode_photo((folder / "000000.png").read_bytes(), max_side_px=640, max_megapixels=100)
    scored = cut(photo.pixels, photo.width, photo.height, square_in_aligned(178, 218), side_px)
    difference = np.abs(examples.crops()[0].astype(int) - scored)
    assert difference.max() <= 2
    alone = celeba_examples(folder, 0, input_px=side_px, cache=tmp_path / "cache")
    np.testing.assert_array_equal(alone.crops()[0], scored)


def test_crops_may_be_stored_smaller_than_a_model_takes_them(folder, tmp_path):
    large = celeba_examples(folder, 0, input_px=48, margin=True, cache=tmp_path / "cache")
    small = celeba_examples(folder, 0, input_px=48, crop_px=32, margin=True, cache=tmp_path / "cache")
    same = celeba_examples(folder, 0, input_px=32, margin=True, cache=tmp_path / "cache")
    assert (large.crop_px, small.crop_px, same.crop_px) == (48, 32, 32)
    np.testing.assert_array_equal(small.fields, same.fields)
    np.testing.assert_array_equal(small.crops(), same.crops())
    for name in ("landmarks", "box"):
        np.testing.assert_array_equal(small.targets[name], large.targets[name])
    assert small.subset(np.array([2, 0])).crop_px == joined([small, small]).crop_px == 32


def test_targets_are_in_units_of_the_crop(folder, tmp_path):
    examples = celeba_examples(folder, 0, input_px=48, cache=tmp_path / "cache")
    attributes, points = examples.targets["attributes"], examples.targets["landmarks"]
    np.testing.assert_array_equal(attributes.argmax(axis=1), [0, 1, 2, 5])
    top = (HEIGHT - WIDTH) * ALIGNED_TOP
    expected = [20.5 / WIDTH, (21.5 - top) / WIDTH, 22.5 / WIDTH, (23.5 - top) / WIDTH]  # a pixel's centre
    np.testing.assert_allclose(points[0, :4], expected, rtol=1e-6)
    assert np.isnan(points[3]).all()  # the file has no row for the last picture
    assert points.dtype == np.float32


def test_a_pictures_mirror_image_has_the_mirror_images_of_its_points(folder, tmp_path):
    whole = celeba_examples(folder, 0, input_px=48, cache=tmp_path / "cache")
    points = whole.targets["landmarks"][0].reshape(5, 2)
    lines = (folder / "list_landmarks_align_celeba.txt").read_text().splitlines()
    name, *numbers = lines[2].split()
    # Turned over, pixel k of a row is pixel width - 1 - k.
    numbers = [str(WIDTH - 1 - int(n)) if place % 2 == 0 else n for place, n in enumerate(numbers)]
    (folder / "list_landmarks_align_celeba.txt").write_text(
        "\n".join([*lines[:2], " ".join([name, *numbers]), *lines[3:]])
    )
    turned = celeba_examples(folder, 0, input_px=48, cache=tmp_path / "cache").targets["landmarks"][0].reshape(5, 2)
    np.testing.assert_allclose(turned, np.stack([1 - points[:, 0], points[:, 1]], 1), rtol=1e-5)


def test_the_array_is_cut_once_and_anew_for_another_recipe(folder, tmp_path):
    cache, done = tmp_path / "cache", []
    first = celeba_examples(folder, 0, input_px=48, cache=cache, progress=done.append)
    again = celeba_examples(folder, 0, input_px=48, cache=cache, progress=done.append)
    assert done == [1] * 4 + [4]  # what was cut before is done at once
    np.testing.assert_array_equal(first.fields, again.fields)
    celeba_examples(folder, 0, input_px=32, cache=cache, progress=done.append)
    celeba_examples(folder, 0, input_px=48, cache=cache, limit=2, progress=done.append)
    assert done[5:] == [1] * (4 + 2)
    # Another split of as many pictures must not get the old pictures under its labels.
    write_labels(folder, [0, 1, 0, 0, 2, 0])
    moved = celeba_examples(folder, 0, input_px=48, cache=cache, progress=done.append)
    assert moved.ids == ("000000.png", "000002.png", "000003.png", "000005.png")
    np.testing.assert_array_equal(moved.fields[1], first.fields[2])
    assert not any(path.name.startswith(".") for path in cache.iterdir())


def test_an_array_that_was_not_finished_is_cut_again(folder, tmp_path):
    cache = tmp_path / "cache"
    first = celeba_examples(folder, 0, input_px=48, cache=cache)
    expected = np.array(first.fields)
    (squares,) = cache.glob("*-squares.npy")
    squares.unlink()
    (fields,) = cache.glob("*.npy")
    fields.write_bytes(fields.read_bytes()[:1000])
    np.testing.assert_array_equal(celeba_examples(folder, 0, input_px=48, cache=cache).fields, expected)


def test_a_picture_that_was_replaced_under_its_name_is_cut_again(folder, tmp_path):
    first, second = ((folder / f"00000{number}.png").read_bytes() for number in (0, 1))
    size = max(len(first), len(second)) + 1  # what follows a picture's end is no part of it
    seen = []
    for content in (second, first.ljust(size, b"\0"), second.ljust(size, b"\0")):
        (folder / "000001.png").write_bytes(content)
        seen.append(np.array(celeba_examples(folder, 0, input_px=48, cache=tmp_path / "cache").fields))
    assert not np.array_equal(seen[0][0], seen[0][1])
    np.testing.assert_array_equal(seen[1][1], seen[0][0])
    np.testing.assert_array_equal(seen[2][1], seen[0][1])


def test_two_that_cut_the_same_at_once_both_get_a_whole_array(tmp_path):
    cache, begun, go_on = tmp_path / "cache", threading.Event(), threading.Event()

    def slowly(number):
        begun.set()
        assert go_on.wait(60)
        return quickly(number)

    def quickly(number):
        return np.full((4, 4, 3), number + 1, np.uint8), Square(float(number), 0.0, 4.0)

    def cuts(function, progress=lambda _: None):
        return cut_once(function, range(3), 4, files=[], cache=cache, name="n", recipe=[], progress=progress)

    with ThreadPoolExecutor(1) as other:
        late = []

        def another_begins(_):
            if not late:
                late.append(other.submit(cuts, slowly))
                assert begun.wait(60)

        first = cuts(quickly, another_begins)
        seen = [first.fields[:, 0, 0, 0].tolist()]
        go_on.set()
        seen += [late[0].result().fields[:, 0, 0, 0].tolist(), first.fields[:, 0, 0, 0].tolist()]
    assert seen == [[1, 2, 3]] * 3
    assert len(list(cache.iterdir())) == 2
    assert cuts(slowly).squares[:, 0].tolist() == [0, 1, 2]


@pytest.fixture
def slow(monkeypatch):
    """Arrays count as large, and come to the disk when this is set."""
    go_on = threading.Event()

    def synced(path):
        assert go_on.wait(60)
        sync_file(path)

    monkeypatch.setattr(array_files, "_WORTH_A_THREAD_BYTES", 1)
    monkeypatch.setattr(array_files, "sync_file", synced)
    # Python's threads would all wait for it, and so a training.
    monkeypatch.setattr(np.memmap, "flush", lambda _: pytest.fail("an array was flushed"))
    yield go_on
    go_on.set()
    wait_until_kept()


def test_a_large_array_is_kept_while_its_training_has_begun(tmp_path, slow):
    cache, done = tmp_path / "cache", []

    def cuts():
        return cut_once(cut_of, range(3), 4, files=[], cache=cache, name="n", recipe=[], progress=done.append)

    first = cuts()
    assert [path.name.startswith(".") for path in cache.iterdir()] == [True]  # a kill would leave what is swept away
    slow.set()
    again = cuts()  # it waits for what is under way
    assert done == [1, 1, 1, 3]
    np.testing.assert_array_equal(again.rows, first.rows)
    np.testing.assert_array_equal(again.fields, first.fields)


@pytest.mark.parametrize("large", [False, True])
def test_an_array_that_the_disk_does_not_take_is_no_ones(tmp_path, slow, monkeypatch, large):
    def cuts():
        return cut_once(cut_of, range(3), 4, files=[], cache=tmp_path / "cache", name="n", recipe=[])

    def kept():
        cuts()
        wait_until_kept()

    slow.set()
    said = f"could not keep the cut pictures in {tmp_path}/cache: Input/output error"
    with monkeypatch.context() as patch:
        patch.setattr(array_files, "_WORTH_A_THREAD_BYTES", 1 if large else 2**20)
        patch.setattr(os, "fsync", lambda _: fail(OSError(errno.EIO, os.strerror(errno.EIO))))
        with pytest.raises(StylematchError, match=said) as told:
            kept()
    assert told.value.exit_code == 3
    assert list((tmp_path / "cache").iterdir()) == []
    assert cuts().rows.tolist() == [0, 2]


def fail(error):
    raise error


def test_a_passing_folder_goes_when_what_is_written_there_is_whole(slow, caplog):
    with passing_folder() as folder:
        cut_once(cut_of, range(3), 4, files=[], cache=folder, name="n", recipe=[])
        threading.Timer(0.1, slow.set).start()
    assert slow.is_set()
    assert not folder.exists()
    assert caplog.text == ""


def cut_of(number):
    if number in (1, 4):
        return None
    if number < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return np.full((4, 4, 3), number, np.uint8), Square(float(number), 0.0, 4.0)


@pytest.mark.parametrize("workers", [1, 2])
def test_pictures_that_give_nothing_leave_no_gap(tmp_path, monkeypatch, workers):
    monkeypatch.setattr("stylematch.vision.cut_cache._WORTH_A_PROCESS", 1)
    options = {"files": [], "cache": tmp_path / "cache", "name": "n", "workers": workers}
    cuts = cut_once(cut_of, range(6), 4, recipe=[], **options)
    np.testing.assert_array_equal(cuts.rows, [0, 2, 3, 5])
    np.testing.assert_array_equal(cuts.squares[:, 0], [0, 2, 3, 5])
    np.testing.assert_array_equal(cuts.fields, np.broadcast_to(np.reshape([0, 2, 3, 5], (4, 1, 1, 1)), (4, 4, 4, 3)))
    if workers > 1:
        with pytest.raises(StylematchError, match=r"a process that cuts pictures was killed.*taskset"):
            cut_once(cut_of, (0, -1), 4, recipe=["killed"], **options)
        assert len(list((tmp_path / "cache").iterdir())) == 2


def test_what_a_kill_left_is_removed_and_what_is_being_written_is_not(tmp_path):
    dead, alive, young = (tmp_path / f".n-{name}.npy.0123{TEMPORARY_SUFFIX}" for name in ("dead", "alive", "young"))
    for path in (alive, young):
        path.write_bytes(b"\0" * 100)
    os.utime(alive, (0, 0))
    with alive.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for _ in range(2):  # also where nothing is left to cut
            dead.touch()
            os.utime(dead, (0, 0))
            cut_once(lambda number: None, range(1), 4, files=[], cache=tmp_path, name="n", recipe=[])
            assert not dead.exists()
    assert alive.exists()
    assert young.exists()


def test_pictures_that_give_no_crop_are_dropped_and_counted(folder, tmp_path):
    (folder / "000001.png").unlink()
    (folder / "000002.png").write_bytes(b"no picture")
    examples = celeba_examples(folder, None, input_px=48, cache=tmp_path / "cache")
    assert examples.ids == ("000000.png", "000003.png", "000004.png", "000005.png")
    assert examples.dropped == 2
    np.testing.assert_array_equal(examples.targets["attributes"].argmax(axis=1), [0, 3, 4, 5])
    for position, name in enumerate(examples.ids):
        assert (examples.fields[position] == 0).mean() < 0.1, name


@pytest.mark.parametrize("rows", [[], [0], [2, 3, 4], [4, 3, 2], [0, 2, 1, 3], [1, 1, 3], [0, 5], [5]])
def test_a_subset_keeps_pictures_and_targets_together(rows):
    numbers = np.arange(6)
    examples = Examples(
        tuple("abcdef"),
        np.broadcast_to(numbers[:, None, None, None], (6, 4, 4, 1)).astype(np.uint8),
        {"category": numbers},
        4,
    )
    part = examples.subset(np.array(rows, int))
    assert part.ids == tuple("abcdef"[row] for row in rows)
    np.testing.assert_array_equal(part.targets["category"], rows)
    np.testing.assert_array_equal(part.fields[:, 0, 0, 0], rows)


@pytest.mark.skipif(
    not (fashion_mnist.DEBIAN_FOLDER / "t10k-images-idx3-ubyte.gz").is_file(),
    reason=f"Fashion-MNIST is not in {fashion_mnist.DEBIAN_FOLDER}",
)
def test_fashion_mnist_has_a_black_margin():
    examples = fashion_mnist_examples(fashion_mnist.DEBIAN_FOLDER, "test", margin=True, limit=50)
    items = fashion_mnist.read_fashion_mnist(fashion_mnist.DEBIAN_FOLDER, "test")
    np.testing.assert_array_equal(examples.crops()[..., 0], items.pictures[:50])
    margin = (examples.fields.shape[1] - 28) // 2
    assert margin >= 28 / 8
    assert examples.fields.sum() == items.pictures[:50].sum(dtype=np.int64)
    assert examples.ids == items.item_ids[:50]
    np.testing.assert_array_equal(examples.targets["category"], items.labels[:50])
    alone = fashion_mnist_examples(fashion_mnist.DEBIAN_FOLDER, "test", limit=50)
    np.testing.assert_array_equal(alone.fields[..., 0], items.pictures[:50])


@pytest.mark.shared_data
def test_wild_photos_are_cropped_around_the_labelled_face(shared_data, tmp_path):
    examples = celeba_examples(
        shared_data / "celeba_wild", None, input_px=64, cache=tmp_path / "cache", wild=True, limit=16
    )
    assert len(examples) + examples.dropped == 16
    assert len(examples) >= 14
    eyes = examples.targets["landmarks"][:, [0, 1, 2, 3]]
    assert np.nanmin(eyes) > 0.1
    assert np.nanmax(eyes) < 0.9
    assert np.nanmean(eyes[:, [1, 3]]) == pytest.approx(0.43, abs=0.04)
