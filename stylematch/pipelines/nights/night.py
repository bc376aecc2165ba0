"""The steps of a night: list the photos, keep the features of those that are new, publish a snapshot of all, tidy."""

from __future__ import annotations

import functools
import json
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path

from stylematch.data.listing import Listing
from stylematch.data.photo_file import escape_bytes, unescape_path
from stylematch.data.photo_folders import LocalFolder, photo_folder
from stylematch.data.photos import FindCounts
from stylematch.engines.progress import Progress
from stylematch.errors import StylematchError
from stylematch.pipelines.nights.earlier_nights import (
    already_published,
    check_gone,
    forget_unsettled,
    found_last,
    with_equal_tables,
)
from stylematch.pipelines.nights.export_summary import ExportSummary
from stylematch.pipelines.nights.feature_damage import StoreReadError, leave_out_damaged
from stylematch.pipelines.nights.feature_footers import Footers
from stylematch.pipelines.nights.feature_looks import KeptLooks
from stylematch.pipelines.nights.feature_plan import Changes, FeaturePlan
from stylematch.pipelines.nights.feature_store import FeatureStore
from stylematch.pipelines.nights.feature_tidy import tidy, write_files
from stylematch.pipelines.nights.keep_partition import KeepJob, KeepState, keep_partition
from stylematch.pipelines.nights.night_lists import lost_before, write_found
from stylematch.pipelines.nights.snapshot_partition import SnapshotJob, SnapshotState, snapshot_partition
from stylematch.pipelines.nights.summary_content import Troubles, summary_content
from stylematch.pipelines.nights.verification import marker_of, verified_since
from stylematch.pipelines.on_engine import run_job
from stylematch.pipelines.run_gallery import forget_kept
from stylematch.pipelines.run_listing import waiting_partitions
from stylematch.pipelines.run_spec import RunSpec
from stylematch.pipelines.scored_tables import write_tables
from stylematch.settings.export import ExportJob
from stylematch.tables.disk import explained, write_durably
from stylematch.tables.environment import code_version
from stylematch.tables.manifest import Manifest, Stage, write_manifest
from stylematch.tables.night_names import SNAPSHOTS
from stylematch.tables.out import output_of
from stylematch.tables.place import Place
from stylematch.tables.snapshots import SUMMARY, Snapshots
from stylematch.tables.staging import Decision, Staging


