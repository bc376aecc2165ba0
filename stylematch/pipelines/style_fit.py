"""What was fitted to a run's rules over its gallery, found without the gallery; defaults where nothing was."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from stylematch.pipelines.assets import Assets
from stylematch.style.fits import Fit, find_fit, fits_path
from stylematch.style.fusion import PoolWeights
from stylematch.style.neighbours import VoteSettings
from stylematch.style.ruleset import RuleSet


def gallery_sha256(assets: Assets) -> dict[str, str]:
    """Return the digests of the model and the gallery that a fit holds for."""
    return {part: assets.sha256[part] for part in ("bundle", "faces")}


def fit_of(assets: Assets, rules: RuleSet) -> Fit | None:
    """Return what was fitted to a rule set over the gallery, None where nothing was."""
    return find_fit(fits_path(assets.faces.directory), rules.sha256, gallery_sha256(assets))


def described(fit: Fit | None) -> dict[str, Any]:
    """Return what a run is named by and its manifest says: how neighbours vote, what opinions count, if fitted."""
    vote, weights = (fit.vote, fit.weights) if fit else (VoteSettings(), PoolWeights())
    return {"fitted": fit is not None, "vote": asdict(vote), "weights": asdict(weights)}
