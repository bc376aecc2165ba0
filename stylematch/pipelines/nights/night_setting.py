"""What the steps of a night share: what is settled when it begins, and what they find out."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

from stylematch.data.photo_folders import PhotoFolder, photo_folder
from stylematch.data.photos import FindCounts
from stylematch.pipelines.nights.feature_store import FeatureStore
from stylematch.pipelines.nights.summary_content import Troubles
from stylematch.pipelines.run_spec import RunSpec
from stylematch.settings.export import ExportJob
from stylematch.tables.manifest import Stage
from stylematch.tables.place import Place
from stylematch.tables.snapshots import Snapshots


@dataclass(frozen=True)
class NightSetting:
    """What does not change while a night runs.

    Attributes
    ----------
    job : ExportJob
        What every night does.
    place, out : Place
        Where the photos are, and where the snapshots go.
    day : datetime.date
        The night's name.
    started : datetime.datetime
        When it began.
    photos : PhotoFolder
        The photos.
    spec : RunSpec
        How they are scored.
    store : FeatureStore
        Where features are kept.
    snapshots : Snapshots
        Those of OUT.
    """

    job: ExportJob
    place: Place
    out: Place
    day: date
    started: datetime
    photos: PhotoFolder
    spec: RunSpec
    store: FeatureStore
    snapshots: Snapshots

    @classmethod
    def of(cls, job: ExportJob, place: Place, out: Place, day: date) -> NightSetting:
        """Return what a job says.

        Raises
        ------
        UserError
            If photos, models, indexes, rules or the condition on items are wrong.
        """
        started = datetime.now(UTC)
        photos = photo_folder(place, job.score.photo_timeout_s or None, follow_links=job.score.follow_links)
        spec = RunSpec.of(job.score, [Path(directory) for directory in job.index])
        return cls(job, place, out, day, started, photos, spec, FeatureStore.of(out, spec), Snapshots(out))


@dataclass
class Findings:
    """What a night's steps find out, for its summary and its manifest.

    Attributes
    ----------
    counts : FindCounts
        What was passed over or could not be listed.
    troubles : Troubles
        What went wrong, though the night went on.
    read : int
        How many photos were read.
    stages : dict of str to Stage
        How long each step took.
    """

    counts: FindCounts = field(default_factory=FindCounts)
    troubles: Troubles = field(default_factory=Troubles)
    read: int = 0
    stages: dict[str, Stage] = field(default_factory=dict)
