"""The judge of a run: rules, gallery and what was fitted to the two (``style_fit``)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stylematch.search.directory import StoredIndex
from stylematch.style.fits import Fit
from stylematch.style.judge import StyleJudge
from stylematch.style.neighbours import StyleVote
from stylematch.style.ruleset import RuleSet


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
