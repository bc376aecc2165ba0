"""Attributes -> style, by an ordered rule list in which the first rule that holds wins.

A style's probability is that of its rule being the first that holds, if the attributes were independent
(``style/diagram``), times the style's weight, over the sum of these products. At probabilities 0 and 1 exactly one
style has 1, whatever the weights: the one that hard checking would choose. Only elementwise operations in a fixed
order are used, so a face's result never depends on the batch it is in.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stylematch.style.diagram import Condition, DecisionDiagram
from stylematch.style.rule import Rule, Tags


@dataclass(frozen=True)
class RuleSet:
    """An ordered, checked rule list over a model's attributes; made by ``load_rules``.

    Attributes
    ----------
    name : str
        The set's name.
    sha256 : str
        Hexadecimal digest of the rule file's bytes.
    attribute_names : tuple of str
        The columns, in order, of every array of probabilities or labels given to this set (a columns).
    rules : tuple of Rule
        The rules in order; the last has no conditions.
    diagram : DecisionDiagram
        Which style's rule is the first that holds.
    """

    name: str
    sha256: str
    attribute_names: tuple[str, ...]
    rules: tuple[Rule, ...]
    diagram: DecisionDiagram = field(repr=False, compare=False)

    @cached_property
    def styles(self) -> tuple[str, ...]:
        """All styles in rule order; a style's place here is its index everywhere (S styles)."""
        return tuple(style for rule in self.rules for style in rule.styles)

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """The attributes that any rule asks for or is split by, in the order of ``attribute_names``."""
        used = {name for rule in self.rules for name in (*rule.all, *rule.any, *rule.none, rule.split)}
        return tuple(name for name in self.attribute_names if name in used)

    def items(self, style: str) -> tuple[str, ...]:
        """Return the categories to recommend for a style, in the rule file's order.

        Raises
        ------
        KeyError
            The set has no such style.
        """
        return self._items[style]

    def tags(self, style: str) -> dict[str, tuple[str, ...]]:
        """Return what a style's items should be tagged with: by tag, such as ``usage``, its values.

        A tag that is not there may be anything.

        Raises
        ------
        KeyError
            The set has no such style.
        """
        return dict(self._tags[style])

    def rule_text(self, style: str) -> str:
        """Return a style's conditions as text, such as ``Big_Lips and Heavy_Makeup and not Male``.

        That no earlier rule holds is left out. The last rule is told by the rules of one attribute just
        before it (``not Young``), or ``no other rule holds`` where there are none.

        Raises
        ------
        KeyError
            The set has no such style.
        """
        return str(self._conditions[style]) or "no other rule holds"

    def soft(self, probabilities: NDArray[np.floating] | NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the probability of every style.

        Parameters
        ----------
        probabilities : ndarray of float, shape (n, a)
            Probability of each attribute of ``attribute_names``, 0 to 1.

        Returns
        -------
        ndarray of float64, shape (n, S)
            One row a face; each sums to 1 up to rounding.

        Raises
        ------
        ValueError
            The shape is not (n, a), or a value that a rule needs is not within 0 to 1.
        """
        columns = self._columns(np.asarray(probabilities))
        styles = self.diagram.probabilities(columns, len(probabilities))
        if len(set(self._weights)) > 1:
            styles *= np.array(self._weights)
            total = np.zeros(len(styles))
            for column in range(styles.shape[1]):  # numpy's sum of a row may group otherwise for another batch
                total += styles[:, column]
            styles /= total[:, None]
        return styles

    def hard(self, labels: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the index of the style whose rule is the first that holds.

        Parameters
        ----------
        labels : ndarray of bool, shape (n, a)
            Whether each attribute of ``attribute_names`` is present.

        Returns
        -------
        ndarray of int64, shape (n,)
            Places in ``styles``.

        Raises
        ------
        TypeError
            The labels are not booleans (CelebA's -1 would count as true).
        ValueError
            The shape is not (n, a).
        """
        return self.holds(labels).argmax(axis=1).astype(np.int64, copy=False)

    def holds(self, labels: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return for which faces each style's own rule holds, whatever the rules before it say.

        Parameters
        ----------
        labels : ndarray of bool, shape (n, a)
            Whether each attribute of ``attribute_names`` is present.

        Returns
        -------
        ndarray of bool, shape (n, S)
            The first True of a row is the face's style; the last rule always holds.

        Raises
        ------
        TypeError, ValueError
            As ``hard``.
        """
        labels = np.asarray(labels)
        if labels.dtype != np.bool_:
            raise TypeError(f"labels must be bool, not {labels.dtype}")
        self._check_shape(labels)
        conditions = [condition for rule in self.rules for condition in rule.conditions]
        holds = np.ones((len(labels), len(conditions)), np.bool_)
        for column, asked in enumerate(conditions):
            for name in asked.all:
                holds[:, column] &= labels[:, self._place[name]]
            for name in asked.none:
                holds[:, column] &= ~labels[:, self._place[name]]
            if asked.any:
                holds[:, column] &= labels[:, [self._place[name] for name in asked.any]].any(axis=1)
        return holds

    def evidence(self, style_index: int, probabilities_row: NDArray[np.floating]) -> list[tuple[str, bool, float]]:
        """Return what speaks for a style: its conditions as in ``rule_text``, with how sure each is.

        Parameters
        ----------
        style_index : int
            A place in ``styles``.
        probabilities_row : ndarray of float, shape (a,)
            One face's attribute probabilities.

        Returns
        -------
        list of (attribute, wanted, probability)
            ``wanted`` is False for "not Male"; the probability is that of the condition, so 1 - P(Male)
            there. Of the attributes of which one suffices, the most probable one is told.
        """
        asked = self._conditions[self.styles[style_index]]

        def present(name: str) -> float:
            return float(probabilities_row[self._place[name]])

        strongest = (max(asked.any, key=present),) if asked.any else ()
        told = [(name, True, present(name)) for name in (*asked.all, *strongest)]
        return [*told, *((name, False, 1.0 - present(name)) for name in asked.none)]

    @cached_property
    def _place(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.attribute_names)}

    @cached_property
    def _items(self) -> dict[str, tuple[str, ...]]:
        return {style: items for rule in self.rules for style, items in zip(rule.styles, rule.items, strict=True)}

    @cached_property
    def _tags(self) -> dict[str, Tags]:
        return {style: tags for rule in self.rules for style, tags in zip(rule.styles, rule.tags, strict=True)}

    @cached_property
    def _weights(self) -> tuple[float, ...]:
        return tuple(weight for rule in self.rules for weight in rule.weights)

    @cached_property
    def _conditions(self) -> dict[str, Condition]:
        """What each style is told by: its conditions, and for the last rule what the ones just before it deny."""
        conditions: dict[str, Condition] = {}
        singles_before: tuple[str, ...] = ()
        for rule in self.rules:
            for style, asked in zip(rule.styles, rule.conditions, strict=True):
                is_last = not (rule.all or rule.any or rule.none)
                conditions[style] = replace(asked, none=(*singles_before, *asked.none)) if is_last else asked
            is_single = len(rule.all) == 1 and not rule.any and not rule.none
            singles_before = (*singles_before, *rule.all) if is_single else ()
        return conditions

    def _check_shape(self, values: NDArray[np.generic]) -> None:
        if values.ndim != 2 or values.shape[1] != len(self.attribute_names):
            raise ValueError(f"expected shape (n, {len(self.attribute_names)}), got {values.shape}")

    def _columns(self, probabilities: NDArray[np.generic]) -> dict[str, NDArray[np.float64]]:
        """Return the used columns as contiguous float64 of shape (n,), checked."""
        self._check_shape(probabilities)
        columns = {name: probabilities[:, self._place[name]].astype(np.float64) for name in self.attributes}
        for name, values in columns.items():
            # The negation also catches NaN.
            if not np.all((values >= 0.0) & (values <= 1.0)):
                raise ValueError(f"probabilities of {name} must lie within 0 to 1")
        return columns
