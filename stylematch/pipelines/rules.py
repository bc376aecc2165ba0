"""``rules apply`` and ``rules check``: what a rule set makes of faces whose true labels are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stylematch.data.celeba import ATTRIBUTES
from stylematch.data.fashion_mnist import CLASSES
from stylematch.errors import UserError
from stylematch.pipelines.rule_labels import read_labels
from stylematch.style.diagram import DecisionDiagram
from stylematch.style.rule import Rule
from stylematch.style.rule_problems import RuleProblemsError
from stylematch.style.rules import load_rules
from stylematch.style.ruleset import RuleSet
from stylematch.tables.shown import shown

MOST_OVERLAPS = 20
"""So many pairs of styles are printed, the most frequent ones."""


class RuleCheckError(UserError):
    """``rules check`` found a file that is no valid rule set.

    Parameters
    ----------
    rules : str
        The file.
    problems : sequence of str
        A sentence each.
    counted : sequence of str
        What the rules that can be read make of the labelled faces; with the problems the ``lines`` that are printed
        beside the error.
    """

    def __init__(self, rules: str, problems: Sequence[str], counted: Sequence[str] = ()) -> None:
        count, are = ("1 problem", "it is") if len(problems) == 1 else (f"{len(problems)} problems", "they are")
        super().__init__(f"{count} in {shown(rules)}; 'score' refuses it until {are} mended")
        self.lines = (*counted, *(shown(problem) for problem in problems))


@dataclass(frozen=True)
class RuleCheck:
    """What a valid rule set makes of labelled faces.

    Attributes
    ----------
    rules : RuleSet
        The set.
    source : str
        Where the labels come from.
    faces : int
        How many they are.
    counts : tuple of int
        By style, how many have it.
    holding : tuple of int
        By style, how many its own rule holds for, whatever the rules before it say.
    overlaps : tuple of (str, str, int)
        Two styles whose rules both hold for so many faces, the one that wins first; the most frequent pairs first.
        The last rule, which holds for everybody, is left out.
    has_rest : bool
        Whether the last of the styles is none of the set's: it stands for the faces that none of its readable rules
        takes, so it counts as no style.
    empty : tuple of str
        Categories that its rules recommend from and that no item of the index is of.
    """

    rules: RuleSet
    source: str
    faces: int
    counts: tuple[int, ...]
    holding: tuple[int, ...]
    overlaps: tuple[tuple[str, str, int], ...]
    has_rest: bool = False
    empty: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return what the command prints of a set that is right."""
        return [*self.counted(), "unreachable rules: none", "unknown names: none", *self._emptied()]

    def _emptied(self) -> list[str]:
        """Return what is printed of categories without items, and of the styles that have no others."""
        if not self.empty:
            return []
        told = [f"categories that no item here is of: {', '.join(map(shown, self.empty))}"]
        bare = [style for style in self.rules.styles if set(self.rules.items(style)) <= set(self.empty)]
        if bare:
            told.append(
                f"styles that have only such, so their lists are filled with any other items: {', '.join(bare)}"
            )
        return told

    def counted(self) -> list[str]:
        """Return what is printed of the faces: coverage and overlaps."""
        styles = self.rules.styles
        own = len(styles) - self.has_rest
        width = max(len("style"), *map(len, styles))
        told = [
            f"{own} {'style' if own == 1 else 'styles'} of rule set {self.rules.name!r} by "
            f"{len(self.rules.attributes)} attributes, on {self.faces:,} faces of {self.source}",
            f"{'style':{width}}  {'faces':>9}  {'share':>7}  {'rule holds':>10}",
        ]
        for style, count, holding in zip(styles, self.counts, self.holding, strict=True):
            told.append(f"{style:{width}}  {count:9,}  {self._share(count)}  {holding:10,}")
        told.append("overlaps (both rules hold, the first wins):" if self.overlaps else "overlaps: none")
        told += [
            f"  {count:9,}  {self._share(count)}  {first} + {second}"
            for first, second, count in self.overlaps[:MOST_OVERLAPS]
        ]
        if len(self.overlaps) > MOST_OVERLAPS:
            told.append(f"  and {len(self.overlaps) - MOST_OVERLAPS} rarer pairs")
        nobody = [style for style, count in zip(styles[:own], self.counts, strict=False) if not count]
        told.append(f"styles that nobody here has: {', '.join(nobody) or 'none'}")
        return told

    def _share(self, count: int) -> str:
        return f"{100 * count / self.faces:5.1f} %" if self.faces else "      -"


