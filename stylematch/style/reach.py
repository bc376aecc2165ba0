"""Whom rules take, one after the other -> the styles that no face could ever have, each with its reason.

A style is unreachable where the decision diagram of the rules has no leaf for it: one rule before it, or several
together, take every face that it asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from stylematch.style.diagram import Condition, DecisionDiagram, TooEntangledError
from stylematch.style.rule import CONDITION_KEYS, Rule
from stylematch.style.rule_problems import Problems


class PlacedRule(NamedTuple):
    """A rule of which it is known what it asks for, if not all.

    Attributes
    ----------
    number : int
        Its place in the text, counted from 0.
    rule : Rule
        The rule.
    is_whole : bool
        False where a key that nobody knows may ask for more: it takes no other faces than are known, but maybe fewer.
    """

    number: int
    rule: Rule
    is_whole: bool


def draw_rules(placed: Sequence[PlacedRule], problems: Problems) -> DecisionDiagram:
    """Return the diagram of the whole rules, and note the styles that no face could ever have.

    Parameters
    ----------
    placed : sequence of PlacedRule
        The rules; those of which it is not known whom they take are left out, so that what is found holds whatever
        they are mended to.
    problems : Problems
        Where the notes go.

    Raises
    ------
    RuleProblemsError
        The rules share too many attributes.
    """
    whole = [one for one in placed if one.is_whole]
    try:
        # A set with problems may lack its last rule, which takes all faces that are left.
        rest = [Condition()] if problems.found else []
        diagram = DecisionDiagram([*_conditions(whole), *rest])
        for one in placed:
            before = [other for other in whole if other.number < one.number]
            first = len(_conditions(before))
            # What may ask for more than is known takes nothing from the rules behind it, so it is drawn on its own.
            drawn = diagram if one.is_whole else DecisionDiagram([*_conditions([*before, one]), Condition()])
            pairs = enumerate(zip(one.rule.styles, one.rule.conditions, strict=True), start=first)
            never = [pair for place, pair in pairs if place not in drawn.reachable]
            if never:
                problems.rule = one.number
                _note_unreachable(one.rule, before, never, problems)
    except TooEntangledError as error:
        problems.rule = None
        problems.note("rules", "the rules share too many attributes to be evaluated; write fewer or shorter ones")
        raise problems.error() from error
    problems.rule = None
    return diagram


def _conditions(placed: Sequence[PlacedRule]) -> list[Condition]:
    return [condition for one in placed for condition in one.rule.conditions]


def _note_unreachable(
    rule: Rule, earlier: Sequence[PlacedRule], never: Sequence[tuple[str, Condition]], problems: Problems
) -> None:
    def beats(wins: Condition) -> bool:
        return all(1 not in DecisionDiagram([wins, one, Condition()]).reachable for _, one in never)

    asked = [(number, Condition(before.all, before.any, before.none)) for number, before, _ in earlier]
    winner = next(((number, wins) for number, wins in asked if beats(wins)), None)
    if winner is None:
        why, fix = "the rules before it together take every face that it asks for", "put this rule earlier"
    else:
        why, fix = f"rule {winner[0] + 1} ({winner[1]}) always wins over this one", "put this rule before it"
    if len(never) < len(rule.styles):
        problems.note("split", f"{never[0][0]!r} can never be, since {why}; {fix} or drop the split")
        return
    keys = zip(CONDITION_KEYS, (rule.all, rule.any, rule.none), strict=True)
    problems.note(next((key for key, names in keys if names), "style"), f"{why}; {fix}")
