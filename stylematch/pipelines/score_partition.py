"""Score one partition: photos in, one shard of each table out. Runs in any process, on any engine.

Photos go through in batches: read and decode, locate and cut faces, one model call over all crops, then style and items
row by row. Nothing of a result depends on which photos share a batch, and the shard writer does not keep batches apart,
so the tables are the same for every batch size and number of workers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from stylematch.data.listing import Partition, read_listing
from stylematch.data.photos import FoundPhoto
from stylematch.errors import PhotoRejectedError
from stylematch.pipelines.assets import Assets
from stylematch.pipelines.inputs import no_face_row, read_listed, read_row, rejected_row
from stylematch.pipelines.judging import fit_of, load_judge
from stylematch.pipelines.partitions import PartitionResult
from stylematch.recommend import FaceQuery, Recommender
from stylematch.report.pictures import make_thumbnail, thumbnail_path
from stylematch.search.catalog import ItemCatalog
from stylematch.search.directory import load_index_directory
from stylematch.settings import ScoreSettings
from stylematch.style.judge import Judgement, StyleJudge
from stylematch.style.rules import load_rules
from stylematch.tables.contract import (
    LANDMARKS,
    TABLES,
    Status,
    faces_schema,
    photos_schema,
    recommendations_schema,
)
from stylematch.tables.disk import explained
from stylematch.tables.writer import ShardWriter, shard_path
from stylematch.vision.bundle import Bundle
from stylematch.vision.face_reader import FaceReader, PhotoFaces
from stylematch.vision.garments import cut_torso
from stylematch.vision.item_picture import sees_clothes
from stylematch.vision.runtime import Predictions, Runtime, load_runtime, run_in_batches

Rows = dict[str, list[Any]]


@dataclass(frozen=True)
class ScoreJob:
    """All that a worker needs to know; plain values, so that it travels to any process.

    Attributes
    ----------
    settings : ScoreSettings
        What was asked for.
    assets : Assets
        Models and indexes.
    root, listing, staged : pathlib.Path
        The photos' folder, the listing's file, and the folder where the tables are staged.
    run_id : str
        The run's name.
    device : str
        "cpu" or "cuda".
    threads : int
        Threads of one model call or search.
    allowed_items : ndarray of int64, optional
        The positions of the items that may be recommended; None for all.
    """

    settings: ScoreSettings
    assets: Assets
    root: Path
    listing: Path
    staged: Path
    run_id: str
    device: str
    threads: int
    allowed_items: npt.NDArray[np.int64] | None = None


@dataclass
class ScoreState:
    """What a process loads once."""

    job: ScoreJob
    runtime: Runtime
    reader: FaceReader
    judge: StyleJudge
    recommender: Recommender
    attribute_names: tuple[str, ...]
    garments: Runtime | None = None  # the encoder of worn clothes, where it knows such


@dataclass(frozen=True)
class _Read:
    """One photo after reading: its row, and its faces where it has any."""

    photo: FoundPhoto
    row: dict[str, Any]
    faces: PhotoFaces | None
    torsos: tuple[npt.NDArray[np.uint8] | None, ...] = ()  # of each face


def load_state(job: ScoreJob) -> ScoreState:
    """Load models, indexes and rules for one process.

    Raises
    ------
    UserError
        If they are damaged or do not belong together.
    """
    bundle = Bundle.open(job.assets.attributes)
    names = bundle.schema.group("attributes").labels
    gallery = load_index_directory(job.assets.faces, device=job.device, threads=job.threads)
    items = load_index_directory(job.assets.items, device=job.device, threads=job.threads)
    rules = load_rules(job.settings.rules, attribute_names=names, categories=items.infos["categories"])
    judge = load_judge(rules, gallery, fit_of(job.assets, rules))
    recommender = Recommender(
        ItemCatalog(items, job.allowed_items),
        {style: rules.items(style) for style in rules.styles},
        tags_of_style={style: rules.tags(style) for style in rules.styles},
        top_k=job.settings.top_k,
        seed=job.settings.seed,
        ranking=job.settings,
    )
    encoder = Bundle.open(job.assets.garments)
    garments = load_runtime(encoder, job.device, job.threads) if sees_clothes(encoder) else None
    reader = FaceReader(
        job.settings.faces,
        bundle.input_px,
        min_face_px=job.settings.min_face_px,
        max_megapixels=job.settings.max_megapixels,
    )
    runtime = load_runtime(bundle, job.device, job.threads)
    return ScoreState(job, runtime, reader, judge, recommender, names, garments)


def score_partition(state: ScoreState, partition: Partition, advance: Callable[[int], None]) -> PartitionResult:
    """Write one partition's shards.

    Parameters
    ----------
    state : ScoreState
        From ``load_state``.
    partition : Partition
        Which photos.
    advance : callable
        Told how many more photos are done.
    """
    job, result = state.job, PartitionResult()
    schemas = {
        "photos": photos_schema(),
        "faces": faces_schema(state.attribute_names, state.runtime.bundle.embedding_dim),
        "recommendations": recommendations_schema(),
    }
    photos = read_listing(job.listing, partition)
    with ExitStack() as stack:
        writers = {
            table: stack.enter_context(ShardWriter(job.staged / table, partition.number, schemas[table]))
            for table in TABLES
        }
        while batch := list(islice(photos, job.settings.batch_size)):
            for table, rows in _score_batch(state, batch, result).items():
                if rows and rows["path"]:
                    with result.timed("write", len(rows["path"]), "rows"):
                        writers[table].write(rows)
            advance(len(batch))
    return result


def _score_batch(state: ScoreState, batch: list[FoundPhoto], result: PartitionResult) -> dict[str, Rows]:
    with result.timed("decode and find faces", len(batch), "photos"):
        read = [_read(state, photo) for photo in batch]
    rows: dict[str, Rows] = {
        "photos": {name: [entry.row[name] for entry in read] for name in photos_schema().names},
        "faces": {},
        "recommendations": {},
    }
    crops = [entry.faces.crops for entry in read if entry.faces is not None]
    if not crops:
        return rows
    keys = [(entry.photo, entry.faces, face) for entry in read if entry.faces for face in range(len(entry.faces.boxes))]
    with result.timed("attributes", len(keys), "faces"):
        predictions = run_in_batches(state.runtime, np.concatenate(crops), state.job.settings.batch_size)
    with result.timed("style", len(keys), "faces"):
        judgement = state.judge.judge(predictions.heads["attributes"], predictions.embedding)
    rows["faces"] = _face_rows(state, keys, predictions, judgement)
    torsos = [torso for entry in read if entry.faces for torso in entry.torsos]
    worn = _worn_clothes(state, torsos, result)
    with result.timed("items", len(keys), "faces"):
        rows["recommendations"] = _item_rows(state, rows["faces"], worn)
    return rows


def _read(state: ScoreState, photo: FoundPhoto) -> _Read:
    """Read one photo; whatever is wrong with it becomes its row."""
    job = state.job
    try:
        faces = state.reader.read(read_listed(job.root, photo, job.settings.max_file_mb))
    except PhotoRejectedError as error:
        return _Read(photo, {**rejected_row(photo, error), "faces": 0}, None)
    decoded = faces.photo
    if job.settings.report:
        _write_thumbnail(job, photo, decoded.pixels)
    if not faces.boxes:
        row = no_face_row(photo, decoded, faces.too_small, job.settings.min_face_px)
        return _Read(photo, {**row, "faces": 0}, None)
    row = {**read_row(photo, decoded, Status.SCORED), "faces": len(faces.boxes)}
    torsos: tuple[npt.NDArray[np.uint8] | None, ...] = (None,) * len(faces.boxes)
    if state.garments is not None:
        torsos = tuple(cut_torso(decoded, box, state.garments.bundle.input_px) for box in faces.boxes)
    # Only the crops wait for the rest of the batch, not the photos that they were cut from.
    return _Read(photo, row, replace(faces, photo=replace(decoded, pixels=np.empty((0, 0, 3), np.uint8))), torsos)


def _worn_clothes(
    state: ScoreState, torsos: list[npt.NDArray[np.uint8] | None], result: PartitionResult
) -> list[npt.NDArray[np.float32] | None]:
    """Return the embedding of each face's clothes, None where they cannot be seen."""
    worn: list[npt.NDArray[np.float32] | None] = [None] * len(torsos)
    seen = [(place, torso) for place, torso in enumerate(torsos) if torso is not None]
    if state.garments is not None and seen:
        with result.timed("clothes", len(seen), "faces"):
            crops = np.stack([torso for _, torso in seen])
            vectors = run_in_batches(state.garments, crops, state.job.settings.batch_size).embedding
        for (place, _), vector in zip(seen, vectors, strict=True):
            worn[place] = vector
    return worn


