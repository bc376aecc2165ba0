"""``predict``: one model over a directory of pictures; its predictions as tables, and a contact sheet to look at.

List and hash the photos, name the run, predict the partitions that are not done yet, draw the sheet from the tables,
publish by one rename: as ``score`` does, with one model and without styles and items.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stylematch.data.decode import decode_photo
from stylematch.data.heif import has_heif
from stylematch.data.listing import Listing, read_listing
from stylematch.data.photos import FoundPhoto
from stylematch.errors import PhotoRejectedError
from stylematch.pipelines.inputs import list_inputs, root_beside, through_links
from stylematch.pipelines.listed_photos import read_listed
from stylematch.pipelines.on_engine import check_engine, run_job
from stylematch.pipelines.predict_partition import (
    PREDICTED,
    PredictJob,
    load_state,
    predict_partition,
    reader_of,
)
from stylematch.pipelines.predictions import predictions_schema
from stylematch.pipelines.run_listing import waiting_partitions
from stylematch.report.contact_sheet import MAX_PICTURES, TILE_PX, SheetPicture, subject_of, write_contact_sheet
from stylematch.settings.predict import PredictSettings
from stylematch.tables.contract import PREDICT_TABLES, Status
from stylematch.tables.counts import count_photos, count_rows
from stylematch.tables.disk import unnamed_file
from stylematch.tables.environment import code_version
from stylematch.tables.manifest import Manifest, Stage, compute_run_id, json_sha256, read_manifest, write_manifest
from stylematch.tables.out import check_other_command
from stylematch.tables.shards import shard_path
from stylematch.tables.shown import shown
from stylematch.tables.staging import Decision, Staging, nothing_to_do
from stylematch.vision.bundle import Bundle
from stylematch.vision.runtime import resolve_device

COMMAND = "predict"
SHEET = "contact_sheet.jpg"


@dataclass(frozen=True)
class PredictCounts:
    """How many of everything: ``predicted + no_face + rejected == found``; ``predictions`` counts rows."""

    found: int
    predicted: int
    no_face: int
    rejected: int
    predictions: int
    reasons: dict[str, int] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class PredictSummary:
    """What ``predict`` did: where to, under which name, what came out, and whether it was there before."""

    out: Path
    run_id: str
    counts: PredictCounts
    was_there: bool
    seconds: float
    unreadable_directories: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return what a person is told at the end."""
        out, c = shown(self.out), self.counts
        if self.was_there:
            lines = [nothing_to_do(self.out, self.run_id)]
        else:
            lines = [
                f"found {c.found:,}: predicted {c.predicted:,}, no face {c.no_face:,}, rejected {c.rejected:,}",
                f"{c.predictions:,} predictions in {self.seconds:.1f} s",
                f"tables: {out}/photos, predictions; manifest.json",
            ]
        lines += [f"passed over: {why.replace('_', ' ')} {n:,}" for why, n in sorted(c.ignored.items())]
        lines += [f"not readable: {shown(name)}" for name in self.unreadable_directories]
        if c.found and (self.out / SHEET).is_file():
            lines.append(f"to see them, open {out}/{SHEET}")
        return lines


