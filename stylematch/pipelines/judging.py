"""The judge of a run: rules, gallery and what was fitted to the two, or defaults where nothing was."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stylematch.pipelines.assets import Assets
from stylematch.search.directory import StoredIndex
from stylematch.style.fits import STYLE_FILE, find_fit
from stylematch.style.fitting import Fit
from stylematch.style.fusion import PoolWeights
from stylematch.style.judge import StyleJudge
from stylematch.style.neighbours import StyleVote, VoteSettings
from stylematch.style.ruleset import RuleSet


def gallery_sha256(assets: Assets) -> dict[str, str]:
    """Return the digests of the model and the gallery that a fit holds for."""
    return {"bundle": assets.bundle_sha256(), "faces": assets.index_sha256()["faces"]}


def fit_of(assets: Assets, rules: RuleSet) -> Fit | None:
    """Return what was fitted to a rule set over the gallery, None where nothing was."""
    return find_fit(assets.faces.parent / STYLE_FILE, rules.sha256, gallery_sha256(assets))


def described(fit: Fit | None) -> dict[str, Any]:
    """Return what a run is named by and its manifest says: how neighbours vote, what opinions count, if fitted."""
    vote, weights = (fit.vote, fit.weights) if fit else (VoteSettings(), PoolWeights())
    return {"fitted": fit is not None, "vote": asdict(vote), "weights": asdict(weights)}


def load_judge(rules: RuleSet, gallery: StoredIndex, fit: Fit | None) -> StyleJudge:
    """Return the judge that uses a loaded gallery."""
    labels = gallery_labels(gallery, rules)
    vote = StyleVote(gallery.index, rules.hard(labels), len(rules.styles), fit.vote if fit else None)
    return StyleJudge(rules, vote, labels, fit.weights if fit else None)


def gallery_labels(gallery: StoredIndex, rules: RuleSet) -> NDArray[np.bool_]:
    """Return the true labels of the gallery's faces, columns as the rules name them."""
    # Through whole numbers: pyarrow would import pandas for a column of booleans, which takes half a second.
    columns = [gallery.rows[name].cast(pa.uint8()).combine_chunks() for name in rules.attribute_names]
    return np.stack([column.to_numpy(zero_copy_only=False) for column in columns], axis=1).astype(np.bool_)