class Night:
    """One night: what does not change while it runs, and its steps.

    Parameters
    ----------
    job : ExportJob
        What every night does.
    place, out : Place
        Where the photos are, and where the snapshots go.
    day : datetime.date
        The night's name.
    verify_content : bool
        Read every file, whatever its size and time say.

    Raises
    ------
    UserError
        If photos, models, indexes, rules or the condition on items are wrong.
    """

    def __init__(self, job: ExportJob, place: Place, out: Place, day: date, verify_content: bool) -> None:
        self.job, self.place, self.out, self.day, self.verify = job, place, out, day, verify_content
        self.photos = photo_folder(place, job.score.photo_timeout_s or None, follow_links=job.score.follow_links)
        self.settings = job.score
        self.started, self.seen = datetime.now(UTC), time.time_ns()
        self.spec = RunSpec.of(job.score, [Path(directory) for directory in job.index])
        self.store = FeatureStore.of(out, self.spec)
        self.footers = Footers(out)
        self.snapshots = Snapshots(out)
        self.counts = FindCounts()
        self.troubles, self.read, self.is_written = Troubles(), 0, False
        self._suffix = secrets.token_hex(4)
        self.stages: dict[str, Stage] = {}

    @property
    def name(self) -> str:
        """What the names of tonight's files in the store begin with; later nights' sort after it."""
        return f"{self.seen}-{self._suffix}"

    def run(self, scratch: Path, local: Path, clock: float, still_alone: Callable[[], None]) -> ExportSummary:
        """Do the night in ``scratch``; its snapshot is staged in ``local``, where it stays if that is OUT.

        Before OUT's readers see a change, ``still_alone`` is asked, which raises where another export writes there.
        """
        import duckdb

        self._still_alone = still_alone

        found = self._list(scratch)
        while True:
            try:
                summary = self._all_but_list(found, scratch, local, clock)
                break
            except (duckdb.Error, StoreReadError) as error:
                no_damage = isinstance(error, (duckdb.OutOfMemoryException, duckdb.IOException))
                if no_damage or not leave_out_damaged(self.store, self.footers):
                    raise
                self.seen += 1  # no name of a file is used twice
        self.looks.publish()
        marker_of(scratch.parent, self.day).unlink(missing_ok=True)
        return summary

    def _all_but_list(self, found: Path, scratch: Path, local: Path, clock: float) -> ExportSummary:
        self._keep(found, scratch)
        with self._plan(found, scratch) as plan:
            if lost := plan.unexplained():
                raise StylematchError(
                    f"of {lost:,} photos that were read the store has neither features nor a reason: another export "
                    f"into {self.out} has removed them meanwhile; let one of them run at a time, and run the same "
                    "command again"
                )
            listing = plan.write_plan(scratch / "plan.jsonl")
            summary = self._publish(listing, plan, local, clock)
            self._still_alone()
            write_files(self.store, plan, scratch, self.name, self.seen)
            tidy(self.store, plan, scratch, self.name)
        return summary

    def _plan(self, found: Path, scratch: Path) -> FeaturePlan:
        max_bytes = int(self.settings.max_file_mb * 1e6)
        # Also as the paths below them begin whose own names are not UTF-8.
        unseen = [*self.counts.not_looked_at, *self.counts.unreadable_directories]
        return FeaturePlan(
            self.store,
            self.footers,
            found,
            scratch,
            thumbnails=self.settings.report,
            max_bytes=max_bytes,
            not_looked_at=sorted({form for path in unseen for form in (path, escape_bytes(unescape_path(path)))}),
        )

    def _list(self, scratch: Path) -> Path:
        clock = time.perf_counter()
        self.looks = KeptLooks(self.store, scratch, again=self.verify)
        found = self.photos.find(
            self.counts,
            follow_links=self.settings.follow_links,
            skip=self._is_output(scratch.parent),
            limit_s=self.settings.photo_timeout_s or None,
            looks=self.looks.looks,
        )
        with Progress(None, "photos", "list") as progress, self.looks:
            path, count = write_found(islice(found, self.settings.limit), scratch, progress.update)
        self.stages["list"] = Stage(time.perf_counter() - clock, count, "photos")
        return path

    def _is_output(self, work: Path) -> Callable[[Path], bool]:
        if self.place.directory is not None:
            return output_of(self.out.directory or work)
        return lambda path: self.out.directory is None and self.place.key(path.as_posix()) == self.out.key()

    def _keep(self, found: Path, scratch: Path) -> None:
        """Read what has to be read, and keep the features of contents that are new."""
        with self._plan(found, scratch) as plan:
            # What is seen tonight counts before all that is known, though the clock may have gone back since.
            self.seen = max(self.seen, plan.last_seen() + 1)
            gone, before = plan.gone()
            self.troubles = Troubles(plan.damaged, spared=plan.spared())
            if not before and (before := found_last(self.snapshots)):
                self.troubles.forgotten, gone = before, max(0, before - self.stages["list"].items)
            check = functools.partial(check_gone, before=before, limit=self.job.max_gone_share, place=self.place)
            check(gone - plan.moved(), "are gone")
            check(self.troubles.spared, "cannot be read any more")
            since = verified_since(scratch.parent, self.day, self.seen) if self.verify else None
            todo = plan.write_todo(scratch / "todo.jsonl", verify_since=since)
            plan.write_known_ids(scratch / "known")
        self.stages["new photos"] = Stage(0.0, todo.photos, "photos")
        self.read += todo.photos
        if not todo.photos:
            return
        keep = KeepJob(
            self.spec,
            self.photos,
            self.store,
            todo.path,
            scratch / "known",
            scratch,
            self.name,
            self.seen,
        )
        ran = run_job(
            keep_partition,
            KeepState,
            keep,
            todo,
            waiting_partitions(todo, frozenset()),
            choice=self.settings,
            workers=self.settings.workers,
            description="new photos",
            photos=self.photos.root if isinstance(self.photos, LocalFolder) else None,
            lost_before=lost_before,
        )
        self.stages |= ran.stages

    def _publish(self, listing: Listing, plan: FeaturePlan, local: Path, clock: float) -> ExportSummary:
        run_id = self.spec.run_id(listing.sha256)
        staged_out = local / SNAPSHOTS / self.day.isoformat()
        with explained("make", staged_out.parent):
            staged_out.parent.mkdir(parents=True, exist_ok=True)
        published = functools.partial(
            already_published,
            day=self.day,
            run_id=run_id,
            with_gallery=self.settings.report,
            unsettled=plan.unsettled(),
        )
        if self.out.directory is not None:
            self.snapshots.make_way(self.day.isoformat())
        there = published(self.snapshots)
        if there is None:
            staged = Snapshots(Place(str(local), local))
            complete = published(staged) is not None
            with Staging(staged_out, run_id, overwrite=not complete) as staging:
                if staging.check() is not Decision.NOTHING:
                    forget_unsettled(staging)
                    as_before = None if plan.unsettled() else with_equal_tables(self.snapshots, run_id, self.store.key)
                    self._write(staging, listing, plan.changes(), as_before, clock)
                    staging.publish()
        self._still_alone()
        if self.out.directory is None:
            name = there or self.snapshots.upload(staged_out, self.day, run_id)
            self._still_alone()
            shutil.rmtree(staged_out, ignore_errors=True)
        else:
            name = self.day.isoformat()
        pointed = self.snapshots.latest() != name
        kept_pointer = self.snapshots.point_to(name)
        removed = self.snapshots.retire(self.job.keep_snapshots, name)
        content = self.snapshots.summary(name)
        was_there, told = there is not None and not self.is_written, content.get("warnings", ())
        return ExportSummary(
            f"{self.out}/{SNAPSHOTS}/{name}",
            content,
            was_there,
            removed,
            kept_pointer,
            pointed and kept_pointer is None,
            [warning for warning in self.troubles.warnings() if was_there or warning not in told],
        )

    def _write(self, staging: Staging, listing: Listing, changes: Changes, as_before: str | None, clock: float) -> None:
        """Write the staged run: tables, gallery, summary, manifest."""
        job = SnapshotJob(
            self.spec,
            Path(self.photos.name),
            listing.path,
            staging.directory,
            staging.run_id,
            store=self.store,
            snapshot_date=self.day,
            as_before=as_before,
        )
        written = write_tables(
            snapshot_partition,
            SnapshotState,
            job,
            listing,
            staging,
            description="snapshot",
            stages=self.stages,
            ignored=self.counts.ignored,
        )
        forget_kept(staging.directory)  # it may be published by copying; what is done again here reads no photo
        summary = summary_content(
            staging.directory,
            self.snapshots,
            self.day,
            run_id=staging.run_id,
            rules=self.spec.rules.sha256,
            limit=self.job.drift_warning,
            changes=changes,
            read=self.read,
            unlisted=self.counts.unreadable_examples,
            troubles=self.troubles,
        )
        self.is_written = True
        content = summary | {
            "photos": asdict(written.counts),
            "seconds": round(time.perf_counter() - clock, 3),
        }
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        write_durably(staging.directory / SUMMARY, text.encode())
        described = self.job.model_dump() | {
            "photos": str(self.place),
            "out": str(self.out),
            "style_fusion": self.spec.style_fusion,
            "snapshot_date": self.day.isoformat(),
        }
        write_manifest(
            staging.directory,
            Manifest(
                run_id=staging.run_id,
                counts=written.counts,
                stages=written.stages,
                code_version=code_version(),
                sha256=self.spec.digests(listing.sha256) | {"features": self.store.key},
                settings=described,
                device=self.spec.device,
                started=self.started,
                finished=datetime.now(UTC),
                unreadable_directories=self.counts.unreadable_examples,
            ),
        )
