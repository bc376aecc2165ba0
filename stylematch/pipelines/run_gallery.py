"""The gallery of a run: its tables, and what its models, rules and catalogue say of the faces and items in them.

It is written while the photos are scored, by a thread of the process that hands out the partitions: a run's end then
waits for the last partition's pages alone. That thread imports what it needs (``gallery_pages``) while the workers
import, too, or load their models.
"""

from __future__ import annotations

import queue
import shutil
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from stylematch.data.memory import imported_for_good
from stylematch.pipelines.score_job import ScoreJob
from stylematch.report.thumbnails import THUMBNAILS_FOLDER
from stylematch.report.votes import VOTES_FOLDER
from stylematch.tables.counts import Counts
from stylematch.tables.disk import explained
from stylematch.tables.environment import code_version
from stylematch.tables.manifest import Stage
from stylematch.tables.shown import shown

if TYPE_CHECKING:
    from stylematch.pipelines.gallery_pages import GalleryPages


def is_gallery(names: Collection[str]) -> bool:
    """Return whether what lies in a run's ``report`` is a gallery, by its names: the page alone would be empty."""
    return {"index.html", "assets", "data"} <= set(names)


def forget_kept(run: Path) -> None:
    """Remove what workers kept for a run's gallery, which has it all now.

    Before a run is published, a stop here would have its partitions scored once more; so it is done after that, and
    again where a run is found finished.
    """
    for folder in (VOTES_FOLDER, THUMBNAILS_FOLDER):
        shutil.rmtree(run / "report" / folder, ignore_errors=True)


class RunGallery:
    """A ``with`` block that writes the gallery of a staged run, partition by partition, where its settings want one.

    Parameters
    ----------
    job : ScoreJob
        The run.
    partitions : int
        How many it has.
    done : iterable of int
        Those that are scored already.
    """

    def __init__(self, job: ScoreJob, partitions: int, done: Iterable[int] = ()) -> None:
        self._job, self._partitions = job, partitions
        self._scored: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        for number in done:
            self.scored(number)
        self._seconds, self._is_left = 0.0, False
        self._failure: Exception | None = None
        self._pages: GalleryPages | None = None
        self._thread = threading.Thread(target=self._work, name="gallery", daemon=True)

    def __enter__(self) -> RunGallery:
        if self._job.spec.settings.report:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Write no more, whatever is missing."""
        self._is_left = True
        self._scored.put(None)
        if self._thread.ident is not None:
            self._thread.join()
        self._failure = self._pages = None  # which hold this one, and files that are still open

    def scored(self, partition: int) -> None:
        """Say that a partition's tables are there."""
        self._scored.put(partition)

    def finish(self, tables: Counts, stages: Mapping[str, Stage]) -> dict[str, Stage]:
        """Write what is left once all partitions are scored; return how long the gallery took, in all.

        Parameters
        ----------
        tables : Counts
            What the run's tables hold.
        stages : mapping of str to Stage
            How long the other steps took, for the page.

        Raises
        ------
        StylematchError
            If a file cannot be written, or the tables do not belong together.
        """
        if not self._job.spec.settings.report:
            return {}
        self._thread.join()
        failure, self._failure = self._failure, None
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # or the error held itself, and with it the files that were open when it came
        clock, job = time.perf_counter(), self._job
        facts = {
            "Run": job.run_id,
            "Rules": shown(job.spec.settings.rules),
            "Attribute model": job.spec.assets.attributes.name,
            "Code": code_version(),
        }
        if job.spec.settings.without:
            facts["Switched off"] = shown(", ".join(job.spec.settings.without))
        if tables.ignored:
            facts["Passed over"] = ", ".join(
                f"{why.replace('_', ' ')} {n:,}" for why, n in sorted(tables.ignored.items())
            )
        assert self._pages is not None
        with explained("write", job.staged / "report"):
            self._pages.finish(f"stylematch: {shown(job.root.resolve().name)}", facts, stages)
        # The thread takes a share of the cores that the workers leave it, so it counts as they do.
        seconds = self._seconds + time.perf_counter() - clock
        return {"gallery": Stage(seconds, tables.found, "photos", per_worker=True)}

    def _work(self) -> None:
        try:
            with explained("write", self._job.staged / "report"):
                self._write()
        except Exception as error:
            self._failure = error
        finally:
            if self._pages is not None:
                self._pages.close()

    def _write(self) -> None:
        with imported_for_good():
            from stylematch.pipelines.gallery_pages import GalleryPages

        there: set[int] = set()
        for number in range(self._partitions):
            while number not in there:
                scored = self._scored.get()
                if scored is None:
                    return
                there.add(scored)
            clock = time.thread_time()
            if self._pages is None:
                self._pages = GalleryPages(self._job, self._partitions)
            for _ in self._pages.add(number):
                if self._is_left:
                    return
            self._seconds += time.thread_time() - clock