def _write_thumbnail(job: ScoreJob, photo: FoundPhoto, pixels: npt.NDArray[np.uint8]) -> None:
    path = thumbnail_path(job.staged / "report", str(photo.photo_id))
    if not path.is_file():
        # Renamed, so that a kill leaves no half of one. Equal contents share a thumbnail, and two workers that
        # write it at once write the same bytes; what a kill leaves here goes when the run is gone on with.
        unfinished = job.staged / f".{path.name}.{os.getpid()}"
        with explained("write", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(make_thumbnail(pixels))
            unfinished.replace(path)


def has_thumbnails(job: ScoreJob, partition: int) -> bool:
    """Say whether all thumbnails of a finished partition are there (it may have been scored without a report)."""
    columns = ["photo_id", "status"]
    rows = pq.read_table(shard_path(job.staged / "photos", partition), columns=columns).to_pylist()
    wanted = {row["photo_id"] for row in rows if row["status"] != Status.REJECTED}
    return all(thumbnail_path(job.staged / "report", photo_id).is_file() for photo_id in wanted)


def _face_rows(
    state: ScoreState, keys: list[tuple[FoundPhoto, PhotoFaces, int]], predictions: Predictions, judgement: Judgement
) -> Rows:
    boxes = [faces.boxes[face] for _, faces, face in keys]
    squares = [faces.squares[face] for _, faces, face in keys]
    origins = np.array([(square.x, square.y) for square in squares])
    sides = np.array([square.side for square in squares])
    points = np.tile(origins, 5) + predictions.heads["landmarks"].astype(np.float64) * sides[:, None]
    styles = state.judge.rules.styles
    rows: dict[str, Any] = {
        "path": [photo.path for photo, _, _ in keys],
        "photo_id": [photo.photo_id for photo, _, _ in keys],
        "face": [face for _, _, face in keys],
        "x": [box.x for box in boxes],
        "y": [box.y for box in boxes],
        "width": [box.width for box in boxes],
        "height": [box.height for box in boxes],
        "detection_score": [box.score for box in boxes],
        **{name: points[:, column] for column, name in enumerate(LANDMARKS)},
        **{name: predictions.heads["attributes"][:, column] for column, name in enumerate(state.attribute_names)},
        "style": [styles[index] for index in judgement.style],
        "style_score": judgement.style_score,
        "style_margin": judgement.style_margin,
        "rule_style": [styles[index] for index in judgement.rule_style],
        "rule_score": judgement.rule_score,
        "neighbour_style": [styles[index] for index in judgement.neighbour_style],
        "neighbour_score": judgement.neighbour_score,
        "rule": judgement.rule,
        "why": judgement.why,
        "embedding": predictions.embedding,
    }
    return rows


def _item_rows(state: ScoreState, faces: Rows, worn: list[npt.NDArray[np.float32] | None]) -> Rows:
    rows: Rows = {name: [] for name in recommendations_schema().names}
    columns = (faces[name] for name in ("path", "photo_id", "face", "style", "style_score", "rule"))
    keys = list(zip(*columns, strict=True))
    queries = [
        FaceQuery(photo_id, face, style, float(style_score), rule, clothes)
        for (_, photo_id, face, style, style_score, rule), clothes in zip(keys, worn, strict=True)
    ]
    answers = state.recommender.recommend_all(queries)
    for (path, photo_id, face, style, style_score, rule), items in zip(keys, answers, strict=True):
        for item in items:
            values = (
                state.job.run_id,
                path,
                photo_id,
                face,
                item.rank,
                item.item_id,
                item.category,
                item.score,
                item.similarity,
                item.query,
                item.tag_fit,
                style,
                float(style_score),
                rule,
                item.reason,
            )
            for column, value in zip(rows.values(), values, strict=True):
                column.append(value)
    return rows
