"""``export``: one night. Score what is new or changed, keep what is not, drop what is gone, publish a dated snapshot.

List the photos without reading them; read only those whose path, size or stamp is not known, and keep what models say
of their contents (``keep_partition``); then rules, gallery and items make the tables of tonight's photos from what is
kept (``snapshot_partition``), published as ``score`` publishes a run. A run that was stopped leaves whole shards of
features and of tables; the same command goes on with them.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from stylematch.data.listing import Listing
from stylematch.data.photo_folders import LocalFolder, photo_folder
from stylematch.data.photos import FindCounts, photo_root
from stylematch.engines.progress import Progress
from stylematch.errors import StylematchError, UserError
from stylematch.pipelines.advice import allowed_items
from stylematch.pipelines.assets import resolve_assets
from stylematch.pipelines.drift import style_drift
from stylematch.pipelines.export_summary import ExportSummary, check_limits, drift_warning, faces_by_style, style_mix
from stylematch.pipelines.feature_footers import Footers
from stylematch.pipelines.feature_looks import KeptLooks
from stylematch.pipelines.feature_plan import Changes, FeaturePlan
from stylematch.pipelines.feature_store import FeatureStore
from stylematch.pipelines.feature_tidy import tidy, write_files
from stylematch.pipelines.keep_partition import KeepJob, KeepState, keep_partition
from stylematch.pipelines.night_lists import write_found
from stylematch.pipelines.on_engine import check_engine, run_job
from stylematch.pipelines.partitions import waiting_partitions
from stylematch.pipelines.run_gallery import RunGallery
from stylematch.pipelines.score import named_digests, prepare_staging, run_digests, run_id_of
from stylematch.pipelines.snapshot_partition import SnapshotJob, SnapshotState, snapshot_partition
from stylematch.settings import ExportJob
from stylematch.tables.contract import UNSETTLED
from stylematch.tables.disk import explained, shown, write_durably
from stylematch.tables.lock import held
from stylematch.tables.manifest import (
    Manifest,
    Stage,
    code_version,
    count_tables,
    package_versions,
    write_manifest,
)
from stylematch.tables.place import Place, place_of
from stylematch.tables.snapshots import SNAPSHOTS, SUMMARY, Snapshots
from stylematch.tables.staging import Decision, Staging, output_of
from stylematch.vision.runtime import resolve_device

_UNFINISHED = "night-"


def export(job: ExportJob, *, day: date, verify_content: bool = False) -> ExportSummary:
    """Run one night.

    Parameters
    ----------
    job : ExportJob
        What is scored, how, and where snapshots go.
    day : datetime.date
        The night's date, its snapshot's name.
    verify_content : bool
        Hash every file again, whatever its size and stamp say.

    Raises
    ------
    UserError
        If a path, URL, index, rule set or setting is wrong, or another export into OUT is under way.
    StylematchError
        If the night failed; the same command goes on with it.
    LimitExceededError
        If the snapshot is published, but over ``max_reject_share`` or ``max_drift``.
    """
    clock = time.perf_counter()
    if day > date.today() + timedelta(days=1):  # a day's grace, for clocks and time zones differ
        raise UserError(f"--date {day}: is later than tomorrow, and latest would name that night until then.")
    check_engine(job.score)
    place, out = place_of(job.photos, "photos"), place_of(job.out, "out")
    if place.key() == out.key() and (place.directory is None) == (out.directory is None):
        raise UserError(f"out: {out} is the folder of photos itself: name another, which may lie inside it.")
    night = _Night(job, place, out, day, verify_content)
    night.snapshots.claim()
    work = _work_folder(job, out)
    with held(work / "lock", f"another export into {out} is under way: wait for it or stop it"):
        local = out.directory or work
        pattern = ".*" if out.directory is not None else "*"  # in the work folder of a bucket nothing is published
        staged = [path for path in (local / SNAPSHOTS).glob(pattern) if day.isoformat() not in path.name]
        for left in [*work.glob(f"{_UNFINISHED}*"), *staged]:  # of a run that was killed, and of a night given up
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=work) as scratch:
            summary = night.run(Path(scratch), local, clock)
    check_limits(job, summary)
    return summary


def _work_folder(job: ExportJob, out: Place) -> Path:
    """Return the folder for what is not finished; on OUT's disk, if OUT is on this machine, as files move from it."""
    if out.directory is not None:
        work = out.directory / ".work"
    elif job.work is not None:
        work = Path(job.work)
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        work = cache / "stylematch" / hashlib.sha256(str(out).encode()).hexdigest()[:16]
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"work: {shown(work)} cannot be made: {error.strerror}; name another folder.") from error
    return work.resolve()