def apply_rules(labels_path: Path, rules: str) -> list[tuple[str, int]]:
    """Count the faces of each style in a Parquet file of true labels.

    Parameters
    ----------
    labels_path : Path
        A Parquet file with one row a face and one column per attribute, named as CelebA names them. Other
        columns are not read, nor are attributes that no rule uses.
    rules : str
        The name of a shipped rule set ("wardrobe") or the path of a rule file.

    Returns
    -------
    list of (style, count)
        Every style of the set, the most frequent first, equal counts in rule order.

    Raises
    ------
    UserError
        The rule set is not valid, or the file is missing, is no Parquet, lacks a column that the rules use,
        or has values in it that are no labels.
    """
    rule_set = load_rules(rules, attribute_names=ATTRIBUTES, categories=CLASSES)
    styles = rule_set.hard(read_labels(labels_path, rule_set))
    counts = np.bincount(styles, minlength=len(rule_set.styles))
    order = np.argsort(-counts, kind="stable")
    return [(rule_set.styles[index], int(counts[index])) for index in order]


def check_rules(
    rules: str, *, labels: Path | None = None, indexes: Sequence[Path] = (), without: Sequence[str] = ()
) -> RuleCheck:
    """Check a rule set as ``score`` would, and count whom its rules hold for.

    Parameters
    ----------
    rules : str
        The path of a rule file or the name of a shipped set.
    labels : Path, optional
        As for ``apply_rules``; without it the faces of the face gallery are counted.
    indexes : sequence of Path
        As for ``score``: whose gallery is counted, and whose categories the items may name. Where only labels are
        given, CelebA's attributes and Fashion-MNIST's categories are known and no index is needed.
    without : sequence of str
        As for ``score``: attributes that no rule may ask for.

    Raises
    ------
    RuleCheckError
        The file is no valid rule set: everything that is wrong with it.
    UserError
        The file or the labels cannot be read, or the indexes do not belong together.
    """
    attributes: Sequence[str] = ATTRIBUTES
    categories: Sequence[str] = CLASSES
    there: set[str] | None = None
    if labels is None or indexes:
        # FAISS and the model's format take longer to import than the labels take to count.
        from stylematch.pipelines.assets import resolve_assets
        from stylematch.search.rows_file import ROWS_FILE, read_rows

        assets = resolve_assets(indexes)
        attributes, categories = assets.attribute_names, assets.items.labels
        labels = labels or assets.faces.directory / ROWS_FILE
        rows = read_rows(assets.items.directory)
        columns = [rows[name] for name in ("category", "category_predicted") if name in rows.column_names]
        there = {name for column in columns for name in column.unique().to_pylist()}
    try:
        rule_set = load_rules(rules, attribute_names=attributes, categories=categories, without=without)
    except RuleProblemsError as error:
        raise RuleCheckError(
            rules, error.problems, _count_readable(rules, error.readable, attributes, labels)
        ) from error
    check = count_rules(rule_set, read_labels(labels, rule_set), shown(labels))
    named = {name for style in rule_set.styles for name in rule_set.items(style)}
    return check if there is None else replace(check, empty=tuple(sorted(named - there)))


def _count_readable(rules: str, readable: Sequence[Rule], attributes: Sequence[str], labels: Path) -> list[str]:
    """Return what the rules of a set that is not right make of the faces, as far as it is known which they take."""
    if not readable:
        return ["no rule can be read, so nobody is counted"]
    count, last = len(readable), readable[-1]
    has_rest = bool(last.all or last.any or last.none)
    if has_rest:
        rest = Rule((), (), (), None, ("(none of these)",), ((),), (1.0,), ((),))
        readable = (*readable, rest)
    diagram = DecisionDiagram([condition for rule in readable for condition in rule.conditions])
    rule_set = RuleSet(Path(rules).stem, "", tuple(attributes), tuple(readable), diagram)
    try:
        check = count_rules(rule_set, read_labels(labels, rule_set), shown(labels))
        counted = replace(check, has_rest=has_rest).counted()
    except UserError as error:
        counted = [f"nobody is counted: {shown(str(error))}"]
    return [f"of the {'rule' if count == 1 else f'{count} rules'} that can be read:", *counted, "problems:"]


def count_rules(rule_set: RuleSet, labels: NDArray[np.bool_], source: str) -> RuleCheck:
    """Count whom the rules of a set hold for.

    Parameters
    ----------
    rule_set : RuleSet
        The set.
    labels : ndarray of bool, shape (n, a)
        True labels, columns as in the set's ``attribute_names``.
    source : str
        What the labels are called.
    """
    holds = rule_set.holds(labels)
    counts = np.bincount(holds.argmax(axis=1), minlength=len(rule_set.styles))
    named = holds[:, : -len(rule_set.rules[-1].styles)].astype(np.float64)
    # Counts are whole numbers far below 2 ** 53, so the product of matrices is exact.
    both = (named.T @ named).astype(np.int64)
    pairs = [
        (rule_set.styles[first], rule_set.styles[second], int(both[first, second]))
        for first, second in zip(*np.triu_indices(len(both), k=1), strict=True)
        if both[first, second]
    ]
    return RuleCheck(
        rule_set,
        source,
        len(labels),
        tuple(counts.tolist()),
        tuple(holds.sum(axis=0).tolist()),
        tuple(sorted(pairs, key=lambda pair: -pair[2])),
    )
