"""CelebA: names, label files and pictures, as its authors and as Kaggle distribute them.

Reads ``list_attr_celeba.txt``, ``list_eval_partition.txt``, ``list_landmarks_align_celeba.txt`` and
``list_bbox_celeba.txt``, or the ``.csv`` of the same names, into aligned arrays; where they and the pictures may lie,
``stylematch.data.celeba_files`` says. Rows that a file lacks are unknown, never dropped. Columns are found by name;
others beside them are passed over.

Source: Liu, Luo, Wang, Tang, "Deep Learning Face Attributes in the Wild", ICCV 2015. Non-commercial research
only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stylematch.data.celeba_files import (
    WILD,
    attribute_file,
    label_cells,
    label_file,
    label_lines,
    picture_folder,
    read_aligned,
    read_list,
    read_pairs,
)
from stylematch.data.labels import PIXEL_CENTRE_PX, BinaryGroup, LabelSchema, PointGroup
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

BOX = ("x_1", "y_1", "x_2", "y_2")
SCHEMA = LabelSchema((BinaryGroup("attributes", ATTRIBUTES), PointGroup("landmarks", LANDMARKS)))
SCHEMA_WITH_BOX = LabelSchema((*SCHEMA.groups, PointGroup("box", BOX)))
SPLITS = ("train", "val", "test")
OFFICIAL_PARTITION = "official partition"
LICENCE = (
    "Learned from CelebA (Liu, Luo, Wang, Tang, ICCV 2015), which may be used for non-commercial research "
    "purposes only."
)
POINTS_FILE, WILD_POINTS_FILE = "list_landmarks_align_celeba.txt", "list_landmarks_celeba.txt"
"""Of the aligned pictures, and of the photos that these were cut from."""
POINTS_SOURCE_FILE = "landmarks_source.txt"
"""Where a folder says whose its landmarks are, in one line; no file of CelebA's does."""
OFFICIAL_POINTS, PSEUDO_POINTS = "official points", "pseudo-labels of a face detector"
# Landmark files that are known by one of their rows (its SHA-256's first 64 bits, since rows may not be passed on):
# CelebA's own, and those of the folders that this project was made with (docs/how-it-works/training.md).
_KNOWN_POINTS = {
    "000001.jpg": ("38ea5c5ac97264e7", OFFICIAL_POINTS),
    "182638.jpg": ("d8cd7e50d60f10c6", PSEUDO_POINTS),
    "000114.jpg": ("b364c73f0469a14d", PSEUDO_POINTS),
    "000176.jpg": ("a2bd6a8a58b8b44c", PSEUDO_POINTS),
}
_OWN_PIXELS_SHARE = 0.9
_PICTURES = 202_599  # of CelebA as it is distributed
BOX_COLUMNS = ("x_1", "y_1", "width", "height")


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
        0 train, 1 val, 2 test; -1 where the file has no row.
    attributes : ndarray of int8, shape (n, 40)
        1 where the attribute is present, else 0, in the order of ``ATTRIBUTES``.
    landmarks_px : ndarray of float32, shape (n, 10)
        Points by the numbers of the picture's pixels, NaN where the file has no row.
    boxes_px : ndarray of float32, shape (n, 4)
        x, y, width, height of the face, NaN where the file has no row.
    points_source : str
        Whose the landmarks are: what the folder's ``landmarks_source.txt`` says, or what is known of the file; empty
        where that is unknown.
    """

    pictures: Path
    image_ids: tuple[str, ...]
    split: npt.NDArray[np.int8]
    attributes: npt.NDArray[np.int8]
    landmarks_px: npt.NDArray[np.float32]
    boxes_px: npt.NDArray[np.float32]
    points_source: str = ""

    @property
    def partition(self) -> str:
        """What its splits are called: CelebA's own where all its pictures are there, else those of this folder."""
        return OFFICIAL_PARTITION if len(self.image_ids) == _PICTURES else "local split"

    @property
    def landmark_centres_px(self) -> npt.NDArray[np.float32]:
        """The landmarks from the picture's corner: only so does a mirror put a point where its mirror image lies."""
        return self.landmarks_px + np.float32(PIXEL_CENTRE_PX)


