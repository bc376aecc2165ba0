"""The contract with users: schemas, keys, reason codes and exit codes of everything that a run writes.

Columns may be added; names, types and meanings here are fixed. The attribute names and the embedding's size
come from the model bundle, so the faces schema is a function of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the exit codes, which every command needs, load no Arrow
    import pyarrow as pa

TABLES = ("photos", "faces", "recommendations")
"""Of a run that scores photos."""
PREDICT_TABLES = ("photos", "predictions")
"""Of one of ``predict``."""
SIMILAR_TABLES = ("similar_items",)
"""Of one of ``similar``."""
KEYS = {
    "photos": ("path",),
    "faces": ("path", "face"),
    "recommendations": ("path", "face", "rank"),
    "similar_items": ("item_id", "rank"),
}

CLUSTERED: dict[str, tuple[str, ...]] = {"faces": ("style",), "recommendations": ("style", "category")}
"""By table the columns whose equal values stand together within a shard, so that a reader can skip row groups."""

BOX = ("x", "y", "width", "height", "detection_score")
"""Of a face, in pixels of the upright photo, and how sure its finder is."""
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


GOING_ON = ("score", "predict", "export", "similar", "train")
"""Commands that keep what is done when they are stopped; what others write appears whole or not at all."""
_GO_ON = f"{', '.join(GOING_ON)} go on where they stopped, others begin again"
EXIT_MEANINGS: dict[ExitCode, str] = {
    ExitCode.DONE: "done; an empty directory too, with zero rows",
    ExitCode.USER_ERROR: "the user's mistake, told in one sentence on standard error",
    ExitCode.FAILED_RESUMABLE: f"failed; mend what the sentence names and give the same command again: {_GO_ON}",
    ExitCode.OVER_LIMIT: "done and published, but over a limit that was asked for (--max-reject-share, max_drift)",
    ExitCode.INTERRUPTED: f"interrupted; give the same command again: {_GO_ON}",
}


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
    OUT_OF_MEMORY = "out_of_memory"
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"


LOST = frozenset({Reason.TIMED_OUT, Reason.CRASHED})
"""Reasons of a photo on which a worker hung or died."""
UNSETTLED = LOST | {Reason.UNREADABLE_FILE, Reason.OUT_OF_MEMORY}
"""Reasons that may lie with the machine and the hour: what is kept of a photo is not its contents' last word."""

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
    Reason.TOO_LARGE: "the header claims more pixels than --max-megapixels, or than the decoder takes",
    Reason.FILE_TOO_LARGE: "the file has more bytes than --max-file-mb",
    Reason.OUT_OF_MEMORY: "reading it needs more memory than there was",
    Reason.TIMED_OUT: "reading it took longer than --photo-timeout-s",
    Reason.CRASHED: "reading it ended a worker process twice (or met a fault of this program)",
}

_LANDMARK = "landmark, in pixels of the upright photo, the first of which is 0 as in CelebA's files"

COLUMN_MEANINGS: dict[str, dict[str, str]] = {
    "photos": {
        "path": "relative to the folder that was scored, POSIX; bytes that are no UTF-8 escaped reversibly",
        "photo_id": "first 32 hexadecimal digits of the SHA-256 of the file; null where it could not be read",
        "bytes": "size of the file",
        "width": "of the upright photo in pixels; null where the header could not be read",
        "height": "likewise",
        "format": "by the file's first bytes, such as JPEG; null where they are no picture's",
        "status": "scored, no_face or rejected",
        "reason": "why, a code (below)",
        "message": "the same in a sentence, where there is more to say",
        "faces": "rows of this photo in faces",
    },
    "faces": {
        "path": "as in photos",
        "photo_id": "as in photos",
        "face": "0 is the photo's largest face",
        "x": "left edge of the face's box, in pixels of the upright photo",
        "y": "top edge, likewise",
        "width": "of the box, likewise",
        "height": "of the box, likewise",
        "detection_score": "the face finder's confidence, 0 to 1; 1 with --faces aligned",
        **dict.fromkeys(LANDMARKS, _LANDMARK),
        "style": "the most probable style",
        "style_score": "its probability, rules and neighbours pooled",
        "style_margin": "how much that is above the second style's",
        "rule_style": "what the rules alone would choose",
        "rule_score": "the probability that they give it",
        "neighbour_style": "what the nearest labelled faces alone would choose",
        "neighbour_score": "the probability that they give it",
        "rule": "the conditions of the chosen style's rule",
        "why": "one sentence on what rules and neighbours said",
        "embedding": "of the face, L2-normalised",
    },
    "recommendations": {
        "run_id": "the run's name: a hash of inputs, settings, models, indexes, rules and code",
        "path": "as in photos",
        "photo_id": "as in photos",
        "face": "as in faces",
        "rank": "1 is the best",
        "item_id": "as in the item index",
        "category": "of the item",
        "score": "what the rank follows from",
        "similarity": "cosine of the item with the query; null of what worn clothes say nothing of, such as shoes",
        "query": "worn: the clothes below the face; style: the style's typical item of the category",
        "tag_fit": "how well the item's tags fit the style, 0 to 1, unknown ones 0.5; null where it asks for none",
        "style": "as in faces",
        "style_score": "as in faces",
        "rule": "as in faces",
        "reason": "one sentence a person can read",
    },
    "similar_items": {
        "run_id": "the run's name: a hash of the asked items, settings, index and code",
        "item_id": "whom the others are like, as in the item index",
        "rank": "1 is the nearest",
        "similar_item_id": "the other item",
        "similarity": "cosine of the two items' embeddings",
    },
}
"""What each column means, but for the attributes' columns of ``faces``, which the model names."""


def dated(schema: pa.Schema) -> pa.Schema:
    """Return a table's schema as the snapshots of ``export`` have it: with ``snapshot_date``, the night, at its end."""
    import pyarrow as pa

    return schema.append(pa.field("snapshot_date", pa.date32(), nullable=False))


def photos_schema() -> pa.Schema:
    """Return the schema of the ``photos`` table, key (path)."""
    import pyarrow as pa

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
    import pyarrow as pa

    box = [pa.field(name, pa.float32(), nullable=False) for name in BOX]
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


def recommendations_schema(item_fields: Sequence[pa.Field] = ()) -> pa.Schema:
    """Return the schema of the ``recommendations`` table, key (path, face, rank).

    Parameters
    ----------
    item_fields : sequence of pyarrow.Field
        What is copied from the catalogue for each item; they stand at the end.
    """
    import pyarrow as pa

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
            pa.field("query", pa.string(), nullable=False),
            pa.field("tag_fit", pa.float64()),
            pa.field("style", pa.string(), nullable=False),
            pa.field("style_score", pa.float64(), nullable=False),
            pa.field("rule", pa.string(), nullable=False),
            pa.field("reason", pa.string(), nullable=False),
            *item_fields,
        ]
    )


def similar_items_schema() -> pa.Schema:
    """Return the schema of the ``similar_items`` table, key (item_id, rank)."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("run_id", pa.string(), nullable=False),
            pa.field("item_id", pa.string(), nullable=False),
            pa.field("rank", pa.int32(), nullable=False),
            pa.field("similar_item_id", pa.string(), nullable=False),
            pa.field("similarity", pa.float64(), nullable=False),
        ]
    )
