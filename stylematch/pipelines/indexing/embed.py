"""``embed``: pictures in, embeddings as Parquet shards out, and an index over them where a job asks.

Shards (``part-NNNNN.parquet``) hold ``id``, ``embedding`` (half floats) and what is known of each picture; beside
them ``embeddings.json`` says what made them, and ``skipped.csv`` names every picture that gave no embedding, with its
reason. The directory is staged and appears by one rename.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from stylematch.data.celeba import SPLITS
from stylematch.engines.progress import Progress
from stylematch.errors import UserError
from stylematch.pipelines.assets import default_index
from stylematch.pipelines.indexing.embed_sources import Batch, EmbedSource, Rows, Skipped, open_embed_source
from stylematch.pipelines.indexing.index import EMBEDDINGS_FILE, INDEX, build_index
from stylematch.settings.embed import EmbedJob
from stylematch.settings.faults import OPTIONS
from stylematch.settings.index import IndexSettings
from stylematch.settings.load import load_job, validated
from stylematch.tables.cores import usable_cores
from stylematch.tables.disk import write_durably
from stylematch.tables.replace import DirectoryKind
from stylematch.tables.shards import DONE_DIRECTORY
from stylematch.tables.shown import shown
from stylematch.tables.writer import ShardWriter
from stylematch.vision.bundle import Bundle
from stylematch.vision.runtime import Runtime, load_runtime, resolve_device, run_in_batches

SHARD_ROWS = 16_384
SKIPPED_FILE = "skipped.csv"
EMBEDDINGS = DirectoryKind(
    "embeddings",
    EMBEDDINGS_FILE,
    lambda _, name: name in (SKIPPED_FILE, DONE_DIRECTORY) or (name.startswith("part-") and name.endswith(".parquet")),
)


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


def embed_job(job_file: Path, device: str = "auto") -> EmbedSummary:
    """Embed as a job file says; see ``embed``."""
    return embed(load_job(job_file, EmbedJob), device)


def embed(job: EmbedJob, device: str = "auto") -> EmbedSummary:
    """Embed a source.

    Parameters
    ----------
    job : EmbedJob
        What, with which bundle, and where to.
    device : {"auto", "cpu", "cpu-bf16", "cuda"}
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
    EMBEDDINGS.check(out)
    if index:
        INDEX.check(index)
    bundle = Bundle.open(_bundle_path(job))
    cores = usable_cores()
    device = resolve_device(device)
    source = open_embed_source(job, bundle, device, cores)
    with EMBEDDINGS.replaced(out) as staged:
        rows = _embedded(source, lambda: load_runtime(bundle, device, threads=cores), job.batch_size)
        count, skipped = _write(source, rows, bundle.embedding_dim, staged)
        if not count:
            raise UserError(f"{shown(job.source)} gave no embedding: {_why_none(job, skipped)}.")
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


def _why_none(job: EmbedJob, skipped: Sequence[Skipped]) -> str:
    if skipped:
        path, _, message = skipped[0]
        return f"of {len(skipped):,} none could be used; the first, {shown(path)}: {shown(message)}"
    if job.source in ("celeba", "fashion-mnist"):
        return f"it has no picture of the split {' or '.join(job.splits)}; name another with --split (splits in a job)"
    return "there is no picture in it"


def _bundle_path(job: EmbedJob) -> Path:
    if job.bundle:
        return Path(job.bundle)
    return default_index() / ("garments" if job.source == "fashion-mnist" else "attributes")


def _write(
    source: EmbedSource, embedded: Iterator[tuple[Batch, Rows]], dim: int, staged: Path
) -> tuple[int, list[Skipped]]:
    """Write the shards; return how many embeddings, and what was skipped."""
    embedding = pa.field("embedding", pa.list_(pa.float16(), dim), nullable=False)
    schema = pa.schema([source.columns[0], embedding, *source.columns[1:]])
    skipped: list[Skipped] = []
    writer: ShardWriter | None = None
    count = 0
    with ExitStack() as shards, Progress(source.total, "pictures", "embed") as progress:
        for batch, rows in embedded:
            skipped += batch.skipped
            total = len(batch.crops)
            done = 0
            while done < total:
                if count % SHARD_ROWS == 0:  # however many a batch has, so that batches leave no trace in the shards
                    shards.close()
                    writer = shards.enter_context(ShardWriter(staged, count // SHARD_ROWS, schema))
                assert writer is not None
                part = slice(done, min(total, done + SHARD_ROWS - count % SHARD_ROWS))
                writer.write({name: values[part] for name, values in rows.items()})
                count += part.stop - done
                done = part.stop
            progress.update(batch.pictures)
    return count, skipped


def _embedded(source: EmbedSource, load: Callable[[], Runtime], batch_size: int) -> Iterator[tuple[Batch, Rows]]:
    """Give every batch with its faces' or items' columns; the model loads and runs beside the reading and writing."""

    def columns(batch: Batch) -> Rows:
        if not len(batch.crops):
            return {}
        predictions = run_in_batches(loaded.result(), batch.crops, batch_size)
        more = source.predicted(predictions, batch.crops)
        return {**batch.rows, **more, "embedding": predictions.embedding.astype(np.float16)}

    with ThreadPoolExecutor(1) as model:
        loaded = model.submit(load)
        waiting: tuple[Batch, Future[Rows]] | None = None
        for batch in source.batches:
            following = batch, model.submit(columns, batch)
            if waiting is not None:
                yield waiting[0], waiting[1].result()
            waiting = following
        if waiting is not None:
            yield waiting[0], waiting[1].result()


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
    for name in splits or ():  # the settings would call it by their own name
        if name not in SPLITS:
            raise UserError(f"--split {shown(name)}: the splits are {', '.join(SPLITS)}; name one of them.")
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