def read_celeba(root: Path, *, labels_alone: bool = False) -> CelebaFolder:
    """Read one folder in CelebA's layout.

    Parameters
    ----------
    root : pathlib.Path
        The folder with the label files and the pictures.
    labels_alone : bool
        Its pictures need not be there; its points are then the aligned ones'.

    Raises
    ------
    UserError
        If the attribute file or the pictures are missing, or a file is malformed; it names the line.
    """
    attributes = attribute_file(root)
    image_ids, values = read_list(attributes, ATTRIBUTES)
    if (strange := np.flatnonzero((np.abs(values) != 1).any(axis=1))).size:
        raise UserError(
            f"{attributes}: {image_ids[strange[0]]} has an attribute that is neither 1 nor -1; mend its line."
        )
    row_of = {image_id: row for row, image_id in enumerate(image_ids)}
    pictures = picture_folder(root, row_of, labels_alone)
    points = points_file(root, pictures)
    return CelebaFolder(
        pictures=pictures,
        image_ids=image_ids,
        split=_read_split(label_file(root, "list_eval_partition.txt"), row_of),
        attributes=(values > 0).astype(np.int8),
        landmarks_px=read_aligned(points, row_of, LANDMARKS),
        boxes_px=read_aligned(label_file(root, "list_bbox_celeba.txt"), row_of, BOX_COLUMNS),
        points_source=_points_source(root, points),
    )


def corners_in_picture(folder: CelebaFolder) -> npt.NDArray[np.float32]:
    """Return the corners of the boxes that are in their picture's own pixels, NaN elsewhere.

    The official boxes are in the pixels of the photos that the aligned pictures were cut from, which nothing in the
    files says. A box in its picture's own pixels holds the face's landmarks: where fewer than nine in ten of a folder's
    boxes do, none of them is used, and else those that do.

    Parameters
    ----------
    folder : CelebaFolder
        Labels.

    Returns
    -------
    ndarray of float32, shape (n, 4)
        x and y of the upper left corner, then of the lower right one, in pixels.
    """
    corners = np.concatenate([folder.boxes_px[:, :2], folder.boxes_px[:, :2] + folder.boxes_px[:, 2:]], axis=1)
    points = folder.landmarks_px.reshape(-1, 5, 2)
    known = np.isfinite(corners).all(1) & np.isfinite(points).all((1, 2))
    slack = 0.05 * folder.boxes_px[:, None, 2:]
    with np.errstate(invalid="ignore"):
        within = (points >= corners[:, None, :2] - slack) & (points <= corners[:, None, 2:] + slack)
    holds = known & within.all((1, 2))
    if holds.sum() < _OWN_PIXELS_SHARE * max(known.sum(), 1):
        holds[:] = False
    return np.where(holds[:, None], corners, np.nan).astype(np.float32)


def points_file(root: Path, pictures: Path) -> Path | None:
    """Return the file of the landmarks in the pixels of a folder's pictures: whole photos have one of their own."""
    wild = label_file(root, WILD_POINTS_FILE) if pictures.name == WILD else None
    return wild or label_file(root, POINTS_FILE)


def _points_source(root: Path, points: Path | None) -> str:
    """Return whose a folder's landmarks are, empty where nothing tells."""
    says = root / POINTS_SOURCE_FILE
    if says.is_file():
        return next((line.strip() for line in label_lines(says) if line.strip()), "")
    for _, row in label_cells(points) if points else ():
        digest, source = _KNOWN_POINTS.get(row[0], ("", ""))
        if digest and hashlib.sha256(" ".join(row).encode()).hexdigest().startswith(digest):
            return source
    return ""


def _read_split(path: Path | None, row_of: dict[str, int]) -> npt.NDArray[np.int8]:
    split = np.full(len(row_of), -1, np.int8)
    for number, (name, *value) in read_pairs(path, "partition") if path else ():
        if value not in (["0"], ["1"], ["2"]):
            raise UserError(f"{path}: line {number} is not a picture's name and its partition 0, 1 or 2.")
        if name in row_of:
            split[row_of[name]] = int(value[0])
    return split
