"""``embed``: pictures in, embeddings as Parquet shards out, and an index over them where a job asks.

Shards (``part-NNNNN.parquet``) hold ``id``, ``embedding`` (half floats) and what is known of each picture; beside
them ``embeddings.json`` says what made them, and ``skipped.csv`` names every picture that gave no embedding, with its
reason. The directory is staged and appears by one rename.
"""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from stylematch.data import celeba, fashion_mnist
from stylematch.data.photos import FindCounts, find_photos, photo_id_of, photo_root, read_photo
from stylematch.engines.progress import Progress
from stylematch.errors import PhotoRejectedError, UserError
from stylematch.pipelines.assets import default_index
from stylematch.pipelines.index import EMBEDDINGS_FILE, build_index, check_index_out
from stylematch.pipelines.item_tags import tag_columns, tag_fields, tag_names
from stylematch.search.directory import PICTURE_TYPE
from stylematch.settings import OPTIONS, EmbedJob, data_root, load_job, validated
from stylematch.settings.index import IndexSettings
from stylematch.tables.contract import Reason
from stylematch.tables.disk import shown, write_durably
from stylematch.tables.manifest import usable_cores
from stylematch.tables.replace import replaced_directory
from stylematch.tables.writer import DONE_DIRECTORY, ShardWriter
from stylematch.vision.bundle import Bundle
from stylematch.vision.face_reader import FaceReader, PhotoFaces
from stylematch.vision.item_picture import sees_clothes
from stylematch.vision.runtime import Predictions, Runtime, load_runtime, resolve_device, run_in_batches

SHARD_ROWS = 16_384
SKIPPED_FILE = "skipped.csv"
_MIN_FACE_PX = 24
_MAX_PHOTO_BYTES = 200_000_000
_MAX_MEGAPIXELS = 200

Rows = dict[str, Any]
Skipped = tuple[str, str, str]


@dataclass(frozen=True)
class EmbedSummary:
    """What ``embed`` wrote."""

    out: Path
    count: int
    skipped: int
    index: Path | None

    def lines(self) -> list[str]:
        """Return what a person is told at the end."""
        lines = [f"{self.count:,} embeddings in {shown(self.out)}"]
        if self.skipped:
            lines.append(f"pictures that gave none: {self.skipped:,}; {shown(self.out / SKIPPED_FILE)} says why")
        if self.index:
            lines.append(f"index: {shown(self.index)}")
        return lines


class _Batch(NamedTuple):
    """Crops uint8 (n, side, side, channels) of some pictures, the crops' columns, and the pictures that gave none."""

    pictures: int
    crops: np.ndarray
    rows: Rows
    skipped: list[Skipped]


@dataclass(frozen=True)
class _Source:
    """A stream of batches to embed, and what is to be said of them.

    Attributes
    ----------
    kind : str
        "faces" or "items".
    columns : list of pyarrow.Field
        What the shards keep beside the embedding, ``id`` first.
    batches : iterator
        What to embed, in order.
    description : dict
        For ``embeddings.json``.
    total : int, optional
        Pictures in all, where that is known.
    predicted : callable, optional
        Turns predictions, and the crops that they are of, into more columns.
    """

    kind: str
    columns: list[pa.Field]
    batches: Iterator[_Batch]
    description: dict[str, Any]
    total: int | None
    predicted: Callable[[Predictions, np.ndarray], Rows] = lambda _, __: {}


def embed_job(job_file: Path, device: str = "auto") -> EmbedSummary:
    """Embed as a job file says; see ``embed``."""
    return embed(load_job(job_file, EmbedJob), device)


def embed(job: EmbedJob, device: str = "auto") -> EmbedSummary:
    """Embed a source.

    Parameters
    ----------
    job : EmbedJob
        What, with which bundle, and where to.
    device : {"auto", "cpu", "cuda"}
        Where the model runs.

    Returns
    -------
    EmbedSummary

    Raises
    ------
    UserError
        If the source, the bundle or OUT is wrong.
    """
    out, index = Path(job.embeddings), Path(job.index) if job.index else None
    if index:
        check_index_out(index)
    bundle = Bundle.open(_bundle_path(job))
    cores = usable_cores()
    runtime = load_runtime(bundle, resolve_device(device), threads=cores)
    source = _open_source(job, runtime, cores)
    with replaced_directory(out, EMBEDDINGS_FILE, _is_embeddings_file, "embeddings") as staged:
        count, skipped = _write(source, runtime, staged, job.batch_size)
        if not count:
            raise UserError(f"{shown(job.source)} gave no embedding: there is no picture with a face in it.")
        if skipped:
            with (staged / SKIPPED_FILE).open("w", newline="", encoding="utf-8") as stream:
                csv.writer(stream).writerows([("path", "reason", "message"), *skipped])
        description = {
            "kind": source.kind,
            "dim": bundle.embedding_dim,
            "count": count,
            "skipped": dict(sorted(Counter(reason for _, reason, _ in skipped).items())),
            "bundle": bundle.name,
            "bundle_sha256": bundle.sha256,
            **source.description,
        }
        write_durably(staged / EMBEDDINGS_FILE, (json.dumps(description, indent=2) + "\n").encode())
    if index:
        build_index(out, index, IndexSettings())
    return EmbedSummary(out, count, len(skipped), index)


