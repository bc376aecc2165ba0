"""The steps of a night: list the photos, keep the features of those that are new, publish a snapshot of all, tidy."""

from __future__ import annotations

import functools
import secrets
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from stylematch.data.photo_file import escape_bytes, unescape_path
from stylematch.data.photo_folders import LocalFolder
from stylematch.engines.progress import Progress
from stylematch.errors import StylematchError
from stylematch.pipelines.nights.earlier_nights import check_gone, found_last
from stylematch.pipelines.nights.export_summary import ExportSummary
from stylematch.pipelines.nights.feature_damage import despite_damage
from stylematch.pipelines.nights.feature_footers import Footers
from stylematch.pipelines.nights.feature_looks import KeptLooks
from stylematch.pipelines.nights.feature_plan import FeaturePlan
from stylematch.pipelines.nights.feature_tidy import tidy, write_files
from stylematch.pipelines.nights.keep_partition import KeepJob, KeepState, keep_partition
from stylematch.pipelines.nights.night_lists import lost_before, write_found
from stylematch.pipelines.nights.night_setting import Findings, NightSetting
from stylematch.pipelines.nights.publication import Publication
from stylematch.pipelines.nights.summary_content import Troubles
from stylematch.pipelines.nights.verification import marker_of, verified_since
from stylematch.pipelines.on_engine import run_job
from stylematch.pipelines.run_listing import waiting_partitions
from stylematch.tables.manifest import Stage
from stylematch.tables.out import output_of


class Night:
    """One night.

    Parameters
    ----------
    setting : NightSetting
        What does not change while it runs.
    scratch : pathlib.Path
        An empty folder in the one for what is not finished.
    verify_content : bool
        Read every file, whatever its size and time say.
    """

    def __init__(self, setting: NightSetting, scratch: Path, *, verify_content: bool) -> None:
        self.setting, self.scratch, self.verify = setting, scratch, verify_content
        self.footers = Footers(setting.out)
        self.found = Findings()
        self.looks = KeptLooks(setting.store, scratch, again=verify_content)
        self.seen = time.time_ns()
        self._suffix = secrets.token_hex(4)

    @property
    def name(self) -> str:
        """What the names of tonight's files in the store begin with; later nights' sort after it."""
        return f"{self.seen}-{self._suffix}"

    def run(self, local: Path, clock: float, still_held: Callable[[], None]) -> ExportSummary:
        """Do the night; for the parameters see ``Publication``."""
        listed = self._list()
        publication = Publication(self.setting, self.found, local, clock, still_held)

        def all_but_list() -> ExportSummary:
            self.seen += 1  # of each try its own: no name of a file is used twice
            self._keep(listed)
            with self._plan(listed) as plan:
                self._check_explained(plan)
                listing = plan.write_plan(self.scratch / "plan.jsonl")
                summary = publication.publish(listing, plan)
                still_held()
                write_files(self.setting.store, plan, self.scratch, self.name, self.seen)
                tidy(self.setting.store, plan, self.scratch, self.name)
            return summary

        summary = despite_damage(all_but_list, self.setting.store, self.footers)
        self.looks.publish()
        marker_of(self.scratch.parent, self.setting.day).unlink(missing_ok=True)
        return summary

    def _check_explained(self, plan: FeaturePlan) -> None:
        if lost := plan.unexplained():
            raise StylematchError(
                f"of {lost:,} photos that were read the store has neither features nor a reason: another export "
                f"into {self.setting.out} has removed them meanwhile; let one of them run at a time, and run the same "
                "command again"
            )

    def _plan(self, listed: Path) -> FeaturePlan:
        score, counts = self.setting.job.score, self.found.counts
        # Also as the paths below them begin whose own names are not UTF-8.
        unseen = [*counts.not_looked_at, *counts.unreadable_directories]
        return FeaturePlan(
            self.setting.store,
            self.footers,
            listed,
            self.scratch,
            thumbnails=score.report,
            max_bytes=int(score.max_file_mb * 1e6),
            not_looked_at=sorted({form for path in unseen for form in (path, escape_bytes(unescape_path(path)))}),
        )

    def _list(self) -> Path:
        clock, score = time.perf_counter(), self.setting.job.score
        found = self.setting.photos.find(
            self.found.counts,
            follow_links=score.follow_links,
            skip=self._is_output(),
            limit_s=score.photo_timeout_s or None,
            looks=self.looks.looks,
        )
        with Progress(None, "photos", "list") as progress, self.looks:
            path, count = write_found(islice(found, score.limit), self.scratch, progress.update)
        self.found.stages["list"] = Stage(time.perf_counter() - clock, count, "photos")
        return path

    def _is_output(self) -> Callable[[Path], bool]:
        place, out = self.setting.place, self.setting.out
        if place.directory is not None:
            return output_of(out.directory or self.scratch.parent)
        return lambda path: out.directory is None and place.key(path.as_posix()) == out.key()

    def _keep(self, listed: Path) -> None:
        """Read what has to be read, and keep the features of contents that are new."""
        night, found, scratch = self.setting, self.found, self.scratch
        with self._plan(listed) as plan:
            # What is seen tonight counts before all that is known, though the clock may have gone back since.
            self.seen = max(self.seen, plan.last_seen() + 1)
            gone, before = plan.gone()
            found.troubles = Troubles(plan.damaged, spared=plan.spared())
            if not before and (before := found_last(night.snapshots)):
                found.troubles.forgotten, gone = before, max(0, before - found.stages["list"].items)
            check = functools.partial(check_gone, before=before, limit=night.job.max_gone_share, place=night.place)
            check(gone - plan.moved(), "are gone")
            check(found.troubles.spared, "cannot be read any more")
            since = verified_since(scratch.parent, night.day, self.seen) if self.verify else None
            todo = plan.write_todo(scratch / "todo.jsonl", verify_since=since)
            plan.write_known_ids(scratch / "known")
        found.stages["new photos"] = Stage(0.0, todo.photos, "photos")
        found.read += todo.photos
        if not todo.photos:
            return
        keep = KeepJob(
            night.spec,
            night.photos,
            night.store,
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
            choice=night.job.score,
            workers=night.job.score.workers,
            description="new photos",
            photos=night.photos.root if isinstance(night.photos, LocalFolder) else None,
            lost_before=lost_before,
        )
        found.stages |= ran.stages
