"""Each stage of ``score`` alone, on all cores at once: its rate when nothing else runs.

Every process takes its share of the photos and does one stage over all of them after the other; a barrier before each
stage keeps the processes together, so that a stage shares the machine with itself alone. As in a worker, freed memory
is kept, and BLAS has one thread; and what a stage gives is let go while it is timed: a run never holds all its photos.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np

from stylematch.data.memory import keep_freed_memory
from stylematch.data.photo_file import hash_photo
from stylematch.data.photos import find_photos, photo_root
from stylematch.engines.template import blas_on_one_core
from stylematch.pipelines.listed_photos import read_listed
from stylematch.pipelines.partition_result import PartitionResult
from stylematch.pipelines.run_spec import RunSpec
from stylematch.pipelines.score_job import ScoreJob
from stylematch.pipelines.score_partition import load_state
from stylematch.report.pictures import make_thumbnail
from stylematch.settings.score import ScoreSettings
from stylematch.tables.contract import faces_schema, photos_schema, recommendations_schema
from stylematch.tables.writer import ShardWriter
from stylematch.vision.garments import cut_torso
from stylematch.vision.runtime import run_in_batches


def stage_rates(photos: Path, faces: str, workers: int) -> dict[str, float]:
    """Return, by stage, photos a second of all processes together, on the CPU.

    Parameters
    ----------
    photos : pathlib.Path
        A directory.
    faces : {"find", "aligned"}
        As for ``score``.
    workers : int
        Processes, one a core.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(workers)
    with blas_on_one_core(), context.Pool(workers, _keep, (barrier,)) as pool:
        shares = [(photos, faces, number, workers) for number in range(workers)]
        measured = pool.starmap(_share, shares, chunksize=1)
    count = sum(photos for photos, _ in measured)
    slowest = {stage: max(seconds[stage] for _, seconds in measured) for stage in measured[0][1]}
    return {stage: count / seconds for stage, seconds in slowest.items() if seconds > 0}


def _keep(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier
    keep_freed_memory()


def let_go(results: Iterable[Any]) -> None:
    """Go through results and keep none."""
    deque(results, maxlen=0)


def _share(photos: Path, faces: str, number: int, workers: int) -> tuple[int, dict[str, float]]:
    settings = ScoreSettings(faces=faces, device="cpu")
    root = photo_root(photos)
    job = ScoreJob(RunSpec.of(settings), root, Path(), Path(), "benchmark")
    state = load_state(job)
    extractor, reader, adviser = state.extractor, state.extractor.reader, state.adviser
    seconds: dict[str, float] = {}

    def alone(stage: str, work: Callable[[], Any]) -> Any:
        _barrier.wait()
        clock = time.perf_counter()
        answer = work()
        seconds[stage] = time.perf_counter() - clock
        return answer

    found = list(find_photos(photos))[number::workers]

    listed = alone("list", lambda: [replace(p, photo_id=hash_photo(root, p.raw_path)) for p in found])
    data = alone("read", lambda: [read_listed(root, photo, settings.max_file_mb) for photo in listed])
    alone("decode", lambda: let_go(reader.decode(one) for one in data))
    decoded = [reader.decode(one) for one in data]
    located = alone("find faces", lambda: [reader.locate(photo) for photo in decoded])

    def cut_all() -> Iterable[Any]:
        for one, photo, boxes in zip(data, decoded, located, strict=True):
            faces_of = reader.cut(one, photo, boxes)
            if extractor.garments is not None:
                for box in faces_of.boxes:
                    cut_torso(photo, box, extractor.garments.bundle.input_px)
            yield faces_of

    alone("cut", lambda: let_go(cut_all()))
    cut = list(cut_all())
    alone("thumbnails", lambda: let_go(make_thumbnail(np.asarray(photo.preview)[..., :3]) for photo in decoded))
    crops = np.concatenate([one.crops for one in cut])
    alone("attributes", lambda: run_in_batches(extractor.runtime, crops, settings.batch_size))
    if extractor.garments is not None:
        side = extractor.garments.bundle.input_px
        torsos = [
            torso
            for photo, one in zip(decoded, cut, strict=True)
            for box in one.boxes
            if (torso := cut_torso(photo, box, side)) is not None
        ]
        garments = extractor.garments
        stacked = np.stack(torsos) if torsos else np.empty((0, side, side, 3), np.uint8)
        alone("clothes", lambda: run_in_batches(garments, stacked, settings.batch_size) if len(stacked) else None)
    result = PartitionResult()
    rows, features = extractor.extract(
        listed, lambda photo: read_listed(root, photo, settings.max_file_mb), result, lambda *_: None
    )
    alone("style", lambda: adviser.judge.judge(features.attributes, features.embedding))
    faces_rows, recommendations = adviser.advise(features, "benchmark", PartitionResult())
    _barrier.wait()
    clock, asked = time.perf_counter(), PartitionResult()
    adviser.advise(features, "benchmark", asked)
    seconds["items"] = max(time.perf_counter() - clock - asked.seconds["style"], 0.0)
    tables = (
        ("photos", photos_schema(), rows),
        ("faces", faces_schema(extractor.attribute_names, extractor.embedding_dim), faces_rows),
        ("recommendations", recommendations_schema(), recommendations),
    )
    with tempfile.TemporaryDirectory(prefix="stylematch-") as scratch:

        def write() -> None:
            for name, schema, columns in tables:
                with ShardWriter(Path(scratch) / name, number, schema) as writer:
                    if columns:
                        writer.write(columns)

        alone("write", write)
    return len(listed), seconds
