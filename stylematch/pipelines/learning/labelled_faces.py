"""Labelled people that are measured: which part of a folder in CelebA's layout, its title, what a bundle learned of it.

Whole photos are cut around the faces that are found in them, as scoring finds them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stylematch.data.celeba import SPLITS, CelebaFolder, corners_in_picture, read_celeba
from stylematch.data.photo_file import MAX_PICTURE_BYTES, read_photo
from stylematch.engines.progress import Progress
from stylematch.errors import PhotoRejectedError, UserError
from stylematch.pipelines.learning.labelled import UNSAID, learned_rows
from stylematch.tables.shown import shown
from stylematch.vision import crops
from stylematch.vision.bundle import Bundle
from stylematch.vision.examples import Examples
from stylematch.vision.face_reader import FaceReader
from stylematch.vision.faces import FaceBox, labelled_face

WILD = "celeba_wild"
"""The folder of whole photos that trainings on CelebA learn from, whatever its partition says."""


def part_of(folder: CelebaFolder, root: Path, split: str) -> int | None:
    """Return the number of the part that is asked for, None for the whole folder.

    Parameters
    ----------
    folder : CelebaFolder
        Its labels.
    root : pathlib.Path
        Where it lies.
    split : {"train", "val", "test", "all"}
        "test" of a folder that has no such part is the whole folder.

    Raises
    ------
    UserError
        If the folder has parts, but not this one.
    """
    if split == "all":
        return None
    parts = folder.split
    number = SPLITS.index(split)
    if (parts == number).any():
        return number
    if (parts >= 0).any() and split != "test":
        raise UserError(f"--split {split}: {shown(root)} has no such pictures; name another split, or all.")
    return None


def part_title(root: Path, folder: CelebaFolder, part: int | None, called: str | None = None) -> str:
    """Return what a folder's part is called where it is measured: by the folder's name, unless that is given."""
    name = called or root.absolute().name
    return name if part is None else f"{name} {SPLITS[part]} ({folder.partition})"


def count_learned(bundle: Bundle, names: Sequence[str]) -> int:
    """Count the pictures that a bundle may have learned from or watched, if it learned from CelebA.

    Names tell, whatever folder they are in: CelebA's pictures are shared out otherwise in many places.

    Raises
    ------
    UserError
        If the bundle does not say what it learned from, or what it says is damaged.
    """
    if bundle.learned.get("dataset") != "celeba":
        return 0
    known = learned_rows(bundle, names)
    if known is None:
        raise UserError(f"{shown(bundle.directory)} {UNSAID}.")
    return int(known.sum())


def photo_faces(
    root: Path,
    input_px: int,
    limit: int | None = None,
    *,
    part: int | None = None,
    read: Callable[[Path], CelebaFolder] = read_celeba,
) -> Iterator[tuple[str, Examples]]:
    """Give the faces of whole photos as scoring would find and cut them.

    Parameters
    ----------
    root : pathlib.Path
        A folder in CelebA's layout with photos as found.
    input_px : int
        Side of the crop.
    limit : int, optional
        Only the first so many photos.
    part : int, optional
        0 train, 1 val, 2 test; None takes all.
    read : callable
        Reads the folder's labels.

    Yields
    ------
    title : str
        What ``part_title`` says, then "largest face found" and "face that meets the label".
    examples : Examples
        The largest faces have no points: the labelled ones may be another person's.
    """
    folder = read(root)
    wanted = np.arange(len(folder.image_ids)) if part is None else np.flatnonzero(folder.split == part)
    wanted = wanted[:limit]
    reader = FaceReader("find", input_px, min_face_px=24, max_megapixels=200)
    corners_px = corners_in_picture(folder)
    found: dict[str, list[tuple[int, npt.NDArray[np.uint8], crops.Square]]] = {"largest": [], "met": []}
    with Progress(len(wanted), "photos", "find faces") as progress:
        for row in wanted.tolist():
            progress.update(1)
            name = os.fsencode(folder.image_ids[row])
            try:
                faces = reader.read(read_photo(folder.pictures, name, MAX_PICTURE_BYTES))
            except PhotoRejectedError:
                continue
            x, y, width, height = (float(value) for value in folder.boxes_px[row])
            met = labelled_face(faces.boxes, FaceBox(x, y, width, height, 1.0))
            for face, square in enumerate(faces.squares):
                if face == 0:
                    found["largest"].append((row, faces.crops[face], square))
                if face == met:
                    found["met"].append((row, faces.crops[face], square))
    title = part_title(root, folder, part)
    for key, which in (("largest", "largest face found"), ("met", "face that meets the label")):
        if not found[key]:
            continue
        rows = [row for row, _, _ in found[key]]
        squares = [square for _, _, square in found[key]]
        targets: dict[str, npt.NDArray[Any]] = {"attributes": folder.attributes[rows]}
        for group, points_px in (("landmarks", folder.landmark_centres_px), ("box", corners_px)):
            points = np.stack([square.place(points_px[row]) for row, square in zip(rows, squares, strict=True)])
            targets[group] = points if key == "met" else np.full_like(points, np.nan)
        yield (
            f"{title}, {which}",
            Examples(
                tuple(folder.image_ids[row] for row in rows),
                np.stack([crop for _, crop, _ in found[key]]),
                targets,
                input_px,
                len(wanted) - len(rows),
                points_source=folder.points_source,
            ),
        )
