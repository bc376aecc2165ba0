"""Labelled pictures of garments for a bundle that is there already: any folder, its labels read as the bundle has them.

A training fits its labels to its data; here the data are fitted to the bundle. What it learned from it knows by the
digests in ``bundle.json`` (``stylematch.data.learned``), so of its own folder the held-out part is measured, and all
of another. Labels that it does not know are unknown, and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stylematch.data import fashion_mnist
from stylematch.data.copies import contents_of, first_new
from stylematch.data.labels import LabelSchema
from stylematch.data.learned import are_among
from stylematch.errors import UserError
from stylematch.pipelines.learning.labelled_data import GARMENTS, LabelledData, LabelledPictures, Labels, read_labelled
from stylematch.pipelines.learning.whole_source import cut_whole
from stylematch.settings.train_data import FOLDERS, TABLE
from stylematch.tables.shown import shown
from stylematch.vision.bundle import Bundle
from stylematch.vision.examples import Examples, fashion_mnist_examples
from stylematch.vision.whole_pictures import WORN

LEARNED_NAMES = "learned_names"
UNSAID = "does not say which pictures it learned from: train it again (a finished training only writes its bundle anew)"
"""Of a bundle without ``LEARNED_NAMES``."""
_LEARN = {
    "fashion-product": ("fashion-product", GARMENTS),
    "flixstock": ("flixstock",),
    TABLE: (TABLE, FOLDERS),
    FOLDERS: (TABLE, FOLDERS),
}
_SAID = {"test": "not learned from", "train": "learned from", "all": "all"}


def labelled_garments(
    bundle: Bundle, data: LabelledData, cache: Path, split: str, limit: int | None
) -> Iterator[tuple[str, Examples]]:
    """Give labelled pictures of garments as a bundle sees them.

    Parameters
    ----------
    bundle : Bundle
        Whose labels and input they take.
    data : LabelledData
        From ``find_labelled``.
    cache : pathlib.Path
        Folder for the cut pictures.
    split : {"train", "val", "test", "all"}
        "test": what the bundle did not learn from; "train": what it did, the watched pictures included; "all". There
        is no "val". Fashion-MNIST has files of its own for "train" and "test".
    limit : int, optional
        Only the first so many pictures.

    Yields
    ------
    title : str
        The data, the part, and how the pictures are cut.
    examples : Examples
        With the bundle's classes; labels that it does not know are -1.

    Raises
    ------
    UserError
        If the data are missing, share no label with the bundle, or have no picture of the part.
    """
    if split == "val":
        raise UserError("--split val: what a training watched counts as learned from; ask for test, train or all.")
    if data.fashion_mnist:
        yield from _fashion_mnist(bundle, data.named, split, limit)
    if data.kind is None:
        return
    kind, folder = data.kind, data.folder
    read = read_labelled(data, bundle)
    targets, unknown = _as_known(read.labels, bundle.schema, data.named)
    rows = _rows(bundle, kind, read, split, folder)[:limit]
    for mode in _modes(bundle, kind):
        cut = cut_whole(
            read.pictures, read.names, targets, tuple(targets), bundle.input_px, cache, mode, None, folder.name
        )
        examples = cut(rows)
        if mode == WORN and not len(examples):  # shoes and watches are worn by nobody, and measured as shops show them
            continue
        title = f"{folder.resolve().name}, {_SAID[split]}" + {WORN: ", below a face", "garment": ", as shops show"}.get(
            mode, ""
        )
        yield title, replace(examples, unknown={name: int(values[rows].sum()) for name, values in unknown.items()})


def new_rows(bundle: Bundle, kind: str, names: Sequence[str]) -> npt.NDArray[np.bool_] | None:
    """Return which pictures a bundle did not learn from, shape (n,); None if it learned from other data.

    Parameters
    ----------
    bundle : Bundle
        The bundle.
    kind : {"fashion-product", "flixstock", "table", "folders"}
        The data set that the pictures are of.
    names : sequence of str
        What tells the n pictures apart as the training told them: file names, or hashes of contents (table, folders).

    Raises
    ------
    UserError
        If the bundle does not say, though it learned from such data, or what it says is damaged.
    """
    if bundle.learned.get("dataset") not in _LEARN[kind]:
        return None
    learned = learned_rows(bundle, names)
    if learned is None:
        raise UserError(f"{shown(bundle.directory)} {UNSAID}, or measure --split all of a folder that is new to it.")
    return ~learned


def learned_rows(bundle: Bundle, names: Sequence[str]) -> npt.NDArray[np.bool_] | None:
    """Return which of n pictures a bundle learned from or watched, shape (n,); None where it does not say.

    Raises
    ------
    UserError
        If what it says is damaged.
    """
    text = bundle.description.get(LEARNED_NAMES)
    if text is None:
        return None
    try:
        return are_among(names, text)
    except (TypeError, ValueError) as error:
        raise UserError(f"{shown(bundle.directory)}: {LEARNED_NAMES} is damaged ({error}); get it again.") from error


def _fashion_mnist(bundle: Bundle, data: str, split: str, limit: int | None) -> Iterator[tuple[str, Examples]]:
    group = fashion_mnist.SCHEMA.groups[0]
    root = None if data in ("fashion-mnist", GARMENTS) else Path(data)
    for part in ("train", "test") if split == "all" else (split,):
        examples = fashion_mnist_examples(root, part, limit=limit)
        targets, unknown = _as_known({group.name: (examples.targets[group.name], group.labels)}, bundle.schema, data)
        counted = {name: int(values.sum()) for name, values in unknown.items()}
        yield f"fashion-mnist {part}", replace(examples, targets=targets, unknown=counted)


def _as_known(
    labels: Labels, schema: LabelSchema, data: str
) -> tuple[dict[str, npt.NDArray[np.integer]], dict[str, npt.NDArray[np.bool_]]]:
    """Return labels numbered as a model numbers them, and where it does not know the data's label, by group."""
    targets: dict[str, npt.NDArray[np.integer]] = {}
    unknown: dict[str, npt.NDArray[np.bool_]] = {}
    for group in schema.groups:
        if group.name not in labels or group.kind == "points":
            continue
        values, classes = labels[group.name]
        if group.kind == "binary":
            columns = [classes.index(label) if label in classes else -1 for label in group.labels]
            asked = np.append(values, np.full((len(values), 1), -1, values.dtype), axis=1)  # where -1 points to
            targets[group.name], unknown[group.name] = asked[:, columns], np.zeros(len(values), np.bool_)
            continue
        places = {label: place for place, label in enumerate(group.labels)}
        # The last entry is where -1, the unknown label, points to.
        targets[group.name] = np.array([*(places.get(label, -1) for label in classes), -1], np.int64)[values]
        unknown[group.name] = (values >= 0) & (targets[group.name] < 0)
    if not targets:
        raise UserError(
            f"The bundle knows {', '.join(sorted(group.name for group in schema.groups))}, and {shown(data)} labels "
            "none of it; name data that its labels are of."
        )
    return targets, unknown


def _rows(bundle: Bundle, kind: str, read: LabelledPictures, split: str, folder: Path) -> npt.NDArray[np.int64]:
    new = None if split == "all" else new_rows(bundle, kind, read.told_apart)
    if new is None:
        new = np.ones(len(read.names), np.bool_)
    rows = np.flatnonzero(~new if split == "train" else new)
    if split == "test" and list(read.told_apart) == list(read.names):
        # Told apart by their names: a copy of one that was learned from is not new, and of two that are, one counts.
        rows = np.flatnonzero(first_new(contents_of(read.pictures, read.names), ~new))
    if not len(rows):
        what = {"train": "that the bundle learned from", "test": "that the bundle did not learn from"}[split]
        raise UserError(f"--split {split}: {shown(folder)} has no pictures {what}; ask for --split all.")
    return rows


def _modes(bundle: Bundle, kind: str) -> tuple[str, ...]:
    """Return how pictures are cut: as the bundle learned them; in Fashion-MNIST's look, worn ones too."""
    description: dict[str, Any] = bundle.description
    mode = description["input"].get("resize", "garment")
    return (mode, WORN) if mode == "garment" and kind == "fashion-product" else (mode,)
