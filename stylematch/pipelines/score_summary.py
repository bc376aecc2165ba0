"""What a person is told of a finished ``score``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stylematch.tables.counts import Counts
from stylematch.tables.shown import shown
from stylematch.tables.staging import nothing_to_do


@dataclass(frozen=True)
class ScoreSummary:
    """What ``score`` did.

    Attributes
    ----------
    out : pathlib.Path
        Where the run is.
    run_id : str
        Its name.
    counts : Counts
        What came out.
    was_there : bool
        The run was finished before; nothing was done.
    seconds : float
        From start to publication.
    photos_done : int
        Photos scored by this invocation (a resumed run has fewer than it found).
    unreadable_directories : tuple of str
        The first folders that could not be listed.
    profile : tuple of str
        The table of stages, for ``--profile``; where nothing was done, that of the run that is there.
    allowed : int or None
        How many items a condition allows; None where there is none.
    items : int
        How many items the catalogue has.
    top_k : int
        How many items a face was to get.
    """

    out: Path
    run_id: str
    counts: Counts
    was_there: bool
    seconds: float
    photos_done: int
    unreadable_directories: tuple[str, ...]
    profile: tuple[str, ...] = ()
    allowed: int | None = None
    items: int = 0
    top_k: int = 0

    def lines(self) -> list[str]:
        """Return what a person is told at the end."""
        gallery = self.out / "report" / "index.html"
        if self.was_there:
            lines = [nothing_to_do(self.out, self.run_id)]
        else:
            c = self.counts
            rate = self.photos_done / self.seconds
            of = "" if self.photos_done == c.found else f" ({self.photos_done:,} of them now)"
            lines = [
                f"found {c.found:,}{of}: scored {c.scored:,}, no face {c.no_face:,}, rejected {c.rejected:,}",
                f"faces {c.faces:,}, recommendations {c.recommendations:,}",
                f"{self.seconds:.1f} s, {rate:,.1f} photos/s",
                f"tables: {shown(self.out)}/photos, faces, recommendations; manifest.json",
            ]
        of_all = self.items if self.allowed is None else self.allowed
        short = f", fewer than --top-k {self.top_k}" if of_all < self.top_k else ""
        if self.allowed is not None:
            lines.append(f"items that --where allows: {self.allowed:,}{short}")
        elif short:
            lines.append(f"items in the catalogue: {self.items:,}{short}")
        if not self.counts.found:
            lines.append("no photo was found there: is it the right folder?")
        if 0 < self.counts.found == self.counts.rejected:
            lines.append(
                "every photo was rejected, the photos table says why; --max-reject-share X makes it exit code 4"
            )
        if self.counts.ignored:
            passed_over = ", ".join(f"{why.replace('_', ' ')} {n:,}" for why, n in sorted(self.counts.ignored.items()))
            lines.append(f"passed over: {passed_over}")
        for name in self.unreadable_directories:
            lines.append(f"not readable: {shown(name)}")
        if gallery.is_file():
            lines.append(f"to see them, open {shown(gallery)}")
        return lines
