"""How far tonight's styles are from last night's: the population stability index.

PSI = sum over styles of (p - q) ln(p / q), with p and q a style's share tonight and before. The customary reading is
Siddiqi's (Credit Risk Scorecards, 2006): under 0.1 no shift worth a look, 0.1 to 0.25 some, over 0.25 a large one. With
few faces chance alone moves it: two samples of n and m faces of one population over k styles give about
(k - 1)(1/n + 1/m) (Yurdakul and Naranjo, 2020), so that figure stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

SOME_DRIFT, LARGE_DRIFT = 0.1, 0.25
# A style that nobody has tonight would make the index infinite; half a face stands for none.
_NOBODY = 0.5


@dataclass(frozen=True)
class Drift:
    """What changed in the mix of styles.

    Attributes
    ----------
    against : str
        The date of the snapshot that it is compared with.
    psi : float, optional
        The population stability index; None where only one of the two nights has faces, which no index can say.
    by_chance : float, optional
        What it is on average where nothing changed but the faces that were drawn.
    """

    against: str
    psi: float | None
    by_chance: float | None

    @property
    def level(self) -> str:
        """The customary word: "none", "some" or "large"."""
        if self.psi is None:
            return "large"
        return "none" if self.psi < SOME_DRIFT else "some" if self.psi < LARGE_DRIFT else "large"


def is_over(psi: float | None, limit: float) -> bool:
    """Return whether a drift reaches a limit; faces on one side alone reach any."""
    return psi is None or psi >= limit


def style_drift(before: Mapping[str, int], now: Mapping[str, int], against: str) -> Drift | None:
    """Compare two counts of faces by style; None where neither has a face.

    Parameters
    ----------
    before, now : mapping of str to int
        Faces of each style.
    against : str
        The date of ``before``.
    """
    styles = sorted({style for counts in (before, now) for style, faces in counts.items() if faces})
    faces_before, faces_now = sum(before.values()), sum(now.values())
    if not faces_before and not faces_now:
        return None
    if not faces_before or not faces_now:
        return Drift(against, None, None)
    by_chance = (len(styles) - 1) * (1 / faces_before + 1 / faces_now)
    return Drift(against, population_stability_index(before, now), by_chance)


def population_stability_index(before: Mapping[str, int], now: Mapping[str, int]) -> float:
    """Return the index of two counts, none of them empty; equal shares give 0."""
    total_before, total_now = sum(before.values()), sum(now.values())
    index = 0.0
    for style in sorted({*before, *now}):
        counts = before.get(style, 0), now.get(style, 0)
        if any(counts):
            q, p = max(counts[0], _NOBODY) / total_before, max(counts[1], _NOBODY) / total_now
            index += (p - q) * math.log(p / q)
    return index
