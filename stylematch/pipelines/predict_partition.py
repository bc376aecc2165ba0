"""Predict one partition: photos in, one shard of ``photos`` and of ``predictions`` out. Runs in any process.

As in scoring, nothing of a result depends on which photos share a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stylematch.data.listing import Partition, read_listing
from stylematch.data.photos import FoundPhoto
from stylematch.errors import PhotoRejectedError
from stylematch.pipelines.listed_photos import Row, no_face_row, read_row, reader_of_listed, reading, rejected_row
from stylematch.pipelines.partition_result import PartitionResult, batch_done
from stylematch.pipelines.predictions import box_columns, label_columns, predictions_schema
from stylematch.settings.predict import PredictSettings
from stylematch.tables.contract import photos_schema
from stylematch.tables.writer import ShardWriter
from stylematch.vision.bundle import Bundle
from stylematch.vision.model_pictures import ModelPictures, PictureReader, picture_reader, takes_faces
from stylematch.vision.runtime import Runtime, load_runtime, run_in_batches

PREDICTED = "predicted"
"""The status of a photo that has predictions; the others are those of a scored run."""


@dataclass(frozen=True)
class PredictJob:
    """All that a worker needs to know; plain values, so that it travels to any process.

    Attributes
    ----------
    settings : PredictSettings
        What was asked for.
    bundle : Bundle
        The model.
    root, listing, staged : pathlib.Path
        The photos' folder, the listing's file, and the folder where the tables are staged.
    device : str
        "cpu", "cpu-bf16" or "cuda".
    threads : int
        Threads of one model call.
    follow_links : bool
        Whether photos are read through links.
    """

    settings: PredictSettings
    bundle: Bundle
    root: Path
    listing: Path
    staged: Path
    device: str
    threads: int
    follow_links: bool


@dataclass
class PredictState:
    """What a process loads once."""

    job: PredictJob
    runtime: Runtime
    reader: PictureReader


def photo_schema() -> pa.Schema:
    """Return the schema of the ``photos`` table, key (path): a scored run's, less the number of faces."""
    return pa.schema([field for field in photos_schema() if field.name != "faces"])


def load_state(job: PredictJob) -> PredictState:
    """Load the model for one process.

    Raises
    ------
    UserError
        If it is damaged, or an option has no meaning for it.
    """
    return PredictState(job, load_runtime(job.bundle, job.device, job.threads), reader_of(job.bundle, job.settings))


def reader_of(bundle: Bundle, settings: PredictSettings) -> PictureReader:
    """Return the reader of the model's pictures; see ``picture_reader``."""
    return picture_reader(
        bundle,
        faces=settings.faces,
        invert=settings.invert,
        min_face_px=settings.min_face_px,
        max_megapixels=settings.max_megapixels,
    )


def predict_partition(state: PredictState, partition: Partition, advance: Callable[[int], None]) -> PartitionResult:
    """Write one partition's shards.

    Parameters
    ----------
    state : PredictState
        From ``load_state``.
    partition : Partition
        Which photos.
    advance : callable
        Told how many more photos are done.
    """
    job, result = state.job, PartitionResult()
    labels = state.runtime.bundle.schema
    listed = read_listing(job.listing, partition)
    read_bytes = reader_of_listed(job.root, partition, job.settings.max_file_mb, follow_links=job.follow_links)
    with (
        ShardWriter(job.staged / "photos", partition.number, photo_schema()) as photos,
        ShardWriter(job.staged / "predictions", partition.number, predictions_schema(labels)) as predictions,
    ):
        while batch := list(islice(listed, 1 if partition.alone else job.settings.batch_size)):
            with result.timed("decode", len(batch), "photos"):
                read = [_read(state, photo, read_bytes) for photo in batch]
            seen = [(photo, pictures) for photo, _, pictures in read if pictures is not None]
            rows = _prediction_rows(state, seen, result) if seen else {}
            with result.timed("write", len(batch), "photos"):
                columns = {name: [row[name] for _, row, _ in read] for name in photo_schema().names}
                photos.write(columns)
                if rows:
                    predictions.write(rows)
            faces = len(rows.get("path", ())) if takes_faces(state.runtime.bundle) else None
            advance(batch_done(columns, faces, result))
    return result


def _read(
    state: PredictState, photo: FoundPhoto, read_bytes: Callable[[FoundPhoto], bytes]
) -> tuple[FoundPhoto, Row, ModelPictures | None]:
    """Read one photo; whatever is wrong with it becomes its row."""
    settings = state.job.settings
    try:
        with reading(photo.path):
            pictures = state.reader.read(read_bytes(photo))
    except PhotoRejectedError as error:
        return photo, rejected_row(photo, error), None
    if not len(pictures.crops):
        return photo, no_face_row(photo, pictures.photo, pictures.too_small, settings.min_face_px), None
    return photo, read_row(photo, pictures.photo, PREDICTED), pictures.without_pixels()


def _prediction_rows(
    state: PredictState, seen: list[tuple[FoundPhoto, ModelPictures]], result: PartitionResult
) -> dict[str, Any]:
    crops = np.concatenate([pictures.crops for _, pictures in seen])
    with result.timed("predict", len(crops), "pictures"):
        said = run_in_batches(state.runtime, crops, state.job.settings.batch_size)
    keys = [(photo, face) for photo, pictures in seen for face in range(len(pictures.crops))]
    areas_px = np.concatenate([pictures.areas_px for _, pictures in seen])
    return {
        "path": [photo.path for photo, _ in keys],
        "photo_id": [photo.photo_id for photo, _ in keys],
        "face": [face for _, face in keys],
        **box_columns([box for _, pictures in seen for box in pictures.boxes or [None] * len(pictures.crops)]),
        **label_columns(state.runtime.bundle.schema, said.heads, areas_px),
    }
