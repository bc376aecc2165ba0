"""What ``summary.json`` says of a night: what changed, its mix of styles beside the last one's, drift, warnings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stylematch.pipelines.nights.drift import style_drift
from stylematch.pipelines.nights.earlier_nights import PublishedNights
from stylematch.pipelines.nights.export_summary import drift_warning, faces_by_style, style_mix
from stylematch.pipelines.nights.feature_plan import Changes
from stylematch.tables.shown import shown


@dataclass
class Troubles:
    """What went wrong with the store or the photos, though the night went on.

    Attributes
    ----------
    damaged : set of str
        Files of the store that cannot be read; what they held is read again.
    forgotten : int
        Photos of the last snapshot of whose files nothing is known any more.
    spared : int
        Known photos that may not be read tonight.
    nights : list of str
        Manifests and summaries of other nights that are damaged or missing.
    other_photos : str, optional
        What is said where the last snapshot is of other photos.
    """

    damaged: set[str] = field(default_factory=set)
    forgotten: int = 0
    spared: int = 0
    nights: list[str] = field(default_factory=list)
    other_photos: str | None = None

    def warnings(self) -> list[str]:
        """Return what a person is told of them."""
        warnings = []
        if self.damaged:
            names = ", ".join(map(shown, sorted(self.damaged)))
            warnings.append(f"damaged, so what they held was read again: {names}")
        if self.forgotten:
            warnings.append(
                f"what was known of the files of the last snapshot's {self.forgotten:,} photos is lost (store/files), "
                "so all are read again and count as new"
            )
        if self.spared:
            warnings.append(
                f"{self.spared:,} known photos may not be read any more: rejected or left out tonight, but their "
                "features are kept"
            )
        if self.nights:
            warnings.append(
                f"of other nights these files are damaged or missing: {', '.join(map(shown, self.nights))}; such a "
                "night is kept, but without its manifest it is in no answer about all nights: put the file back from a "
                "copy, have export --date make that night again (of the photos as they are now), or remove its folder"
            )
        if self.other_photos:
            warnings.append(self.other_photos)
        return warnings


def summary_content(
    staged: Path,
    published: PublishedNights,
    *,
    run_id: str,
    rules: str,
    limit: float,
    changes: Changes,
    read: int,
    unlisted: Iterable[str],
    troubles: Troubles,
) -> dict[str, Any]:
    """Return the content of a staged night's summary, but for its counts and its time.

    Parameters
    ----------
    staged : pathlib.Path
        The tables.
    published : PublishedNights
        The other nights, seen from this one.
    run_id, rules : str
        The run's name, and the digest of its rules.
    limit : float
        ``drift_warning`` of the job.
    changes : Changes
        How the photos differ from the last snapshot's.
    read : int
        How many photos were read.
    unlisted : iterable of str
        Folders that could not be listed.
    troubles : Troubles
        What else went wrong.
    """
    last, before = published.styles_before()
    now = faces_by_style(staged)
    drift = style_drift(before, now, last[:10]) if last else None
    warnings = []
    if drift and last:
        others = published.rules_of(last) not in (rules, None)
        warnings += [said] if (said := drift_warning(drift, limit, other_rules=others)) else []
    if names := ", ".join(map(shown, unlisted)):
        warnings.append(f"folders that could not be listed, so their photos are left out: {names}")
    return {
        "snapshot_date": published.day.isoformat(),
        "run_id": run_id,
        "changes": asdict(changes) | {"read": read},
        "styles": style_mix(before, now),
        "drift": asdict(drift) | {"level": drift.level} if drift else None,
        "warnings": [*warnings, *troubles.warnings()],
    }
