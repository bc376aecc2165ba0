"""``export``: one night. Score what is new or changed, keep what is not, drop what is gone, publish a dated snapshot.

List the photos without reading them; read only those whose path, size or stamp is not known, and keep what models say
of their contents (``keep_partition``); then rules, gallery and items make the tables of tonight's photos from what is
kept (``snapshot_partition``), published as ``score`` publishes a run. A run that was stopped leaves whole shards of
features and of tables; the same command goes on with them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

from stylematch.errors import StylematchError, UserError
from stylematch.pipelines.nights.export_summary import ExportSummary, check_limits
from stylematch.pipelines.nights.night import Night
from stylematch.pipelines.nights.night_setting import NightSetting
from stylematch.pipelines.nights.verification import VERIFYING
from stylematch.pipelines.on_engine import check_engine
from stylematch.settings.export import ExportJob
from stylematch.settings.load import cache_folder
from stylematch.tables.closed_duckdb import words_of
from stylematch.tables.disk import check_writable
from stylematch.tables.lease import leased
from stylematch.tables.lock import held
from stylematch.tables.night_names import SNAPSHOTS
from stylematch.tables.out import HIDDEN
from stylematch.tables.place import Place, place_of
from stylematch.tables.shown import shown
from stylematch.tables.staging import put_back

_UNFINISHED, _LEASE = "night-", "store/lease"


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
    setting = NightSetting.of(job, place, out, day)
    setting.snapshots.claim()
    work = _work_folder(job, out)
    with _alone(out, work) as still_held:
        local = out.directory or work
        pattern = ".*" if out.directory is not None else "*"  # in the work folder of a bucket nothing is published
        for old in (local / SNAPSHOTS).glob(f".*{HIDDEN}old-*"):  # whichever night comes next
            put_back(old.with_name(old.name[1:].partition(HIDDEN)[0]))
        staged = [path for path in (local / SNAPSHOTS).glob(pattern) if day.isoformat() not in path.name]
        for left in [*work.glob(f"{_UNFINISHED}*"), *staged]:  # of a run that was killed, and of a night given up
            shutil.rmtree(left, ignore_errors=True)
        for marker in work.glob(f"{VERIFYING}*"):
            if day.isoformat() not in marker.name:
                marker.unlink()
        with _scratch(work) as scratch, _room_for_joins(work):
            night = Night(setting, Path(scratch), verify_content=verify_content)
            summary = night.run(local, clock, still_held)
    check_limits(job, summary)
    return summary


@contextmanager
def _alone(out: Place, work: Path) -> Iterator[Callable[[], None]]:
    """Keep other exports out of OUT; yield what raises where one has come in all the same."""
    with held(work / "lock", f"another export into {out} is under way: wait for it or stop it"):
        if out.directory is not None:
            yield lambda: None
            return
        with leased(out, _LEASE, work / "lease", "export") as still_held:
            yield still_held


def _scratch(work: Path) -> tempfile.TemporaryDirectory[str]:
    # What cannot be removed goes with the next night; the error that ends this one is the one to be told.
    return tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=work, ignore_cleanup_errors=True)


@contextmanager
def _room_for_joins(work: Path) -> Iterator[None]:
    """Turn what ends a join of what is known of the photos, such as a full disk, into a sentence."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        words = shown(words_of(error))
        is_full = isinstance(error, duckdb.OutOfMemoryException) or os.strerror(errno.ENOSPC) in words
        raise StylematchError(
            f"what is known of the photos could not be joined in {shown(work)}: {words}; "
            f"{'make room there and ' if is_full else ''}run the same command again"
        ) from error


def _work_folder(job: ExportJob, out: Place) -> Path:
    """Return the folder for what is not finished; on OUT's disk, if OUT is on this machine, as files move from it."""
    if out.directory is not None:
        work = out.directory / ".work"
    else:
        try:
            above = cache_folder() if job.work is None else Path(job.work)
        except UserError as error:
            raise UserError(f"work: {error}, or name the folder for what is not finished here.") from error
        # A folder of this OUT's own: what lies there is removed without a question.
        work = above / f"stylematch-{hashlib.sha256(str(out).encode()).hexdigest()[:16]}"
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"work: {shown(work)} cannot be made: {error.strerror}; name another folder.") from error
    check_writable(work)
    return work.resolve()
