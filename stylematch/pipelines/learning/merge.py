"""``data merge celeba``: all label files of a CelebA folder as one table, with the style of each picture.

One row per picture of the attribute file, in its order; what another file has no row for is null. Columns have
CelebA's own names; ``style`` is what a rule set says of the true attributes. The pictures themselves need not be there.
Where both landmark files are, those in the pixels of the folder's pictures (or, without these, of aligned ones) have
CelebA's names, and the others ``wild_`` (the photos as found) or ``aligned_`` before theirs.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from stylematch.data.celeba import (
    ATTRIBUTES,
    BOX_COLUMNS,
    LICENCE,
    POINTS_FILE,
    WILD_POINTS_FILE,
    CelebaFolder,
    points_file,
    read_celeba,
)
from stylematch.data.celeba_files import label_file, read_aligned, read_pairs
from stylematch.data.fashion_mnist import CLASSES
from stylematch.errors import UserError
from stylematch.style.rules import load_rules
from stylematch.style.ruleset import RuleSet
from stylematch.tables.contract import LANDMARKS
from stylematch.tables.disk import check_writable, explained, write_durably
from stylematch.tables.shown import is_url, shown

IDENTITY_FILE = "identity_CelebA.txt"
_OTHER_POINTS = {"wild_": WILD_POINTS_FILE, "aligned_": POINTS_FILE}


@dataclass(frozen=True)
class MergeSummary:
    """What was merged.

    Attributes
    ----------
    out : pathlib.Path
        The table's file.
    rows : int
        Pictures of the attribute file.
    known : dict of str to int
        How many of them have a row in each of the other files.
    """

    out: Path
    rows: int
    known: dict[str, int]

    def lines(self) -> list[str]:
        """Return what the command prints."""
        known = ", ".join(f"{count:,} with {what}" for what, count in self.known.items())
        return [f"{self.rows:,} pictures in {shown(self.out)}: {known}"]


def merge_celeba(root: Path, out: Path, rules: str = "wardrobe") -> MergeSummary:
    """Write the merged table of a CelebA folder as Parquet.

    Parameters
    ----------
    root : pathlib.Path
        A folder in CelebA's layout.
    out : pathlib.Path
        A file name that ends in ``.parquet``; a file of that name is replaced, in one step.
    rules : str
        The name of a shipped rule set ("wardrobe") or the path of a rule file.

    Raises
    ------
    UserError
        If ``out`` is no such name, the rule set is not valid, or a label file is missing or malformed.
    StylematchError
        If the table cannot be written.
    """
    if is_url(out) or out.suffix != ".parquet" or out.is_dir():
        raise UserError(f"--out {shown(out)} is no name of a file here that ends in .parquet; give one.")
    check_writable(out.absolute().parent)
    table = merged_table(root, load_rules(rules, attribute_names=ATTRIBUTES, categories=CLASSES))
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    with explained("make the folder of", out):
        out.parent.mkdir(parents=True, exist_ok=True)
    write_durably(out, buffer.getvalue())
    columns = {
        "a partition": "partition",
        "an identity": "identity",
        "a box": BOX_COLUMNS[0],
        "landmarks": LANDMARKS[0],
    }
    columns |= {
        f"landmarks ({prefix.strip('_')})": f"{prefix}{LANDMARKS[0]}"
        for prefix in _OTHER_POINTS
        if f"{prefix}{LANDMARKS[0]}" in table.column_names
    }
    known = {what: table.num_rows - table.column(name).null_count for what, name in columns.items()}
    return MergeSummary(out, table.num_rows, known)


def merged_table(root: Path, rules: RuleSet) -> pa.Table:
    """Merge the label files of a CelebA folder.

    Parameters
    ----------
    root : pathlib.Path
        A folder in CelebA's layout.
    rules : RuleSet
        Over ``ATTRIBUTES``.

    Returns
    -------
    pyarrow.Table
        ``image_id``, ``partition`` (0 train, 1 val, 2 test), ``identity``, the 40 attributes as booleans, the
        box and the landmarks as float32 in the pixels that their files are in, those of the other landmark file (such
        as ``wild_lefteye_x``) where there is one, ``style``.

    Raises
    ------
    UserError
        If a label file is missing or malformed.
    """
    folder = read_celeba(root, labels_alone=True)
    present = folder.attributes == 1
    columns: dict[str, pa.Array] = {
        "image_id": pa.array(folder.image_ids, pa.string()),
        "partition": pa.array(folder.split, pa.int8(), mask=folder.split < 0),
        "identity": _identities(label_file(root, IDENTITY_FILE), folder),
    }
    columns |= {name: pa.array(present[:, place]) for place, name in enumerate(ATTRIBUTES)}
    for names, values in ((BOX_COLUMNS, folder.boxes_px), (LANDMARKS, folder.landmarks_px)):
        columns |= {name: pa.array(values[:, place], from_pandas=True) for place, name in enumerate(names)}
    columns |= _other_points(root, folder)
    columns["style"] = pa.array(np.array(rules.styles, object)[rules.hard(present)], pa.string())
    about = {"licence": LICENCE, "rules": rules.name, "rules_sha256": rules.sha256}
    return pa.table(columns, metadata=about)


def _other_points(root: Path, folder: CelebaFolder) -> dict[str, pa.Array]:
    """Return the columns of the landmark file that is not in the pixels of the folder's pictures, if there is one."""
    row_of = {image_id: row for row, image_id in enumerate(folder.image_ids)}
    used = points_file(root, folder.pictures)
    columns: dict[str, pa.Array] = {}
    for prefix, name in _OTHER_POINTS.items():
        path = label_file(root, name)
        if path is not None and path != used:
            values = read_aligned(path, row_of, LANDMARKS)
            columns |= {
                f"{prefix}{point}": pa.array(values[:, place], from_pandas=True)
                for place, point in enumerate(LANDMARKS)
            }
    return columns


def _identities(path: Path | None, folder: CelebaFolder) -> pa.Array:
    """Return the number of the person in each picture, null where the file has no row or does not exist."""
    row_of = {image_id: row for row, image_id in enumerate(folder.image_ids)}
    identity: npt.NDArray[np.int64] = np.full(len(row_of), -1, np.int64)
    for number, words in read_pairs(path, "identity") if path else ():
        # Ten digits are more than there are people.
        if len(words) != 2 or not words[1].isascii() or not words[1].isdigit() or len(words[1]) > 10:
            raise UserError(f"{path}: line {number} is not a picture's name and the number of a person.")
        if words[0] in row_of:
            identity[row_of[words[0]]] = int(words[1])
    return pa.array(identity, mask=identity < 0)
