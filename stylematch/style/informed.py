"""The neighbours, asked again by someone who knows what the rules' model says of the face.

A face's nearest neighbours are people whose attributes are known for certain and who hold them together, as people
do. The model says of each attribute how probable it is. Each neighbour's vote is weighed by how much likelier that
makes it to look like this face than its neighbourhood is as a whole:

    weight of j = exp(-(s1 - sj) / temperature) * product of (odds(p_a) / odds(q_a)) ** t over the attributes that j has

with p_a what the model says, q_a the share of the (weighed) neighbours that have a, and t how far it is believed. So
the shares of single attributes come from the model, which knows them best, and which of them come together comes from
people. The neighbour that fits best counts 1, however well that is, and the rules' own distribution counts beside it as
many as the pseudo-count says: much where few fit like the best, little where many do.

Source: importance weighting of an empirical joint distribution by the ratio of its marginals (Deming and Stephan,
"On a Least Squares Adjustment of a Sampled Frequency Table", Annals of Mathematical Statistics 11, 1940, is one step
of it); shift of label frequencies: Saerens, Latinne and Decaestecker, Neural Computation 14, 2002.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stylematch.style.neighbours import VoteSettings, in_order, nearness, tally
from stylematch.style.ruleset import RuleSet

_SUREST = 1e-4
"""No attribute is taken for more certain than this, on either side."""


@dataclass(frozen=True)
class Known:
    """What is known of the attributes that a rule set asks for, u of them.

    Attributes
    ----------
    said : ndarray of float64, shape (n, u)
        What the model says of n faces: probabilities.
    true : ndarray of bool, shape (u, k, n)
        What the neighbours of each have in truth, nearest first.
    usual : ndarray of float64, shape (u,)
        The share of the gallery's faces that have each.
    """

    said: NDArray[np.float64]
    true: NDArray[np.bool_]
    usual: NDArray[np.float64]


class GalleryAttributes:
    """The attributes that a rule set asks for, of a gallery's faces.

    Parameters
    ----------
    rules : RuleSet
        The rule set.
    labels : ndarray of bool, shape (m, a)
        What the gallery's faces have in truth, columns as in the rule set's ``attribute_names``.
    """

    def __init__(self, rules: RuleSet, labels: NDArray[np.bool_]) -> None:
        self._columns = np.array([rules.attribute_names.index(name) for name in rules.attributes], np.int64)
        self._true = np.ascontiguousarray(labels[:, self._columns].T)
        self._usual = self._true.mean(axis=1)

    def known(self, probabilities: NDArray[np.floating], positions: NDArray[np.int64]) -> Known:
        """Return what is known of n faces, by their probabilities (n, a), and of their neighbours' rows (n, k)."""
        said = probabilities[:, self._columns].astype(np.float64)
        return Known(said, self._true.take(positions.T, axis=1), self._usual)


def informed_votes(
    known: Known,
    styles: NDArray[np.int64],
    similarities: NDArray[np.float64],
    by_rules: NDArray[np.float64],
    settings: VoteSettings,
) -> NDArray[np.float64]:
    """Count the votes of neighbours, weighed by how well each fits what the model says.

    Parameters
    ----------
    known : Known
        Attributes of faces and neighbours.
    styles : ndarray of int64, shape (n, k or more)
        The neighbours' styles, nearest first.
    similarities : ndarray of float64, shape (n, k or more)
        Their cosine similarities.
    by_rules : ndarray of float64, shape (n, S)
        What the rules say of each style.
    settings : VoteSettings
        How they vote.

    Returns
    -------
    ndarray of float64, shape (n, S)
        Probability of each style; rows sum to 1 up to rounding. A row does not depend on the others.
    """
    score = np.ascontiguousarray(nearness(similarities, settings).T)  # a face's values below one another, from here on
    weights = np.exp(score)
    total = in_order(weights) + settings.pseudo_count
    for column, usual in enumerate(known.usual):
        true = known.true[column, : len(score)]
        there = (in_order(np.where(true, weights, 0.0)) + settings.pseudo_count * usual) / total
        gain = settings.agreement * (_log_odds(known.said[:, column]) - _log_odds(there))
        score += np.where(true, gain, 0.0)
    return tally(styles, np.exp(score - score.max(axis=0)).T, by_rules, settings.pseudo_count)


def _log_odds(share: NDArray[np.float64]) -> NDArray[np.float64]:
    surely = np.clip(share, _SUREST, 1.0 - _SUREST)
    return np.asarray(np.log(surely / (1.0 - surely)))