def _bundle_path(job: EmbedJob) -> Path:
    if job.bundle:
        return Path(job.bundle)
    return default_index() / ("garments" if job.source == "fashion-mnist" else "attributes")


def _is_embeddings_file(_: Path, name: str) -> bool:
    return name in (SKIPPED_FILE, DONE_DIRECTORY) or (name.startswith("part-") and name.endswith(".parquet"))


def _write(source: _Source, runtime: Runtime, staged: Path, batch_size: int) -> tuple[int, list[Skipped]]:
    """Embed every batch and write the shards; return how many embeddings, and what was skipped."""
    embedding = pa.field("embedding", pa.list_(pa.float16(), runtime.bundle.embedding_dim), nullable=False)
    schema = pa.schema([source.columns[0], embedding, *source.columns[1:]])
    skipped: list[Skipped] = []
    count = shard = 0
    waiting = source.batches
    with Progress(source.total, "pictures", "embed") as progress:
        while (first := next(waiting, None)) is not None:
            with ShardWriter(staged, shard, schema) as writer:
                batch: _Batch | None = first
                while batch is not None:
                    skipped += batch.skipped
                    if len(batch.crops):
                        predictions = run_in_batches(runtime, batch.crops, batch_size)
                        vectors = predictions.embedding.astype(np.float16)
                        more = source.predicted(predictions, batch.crops)
                        writer.write({**batch.rows, **more, "embedding": vectors})
                    progress.update(batch.pictures)
                    batch = next(waiting, None) if writer.rows < SHARD_ROWS else None
                count += writer.rows
            shard += 1
    return count, skipped


def _open_source(job: EmbedJob, runtime: Runtime, threads: int) -> _Source:
    if job.source == "fashion-mnist":
        return _fashion_mnist(job, runtime)
    if runtime.bundle.channels != 3 or sees_clothes(runtime.bundle):
        raise UserError(f"{shown(runtime.bundle.directory)} takes garments; faces need the attribute model.")
    return _celeba(job, runtime, threads) if job.source == "celeba" else _directory(job, runtime, threads)


def _fashion_mnist(job: EmbedJob, runtime: Runtime) -> _Source:
    bundle = runtime.bundle
    if bundle.input_px != 28 or not (bundle.channels == 1 or sees_clothes(bundle)):
        raise UserError(f"{shown(bundle.directory)} does not take Fashion-MNIST's 28x28 pictures.")
    folder = fashion_mnist.find_fashion_mnist(Path(job.root) if job.root else None)
    splits = [name for name in ("train", "test") if name in job.splits]
    if not splits:
        raise UserError("Fashion-MNIST has the splits train and test; name one of them.")
    items = {name: fashion_mnist.read_fashion_mnist(folder, name) for name in splits}

    def batches() -> Iterator[_Batch]:
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
                yield _Batch(len(pictures), crops, rows, [])

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
    return _Source("items", columns, batches(), description, total, partial(tag_columns, bundle))


def _celeba(job: EmbedJob, runtime: Runtime, threads: int) -> _Source:
    folder = celeba.read_celeba(Path(job.root) if job.root else data_root() / "celeba")
    wanted = [celeba.SPLITS.index(name) for name in job.splits]
    rows_wanted = np.flatnonzero(np.isin(folder.split, wanted)).tolist()

    def rows_of(row: int, data: bytes, faces: PhotoFaces) -> list[Rows]:
        del data, faces  # an aligned picture is one face
        labels = dict(zip(celeba.ATTRIBUTES, (folder.attributes[row] > 0).tolist(), strict=True))
        return [{"id": folder.image_ids[row], "split": celeba.SPLITS[folder.split[row]], **labels}]

    reader = FaceReader("aligned", runtime.bundle.input_px, min_face_px=1, max_megapixels=_MAX_MEGAPIXELS)

    def read(row: int) -> bytes:
        return read_photo(folder.pictures, os.fsencode(folder.image_ids[row]), _MAX_PHOTO_BYTES)

    columns = [pa.field("id", pa.string(), nullable=False), pa.field("split", pa.string(), nullable=False)]
    columns += [pa.field(name, pa.bool_(), nullable=False) for name in celeba.ATTRIBUTES]
    description = {
        "source": f"CelebA ({', '.join(job.splits)})",
        "licence": celeba.LICENCE,
        "attribute_names": list(celeba.ATTRIBUTES),
    }
    named = [(row, folder.image_ids[row]) for row in rows_wanted]
    batches = _faces(iter(named), read, rows_of, reader, threads, job.batch_size)
    return _Source("faces", columns, batches, description, len(named))