class _Night:
    """One night: what does not change while it runs, and its steps."""

    def __init__(self, job: ExportJob, place: Place, out: Place, day: date, verify_content: bool) -> None:
        self.job, self.place, self.out, self.day, self.verify = job, place, out, day, verify_content
        self.photos = photo_folder(place, job.score.photo_timeout_s or None)
        self.settings = job.score
        self.started, self.seen = datetime.now(UTC), time.time_ns()
        self.name = f"{self.seen}-{secrets.token_hex(4)}"
        self.assets = resolve_assets([Path(directory) for directory in job.index])
        self.device = resolve_device(self.settings.device)
        self.allowed = allowed_items(self.settings, self.assets)
        self.digests = run_digests(self.settings, self.assets, self.device, self.allowed)
        self.store = FeatureStore.of(out, self.settings, self.assets, self.device)
        self.footers = Footers(out)
        self.snapshots = Snapshots(out)
        self.counts = FindCounts()
        self.spared, self.damaged = 0, set[str]()
        self.stages: dict[str, Stage] = {}

    def run(self, scratch: Path, local: Path, clock: float) -> ExportSummary:
        """Do the night in ``scratch``; its snapshot is staged in ``local``, where it stays if that is OUT."""
        found = self._list(scratch)
        self._keep(found, scratch)
        with self._plan(found, scratch) as plan:
            listing = plan.write_plan(scratch / "plan.jsonl")
            summary = self._publish(listing, plan, local, clock)
            write_files(self.store, plan, scratch, self.name, self.seen)
            self.looks.publish()
            tidy(self.store, plan, scratch, self.name)
        return summary

    def _plan(self, found: Path, scratch: Path) -> FeaturePlan:
        max_bytes = int(self.settings.max_file_mb * 1e6)
        return FeaturePlan(
            self.store,
            self.footers,
            found,
            scratch,
            thumbnails=self.settings.report,
            max_bytes=max_bytes,
            not_looked_at=self.counts.not_looked_at,
        )

    def _list(self, scratch: Path) -> Path:
        clock = time.perf_counter()
        self.looks = KeptLooks(self.store, scratch, again=self.verify)
        found = self.photos.find(
            self.counts,
            follow_links=self.settings.follow_links,
            skip=self._is_output(),
            limit_s=self.settings.photo_timeout_s or None,
            looks=self.looks.looks,
        )
        with Progress(None, "photos", "list") as progress, self.looks:
            path, count = write_found(islice(found, self.settings.limit), scratch, progress.update)
        self.stages["list"] = Stage(time.perf_counter() - clock, count, "photos")
        return path

    def _is_output(self) -> Callable[[Path], bool]:
        if self.out.directory is not None:
            return output_of(self.out.directory)
        return lambda path: self.place.directory is None and self.place.key(path.as_posix()) == self.out.key()

    def _keep(self, found: Path, scratch: Path) -> None:
        """Read what has to be read, and keep the features of contents that are new."""
        with self._plan(found, scratch) as plan:
            gone, before = plan.gone()
            self.spared, self.damaged = plan.spared(), plan.damaged
            self._check_gone(gone, before, "are gone")
            self._check_gone(self.spared, before, "cannot be read any more")
            todo = plan.write_todo(scratch / "todo.jsonl", verify_since=self.seen if self.verify else None)
            plan.write_known_ids(scratch / "known")
        self.stages["new photos"] = Stage(0.0, todo.photos, "photos")
        if not todo.photos:
            return
        keep = KeepJob(
            self.settings,
            self.assets,
            self.device,
            1,
            self.photos,
            self.store,
            todo.path,
            scratch / "known",
            scratch,
            self.name,
            self.seen,
        )
        self.stages |= run_job(
            keep_partition,
            KeepState,
            keep,
            todo,
            waiting_partitions(todo, frozenset()),
            choice=self.settings,
            workers=self.settings.workers,
            description="new photos",
            photos=photo_root(self.photos.path) if isinstance(self.photos, LocalFolder) else None,
        )

    def _check_gone(self, gone: int, before: int, how: str) -> None:
        limit = self.job.max_gone_share
        if limit is not None and before and gone / before > limit:
            raise StylematchError(
                f"{gone:,} of last night's {before:,} photos {how} ({gone / before:.0%}), over max_gone_share "
                f"{limit:g}: nothing is published and nothing forgotten; see that {self.place} is whole, "
                "or raise max_gone_share"
            )

    def _publish(self, listing: Listing, plan: FeaturePlan, local: Path, clock: float) -> ExportSummary:
        run_id = run_id_of(listing.sha256, self.digests)
        staged_out = local / SNAPSHOTS / self.day.isoformat()
        with explained("make", staged_out.parent):
            staged_out.parent.mkdir(parents=True, exist_ok=True)
        there = self._is_there(run_id)
        if there is None:
            complete = not self.settings.report or (staged_out / "report" / "index.html").is_file()
            with Staging(staged_out, run_id, overwrite=not complete) as staging:
                if staging.check() is not Decision.NOTHING:
                    as_before = None if plan.unsettled() else self._as_before(run_id)
                    self._write(staging, listing, plan.changes(), as_before, clock)
                    staging.publish()
        if self.out.directory is None:
            name = there or self.snapshots.upload(staged_out, self.day, run_id)
            shutil.rmtree(staged_out, ignore_errors=True)
        else:
            name = self.day.isoformat()
        kept_pointer = self.snapshots.point_to(name)
        removed = self.snapshots.retire(self.job.keep_snapshots, name)
        content = self.snapshots.summary(name)
        return ExportSummary(f"{self.out}/{SNAPSHOTS}/{name}", content, there is not None, removed, kept_pointer)

    def _is_there(self, run_id: str) -> str | None:
        """Return the snapshot of this night if it is this very run, and complete."""
        tonight = [name for name, when in self.snapshots.finished().items() if when == self.day.isoformat()]
        ours = (name for name in tonight if self.snapshots.run_id(name) == run_id)
        wanted = self.settings.report
        return next(
            (name for name in ours if not wanted or "index.html" in self.out.list(f"{SNAPSHOTS}/{name}/report")), None
        )

    def _as_before(self, run_id: str) -> str | None:
        """Return a snapshot whose tables are tonight's, but for the date: the same run, of features made alike."""
        for name in reversed(self.snapshots.finished()):
            manifest = self.snapshots.manifest(name)
            if (
                manifest.get("run_id") == run_id
                and manifest["sha256"]["features"] == self.store.key
                and manifest["packages"] == package_versions()
                and not UNSETTLED & manifest["counts"]["reasons"].keys()
            ):
                return name
        return None

    def _write(self, staging: Staging, listing: Listing, changes: Changes, as_before: str | None, clock: float) -> None:
        """Write the staged run: tables, gallery, summary, manifest."""
        job = SnapshotJob(
            self.settings,
            self.assets,
            Path(self.photos.name),
            listing.path,
            staging.directory,
            staging.run_id,
            self.device,
            1,
            self.allowed,
            store=self.store,
            snapshot_date=self.day,
            as_before=as_before,
        )
        done = prepare_staging(staging, job)
        with RunGallery(job, len(listing.partitions), done) as gallery:
            self.stages |= run_job(
                snapshot_partition,
                SnapshotState,
                job,
                listing,
                waiting_partitions(listing, done),
                choice=self.settings,
                workers=self.settings.workers,
                description="snapshot",
                on_partition=gallery.scored,
            )
            tables = count_tables(staging.directory, self.counts.ignored)
            self.stages |= gallery.finish(tables, self.stages)
        content = self._summary(staging, changes) | {
            "photos": asdict(tables),
            "seconds": round(time.perf_counter() - clock, 3),
        }
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        write_durably(staging.directory / SUMMARY, text.encode())
        described = self.job.model_dump() | {
            "photos": str(self.place),
            "out": str(self.out),
            "style_fusion": self.digests["settings"]["style_fusion"],
            "snapshot_date": self.day.isoformat(),
        }
        write_manifest(
            staging.directory,
            Manifest(
                run_id=staging.run_id,
                counts=tables,
                stages=self.stages,
                code_version=code_version(),
                sha256=named_digests(listing.sha256, self.digests) | {"features": self.store.key},
                settings=described,
                device=self.device,
                started=self.started,
                finished=datetime.now(UTC),
            ),
        )

    def _styles_before(self) -> tuple[str | None, dict[str, int]]:
        """Return the newest earlier snapshot with faces and how many of each style; without one, the newest."""
        earlier = self.snapshots.before(self.day)
        for name in earlier:
            styles = self.snapshots.summary(name).get("styles", {})
            if any(part["faces"] for part in styles.values()):
                return name, {style: part["faces"] for style, part in styles.items()}
        return (earlier[0] if earlier else None), {}

    def _summary(self, staging: Staging, changes: Changes) -> dict[str, Any]:
        last, before = self._styles_before()
        now = faces_by_style(staging.directory)
        drift = style_drift(before, now, last[:10]) if last else None
        warnings = []
        if drift and (drifts := drift_warning(drift, self.job.drift_warning)):
            warnings.append(drifts)
        if self.counts.unreadable_directories:
            names = ", ".join(map(shown, self.counts.unreadable_directories))
            warnings.append(f"folders that could not be listed, so their photos are left out: {names}")
        if self.damaged:
            names = ", ".join(map(shown, sorted(self.damaged)))
            warnings.append(f"damaged, so what they held was read again: {names}")
        if self.spared:
            warnings.append(
                f"{self.spared:,} known photos may not be read any more: rejected tonight, but their features are kept"
            )
        return {
            "snapshot_date": self.day.isoformat(),
            "run_id": staging.run_id,
            "changes": asdict(changes) | {"read": self.stages["new photos"].items},
            "styles": style_mix(before, now),
            "drift": asdict(drift) | {"level": drift.level} if drift else None,
            "warnings": warnings,
        }
