"""What ``embed`` can embed: Fashion-MNIST, a CelebA folder, or any folder of photos, each as a stream of batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from stylematch.data import celeba, fashion_mnist
from stylematch.data.photo_file import MAX_PICTURE_BYTES
from stylematch.data.photos import FindCounts, find_photos, photo_root
from stylematch.errors import UserError
from stylematch.pipelines.face_batches import FaceBatch, face_batches
from stylematch.pipelines.face_pieces import Reading
from stylematch.pipelines.indexing.item_tags import tag_columns, tag_fields, tag_names
from stylematch.search.rows_file import PICTURE_TYPE
from stylematch.settings.embed import EmbedJob
from stylematch.settings.load import usual_folder
from stylematch.tables.shown import shown
from stylematch.vision.bundle import Bundle, sees_clothes
from stylematch.vision.model_pictures import takes_faces
from stylematch.vision.runtime import Predictions

_MIN_FACE_PX = 24
_MAX_MEGAPIXELS = 200

Rows = dict[str, Any]
Skipped = tuple[str, str, str]
BatchesOf = Callable[[Sequence[bytes], Reading], Iterator[FaceBatch]]
"""Reads pictures, named by their paths' bytes, in the way that a source wants."""


class Batch(NamedTuple):
    """Crops uint8 (n, side, side, channels) of some pictures, the crops' columns, and the pictures that gave none."""

    pictures: int
    crops: np.ndarray
    rows: Rows
    skipped: list[Skipped]


@dataclass(frozen=True)
class EmbedSource:
    """A stream of batches to embed, and what is to be said of them.

    Attributes
    ----------
    kind : str
        "faces" or "items".
    columns : list of pyarrow.Field
        What the shards keep beside the embedding, ``id`` first.
    batches : iterator
        What to embed, in order; a batch's crops are valid until the one after the next is asked for.
    description : dict
        For ``embeddings.json``.
    total : int, optional
        Pictures in all, where that is known.
    predicted : callable, optional
        Turns predictions, and the crops that they are of, into more columns.
    """

    kind: str
    columns: list[pa.Field]
    batches: Iterator[Batch]
    description: dict[str, Any]
    total: int | None
    predicted: Callable[[Predictions, np.ndarray], Rows] = lambda _, __: {}


def open_embed_source(job: EmbedJob, bundle: Bundle, device: str, workers: int) -> EmbedSource:
    """Open what a job embeds.

    Parameters
    ----------
    job : EmbedJob
        Which source, and where.
    bundle : Bundle
        The model that embeds it.
    device : {"cpu", "cpu-bf16", "cuda"}
        Where that runs.
    workers : int
        Threads or processes that read pictures.

    Raises
    ------
    UserError
        If the source is missing, or the model is for other pictures.
    """
    if job.source == "fashion-mnist":
        return _fashion_mnist(job, bundle)
    if bundle.channels != 3 or sees_clothes(bundle):
        raise UserError(
            f"{shown(bundle.directory)} takes garments, and embed faces of photos; 'stylematch-batch catalog build' "
            "embeds pictures of items."
        )
    if not takes_faces(bundle):
        raise UserError(
            f"{shown(bundle.directory)} takes whole pictures, and embed crops of faces; catalog build --bundle embeds "
            "pictures of items with a model that has a group category."
        )
    batches_of = partial(face_batches, batch_size=job.batch_size, workers=workers, on_gpu=device == "cuda")
    return (_celeba if job.source == "celeba" else _directory)(job, bundle, batches_of)


