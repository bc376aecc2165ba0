"""The contract with users: schemas, keys, reason codes and exit codes of everything that a run writes.

Columns may be added; names, types and meanings here are fixed. The attribute names and the embedding's size
come from the model bundle, so the faces schema is a function of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, StrEnum

import pyarrow as pa

TABLES = ("photos", "faces", "recommendations")
KEYS = {"photos": ("path",), "faces": ("path", "face"), "recommendations": ("path", "face", "rank")}

LANDMARKS = (
    "lefteye_x",
    "lefteye_y",
    "righteye_x",
    "righteye_y",
    "nose_x",
    "nose_y",
    "leftmouth_x",
    "leftmouth_y",
    "rightmouth_x",
    "rightmouth_y",
)


class ExitCode(IntEnum):
    """What a scheduler reads: the exit code of every command."""

    DONE = 0
    USER_ERROR = 2
    FAILED_RESUMABLE = 3
    OVER_LIMIT = 4
    INTERRUPTED = 130


class Status(StrEnum):
    """What became of a photo. Every photo found has exactly one."""

    SCORED = "scored"
    NO_FACE = "no_face"
    REJECTED = "rejected"


class Reason(StrEnum):
    """Why a photo has no faces, an enumerated code. Scored photos have ``ok``."""

    OK = "ok"
    NO_FACE_FOUND = "no_face_found"
    FACE_TOO_SMALL = "face_too_small"
    EMPTY_FILE = "empty_file"
    UNREADABLE_FILE = "unreadable_file"
    CHANGED_DURING_RUN = "changed_during_run"
    NOT_A_PICTURE = "not_a_picture"
    UNSUPPORTED_FORMAT = "unsupported_format"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    TOO_LARGE = "too_large"
    FILE_TOO_LARGE = "file_too_large"


REASON_MEANINGS: dict[Reason, str] = {
    Reason.OK: "scored: at least one face was found",
    Reason.NO_FACE_FOUND: "the picture was read, the face finder found nothing it was sure of",
    Reason.FACE_TOO_SMALL: "faces were found, all smaller than --min-face-px",
    Reason.EMPTY_FILE: "the file has no bytes",
    Reason.UNREADABLE_FILE: "the file could not be opened or read (permissions, input/output error)",
    Reason.CHANGED_DURING_RUN: "the file's contents changed between listing and reading",
    Reason.NOT_A_PICTURE: "the name ends like a picture's, the contents are no picture",
    Reason.UNSUPPORTED_FORMAT: "a picture that no installed decoder reads (HEIC needs the heic extra)",
    Reason.TRUNCATED: "the picture's data end before the picture does",
    Reason.CORRUPT: "the picture's data are damaged",
    Reason.TOO_LARGE: "the header claims more pixels than --max-megapixels",
    Reason.FILE_TOO_LARGE: "the file has more bytes than --max-file-mb",
}


def photos_schema() -> pa.Schema:
    """Return the schema of the ``photos`` table, key (path)."""
    return pa.schema(
        [
            pa.field("path", pa.string(), nullable=False),
            pa.field("photo_id", pa.string()),
            pa.field("bytes", pa.int64(), nullable=False),
            pa.field("width", pa.int32()),
            pa.field("height", pa.int32()),
            pa.field("format", pa.string()),
            pa.field("status", pa.string(), nullable=False),
            pa.field("reason", pa.string(), nullable=False),
            pa.field("message", pa.string()),
            pa.field("faces", pa.int32(), nullable=False),
        ]
    )


def faces_schema(attribute_names: Sequence[str], embedding_dim: int) -> pa.Schema:
    """Return the schema of the ``faces`` table, key (path, face).

    Parameters
    ----------
    attribute_names : sequence of str
        The attribute model's binary labels, one float32 probability column each, in the bundle's order.
    embedding_dim : int
        Length of the embedding's fixed-size list.
    """
    box = [
        pa.field(name, pa.float32(), nullable=False)
        for name in ("x", "y", "width", "height", "detection_score")
    ]
    return pa.schema(
        [
            pa.field("path", pa.string(), nullable=False),
            pa.field("photo_id", pa.string(), nullable=False),
            pa.field("face", pa.int32(), nullable=False),
            *box,
            *[pa.field(name, pa.float32(), nullable=False) for name in LANDMARKS],
            *[pa.field(name, pa.float32(), nullable=False) for name in attribute_names],
            pa.field("style", pa.string(), nullable=False),
            pa.field("style_score", pa.float64(), nullable=False),
            pa.field("style_margin", pa.float64(), nullable=False),
            pa.field("rule_style", pa.string(), nullable=False),
            pa.field("rule_score", pa.float64(), nullable=False),
            pa.field("neighbour_style", pa.string(), nullable=False),
            pa.field("neighbour_score", pa.float64(), nullable=False),
            pa.field("rule", pa.string(), nullable=False),
            pa.field("why", pa.string(), nullable=False),
            pa.field("embedding", pa.list_(pa.float32(), embedding_dim), nullable=False),
        ]
    )


def recommendations_schema() -> pa.Schema:
    """Return the schema of the ``recommendations`` table, key (path, face, rank)."""
    return pa.schema(
        [
            pa.field("run_id", pa.string(), nullable=False),
            pa.field("path", pa.string(), nullable=False),
            pa.field("photo_id", pa.string(), nullable=False),
            pa.field("face", pa.int32(), nullable=False),
            pa.field("rank", pa.int32(), nullable=False),
            pa.field("item_id", pa.string(), nullable=False),
            pa.field("category", pa.string(), nullable=False),
            pa.field("score", pa.float64(), nullable=False),
            pa.field("similarity", pa.float64()),
            pa.field("style", pa.string(), nullable=False),
            pa.field("style_score", pa.float64(), nullable=False),
            pa.field("rule", pa.string(), nullable=False),
            pa.field("reason", pa.string(), nullable=False),
        ]
    )