def _directory(job: EmbedJob, runtime: Runtime, threads: int) -> _Source:
    root = Path(job.source)
    base = photo_root(root)
    reader = FaceReader(job.faces, runtime.bundle.input_px, min_face_px=_MIN_FACE_PX, max_megapixels=_MAX_MEGAPIXELS)

    def read(raw_path: bytes) -> bytes:
        return read_photo(base, raw_path, _MAX_PHOTO_BYTES)

    def rows_of(raw_path: bytes, data: bytes, faces: PhotoFaces) -> list[Rows]:
        path, photo_id = names[raw_path], photo_id_of(data)
        return [
            {"id": f"{path}#{face}", "path": path, "face": face, "photo_id": photo_id}
            for face in range(len(faces.boxes))
        ]

    names = {photo.raw_path: photo.path for photo in find_photos(root, counts=FindCounts())}
    columns = [pa.field(name, pa.string(), nullable=False) for name in ("id", "path")]
    columns += [pa.field("face", pa.int32(), nullable=False), pa.field("photo_id", pa.string(), nullable=False)]
    description = {"source": shown(root.name), "licence": "that of the photos", "attribute_names": []}
    batches = _faces(iter(names.items()), read, rows_of, reader, threads, job.batch_size)
    return _Source("faces", columns, batches, description, len(names))


def _faces(
    wanted: Iterator[tuple[Any, str]],
    read: Callable[[Any], bytes],
    rows_of: Callable[[Any, bytes, PhotoFaces], list[Rows]],
    reader: FaceReader,
    threads: int,
    batch_size: int,
) -> Iterator[_Batch]:
    """Read pictures in threads (decoders let go of Python's lock) and yield their faces in the order of ``wanted``."""

    def one(entry: tuple[Any, str]) -> tuple[list[Rows], np.ndarray] | PhotoRejectedError:
        try:
            data = read(entry[0])
            faces = reader.read(data)
            if not faces.boxes:
                reason = Reason.FACE_TOO_SMALL if faces.too_small else Reason.NO_FACE_FOUND
                raise PhotoRejectedError(reason, f"no face of {_MIN_FACE_PX} px or more was found")
            return rows_of(entry[0], data, faces), faces.crops
        except PhotoRejectedError as error:
            return error

    with ThreadPoolExecutor(threads) as pool:
        while chunk := list(islice(wanted, batch_size)):
            crops, rows, failed = [], [], []
            for (_, name), result in zip(chunk, pool.map(one, chunk), strict=True):
                if isinstance(result, PhotoRejectedError):
                    failed.append((name, result.reason, result.message))
                else:
                    rows += result[0]
                    crops.append(result[1])
            columns = {name: [row[name] for row in rows] for name in rows[0]} if rows else {}
            yield _Batch(len(chunk), np.concatenate(crops) if crops else np.empty(0, np.uint8), columns, failed)


def settings_of(
    source: str,
    out: Path,
    *,
    bundle: Path | None,
    fashion_mnist: Path | None,
    celeba: Path | None,
    splits: Sequence[str] | None,
    faces: str | None,
    batch_size: int | None,
) -> EmbedJob:
    """Return the settings that command-line options describe; what is None keeps the default of ``EmbedJob``.

    Raises
    ------
    UserError
        If an option is out of range or has no meaning for the source.
    """
    named = source in ("celeba", "fashion-mnist")
    for option, given, has_meaning in (
        ("--fashion-mnist", fashion_mnist, source == "fashion-mnist"),
        ("--root", celeba, source == "celeba"),
        ("--split", splits, named),
        ("--faces aligned", faces == "aligned", not named),
    ):
        if given and not has_meaning:
            raise UserError(f"{option} has no meaning for {shown(source)}; leave it out.")
    root = fashion_mnist or celeba
    values = {
        "source": source,
        "embeddings": str(out),
        "bundle": str(bundle) if bundle else None,
        "root": str(root) if root else None,
        "splits": splits or None,
        "faces": faces,
        "batch_size": batch_size,
    }
    return validated(EmbedJob, OPTIONS, **{name: value for name, value in values.items() if value is not None})