def predict(bundle: Path, photos: Path, out: Path, settings: PredictSettings) -> PredictSummary:
    """Predict for a directory of photos with one model.

    Parameters
    ----------
    bundle : pathlib.Path
        The model's bundle.
    photos : pathlib.Path
        A directory, or one picture.
    out : pathlib.Path
        Where the run is published.
    settings : PredictSettings
        How.

    Raises
    ------
    UserError
        If a path, the bundle or an option is wrong.
    StylematchError
        If the run failed; the same command goes on with it.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    check_engine(settings)
    root = root_beside(photos, out, settings.photo_timeout_s)
    check_other_command(out, COMMAND)
    model, device = Bundle.open(bundle), resolve_device(settings.device)
    predictions_schema(model.schema)  # what is wrong with the model or an option is said before anything is read
    reader_of(model, settings)
    named = {"command": COMMAND, **settings.naming(), "device": device, "heic": has_heif()}
    with unnamed_file() as lines:
        listing, counts, listed = list_inputs(photos, out, lines, settings)
        stages = {"list": listed}
        run_id = compute_run_id(
            inputs=listing.sha256, settings=named, bundles=model.sha256, index="", rules="", code=code_version()
        )
        complete = not settings.sheet or (out / SHEET).is_file()
        with Staging(out, run_id, overwrite=settings.overwrite or not complete) as staging:
            was_there = staging.check() is Decision.NOTHING
            if was_there:
                made = PredictCounts(**(read_manifest(staging.out) or {})["counts"])
            else:
                linked = through_links(photos, settings)
                job = PredictJob(settings, model, root, listing.path, staging.directory, device, 1, linked)
                stages |= _run(job, listing, staging.prepare(PREDICT_TABLES))
                made = _count(staging.directory, dict(counts.ignored))
                if settings.sheet:
                    stages["sheet"] = _sheet(job, model, listing, made)
                write_manifest(
                    staging.directory,
                    Manifest(
                        run_id=run_id,
                        counts=cast(Any, made),
                        stages=stages,
                        code_version=code_version(),
                        sha256={
                            "bundle": model.sha256,
                            "settings": json_sha256(named),
                            "inputs": listing.sha256,
                        },
                        settings={"command": COMMAND, "bundle": model.name, **settings.model_dump()},
                        device=device,
                        started=started,
                        finished=datetime.now(UTC),
                        unreadable_directories=counts.unreadable_examples,
                    ),
                )
                staging.publish()
    seconds = time.perf_counter() - clock
    return PredictSummary(staging.out, run_id, made, was_there, seconds, counts.unreadable_examples)


def _run(job: PredictJob, listing: Listing, done: frozenset[int]) -> dict[str, Stage]:
    """Predict the partitions that are not done; return the time of each stage."""
    return run_job(
        predict_partition,
        load_state,
        job,
        listing,
        waiting_partitions(listing, done),
        choice=job.settings,
        workers=0,
        description=COMMAND,
        photos=job.root,
    ).stages


def _count(staged: Path, ignored: dict[str, int]) -> PredictCounts:
    """Count what the tables hold, streaming."""
    statuses, reasons = count_photos(staged)
    return PredictCounts(
        found=statuses.total(),
        predicted=statuses[PREDICTED],
        no_face=statuses[Status.NO_FACE],
        rejected=statuses[Status.REJECTED],
        predictions=count_rows(staged, "predictions"),
        reasons=dict(reasons),
        ignored=ignored,
    )


def _sheet(job: PredictJob, model: Bundle, listing: Listing, counts: PredictCounts) -> Stage:
    """Draw the contact sheet from the tables, so that a run that was gone on with has it, too."""
    clock = time.perf_counter()
    drawn = min(counts.found, MAX_PICTURES)
    title = f"{model.name}: the first {drawn} of {counts.found:,} pictures" if counts.found else "no pictures"
    write_contact_sheet(_sheet_pictures(job, model, listing), job.staged / SHEET, title=title)
    return Stage(time.perf_counter() - clock, drawn, "photos")


def _sheet_pictures(job: PredictJob, model: Bundle, listing: Listing) -> Iterator[SheetPicture]:
    """Yield the first pictures with their predictions, out of as many partitions as hold them."""
    left, files = MAX_PICTURES, list[dict[str, Any]]()
    photos: dict[str, FoundPhoto] = {}
    subjects: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for partition in listing.partitions:
        some = {photo.path: photo for photo in islice(read_listing(job.listing, partition), left)}
        among_them = pc.field("path").isin(pa.array(list(some), pa.string()))
        files += pq.read_table(shard_path(job.staged / "photos", partition.number), filters=among_them).to_pylist()
        shard = shard_path(job.staged / "predictions", partition.number)
        for row in pq.read_table(shard, filters=among_them).to_pylist():
            subjects[row["path"]].append(row)
        photos |= some
        left -= len(some)
        if not left:
            break
    thresholds = model.description.get("thresholds", {})
    for row in files:
        path, size = row["path"], (row["width"] or 0, row["height"] or 0)
        note = None if row["status"] == PREDICTED else row["reason"].replace("_", " ")
        if row["status"] == Status.REJECTED:
            note = f"rejected: {note}"
        pixels = None
        if row["status"] != Status.REJECTED:
            try:
                data = read_listed(job.root, photos[path], job.settings.max_file_mb, follow_links=job.follow_links)
                decoded = decode_photo(data, max_side_px=TILE_PX, max_megapixels=job.settings.max_megapixels)
                pixels = decoded.pixels
            except PhotoRejectedError as error:  # it went away since it was predicted on
                note = error.message
        drawn = tuple(subject_of(model.schema, face, thresholds) for face in subjects[path])
        yield SheetPicture(path, pixels, size, drawn, note)
