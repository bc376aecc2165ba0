"""``score``: a directory of photos in, a published run out.

List and hash the photos; name the run by all that its tables follow from; score the partitions that are not done yet,
in as many processes as asked; write manifest and gallery; publish by one rename. A finished run of the same name is
left as it is, an unfinished one is gone on with.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stylematch.data.heif import has_heif
from stylematch.data.listing import Listing
from stylematch.errors import LimitExceededError, UserError
from stylematch.pipelines.assets import Assets, resolve_assets
from stylematch.pipelines.inputs import list_inputs, root_beside
from stylematch.pipelines.judging import described, fit_of
from stylematch.pipelines.partitions import run_listing, shared_cores, waiting_partitions
from stylematch.pipelines.score_partition import ScoreJob, has_thumbnails, load_state, score_partition
from stylematch.pipelines.stage_table import StageTable, stage_table
from stylematch.report.gallery import write_gallery
from stylematch.report.item_pictures import ItemPictures
from stylematch.search.catalog import ItemCatalog, read_rows
from stylematch.search.directory import index_info, load_index_directory
from stylematch.search.where import positions_where
from stylematch.settings import ScoreSettings
from stylematch.style.rules import load_rules
from stylematch.tables.disk import explained, shown
from stylematch.tables.manifest import (
    Counts,
    Manifest,
    Stage,
    code_version,
    compute_run_id,
    count_tables,
    json_sha256,
    read_manifest,
    usable_cores,
    write_manifest,
)
from stylematch.tables.staging import Decision, Staging
from stylematch.vision.bundle import Bundle
from stylematch.vision.runtime import resolve_device


@dataclass(frozen=True)
class ScoreSummary:
    """What ``score`` did.

    Attributes
    ----------
    out : pathlib.Path
        Where the run is.
    run_id : str
        Its name.
    counts : Counts
        What came out.
    was_there : bool
        The run was finished before; nothing was done.
    seconds : float
        From start to publication.
    photos_done : int
        Photos scored by this invocation (a resumed run has fewer than it found).
    unreadable_directories : tuple of str
        Folders that could not be listed.
    profile : tuple of str
        The table of stages, for ``--profile``; empty where nothing was done.
    """

    out: Path
    run_id: str
    counts: Counts
    was_there: bool
    seconds: float
    photos_done: int
    unreadable_directories: tuple[str, ...]
    profile: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return what a person is told at the end."""
        gallery = self.out / "report" / "index.html"
        if self.was_there:
            lines = [
                f"Nothing to do: {shown(self.out)} already holds this run ({self.run_id}); --overwrite repeats it."
            ]
        else:
            c = self.counts
            rate = self.photos_done / self.seconds
            lines = [
                f"found {c.found:,}: scored {c.scored:,}, no face {c.no_face:,}, rejected {c.rejected:,}",
                f"faces {c.faces:,}, recommendations {c.recommendations:,}",
                f"{self.seconds:.1f} s, {rate:,.1f} photos/s",
                f"tables: {shown(self.out)}/photos, faces, recommendations; manifest.json",
            ]
        if self.counts.ignored:
            passed_over = ", ".join(f"{why.replace('_', ' ')} {n:,}" for why, n in sorted(self.counts.ignored.items()))
            lines.append(f"passed over: {passed_over}")
        for name in self.unreadable_directories:
            lines.append(f"not readable: {shown(name)}")
        if gallery.is_file():
            lines.append(f"to see them, open {shown(gallery)}")
        return lines


