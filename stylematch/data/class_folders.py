"""Pictures whose folder is their label: ``ROOT/CLASS/...``, or ``ROOT/train/CLASS/...`` beside ``val`` and ``test``.

The layout that torchvision calls ImageFolder. Folders below a class's own belong to it; links are not followed.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from stylematch.data.label_table import PARTS, LabelTable, in_order
from stylematch.data.photos import find_photos
from stylematch.errors import UserError
from stylematch.tables.shown import shown


def read_class_folders(root: Path, group: str) -> LabelTable:
    """Read the pictures of a folder of classes.

    Parameters
    ----------
    root : pathlib.Path
        The folder. Where it has a folder ``train``, and no others than ``train``, ``val`` and ``test``, these say which
        pictures are learned from, watched and tested on.
    group : str
        What the label group is called.

    Returns
    -------
    LabelTable
        Its ``dropped`` counts pictures in no class (``no_label``), below a folder that is hidden, as programs' own
        thumbnails are (``hidden_folder``), or of a path that is no UTF-8 (``name_no_utf_8``).

    Raises
    ------
    UserError
        If there is no such folder, or no picture in a class.
    """
    if not root.is_dir():
        raise UserError(f"{shown(root)} is no directory; name one with a folder for each class.")
    folders = {path.name for path in root.iterdir() if path.is_dir() and not _is_hidden(path.name)}
    in_parts = PARTS[0] in folders and folders <= {*PARTS}
    dropped: Counter[str] = Counter()
    names, labels, parts = [], [], []
    for photo in find_photos(root):
        if photo.raw_path != photo.path.encode():
            dropped["name_no_utf_8"] += 1
            continue
        *above, _ = photo.path.split("/")
        if any(map(_is_hidden, above)):
            dropped["hidden_folder"] += 1
            continue
        if len(above) <= in_parts:
            dropped["no_label"] += 1
            continue
        names.append(photo.path)
        labels.append(above[in_parts])
        parts.append(PARTS.index(above[0]) if in_parts else 0)
    if not names:
        raise UserError(
            f"{shown(root)} has no folder with pictures, one for each class, such as {shown(root)}/coat/1.jpg."
        )
    classes = in_order(set(labels))
    number = {label: place for place, label in enumerate(classes)}
    return LabelTable(
        root,
        root,
        tuple(names),
        {group: np.array([number[label] for label in labels], np.int64)},
        {group: classes},
        np.array(parts, np.int64) if in_parts else None,
        dict(dropped),
    )


def _is_hidden(folder: str) -> bool:
    return folder.startswith(".")
