"""``score``: a directory of photos in, a published run out.

List and hash the photos; name the run by all that its tables follow from; score the partitions that are not done yet,
in as many processes as asked; write manifest and gallery; publish by one rename. A finished run of the same name is
left as it is, an unfinished one is gone on with.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stylematch.data.heif import has_heif
from stylematch.data.listing import Listing
from stylematch.errors import LimitExceededError
from stylematch.pipelines.advice import allowed_items
from stylematch.pipelines.assets import Assets, resolve_assets
from stylematch.pipelines.inputs import list_inputs, root_beside
from stylematch.pipelines.judging import described, fit_of
from stylematch.pipelines.on_engine import check_engine, run_job
from stylematch.pipelines.partitions import shared_cores, waiting_partitions
from stylematch.pipelines.run_gallery import RunGallery, forget_kept
from stylematch.pipelines.score_partition import ScoreJob, is_shown, load_state, score_partition
from stylematch.pipelines.stage_table import StageTable, stage_table
from stylematch.search.directory import index_info
from stylematch.settings import ScoreSettings
from stylematch.style.rules import load_rules
from stylematch.tables.disk import shown, unnamed_file
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
from stylematch.vision.yunet import YUNET_SHA256


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
        The first folders that could not be listed.
    profile : tuple of str
        The table of stages, for ``--profile``; where nothing was done, that of the run that is there.
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
        if 0 < self.counts.found == self.counts.rejected:
            lines.append(
                "every photo was rejected, the photos table says why; --max-reject-share X makes it exit code 4"
            )
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
    check_engine(settings)
    root = root_beside(photos, out, settings.photo_timeout_s)
    assets, device = resolve_assets(indexes), resolve_device(settings.device)
    allowed = allowed_items(settings, assets)
    digests = run_digests(settings, assets, device, allowed)
    with unnamed_file() as lines:
        listing, counts, listed = list_inputs(
            photos,
            out,
            lines,
            follow_links=settings.follow_links,
            limit=settings.limit,
            max_file_mb=settings.max_file_mb,
            photo_timeout_s=settings.photo_timeout_s,
        )
        stages = {"list": listed}
        run_id = run_id_of(listing.sha256, digests)
        complete = not settings.report or (out / "report" / "index.html").is_file()
        with Staging(out, run_id, overwrite=settings.overwrite or not complete) as staging:
            was_there = staging.check() is Decision.NOTHING
            if was_there:
                there = read_manifest(staging.out) or {}
                tables, profile = Counts(**there["counts"]), _profile_of(there)
            else:
                job = ScoreJob(settings, assets, root, listing.path, staging.directory, run_id, device, 1, allowed)
                done = prepare_staging(staging, job)
                with RunGallery(job, len(listing.partitions), done) as gallery:
                    stages |= _run(job, listing, done, gallery)
                    tables = count_tables(staging.directory, counts.ignored)
                    stages |= gallery.finish(tables, stages)
                waiting = len(waiting_partitions(listing, done))
                table = stage_table(
                    stages,
                    photos=stages["score"].items,
                    seconds=time.perf_counter() - clock,
                    workers=shared_cores(settings.workers, waiting, usable_cores())[0],
                )
                write_manifest(
                    staging.directory,
                    Manifest(
                        run_id=run_id,
                        counts=tables,
                        stages=stages,
                        code_version=code_version(),
                        sha256=named_digests(listing.sha256, digests),
                        settings=settings.model_dump() | {"style_fusion": digests["settings"]["style_fusion"]},
                        device=device,
                        started=started,
                        finished=datetime.now(UTC),
                        profile=table.to_json(),
                    ),
                )
                profile = StageTable.of_json(table.to_json()).lines()  # to the digit what a later --profile prints
                staging.publish()
            forget_kept(staging.out)
    summary = ScoreSummary(
        staging.out,
        run_id,
        tables,
        was_there,
        time.perf_counter() - clock,
        0 if was_there else stages["score"].items,
        counts.unreadable_examples,
        tuple(profile),
    )
    _check_limit(summary, settings)
    return summary


def _profile_of(manifest: dict[str, Any]) -> list[str]:
    """Return the table of stages of a run that is there already."""
    if not manifest.get("profile"):
        return ["Nothing was run now, and this run's manifest.json has no table of stages."]
    said = f"Nothing was run now; the run of {manifest['started']} had these stages:"
    return [said, *StageTable.of_json(manifest["profile"]).lines()]


def run_id_of(inputs_sha256: str, digests: dict[str, Any]) -> str:
    """Return the name of a run over a listing, given ``run_digests``."""
    return compute_run_id(
        inputs=inputs_sha256,
        settings=digests["settings"],
        bundles=digests["bundle"],
        index=json_sha256([digests["faces"], digests["items"]]),
        rules=digests["rules"],
        code=code_version(),
    )


def named_digests(inputs_sha256: str, digests: dict[str, Any]) -> dict[str, str]:
    """Return the digests as a manifest names them."""
    plain = {name: value for name, value in digests.items() if isinstance(value, str)}
    return plain | {"settings": json_sha256(digests["settings"]), "inputs": inputs_sha256}


def run_digests(
    settings: ScoreSettings, assets: Assets, device: str, allowed: npt.NDArray[np.int64] | None
) -> dict[str, Any]:
    """Return the digests of all that a run's tables follow from, but for the photos."""
    names = Bundle.open(assets.attributes).schema.group("attributes").labels
    rules = load_rules(
        settings.rules,
        attribute_names=names,
        categories=index_info(assets.items)["categories"],
        without=settings.without,
    )
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
        "garments": Bundle.open(assets.garments).sha256,
        "face_finder": YUNET_SHA256,
        "rules": rules.sha256,
        **assets.index_sha256(),
    }


def prepare_staging(staging: Staging, job: ScoreJob) -> frozenset[int]:
    """Make the staging folder ready; return the partitions that are done, and shown where a report is wanted.

    The gallery leaves no trace in the run's name, so an interrupted run may have been scored without it.
    """
    if not job.settings.report:
        done = staging.prepare()
        shutil.rmtree(staging.directory / "report", ignore_errors=True)
        return done
    return frozenset(
        number for number in staging.prepare(keep=("report/thumbs", "report/votes")) if is_shown(job, number)
    )


def _run(job: ScoreJob, listing: Listing, done: frozenset[int], gallery: RunGallery) -> dict[str, Stage]:
    """Score the partitions that are not done; return the time of each stage."""
    return run_job(
        score_partition,
        load_state,
        job,
        listing,
        waiting_partitions(listing, done),
        choice=job.settings,
        workers=job.settings.workers,
        description="score",
        on_partition=gallery.scored,
        photos=job.root,
    )


def _check_limit(summary: ScoreSummary, settings: ScoreSettings) -> None:
    counts, limit = summary.counts, settings.max_reject_share
    if limit is not None and counts.reject_share > limit:
        raise LimitExceededError(
            f"{counts.rejected_of_all()}, over --max-reject-share {limit:g}; the run is published in "
            f"{shown(summary.out)}, its photos table says why.",
            summary.lines(),
            profile=summary.profile,
        )
