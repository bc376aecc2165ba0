"""Attributes -> style, by an ordered rule list in which the first rule that holds wins.

A rule's probability is the product of its attributes' probabilities, as if they were independent. A style's
is its rule's times the product of (1 - p) of the rules before it; a rule that is split by an attribute shares
its own out by that attribute's probability. At probabilities 0 and 1 exactly one style has 1: the one that
hard checking would choose. Only elementwise products in a fixed order are used, so a face's result never
depends on the batch it is in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stylematch.errors import UserError
from stylematch.style.rulefile import Rule, parse_rules


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
    """

    name: str
    sha256: str
    attribute_names: tuple[str, ...]
    rules: tuple[Rule, ...]

    @cached_property
    def styles(self) -> tuple[str, ...]:
        """All styles in rule order; a style's place here is its index everywhere (S styles)."""
        return tuple(style for rule in self.rules for style in rule.styles)

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """The attributes that any rule asks for or is split by, in the order of ``attribute_names``."""
        used = {name for rule in self.rules for name in (*rule.all, rule.split)}
        return tuple(name for name in self.attribute_names if name in used)

    def items(self, style: str) -> tuple[str, ...]:
        """Return the categories to recommend for a style, in the rule file's order.

        Raises
        ------
        KeyError
            The set has no such style.
        """
        return self._items[style]

    def rule_text(self, style: str) -> str:
        """Return a style's conditions as text, such as ``Big_Lips and Heavy_Makeup and not Male``.

        That no earlier rule holds is left out. The last rule is told by the rules of one attribute just
        before it (``not Young``), or ``otherwise`` where there are none.

        Raises
        ------
        KeyError
            The set has no such style.
        """
        words = [name if wanted else f"not {name}" for name, wanted in self._conditions[style]]
        return " and ".join(words) or "otherwise"

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
        count = len(probabilities)
        styles = np.empty((count, len(self.styles)), dtype=np.float64)
        none_before = np.ones(count, dtype=np.float64)
        column = 0
        for rule in self.rules:
            holds = np.ones(count, dtype=np.float64)
            for name in rule.all:
                holds = holds * columns[name]
            fires = none_before * holds
            if rule.split is None:
                styles[:, column] = fires
            else:
                styles[:, column] = fires * columns[rule.split]
                styles[:, column + 1] = fires * (1.0 - columns[rule.split])
            column += len(rule.styles)
            none_before = none_before * (1.0 - holds)
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
        labels = np.asarray(labels)
        if labels.dtype != np.bool_:
            raise TypeError(f"labels must be bool, not {labels.dtype}")
        # At 0 and 1 the products are exact: one style has 1, the others 0.
        return self.soft(labels).argmax(axis=1).astype(np.int64, copy=False)

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
            there.
        """
        told = []
        for name, wanted in self._conditions[self.styles[style_index]]:
            present = float(probabilities_row[self._place[name]])
            told.append((name, wanted, present if wanted else 1.0 - present))
        return told

    @cached_property
    def _place(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.attribute_names)}

    @cached_property
    def _items(self) -> dict[str, tuple[str, ...]]:
        return {style: items for rule in self.rules for style, items in zip(rule.styles, rule.items, strict=True)}

    @cached_property
    def _conditions(self) -> dict[str, tuple[tuple[str, bool], ...]]:
        """What each style asks for, as (attribute, wanted)."""
        conditions: dict[str, tuple[tuple[str, bool], ...]] = {}
        singles_before: tuple[str, ...] = ()
        for rule in self.rules:
            asked = tuple((name, True) for name in rule.all) or tuple((name, False) for name in singles_before)
            for style, wanted in zip(rule.styles, (True, False), strict=False):
                conditions[style] = asked if rule.split is None else (*asked, (rule.split, wanted))
            singles_before = (*singles_before, *rule.all) if len(rule.all) == 1 else ()
        return conditions

    def _columns(self, probabilities: NDArray[np.generic]) -> dict[str, NDArray[np.float64]]:
        """Return the used columns as contiguous float64 of shape (n,), checked."""
        if probabilities.ndim != 2 or probabilities.shape[1] != len(self.attribute_names):
            raise ValueError(f"expected shape (n, {len(self.attribute_names)}), got {probabilities.shape}")
        columns = {name: probabilities[:, self._place[name]].astype(np.float64) for name in self.attributes}
        for name, values in columns.items():
            # The negation also catches NaN.
            if not np.all((values >= 0.0) & (values <= 1.0)):
                raise ValueError(f"probabilities of {name} must lie within 0 to 1")
        return columns


def shipped_rule_sets() -> tuple[str, ...]:
    """Return the names of the rule sets that come with the package, sorted."""
    files = resources.files("stylematch.style").joinpath("rulesets").iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def load_rules(
    source: str | Path, *, attribute_names: Sequence[str], categories: Sequence[str] | None = None
) -> RuleSet:
    """Load and check a rule set.

    Parameters
    ----------
    source : str or Path
        The name of a shipped set ("classic") or the path of a TOML file. A ``Path`` is always a file.
    attribute_names : sequence of str
        The attributes that rules may ask for, in the order of the arrays' columns.
    categories : sequence of str, optional
        The categories that items may name; without it they are not checked.

    Raises
    ------
    UserError
        There is no such set or file, it cannot be read, or it is no valid rule set.
    """
    shipped = shipped_rule_sets()
    if isinstance(source, str) and source in shipped:
        default_name, label = source, f"rule set {source!r}"
        data = resources.files("stylematch.style").joinpath("rulesets", f"{source}.toml").read_bytes()
    else:
        path = Path(source)
        default_name, label = path.stem, f"rule file {str(source)!r}"
        if not path.is_file():
            raise UserError(
                f"{label} is no file and no shipped rule set ({', '.join(shipped)}); "
                "give one of these names or the path of a TOML file"
            )
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"{label} cannot be read: {error.strerror}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{label} is not UTF-8 text (byte {error.start}); save it as UTF-8 TOML") from error
    name, rules = parse_rules(
        text,
        label=label,
        default_name=default_name,
        attribute_names=attribute_names,
        categories=categories,
    )
    return RuleSet(name, hashlib.sha256(data).hexdigest(), tuple(attribute_names), rules)
