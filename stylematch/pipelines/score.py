"""``score``: a directory of photos in, a published run out.

List and hash the photos; name the run by all that its tables follow from; score the partitions that are not done yet,
in as many processes as asked; write manifest and gallery; publish by one rename. A finished run of the same name is
left as it is, an unfinished one is gone on with.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stylematch.errors import LimitExceededError
from stylematch.pipelines.inputs import list_inputs, root_beside, through_links
from stylematch.pipelines.on_engine import check_engine
from stylematch.pipelines.run_gallery import forget_kept, is_gallery
from stylematch.pipelines.run_spec import RunSpec
from stylematch.pipelines.score_job import ScoreJob, load_state, score_partition
from stylematch.pipelines.score_summary import ScoreSummary
from stylematch.pipelines.scored_tables import write_tables
from stylematch.pipelines.stage_table import StageTable, stage_table
from stylematch.settings.score import ScoreSettings
from stylematch.tables.counts import Counts
from stylematch.tables.disk import unnamed_file
from stylematch.tables.environment import code_version
from stylematch.tables.manifest import Manifest, read_manifest, write_manifest
from stylematch.tables.out import check_other_command
from stylematch.tables.shown import shown
from stylematch.tables.staging import Decision, Staging


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
    check_other_command(out, "score")
    root = root_beside(photos, out, settings.photo_timeout_s)
    spec = RunSpec.of(settings, indexes)
    with unnamed_file() as lines:
        listing, counts, listed = list_inputs(photos, out, lines, settings)
        run_id = spec.run_id(listing.sha256)
        complete = not settings.report or is_gallery([path.name for path in (out / "report").glob("*")])
        with Staging(out, run_id, overwrite=settings.overwrite or not complete) as staging:
            was_there = staging.check() is Decision.NOTHING
            if was_there:
                there = read_manifest(staging.out) or {}
                tables, profile, photos_done = Counts(**there["counts"]), _profile_of(there), 0
            else:
                job = ScoreJob(
                    spec,
                    root,
                    listing.path,
                    staging.directory,
                    run_id,
                    follow_links=through_links(photos, settings),
                )
                written = write_tables(
                    score_partition,
                    load_state,
                    job,
                    listing,
                    staging,
                    description="score",
                    stages={"list": listed},
                    ignored=counts.ignored,
                    photos=root,
                )
                tables, photos_done = written.counts, written.stages["score"].items
                table = stage_table(
                    written.stages,
                    photos=photos_done,
                    seconds=time.perf_counter() - clock,
                    workers=written.workers,
                )
                write_manifest(
                    staging.directory,
                    Manifest(
                        run_id=run_id,
                        counts=tables,
                        stages=written.stages,
                        code_version=code_version(),
                        sha256=spec.digests(listing.sha256),
                        settings=settings.model_dump() | {"style_fusion": spec.style_fusion},
                        device=spec.device,
                        started=started,
                        finished=datetime.now(UTC),
                        profile=table.to_json(),
                        unreadable_directories=counts.unreadable_examples,
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
        photos_done,
        counts.unreadable_examples,
        tuple(profile),
        None if spec.allowed_items is None else len(spec.allowed_items),
        spec.assets.items.infos["count"],
        settings.top_k,
    )
    _check_limit(summary, settings)
    return summary


def _profile_of(manifest: dict[str, Any]) -> list[str]:
    """Return the table of stages of a run that is there already."""
    if not manifest.get("profile"):
        return ["Nothing was run now, and this run's manifest.json has no table of stages."]
    said = f"Nothing was run now; the run of {manifest['started']} had these stages:"
    return [said, *StageTable.of_json(manifest["profile"]).lines()]


def _named(summary: ScoreSummary) -> str:
    return ", its manifest.json names the folders" if summary.unreadable_directories else ""


def _check_limit(summary: ScoreSummary, settings: ScoreSettings) -> None:
    counts, limit = summary.counts, settings.max_reject_share
    if limit is not None and counts.reject_share > limit:
        raise LimitExceededError(
            f"{counts.rejected_of_all()}, over --max-reject-share {limit:g}; the run is published in "
            f"{shown(summary.out)}, its photos table says why{_named(summary)}.",
            summary.lines(),
            profile=summary.profile,
        )
