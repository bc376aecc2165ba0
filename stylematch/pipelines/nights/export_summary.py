"""What a night did: its line for people, its mix of styles beside the last one's, the limits that it may be over."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stylematch.errors import LimitExceededError
from stylematch.pipelines.nights.drift import Drift, is_over
from stylematch.settings.export import ExportJob
from stylematch.tables.counts import Counts
from stylematch.tables.shown import shown


@dataclass(frozen=True)
class ExportSummary:
    """What a night did.

    Attributes
    ----------
    out : str
        Where the snapshot is, for people.
    content : dict
        What ``summary.json`` holds.
    was_there : bool
        The snapshot was published before; nothing was done.
    removed : list of str
        Snapshots that were removed.
    kept_pointer : str, optional
        The later night that ``latest`` goes on naming.
    pointed : bool
        ``latest`` names it since tonight.
    also : list of str
        Warnings that came after its summary was written.
    """

    out: str
    content: dict[str, Any]
    was_there: bool
    removed: list[str]
    kept_pointer: str | None = None
    pointed: bool = False
    also: list[str] = field(default_factory=list)

    @property
    def warnings(self) -> list[str]:
        """What somebody should look at."""
        published = self.content.get("warnings", ())
        if self.was_there:  # what still holds is told once
            published = [f"as published: {told}" for told in published if told not in self.also]
        warnings = [*published, *self.also]
        if self.kept_pointer:
            path = f"{self.out.rpartition('/')[0]}/{self.kept_pointer}"
            warnings.append(
                f"latest still names the later night {self.kept_pointer}; if that date was a mistake, remove {path} "
                "and run this again"
            )
        return warnings

    def lines(self) -> list[str]:
        """Return what a person is told: one line."""
        c = self.content
        if self.was_there:
            done = "latest names it now" if self.pointed else "nothing to do"
            return [f"export {c['snapshot_date']}: {done}, {self.out} already holds this run ({c['run_id']})"]
        photos, changes, drift = c["photos"], c["changes"], c["drift"]
        mix = ", ".join(f"{shown(style)} {part['share']:.0%}{_moved(part)}" for style, part in c["styles"].items())
        return [
            f"export {c['snapshot_date']}: {photos['found']:,} photos ({changes['new']:,} new, "
            f"{changes['changed']:,} changed, {changes['gone']:,} gone, {changes['kept']:,} kept; "
            f"{changes['read']:,} read), {photos['scored']:,} scored, {photos['no_face']:,} no face, "
            f"{photos['rejected']:,} rejected; {photos['faces']:,} faces, "
            f"{photos['recommendations']:,} recommendations; {mix or 'no styles'}"
            + (f"; PSI {drift['psi']:.3f} against {drift['against']}" if drift and drift["psi"] is not None else "")
            + f"; {c['seconds']:.1f} s; {self.out}"
        ]


def _moved(part: dict[str, Any]) -> str:
    before = part["share_before"]
    return "" if before is None else f" ({100 * (part['share'] - before):+.0f})"


def faces_by_style(run: Path | str, filesystem: Any = None) -> dict[str, int]:
    """Count the faces of each style in a run's tables, streaming; by a key of one of pyarrow's file systems, there."""
    import pyarrow.dataset as ds

    counts: Counter[str] = Counter()
    for batch in ds.dataset(f"{run}/faces", format="parquet", filesystem=filesystem).to_batches(columns=["style"]):
        for pair in batch.column("style").value_counts().to_pylist():
            counts[pair["values"]] += pair["counts"]
    return dict(sorted(counts.items()))


def style_mix(before: dict[str, int], now: dict[str, int]) -> dict[str, dict[str, Any]]:
    """Return faces and share of each style that either night has, the most frequent first, and last night's."""
    total_before, total = sum(before.values()), sum(now.values())
    # A summary names styles that went that night; named on, they would stand in every later one.
    there = {style for counts in (before, now) for style, faces in counts.items() if faces}
    styles = sorted(there, key=lambda style: (-now.get(style, 0), style))
    return {
        style: {
            "faces": now.get(style, 0),
            "share": now.get(style, 0) / total if total else 0.0,
            "faces_before": before.get(style, 0) if total_before else None,
            "share_before": before.get(style, 0) / total_before if total_before else None,
        }
        for style in styles
    }


def drift_warning(drift: Drift, limit: float, *, other_rules: bool = False) -> str | None:
    """Return what a night says of a drift that reaches a limit, and of what else may explain it; None below it."""
    if not is_over(drift.psi, limit):
        return None
    also = "; the rules changed, too" if other_rules else ""
    if drift.psi is None or drift.by_chance is None:
        return f"the styles drift: {_of_drift({'psi': None, 'against': drift.against})}{also}"
    chance = f" (chance alone: about {drift.by_chance:.3f})" if drift.psi <= drift.by_chance else ""
    return (
        f"the styles drift: population stability index {drift.psi:.3f} against {drift.against} "
        f"({drift.level}; drift_warning {limit:g}){chance}{also}"
    )


def _of_drift(drift: dict[str, Any]) -> str:
    if drift["psi"] is None:
        return f"only one of tonight and {drift['against']} has faces"
    return f"the styles' population stability index is {drift['psi']:.3f}"


def check_limits(job: ExportJob, summary: ExportSummary) -> None:
    """See whether a published night is over a limit of its job.

    Raises
    ------
    LimitExceededError
        It is.
    """
    counts, drift = summary.content.get("photos"), summary.content.get("drift")
    over = []
    limit = job.score.max_reject_share
    if limit is not None and counts and (photos := Counts(**counts)).reject_share > limit:
        over.append(f"{photos.rejected_of_all()}, over max_reject_share {limit:g}")
    if job.max_drift is not None and drift and is_over(drift["psi"], job.max_drift):
        over.append(f"{_of_drift(drift)}, max_drift is {job.max_drift:g}")
    if over:
        message = f"{'; '.join(over)}; the snapshot is published: {summary.out}"
        raise LimitExceededError(message, summary.lines(), summary.warnings)