def score(photos: Path, out: Path, settings: ScoreSettings, indexes: Sequence[Path] = ()) -> ScoreSummary:
    """Score a directory of photos.

    Parameters
    ----------
    photos : pathlib.Path
        A directory, or one picture.
    out : pathlib.Path
        Where the run is published.
    settings : ScoreSettings
        How.
    indexes : sequence of pathlib.Path
        Index directories that replace parts of the default.

    Returns
    -------
    ScoreSummary

    Raises
    ------
    UserError
        If a path, index, rule set or option is wrong.
    StylematchError
        If the run failed; the same command goes on with it.
    LimitExceededError
        If more photos were rejected than ``max_reject_share`` allows; the run is published.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    root = root_beside(photos, out)
    assets, device = resolve_assets(indexes), resolve_device(settings.device)
    allowed = _allowed_items(settings, assets)
    digests = _digests(settings, assets, device, allowed)
    table: StageTable | None = None
    with tempfile.TemporaryDirectory(prefix="stylematch-") as scratch:
        listing, counts, listed = list_inputs(
            photos,
            out,
            Path(scratch) / "listing.jsonl",
            follow_links=settings.follow_links,
            limit=settings.limit,
        )
        stages = {"list": listed}
        run_id = compute_run_id(
            inputs=listing.sha256,
            settings=digests["settings"],
            bundles=digests["bundle"],
            index=json_sha256([digests["faces"], digests["items"]]),
            rules=digests["rules"],
            code=code_version(),
        )
        complete = not settings.report or (out / "report" / "index.html").is_file()
        with Staging(out, run_id, overwrite=settings.overwrite or not complete) as staging:
            was_there = staging.check() is Decision.NOTHING
            if was_there:
                tables = Counts(**(read_manifest(staging.out) or {})["counts"])
            else:
                job = ScoreJob(settings, assets, root, listing.path, staging.directory, run_id, device, 1, allowed)
                done = _prepare(staging, job)
                stages |= _run(job, listing, done)
                tables = count_tables(staging.directory, counts.ignored)
                if settings.report:
                    stages["gallery"] = _report(job, tables)
                table = stage_table(
                    stages,
                    photos=stages["score"].items,
                    seconds=time.perf_counter() - clock,
                    workers=_workers(job, len(waiting_partitions(listing, done)))[0],
                )
                write_manifest(
                    staging.directory,
                    Manifest(
                        run_id=run_id,
                        counts=tables,
                        stages=stages,
                        code_version=code_version(),
                        sha256={name: value for name, value in digests.items() if isinstance(value, str)}
                        | {"settings": json_sha256(digests["settings"]), "inputs": listing.sha256},
                        settings=settings.model_dump() | {"style_fusion": digests["settings"]["style_fusion"]},
                        device=device,
                        started=started,
                        finished=datetime.now(UTC),
                        profile=table.to_json(),
                    ),
                )
                staging.publish()
    summary = ScoreSummary(
        staging.out,
        run_id,
        tables,
        was_there,
        time.perf_counter() - clock,
        0 if was_there else stages["score"].items,
        tuple(counts.unreadable_directories),
        tuple(table.lines()) if table else (),
    )
    _check_limit(summary, settings)
    return summary


def _allowed_items(settings: ScoreSettings, assets: Assets) -> npt.NDArray[np.int64] | None:
    """Ask once which items may be recommended, so that all workers know the same, whatever the condition asks."""
    if settings.where is None:
        return None
    allowed = positions_where(read_rows(assets.items), settings.where)
    if not len(allowed):
        raise UserError(
            f"--where {shown(settings.where)!r} holds for none of the items of {shown(assets.items)}; ask for less."
        )
    return allowed


def _digests(
    settings: ScoreSettings, assets: Assets, device: str, allowed: npt.NDArray[np.int64] | None
) -> dict[str, Any]:
    names = Bundle.open(assets.attributes).schema.group("attributes").labels
    rules = load_rules(settings.rules, attribute_names=names, categories=index_info(assets.items)["categories"])
    # The device is no trace of the host: CPU and CUDA differ in the last digits, so they are different runs. And who
    # installs the heic extra because photos were rejected without it must not hear that nothing is left to do.
    return {
        "settings": {
            **settings.naming(),
            "device": device,
            "heic": has_heif(),
            "style_fusion": described(fit_of(assets, rules)),
        }
        | ({} if allowed is None else {"allowed_items": hashlib.sha256(allowed.tobytes()).hexdigest()}),
        "bundle": assets.bundle_sha256(),
        "rules": rules.sha256,
        **assets.index_sha256(),
    }


def _prepare(staging: Staging, job: ScoreJob) -> frozenset[int]:
    """Make the staging folder ready and return the partitions that are done, with thumbnails where a report wants them.

    The gallery leaves no trace in the run's name, so an interrupted run may have been scored without it.
    """
    if not job.settings.report:
        done = staging.prepare()
        shutil.rmtree(staging.directory / "report", ignore_errors=True)
        return done
    return frozenset(number for number in staging.prepare(keep=("report/thumbs",)) if has_thumbnails(job, number))


def _run(job: ScoreJob, listing: Listing, done: frozenset[int]) -> dict[str, Stage]:
    """Score the partitions that are not done; return the time of each stage."""
    waiting = waiting_partitions(listing, done)
    workers, threads = _workers(job, len(waiting))
    setup = functools.partial(load_state, replace(job, threads=threads))
    return run_listing(score_partition, setup, listing, waiting, workers=workers, description="score")


def _workers(job: ScoreJob, partitions: int) -> tuple[int, int]:
    return shared_cores(job.settings.workers, partitions, usable_cores())


def _report(job: ScoreJob, tables: Counts) -> Stage:
    clock = time.perf_counter()
    catalog = ItemCatalog(load_index_directory(job.assets.items))
    position_of = {item_id: position for position, item_id in enumerate(catalog.item_ids)}
    in_colour = ItemPictures(job.assets.pictures) if job.assets.pictures else lambda _: None

    def item_picture(item_id: str) -> npt.NDArray[np.uint8] | None:
        picture = in_colour(item_id)
        return catalog.picture(position_of[item_id]) if picture is None else picture

    with explained("write", job.staged / "report"):
        write_gallery(
            job.staged,
            item_picture=item_picture,
            title=f"stylematch: {shown(job.root.resolve().name)}",
            summary={
                "Run": job.run_id,
                "Rules": shown(job.settings.rules),
                "Attribute model": Bundle.open(job.assets.attributes).name,
                "Code": code_version(),
            },
        )
    return Stage(time.perf_counter() - clock, tables.found, "photos")


def _check_limit(summary: ScoreSummary, settings: ScoreSettings) -> None:
    counts, limit = summary.counts, settings.max_reject_share
    if limit is None or not counts.found:
        return
    share = counts.rejected / counts.found
    if share > limit:
        raise LimitExceededError(
            f"{counts.rejected:,} of {counts.found:,} photos ({share:.1%}) were rejected, over --max-reject-share "
            f"{limit:g}; the run is published in {shown(summary.out)}, its photos table says why.",
            summary.lines(),
        )
