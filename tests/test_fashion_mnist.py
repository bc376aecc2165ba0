import gzip
import struct

import numpy as np
import pytest

from stylematch.data.fashion_mnist import (
    CLASSES,
    DEBIAN_FOLDER,
    LICENCE_TEXT,
    find_fashion_mnist,
    read_fashion_mnist,
)
from stylematch.errors import UserError

FILES = tuple(f"{split}-{kind}" for split in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))


def idx(values):
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return header + values.astype(np.uint8).tobytes()


def items(count):
    rng = np.random.default_rng(count)
    return rng.integers(0, 256, (count, 28, 28), dtype=np.uint8), np.arange(count) % 10


@pytest.fixture
def folder(tmp_path):
    """A copy with 20 training and 7 test items; the test files are not gzipped."""
    for prefix, count in (("train", 20), ("t10k", 7)):
        pictures, labels = items(count)
        for kind, values in (("images-idx3-ubyte", pictures), ("labels-idx1-ubyte", labels)):
            name = f"{prefix}-{kind}"
            if prefix == "train":
                (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(values)))
            else:
                (tmp_path / name).write_bytes(idx(values))
    return tmp_path


def test_files_are_read_gzipped_or_not(folder):
    for split, count in (("train", 20), ("test", 7)):
        pictures, labels = items(count)
        read = read_fashion_mnist(folder, split)
        np.testing.assert_array_equal(read.pictures, pictures)
        np.testing.assert_array_equal(read.labels, labels)
        assert (read.pictures.dtype, read.labels.dtype) == (np.uint8, np.int64)
        assert read.item_ids[-1] == f"fashion-mnist-{split}-{count - 1:05d}"


def test_the_named_folder_is_the_only_one_tried(folder, monkeypatch):
    assert find_fashion_mnist(folder) == folder
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError, match="does not hold Fashion-MNIST's four IDX files"):
        find_fashion_mnist(folder)


def test_the_data_folder_goes_before_debians(folder, monkeypatch):
    data = folder.parent / "data"
    data.mkdir()
    folder.rename(data / "fashion_mnist")
    monkeypatch.setenv("STYLEMATCH_DATA", str(data))
    assert find_fashion_mnist() == data / "fashion_mnist"


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda data: data[:-5], "holds 15675 values, its header says"),
        (lambda data: data + b"\0", "holds 15681 values, its header says"),
        (lambda data: b"", "is not an IDX file"),
        (lambda data: data[:10], "is not an IDX file"),
        (lambda data: b"\0\0\x0d" + data[3:], "is not an IDX file"),
        (lambda data: b"\0\0\x08\0", "is not an IDX file"),
        (lambda data: b"\0\0\x08\xff" + b"\xff" * 1020, "header says"),
        (lambda data: idx(items(19)[0]), "as many labels as 28x28 pictures"),
        (lambda data: idx(np.zeros((20, 28, 27))), "as many labels as 28x28 pictures"),
        (lambda data: idx(np.zeros(20)), "as many labels as 28x28 pictures"),
    ],
)
def test_damaged_pictures_are_a_sentence(folder, break_it, message):
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(break_it(idx(items(20)[0]))))
    with pytest.raises(UserError, match=message):
        read_fashion_mnist(folder, "train")


@pytest.mark.parametrize("where", ["head", "middle", "end", "checksum"])
def test_damaged_gzip_is_a_sentence(folder, where):
    path = folder / "train-images-idx3-ubyte.gz"
    data = bytearray(path.read_bytes())
    match where:
        case "head":
            data[:2] = b"??"
        case "middle":
            data[15:400] = bytes(255 - value for value in data[15:400])
        case "end":
            del data[-100:]
        case "checksum":
            data[-8] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz (cannot be read|holds|is not)"):
        read_fashion_mnist(folder, "train")


def test_a_missing_file_and_a_strange_class_are_named(folder):
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.full(20, 10))))
    with pytest.raises(UserError, match="train labels name classes over 9"):
        read_fashion_mnist(folder, "train")
    (folder / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match=r"train-labels-idx1-ubyte.gz is missing"):
        read_fashion_mnist(folder, "train")


def test_the_licence_text_is_whole():
    assert LICENCE_TEXT.startswith("Copyright (c) 2017 Zalando SE")
    assert "WITHOUT WARRANTY OF ANY KIND" in LICENCE_TEXT


@pytest.mark.skipif(not (DEBIAN_FOLDER / f"{FILES[0]}.gz").is_file(), reason=f"Fashion-MNIST is not in {DEBIAN_FOLDER}")
def test_the_real_files(monkeypatch):
    monkeypatch.delenv("STYLEMATCH_DATA", raising=False)
    folder = find_fashion_mnist()
    assert folder == DEBIAN_FOLDER
    for split, count in (("train", 60_000), ("test", 10_000)):
        read = read_fashion_mnist(folder, split)
        assert read.pictures.shape == (count, 28, 28)
        assert np.bincount(read.labels).tolist() == [count // 10] * len(CLASSES)
        assert len(set(read.item_ids)) == count
        assert read.item_ids[12] == f"fashion-mnist-{split}-00012"
    # Trousers are narrow, bags are wide: the labels belong to the pictures.
    lit = (read.pictures > 50).any(axis=1).sum(axis=1)
    assert np.median(lit[read.labels == CLASSES.index("Trouser")]) < 18
    assert np.median(lit[read.labels == CLASSES.index("Bag")]) > 24
