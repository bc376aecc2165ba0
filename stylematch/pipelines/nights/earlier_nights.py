"""What earlier nights have published that tonight's need not do again, or is compared with."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq

from stylematch.errors import StylematchError
from stylematch.pipelines.nights.export_summary import faces_by_style
from stylematch.pipelines.run_gallery import is_gallery
from stylematch.tables.contract import UNSETTLED
from stylematch.tables.environment import package_versions
from stylematch.tables.manifest import MANIFEST
from stylematch.tables.night_names import SNAPSHOTS
from stylematch.tables.place import Place
from stylematch.tables.shown import shown
from stylematch.tables.snapshots import REQUESTS_AT_ONCE, Snapshots
from stylematch.tables.staging import Staging
from stylematch.tables.summary import SUMMARY


@dataclass(frozen=True)
class PublishedNights:
    """The nights of an OUT, seen from one of them.

    Attributes
    ----------
    snapshots : Snapshots
        Where they lie.
    day : datetime.date
        That night.
    finished : dict of str to str
        The day of every snapshot that is whole, by its name, the oldest first; of that night it may be left out.
    """

    snapshots: Snapshots
    day: date
    finished: dict[str, str]

    def already_published(self, run_id: str, *, with_gallery: bool, unsettled: int) -> str | None:
        """Return the snapshot of this night if it is this very run, whole, and no photo was settled since.

        What ended a worker may be read by another try, so ``unsettled``, how many photos are not settled now, tells
        two runs of one name apart.
        """
        snapshots = self.snapshots
        ours = (name for name in self._of_the_day() if snapshots.run_id(name) == run_id)
        return next(
            (
                name
                for name in ours
                if snapshots.summary(name)
                and sum(snapshots.manifest(name)["counts"]["reasons"].get(why, 0) for why in UNSETTLED) == unsettled
                and snapshots.is_whole(name)
                and (not with_gallery or is_gallery(snapshots.place.list(f"{SNAPSHOTS}/{name}/report")))
            ),
            None,
        )

    def with_equal_tables(self, run_id: str, features: str) -> str | None:
        """Return a snapshot whose tables are tonight's, but for the date: the same run, of features made alike."""
        for name in reversed(self.finished):
            manifest = self.snapshots.manifest(name)
            if (
                manifest.get("run_id") == run_id
                and manifest["sha256"].get("features") == features
                and manifest["packages"] == package_versions()
                and not UNSETTLED & manifest["counts"]["reasons"].keys()
            ):
                return name
        return None

    def damaged(self) -> list[str]:
        """Return the manifests and summaries of other nights that say nothing, since they are damaged or missing."""
        day, snapshots = self.day.isoformat(), self.snapshots

        def damaged(name: str) -> list[str]:
            said = ((MANIFEST, snapshots.manifest(name)), (SUMMARY, snapshots.summary(name)))
            return [f"{SNAPSHOTS}/{name}/{file}" for file, content in said if not content]

        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            others = [name for name, when in self.finished.items() if when != day]
            found = [file for files in pool.map(damaged, others) for file in files]
        lost = [name for name in snapshots.without_manifest(self.finished) if name[:10] != day]
        return sorted([*found, *(f"{SNAPSHOTS}/{name}/{MANIFEST}" for name in lost)])

    def of_other_photos(self, place: Place) -> str | None:
        """Return what is said where the snapshot that tonight's replaces, or else the newest, is of other photos.

        Neither is refused: a disk that is mounted elsewhere now would end every night.
        """
        replaced = self._of_the_day()
        for name in reversed(replaced or list(self.finished)):
            settings = self.snapshots.manifest(name).get("settings", {})
            if (photos := settings.get("photos")) not in (None, str(place)):
                done = "which this night replaced, was made" if replaced else "the newest so far, was made"
                return (
                    f"the snapshot {name}, {done} of the photos at {shown(photos)}, and this one of those at {place}: "
                    "if that is another job's, give each job an out of its own, for they undo each other's work; if "
                    "the photos were moved, all is well"
                )
            if photos is not None:
                break
        return None

    def rules_of(self, name: str) -> str | None:
        """Return the digest of the rules that made a snapshot; None where nothing can be said."""
        return self.snapshots.manifest(name).get("sha256", {}).get("rules")

    def styles_before(self) -> tuple[str | None, dict[str, int]]:
        """Return the newest earlier snapshot with faces and how many of each style; without one, the newest."""
        earlier = [name for name, when in reversed(self.finished.items()) if when < self.day.isoformat()]
        for name in earlier:
            styles = self._styles_of(name)
            if any(styles.values()):
                return name, styles
        return (earlier[0] if earlier else None), {}

    def _of_the_day(self) -> list[str]:
        return [name for name, when in self.finished.items() if when == self.day.isoformat()]

    def _styles_of(self, name: str) -> dict[str, int]:
        """Return how many faces of each style a snapshot has, by its summary or, if damaged, by its tables."""
        if summary := self.snapshots.summary(name):
            return {style: part["faces"] for style, part in summary["styles"].items()}
        place = self.snapshots.place
        try:
            return faces_by_style(place.key(f"{SNAPSHOTS}/{name}"), place.filesystem)
        except (OSError, ValueError, pa.ArrowException):
            return {}


def forget_unsettled(staging: Staging) -> None:
    """Have the partitions written again that an earlier try of this run staged with photos that are not settled.

    They may be settled now, which the run's name does not say.
    """
    photos = staging.table("photos")
    for shard in photos.glob("part-*.parquet"):
        try:
            reasons = set(pq.read_table(shard, columns=["reason"])["reason"].unique().to_pylist())
        except (OSError, pa.ArrowInvalid):  # torn by a kill
            reasons = set(UNSETTLED)
        if reasons & UNSETTLED:
            shard.unlink()


def found_last(snapshots: Snapshots) -> int:
    """Return how many photos the newest snapshot has; 0 where there is none, or nothing can be said."""
    name = next(reversed(snapshots.finished()), None)
    return snapshots.summary(name).get("photos", {}).get("found", 0) if name else 0


def check_gone(gone: int, how: str, *, before: int, limit: float, place: Place) -> None:
    """See that enough of the last snapshot's photos is left for a night.

    Raises
    ------
    StylematchError
        ``gone`` of the ``before`` photos are more than the share ``limit``.
    """
    if before and gone / before > limit:
        raise StylematchError(
            f"{gone:,} of last night's {before:,} photos {how} ({gone / before:.0%}), over max_gone_share "
            f"{limit:g}: nothing is published and nothing forgotten; see that {place} is whole, or raise max_gone_share"
        )
