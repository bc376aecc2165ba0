"""Attribute probabilities and embeddings -> each face's style, how sure, and why.

Asks the rules and the neighbours, weighs the neighbours by what the model says of the face (``style/informed``), pools
the two opinions (``style/fusion``), takes the most probable style (the first in rule order where several are equal) and
says in one sentence what each of the two said by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stylematch.style.fusion import PoolWeights, fuse
from stylematch.style.informed import GalleryAttributes, informed_votes
from stylematch.style.neighbours import StyleVote, Vote
from stylematch.style.ruleset import RuleSet


@dataclass(frozen=True)
class Judgement:
    """The styles of n faces; styles are places in ``RuleSet.styles``.

    Attributes
    ----------
    style : ndarray of int64, shape (n,)
        The style of the largest fused probability.
    style_score : ndarray of float64, shape (n,)
        Its fused probability.
    style_margin : ndarray of float64, shape (n,)
        How much that is above the second style's, 0 where the two are equal.
    rule_style, neighbour_style : ndarray of int64, shape (n,)
        The style that the rules alone, or the neighbours alone, would choose.
    rule_score, neighbour_score : ndarray of float64, shape (n,)
        The probability that each gives to its own choice.
    rule : list of str, length n
        The conditions of the chosen style's rule, as in ``RuleSet.rule_text``.
    why : list of str, length n
        One sentence a person can read.
    vote : Vote
        What the nearest labelled faces say, and which they are.
    """

    style: NDArray[np.int64]
    style_score: NDArray[np.float64]
    style_margin: NDArray[np.float64]
    rule_style: NDArray[np.int64]
    rule_score: NDArray[np.float64]
    neighbour_style: NDArray[np.int64]
    neighbour_score: NDArray[np.float64]
    rule: list[str]
    why: list[str]
    vote: Vote


@dataclass(frozen=True)
class Opinions:
    """What is said of n faces before one style is chosen.

    Attributes
    ----------
    rules : ndarray of float64, shape (n, S)
        The probability of every style by the rules alone.
    vote : Vote
        What the nearest labelled faces say by themselves, and which they are.
    fused : ndarray of float64, shape (n, S)
        The rules, pooled with the neighbours as what the model says weighs them.
    """

    rules: NDArray[np.float64]
    vote: Vote
    fused: NDArray[np.float64]


class StyleJudge:
    """Judges faces by a rule set and the vote of labelled faces.

    Parameters
    ----------
    rules : RuleSet
        The rules, over the attribute model's columns.
    neighbours : StyleVote
        The vote, over the same rule set's styles.
    gallery_labels : ndarray of bool, shape (m, a)
        The attributes that the gallery's faces have in truth, columns as in the rule set's ``attribute_names``.
    weights : PoolWeights, optional
        What each opinion counts.

    Raises
    ------
    ValueError
        The vote has another number of styles than the rules, or of faces than the labels.
    """

    def __init__(
        self,
        rules: RuleSet,
        neighbours: StyleVote,
        gallery_labels: NDArray[np.bool_],
        weights: PoolWeights | None = None,
    ) -> None:
        if len(neighbours.prior) != len(rules.styles):
            raise ValueError(f"the vote knows {len(neighbours.prior)} styles, the rules {len(rules.styles)}")
        if len(neighbours.gallery_styles) != len(gallery_labels):
            raise ValueError(f"{len(neighbours.gallery_styles)} faces vote, {len(gallery_labels)} have labels")
        self.rules = rules
        self.neighbours = neighbours
        self.weights = weights or PoolWeights()
        self._attributes = GalleryAttributes(rules, gallery_labels)

    def opinions(self, probabilities: NDArray[np.floating], embeddings: NDArray[np.float32]) -> Opinions:
        """Ask rules and neighbours about n faces and pool what they say; parameters and errors as in ``judge``."""
        if len(probabilities) != len(embeddings):
            raise ValueError(f"{len(probabilities)} rows of probabilities, {len(embeddings)} embeddings")
        by_rules = self.rules.soft(probabilities)
        vote = self.neighbours.vote(embeddings)
        known = self._attributes.known(probabilities, vote.positions)
        informed = informed_votes(known, vote.styles, vote.similarities, by_rules, self.neighbours.settings)
        return Opinions(by_rules, vote, fuse(by_rules, informed, self.neighbours.prior, self.weights))

    def judge(self, probabilities: NDArray[np.floating], embeddings: NDArray[np.float32]) -> Judgement:
        """Judge n faces; a face's judgement does not depend on the others.

        Parameters
        ----------
        probabilities : ndarray of float, shape (n, a)
            Attribute probabilities, 0 to 1, columns as in the rule set's ``attribute_names``.
        embeddings : ndarray of float32, shape (n, d)
            The same faces' embeddings.

        Raises
        ------
        ValueError
            The arrays differ in length or do not fit the rules.
        """
        opinions = self.opinions(probabilities, embeddings)
        by_rules, vote, fused = opinions.rules, opinions.vote, opinions.fused
        style, style_score = _best(fused)
        rule_style, rule_score = _best(by_rules)
        neighbour_style, neighbour_score = _best(vote.distribution)
        others = fused.copy()
        others[np.arange(len(style)), style] = 0.0
        agreeing = (vote.styles == neighbour_style[:, None]).sum(axis=1)
        names = self.rules.styles
        why = []
        for row in range(len(style)):
            said = _opinion(
                self.rules.evidence(int(rule_style[row]), probabilities[row]),
                names[rule_style[row]],
                float(rule_score[row]),
            )
            seen = _count(int(agreeing[row]), self.neighbours.k, names[neighbour_style[row]])
            joint = "; " if rule_style[row] == neighbour_style[row] else ", but "
            so = ", so" if style[row] == neighbour_style[row] else "; pooled,"  # it is in spite of what they say
            why.append(f"{said}{joint}{seen}{so} it is {names[style[row]]} ({style_score[row]:.2f}).")
        return Judgement(
            style,
            style_score,
            style_score - others.max(axis=1),
            rule_style,
            rule_score,
            neighbour_style,
            neighbour_score,
            [self.rules.rule_text(names[index]) for index in style],
            why,
            vote,
        )


def _best(distribution: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return each row's most probable style, the first of equals, and its probability."""
    best = distribution.argmax(axis=1).astype(np.int64, copy=False)
    return best, distribution[np.arange(len(best)), best]


def _opinion(evidence: Sequence[tuple[str, bool, float]], style: str, score: float) -> str:
    conditions = ", ".join(
        f"{'' if wanted else 'not '}{name.replace('_', ' ')} {probability:.2f}"
        for name, wanted, probability in evidence
    )
    return f"Rules say {style} ({score:.2f}{': ' if conditions else ''}{conditions})"


def _count(agreeing: int, asked: int, style: str) -> str:
    if asked == 1:
        return f"the nearest labelled face is {style}"
    return f"{agreeing} of the {asked} nearest labelled faces {'is' if agreeing == 1 else 'are'} {style}"
