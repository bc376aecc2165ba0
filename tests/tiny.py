"""Small data sets in the layouts of the real ones, made of the example photos and the shipped items."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image
from program import DEFAULT_INDEX, EXAMPLES

from stylematch.data.celeba import ATTRIBUTES, BOX_COLUMNS
from stylematch.data.fashion_mnist import CLASSES
from stylematch.tables.contract import LANDMARKS

TRAIN_ITEMS, TEST_ITEMS = 80, 120
# Picture: the example it is cut from, the square around the head (left, top, side), and its partition.
FACES = {
    "000001.jpg": ("astronaut.jpg", (140, 30, 170), 0),
    "000002.jpg": ("grace_hopper.jpg", (130, 60, 280), 0),
    "000003.jpg": ("group.jpg", (510, 60, 250), 0),
    "000004.jpg": ("more photos/hopper_mirrored.jpg", (70, 50, 190), 0),
    "000005.jpg": ("astronaut.jpg", (130, 20, 190), 1),
    "000006.jpg": ("grayscale.jpg", (130, 60, 280), 2),
}
CELEBA_PICTURES = ("b.jpg", "a.jpg", "c.jpg")


def write_fashion_mnist(folder: Path) -> Path:
    """Write the four IDX files: 80 training and 120 test items, of every category equally many."""
    columns = pq.read_table(DEFAULT_INDEX / "items" / "rows.parquet", columns=["category", "picture"]).to_pylist()
    by_category = {name: [row["picture"] for row in columns if row["category"] == name] for name in CLASSES}
    count = TRAIN_ITEMS + TEST_ITEMS
    labels = np.arange(count) % len(CLASSES)
    pictures = [by_category[CLASSES[label]][position // len(CLASSES)] for position, label in enumerate(labels)]
    folder.mkdir(parents=True)
    for prefix, part in (("train", slice(0, TRAIN_ITEMS)), ("t10k", slice(TRAIN_ITEMS, count))):
        chosen = pictures[part]
        sizes = np.array([len(chosen), 28, 28], ">u4").tobytes()
        _write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", b"\0\0\x08\x03" + sizes + b"".join(chosen))
        sizes = np.array([len(chosen)], ">u4").tobytes()
        _write_idx(
            folder / f"{prefix}-labels-idx1-ubyte.gz",
            b"\0\0\x08\x01" + sizes + labels[part].astype(np.uint8).tobytes(),
        )
    return folder


def _write_idx(path: Path, data: bytes) -> None:
    path.write_bytes(gzip.compress(data, mtime=0))


def write_celeba(folder: Path, present: tuple[str, ...] = ("Young",), *, missing: tuple[str, ...] = ()) -> Path:
    """Write six aligned portraits and CelebA's label files; ``missing`` are listed too, but are no files."""
    pictures = folder / "img_align_celeba"
    pictures.mkdir(parents=True)
    for name, (example, (left, top, side), _) in FACES.items():
        with Image.open(EXAMPLES / example) as photo:
            height = side * 218 // 178
            crop = photo.convert("RGB").crop((left, top, left + side, top + height))
            crop.resize((178, 218), Image.Resampling.LANCZOS).save(pictures / name, quality=95)
    partitions = {name: partition for name, (_, _, partition) in FACES.items()} | dict.fromkeys(missing, 0)
    values = " ".join(" 1" if name in present else "-1" for name in ATTRIBUTES)
    rows = "".join(f"{name} {values}\n" for name in partitions)
    (folder / "list_attr_celeba.txt").write_text(f"{len(partitions)}\n{' '.join(ATTRIBUTES)}\n{rows}")
    (folder / "list_eval_partition.txt").write_text("".join(f"{name} {part}\n" for name, part in partitions.items()))
    return folder


