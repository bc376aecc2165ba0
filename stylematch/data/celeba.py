"""CelebA: names, label files and pictures, in the official layout.

Reads ``list_attr_celeba.txt``, ``list_eval_partition.txt``, ``list_landmarks_align_celeba.txt`` and
``list_bbox_celeba.txt`` as they are distributed (a count, a header, white-space separated rows) into aligned
arrays. Pictures lie in ``img_align_celeba/``, ``img_celeba/`` or beside the label files. Rows that a file
lacks are unknown, never dropped.

Source: Liu, Luo, Wang, Tang, "Deep Learning Face Attributes in the Wild", ICCV 2015. Non-commercial research
only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stylematch.data.labels import BinaryGroup, LabelSchema, PointGroup
from stylematch.errors import UserError
from stylematch.tables.contract import LANDMARKS

ATTRIBUTES = (
    "5_o_Clock_Shadow",
    "Arched_Eyebrows",
    "Attractive",
    "Bags_Under_Eyes",
    "Bald",
    "Bangs",
    "Big_Lips",
    "Big_Nose",
    "Black_Hair",
    "Blond_Hair",
    "Blurry",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Chubby",
    "Double_Chin",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Heavy_Makeup",
    "High_Cheekbones",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Narrow_Eyes",
    "No_Beard",
    "Oval_Face",
    "Pale_Skin",
    "Pointy_Nose",
    "Receding_Hairline",
    "Rosy_Cheeks",
    "Sideburns",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Wearing_Necklace",
    "Wearing_Necktie",
    "Young",
)

SCHEMA = LabelSchema((BinaryGroup("attributes", ATTRIBUTES), PointGroup("landmarks", LANDMARKS)))
SPLITS = ("train", "val", "test")
LICENCE = "Learned from CelebA (Liu, Luo, Wang, Tang, ICCV 2015), which may be used for non-commercial research purposes only."


@dataclass(frozen=True)
class CelebaFolder:
    """The labels of one CelebA folder, row by row in the order of its attribute file.

    Attributes
    ----------
    pictures : pathlib.Path
        The folder of the pictures.
    image_ids : tuple of str
        File names, n of them.
    split : ndarray of int8, shape (n,)
        0 train, 1 val, 2 test.
    attributes : ndarray of int8, shape (n, 40)
        1 where the attribute is present, else 0, in the order of ``ATTRIBUTES``.
    landmarks_px : ndarray of float32, shape (n, 10)
        Points in the picture's pixels, NaN where the file has no row.
    boxes_px : ndarray of float32, shape (n, 4)
        x, y, width, height of the face, NaN where the file has no row.
    """

    pictures: Path
    image_ids: tuple[str, ...]
    split: npt.NDArray[np.int8]
    attributes: npt.NDArray[np.int8]
    landmarks_px: npt.NDArray[np.float32]
    boxes_px: npt.NDArray[np.float32]


def read_celeba(root: Path) -> CelebaFolder:
    """Read one folder in CelebA's layout.

    Parameters
    ----------
    root : pathlib.Path
        The folder with ``list_attr_celeba.txt`` and the pictures.

    Raises
    ------
    UserError
        If the attribute file or the pictures are missing or an attribute is unknown.
    """
    header, image_ids, values = _read_list(root / "list_attr_celeba.txt")
    if tuple(header) != ATTRIBUTES:
        raise UserError(
            f"{root / 'list_attr_celeba.txt'}: line 2 does not name CelebA's 40 attributes in their order."
        )
    row_of = {image_id: row for row, image_id in enumerate(image_ids)}
    split = np.zeros(len(image_ids), np.int8)
    partition_file = root / "list_eval_partition.txt"
    if partition_file.is_file():
        for number, line in enumerate(partition_file.read_text().splitlines(), start=1):
            name, _, value = line.strip().partition(" ")
            if value not in ("0", "1", "2"):
                raise UserError(f"{partition_file}: line {number} has no partition 0, 1 or 2.")
            if name in row_of:
                split[row_of[name]] = int(value)
    return CelebaFolder(
        pictures=_picture_folder(root),
        image_ids=image_ids,
        split=split,
        attributes=(values > 0).astype(np.int8),
        landmarks_px=_aligned(root / "list_landmarks_align_celeba.txt", row_of, len(LANDMARKS)),
        boxes_px=_aligned(root / "list_bbox_celeba.txt", row_of, 4),
    )


def _picture_folder(root: Path) -> Path:
    for name in ("img_align_celeba", "img_celeba"):
        if (root / name).is_dir():
            return root / name
    return root


def _read_list(path: Path) -> tuple[list[str], tuple[str, ...], npt.NDArray[np.float32]]:
    """Return header names, image ids and the numbers (n, columns) of one of CelebA's list files."""
    if not path.is_file():
        raise UserError(f"{path} is missing: this is not a folder in CelebA's layout.")
    lines = path.read_text().splitlines()
    header = lines[1].split() if len(lines) > 1 else []
    if header and header[0] == "image_id":
        header = header[1:]
    rows = [line.split() for line in lines[2:] if line.strip()]
    for number, row in enumerate(rows, start=3):
        if len(row) != len(header) + 1:
            raise UserError(
                f"{path}: line {number} has {len(row) - 1} values, the header names {len(header)}."
            )
    values = np.array([row[1:] for row in rows], np.float32).reshape(len(rows), len(header))
    return header, tuple(row[0] for row in rows), values


def _aligned(path: Path, row_of: dict[str, int], columns: int) -> npt.NDArray[np.float32]:
    """Return the file's rows in the order of ``row_of``, NaN where it has none or does not exist."""
    result = np.full((len(row_of), columns), np.nan, np.float32)
    if path.is_file():
        _, image_ids, values = _read_list(path)
        known = [(row_of[name], row) for row, name in enumerate(image_ids) if name in row_of]
        if known:
            target, source = np.array(known).T
            result[target] = values[source]
    return result