def _fashion_mnist(job: EmbedJob, bundle: Bundle) -> EmbedSource:
    if bundle.input_px != 28 or not (bundle.channels == 1 or sees_clothes(bundle)):
        raise UserError(f"{shown(bundle.directory)} does not take Fashion-MNIST's 28x28 pictures.")
    folder = fashion_mnist.find_fashion_mnist(Path(job.root) if job.root else None)
    splits = [name for name in ("train", "test") if name in job.splits]
    if not splits:
        raise UserError("Fashion-MNIST has the splits train and test; name one of them.")
    items = {name: fashion_mnist.read_fashion_mnist(folder, name) for name in splits}

    def batches() -> Iterator[Batch]:
        for name, split in items.items():
            for start in range(0, len(split.labels), job.batch_size):
                part = slice(start, start + job.batch_size)
                pictures = split.pictures[part]
                rows = {
                    "id": list(split.item_ids[part]),
                    "category": [fashion_mnist.CLASSES[label] for label in split.labels[part]],
                    "split": [name] * len(pictures),
                    "picture": [picture.tobytes() for picture in pictures],
                }
                crops = np.repeat(pictures[..., None], bundle.channels, axis=-1)
                yield Batch(len(pictures), crops, rows, [])

    columns = [
        pa.field("id", pa.string(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        *tag_fields(tag_names(bundle)),
        pa.field("picture", PICTURE_TYPE, nullable=False),
    ]
    description = {
        "source": f"Fashion-MNIST ({', '.join(splits)})",
        "licence": fashion_mnist.LICENCE,
        "categories": list(fashion_mnist.CLASSES),
    }
    total = sum(len(split.labels) for split in items.values())
    return EmbedSource("items", columns, batches(), description, total, partial(tag_columns, bundle))


def _celeba(job: EmbedJob, bundle: Bundle, batches_of: BatchesOf) -> EmbedSource:
    folder = celeba.read_celeba(Path(job.root) if job.root else usual_folder("celeba"))
    wanted = np.flatnonzero(np.isin(folder.split, [celeba.SPLITS.index(name) for name in job.splits]))
    image_ids = np.array(folder.image_ids, object)[wanted]
    splits = np.array(celeba.SPLITS, object)[folder.split[wanted]]
    labels = folder.attributes[wanted] > 0

    def columns_of(batch: FaceBatch) -> Rows:
        shown_labels = dict(zip(celeba.ATTRIBUTES, labels[batch.owners].T, strict=True))
        return {"id": image_ids[batch.owners].tolist(), "split": splits[batch.owners].tolist(), **shown_labels}

    columns = [pa.field("id", pa.string(), nullable=False), pa.field("split", pa.string(), nullable=False)]
    columns += [pa.field(name, pa.bool_(), nullable=False) for name in celeba.ATTRIBUTES]
    description = {
        "source": f"CelebA ({', '.join(job.splits)})",
        "licence": celeba.LICENCE,
        "attribute_names": list(celeba.ATTRIBUTES),
    }
    reading = _reading(folder.pictures, "aligned", 1, bundle, with_ids=False)
    faces = batches_of([os.fsencode(name) for name in image_ids], reading)
    return EmbedSource("faces", columns, _named(faces, image_ids, columns_of), description, len(wanted))


def _directory(job: EmbedJob, bundle: Bundle, batches_of: BatchesOf) -> EmbedSource:
    root = Path(job.source)
    photos = list(find_photos(root, counts=FindCounts()))
    paths = np.array([photo.path for photo in photos], object)

    def columns_of(batch: FaceBatch) -> Rows:
        owners = paths[batch.owners].tolist()
        ids = [f"{path}#{face}" for path, face in zip(owners, batch.faces.tolist(), strict=True)]
        return {"id": ids, "path": owners, "face": batch.faces, "photo_id": batch.photo_ids}

    columns = [pa.field(name, pa.string(), nullable=False) for name in ("id", "path")]
    columns += [pa.field("face", pa.int32(), nullable=False), pa.field("photo_id", pa.string(), nullable=False)]
    description = {"source": shown(root.name), "licence": "that of the photos", "attribute_names": []}
    reading = _reading(photo_root(root), job.faces, _MIN_FACE_PX, bundle, with_ids=True)
    faces = batches_of([photo.raw_path for photo in photos], reading)
    return EmbedSource("faces", columns, _named(faces, paths, columns_of), description, len(photos))


def _reading(root: Path, mode: str, min_face_px: int, bundle: Bundle, *, with_ids: bool) -> Reading:
    return Reading(root, mode, bundle.input_px, min_face_px, MAX_PICTURE_BYTES, _MAX_MEGAPIXELS, with_ids)


def _named(faces: Iterator[FaceBatch], names: np.ndarray, columns_of: Callable[[FaceBatch], Rows]) -> Iterator[Batch]:
    """Say of faces whose they are."""
    for batch in faces:
        skipped = [(names[number], reason, message) for number, reason, message in batch.problems]
        yield Batch(batch.pictures, batch.crops, columns_of(batch), skipped)
