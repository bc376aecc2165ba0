"""Why a scored face has its style and its items: what the rules asked for, who voted, and what came of both.

Made anew from the face's row, so nothing has to be kept of a run but its tables: the judge's opinions follow from the
row's probabilities and embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd  # type: ignore[import-untyped]

from stylematch.pipelines.advice import Adviser
from stylematch.pipelines.judging import gallery_labels
from stylematch.tables.shown import shown


@dataclass(frozen=True)
class Explanation:
    """Why a face has its style and its items; ``print`` tells it in sentences.

    Attributes
    ----------
    photo_id, face
        The face.
    style : str
        The style.
    style_score, style_margin : float
        Its probability, and how much that is above the second style's.
    rule : str
        The conditions of its rule.
    why : str
        One sentence on what rules and neighbours said.
    evidence : pandas.DataFrame
        The conditions of the style's rule: ``attribute``, ``wanted`` (False for "not Male") and the ``probability``
        that the condition holds.
    styles : pandas.DataFrame
        Indexed by style, most probable first: its probability by ``rules``, by ``neighbours``, and ``fused``.
    neighbours : pandas.DataFrame
        The labelled faces that voted, nearest first, as ``Stylematch.neighbours`` returns them.
    items : pandas.DataFrame
        The face's rows of the recommendations table.
    """

    photo_id: str
    face: int
    style: str
    style_score: float
    style_margin: float
    rule: str
    why: str
    evidence: pd.DataFrame
    styles: pd.DataFrame
    neighbours: pd.DataFrame
    items: pd.DataFrame

    def __str__(self) -> str:
        items = [f"  {item['rank']}. {shown(item['reason'])}" for _, item in self.items.iterrows()]
        return "\n".join([self.why, f"Rule of {self.style}: {self.rule}.", "Items:", *items])


def explain(adviser: Adviser, row: pd.Series, items: pd.DataFrame) -> Explanation:
    """Say why a face has its style and its items.

    Parameters
    ----------
    adviser : Adviser
        Who judged it.
    row : pandas.Series
        The face's row of the faces table.
    items : pandas.DataFrame
        Its rows of the recommendations table.
    """
    judge, rules = adviser.judge, adviser.judge.rules
    # What is switched off stands in no table, and no rule asks for it; nor could one, of a number that is none.
    probabilities = row.reindex(list(rules.attribute_names)).to_numpy(np.float32)[None]
    opinions = judge.opinions(probabilities, np.asarray(row["embedding"])[None])
    styles = pd.DataFrame(
        {"rules": opinions.rules[0], "neighbours": opinions.vote.distribution[0], "fused": opinions.fused[0]},
        index=pd.Index(rules.styles, name="style"),
    )
    evidence = rules.evidence(rules.styles.index(row["style"]), probabilities[0])
    return Explanation(
        row["photo_id"],
        int(row["face"]),
        row["style"],
        float(row["style_score"]),
        float(row["style_margin"]),
        row["rule"],
        row["why"],
        pd.DataFrame(evidence, columns=["attribute", "wanted", "probability"]),
        styles.sort_values("fused", ascending=False, kind="stable"),
        neighbour_rows(adviser, opinions.vote.positions[0], opinions.vote.similarities[0]),
        items.reset_index(drop=True),
    )


def neighbour_rows(
    adviser: Adviser, positions: npt.NDArray[np.int64], similarities: npt.NDArray[np.float64]
) -> pd.DataFrame:
    """Return labelled faces of the gallery, as ``Stylematch.neighbours`` describes them.

    Parameters
    ----------
    adviser : Adviser
        Whose gallery and rules they are.
    positions : ndarray of int64, shape (k,)
        Where they stand in the gallery, nearest first.
    similarities : ndarray of float64, shape (k,)
        Their cosines.
    """
    rules, gallery = adviser.judge.rules, adviser.gallery
    labels = gallery_labels(gallery, rules)[positions]
    return pd.DataFrame(
        {
            "rank": np.arange(1, len(positions) + 1),
            "id": [gallery.index.id_column[int(position)].as_py() for position in positions],
            "similarity": similarities,
            "style": [rules.styles[style] for style in adviser.judge.neighbours.gallery_styles[positions]],
            **{
                name: labels[:, column]
                for column, name in enumerate(rules.attribute_names)
                if name not in adviser.without
            },
        }
    )
