"""A nightly export: what is scored, where its snapshots go, and what is worth a warning."""

from __future__ import annotations

from pydantic import Field, model_validator

from stylematch.settings.base import Count, Fraction, Positive, Section, Switch
from stylematch.settings.score import ScoreSettings


class ExportScoring(ScoreSettings):
    """How a night scores: the settings of ``score``, without a gallery unless it is asked for.

    Attributes
    ----------
    report : bool
        Write the gallery into each snapshot.
    """

    report: Switch = False

    @model_validator(mode="after")
    def _only_what_a_night_has(self) -> ExportScoring:
        if "overwrite" in self.model_fields_set:
            raise ValueError("overwrite: a night replaces its own snapshot anyway; remove it")
        return self


class ExportJob(Section):
    """One nightly export: ``stylematch-batch export JOB.toml``.

    Attributes
    ----------
    photos : str
        A folder, or a URL (``file://``, ``s3://``).
    out : str
        Where snapshots and kept features go, a folder or a URL.
    work : str, optional
        Where OUT is a URL, a folder of this machine for what is not finished; by default in the user's cache.
    index : list of str
        Indexes or collections that replace parts of the default.
    keep_snapshots : int
        How many snapshots are kept, the newest by date.
    drift_warning : float
        The population stability index of the styles, against the last snapshot, from which a night warns.
    max_drift : float, optional
        From which it ends with exit code 4, published all the same.
    max_gone_share : float
        If a larger share of last night's photos is gone, nothing is published (exit code 3): a disk that is not
        mounted looks like a folder without photos. 1 publishes whatever is left.
    score : ExportScoring
        How photos are scored.
    """

    photos: str
    out: str
    work: str | None = None
    index: tuple[str, ...] = ()
    keep_snapshots: Count = 14
    drift_warning: Positive = 0.1
    max_drift: Positive | None = None
    max_gone_share: Fraction = 0.5
    score: ExportScoring = Field(default_factory=ExportScoring)

    @model_validator(mode="after")
    def _work_is_for_urls(self) -> ExportJob:
        if self.work is not None and "://" not in self.out:
            raise ValueError("work: is for an out that is a URL, a local one works inside out; remove it")
        return self
