"""The last step of a night: make the snapshot of tonight's photos, publish it, and let ``latest`` name it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from stylematch.data.listing import Listing
from stylematch.pipelines.nights.earlier_nights import PublishedNights, forget_unsettled
from stylematch.pipelines.nights.export_summary import ExportSummary
from stylematch.pipelines.nights.feature_plan import Changes, FeaturePlan
from stylematch.pipelines.nights.night_setting import Findings, NightSetting
from stylematch.pipelines.nights.snapshot_partition import SnapshotJob, SnapshotState, snapshot_partition
from stylematch.pipelines.nights.summary_content import summary_content
from stylematch.pipelines.run_gallery import forget_kept
from stylematch.pipelines.scored_tables import write_tables
from stylematch.tables.disk import explained, write_durably
from stylematch.tables.environment import code_version
from stylematch.tables.manifest import Manifest, write_manifest
from stylematch.tables.night_names import SNAPSHOTS
from stylematch.tables.place import Place
from stylematch.tables.snapshots import Snapshots
from stylematch.tables.staging import Decision, Staging
from stylematch.tables.summary import SUMMARY


class Publication:
    """The snapshot of a night.

    Parameters
    ----------
    night : NightSetting
        The night.
    found : Findings
        What its steps have found out by then.
    local : pathlib.Path
        Where the snapshot is staged; it stays there if that is OUT.
    clock : float
        When the night began, by ``time.perf_counter``.
    still_held : callable
        Asked before OUT's readers see a change; raises where another export writes there.
    """

    def __init__(
        self, night: NightSetting, found: Findings, local: Path, clock: float, still_held: Callable[[], None]
    ) -> None:
        self._night, self._found, self._local, self._clock = night, found, local, clock
        self._still_held = still_held
        self._is_written = False

    def publish(self, listing: Listing, plan: FeaturePlan) -> ExportSummary:
        """Publish the snapshot of what a plan holds, unless it is there already."""
        night, snapshots = self._night, self._night.snapshots
        there, name = self._snapshot(listing, plan)
        pointed = snapshots.latest() != name
        kept_pointer = snapshots.point_to(name)
        removed = snapshots.retire(night.job.keep_snapshots, name)
        content = snapshots.summary(name)
        was_there, told = there and not self._is_written, content.get("warnings", ())
        return ExportSummary(
            f"{night.out}/{SNAPSHOTS}/{name}",
            content,
            was_there,
            removed,
            kept_pointer,
            pointed and kept_pointer is None,
            [warning for warning in self._found.troubles.warnings() if was_there or warning not in told],
        )

    def _snapshot(self, listing: Listing, plan: FeaturePlan) -> tuple[bool, str]:
        """Have tonight's snapshot in OUT; return whether it was there, and its name."""
        night, snapshots = self._night, self._night.snapshots
        run_id = night.spec.run_id(listing.sha256)
        staged_out = self._local / SNAPSHOTS / night.day.isoformat()
        with explained("make", staged_out.parent):
            staged_out.parent.mkdir(parents=True, exist_ok=True)
        finished = snapshots.finished()
        damaged = night.out.directory is not None and snapshots.is_damaged(night.day.isoformat())
        if damaged:  # it says nothing, and lies there until tonight's is whole
            finished.pop(night.day.isoformat(), None)
        published = PublishedNights(snapshots, night.day, finished)
        gallery, unsettled = night.job.score.report, plan.unsettled()
        there = published.already_published(run_id, with_gallery=gallery, unsettled=unsettled)
        self._found.troubles.nights = published.damaged()
        if there is None:
            self._found.troubles.other_photos = published.of_other_photos(night.place)
            staged = Snapshots(Place(str(self._local), self._local))
            here = PublishedNights(staged, night.day, staged.finished(night.day))
            complete = here.already_published(run_id, with_gallery=gallery, unsettled=unsettled) is not None
            with Staging(staged_out, run_id, overwrite=not complete, over_damaged=damaged) as staging:
                if staging.check() is not Decision.NOTHING:
                    forget_unsettled(staging)
                    as_before = None if unsettled else published.with_equal_tables(run_id, night.store.key)
                    self._write(staging, listing, plan.changes(), as_before, published)
                    staging.publish()
        self._still_held()
        if night.out.directory is not None:
            return there is not None, night.day.isoformat()
        name = there or snapshots.upload(staged_out, night.day, run_id)
        self._still_held()
        shutil.rmtree(staged_out, ignore_errors=True)
        return there is not None, name

    def _write(
        self,
        staging: Staging,
        listing: Listing,
        changes: Changes,
        as_before: str | None,
        published: PublishedNights,
    ) -> None:
        """Write the staged run: tables, gallery, summary, manifest."""
        night, found = self._night, self._found
        job = SnapshotJob(
            night.spec,
            Path(night.photos.name),
            listing.path,
            staging.directory,
            staging.run_id,
            store=night.store,
            snapshot_date=night.day,
            as_before=as_before,
        )
        written = write_tables(
            snapshot_partition,
            SnapshotState,
            job,
            listing,
            staging,
            description="snapshot",
            stages=found.stages,
            ignored=found.counts.ignored,
        )
        forget_kept(staging.directory)  # it may be published by copying; what is done again here reads no photo
        summary = summary_content(
            staging.directory,
            published,
            run_id=staging.run_id,
            rules=night.spec.rules.sha256,
            limit=night.job.drift_warning,
            changes=changes,
            read=found.read,
            unlisted=found.counts.unreadable_examples,
            troubles=found.troubles,
        )
        self._is_written = True
        content = summary | {
            "photos": asdict(written.counts),
            "seconds": round(time.perf_counter() - self._clock, 3),
        }
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        write_durably(staging.directory / SUMMARY, text.encode())
        described = night.job.model_dump() | {
            "photos": str(night.place),
            "out": str(night.out),
            "style_fusion": night.spec.style_fusion,
            "snapshot_date": night.day.isoformat(),
        }
        write_manifest(
            staging.directory,
            Manifest(
                run_id=staging.run_id,
                counts=written.counts,
                stages=written.stages,
                code_version=code_version(),
                sha256=night.spec.digests(listing.sha256) | {"features": night.store.key},
                settings=described,
                device=night.spec.device,
                started=night.started,
                finished=datetime.now(UTC),
                unreadable_directories=found.counts.unreadable_examples,
            ),
        )