def list_text(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return what one of CelebA's list files says: a count, a header, rows."""
    return "\n".join([str(len(rows)), " ".join(header), *(" ".join(map(str, row)) for row in rows)]) + "\n"


def write_celeba_labels(folder: Path) -> Path:
    """Write the labels of three pictures; other files lack some of them, and are in another order."""
    signs = np.where(np.arange(3 * 40).reshape(3, 40) % 7 == 0, 1, -1)
    rows = [(name, *row) for name, row in zip(CELEBA_PICTURES, signs, strict=True)]
    (folder / "list_attr_celeba.txt").write_text(list_text(ATTRIBUTES, rows))
    (folder / "list_eval_partition.txt").write_text("c.jpg 2\nx.jpg 0\nb.jpg 1\n")
    points = [("x.jpg", *range(100, 110)), ("c.jpg", *range(20, 30)), ("b.jpg", *range(10))]
    (folder / "list_landmarks_align_celeba.txt").write_text(list_text(LANDMARKS, points))
    boxes = [("a.jpg", 1, 2, 30, 40)]
    (folder / "list_bbox_celeba.txt").write_text(list_text(["image_id", *BOX_COLUMNS], boxes))
    (folder / "img_align_celeba").mkdir()
    (folder / "img_align_celeba" / "c.jpg").touch()
    return folder


def write_fashion_product(folder: Path, count: int = 96) -> Path:
    """Write products of six article types in two master categories, one colour each, of the years 2010 to 2013."""
    kinds = ("Tshirts", "Jeans", "Watches", "Handbags", "Casual Shoes", "Kurtas")
    (folder / "images").mkdir(parents=True)
    rows = ["id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage"]
    rng = np.random.default_rng(0)
    for number in range(count):
        kind = number % len(kinds)
        master = "Apparel" if kind in (0, 1, 5) else "Accessories"
        gender, season = ("Men", "Women")[number % 2], ("Summer", "Fall")[number // 7 % 2]
        usage = ("Casual", "Formal", "Sports")[number // 5 % 3]
        year = 2010 + number // len(kinds) % 4
        rows.append(f"{number},{gender},{master},{master}s,{kinds[kind]},Colour {kind},{season},{year},{usage}")
        picture = rng.integers(0, 60, (80, 60, 3), dtype=np.uint8) + np.uint8(30 * kind)
        Image.fromarray(picture).save(folder / "images" / f"{number}.jpg")
    (folder / "styles.csv").write_text("\n".join(rows) + "\n")
    return folder


def write_flixstock(folder: Path, count: int = 60) -> Path:
    """Write garments whose attributes follow from their number; every seventh has no neck."""
    (folder / "images").mkdir(parents=True)
    rows = ["filename,neck,sleeve_length,pattern"]
    rng = np.random.default_rng(1)
    for number in range(count):
        neck = "#N/A" if number % 7 == 0 else number % 7
        rows.append(f"{number}.jpg,{neck},{number % 4},{number % 10}")
        picture = rng.integers(0, 200, (90, 70, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / "images" / f"{number}.jpg")
    (folder / "attributes.csv").write_text("\n".join(rows) + "\n")
    return folder


def write_label_table(folder: Path, count: int = 60) -> Path:
    """Write pictures whose kind, type, hood and lining follow from their number; return the CSV that says so."""
    (folder / "pictures").mkdir(parents=True)
    rows = ["image,kind,type,hooded,lined"]
    rng = np.random.default_rng(2)
    for number in range(count):
        kind, hooded = ("coat", "dress", "shirt")[number % 3], ("yes", "no", "")[number // 3 % 3]
        rows.append(f"pictures/{number}.png,{kind},{(1, 2, '')[number // 2 % 3]},{hooded},{number % 2}")
        picture = rng.integers(0, 40, (70, 50, 3), dtype=np.uint8)
        picture[..., number % 3] += 120
        Image.fromarray(picture).save(folder / "pictures" / f"{number}.png")
    table = folder / "labels.csv"
    table.write_text("\n".join(rows) + "\n")
    return table
