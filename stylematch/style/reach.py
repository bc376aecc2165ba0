"""Whom rules take, one after the other -> the styles that no face could ever have, each with its reason.

A style is unreachable where the decision diagram of the rules has no leaf for it: one rule before it, or several
together, take every face that it asks for.
"""

from __future__ import annotations

from collections.abc import Sequence

from stylematch.style.diagram import Condition, DecisionDiagram, TooEntangledError
from stylematch.style.rule import CONDITION_KEYS, Rule
from stylematch.style.rule_problems import Problems


def draw_rules(numbered: Sequence[tuple[int, Rule]], problems: Problems) -> DecisionDiagram:
    """Return the rules' diagram, and note the styles that no face could ever have.

    Parameters
    ----------
    numbered : sequence of (int, Rule)
        The rules with their places in the text, counted from 0; those of which it is not known whom they take are left
        out, so that what is found holds whatever they are mended to.
    problems : Problems
        Where the notes go.

    Raises
    ------
    RuleProblemsError
        The rules share too many attributes.
    """
    conditions = [condition for _, rule in numbered for condition in rule.conditions]
    try:
        # A set with problems may lack its last rule, which takes all faces that are left.
        diagram = DecisionDiagram([*conditions, Condition()] if problems.found else conditions)
    except TooEntangledError as error:
        problems.note("rules", "the rules share too many attributes to be evaluated; write fewer or shorter ones")
        raise problems.error() from error
    places = iter(range(len(conditions)))
    for count, (number, rule) in enumerate(numbered):
        problems.rule = number
        pairs = zip(rule.styles, rule.conditions, strict=True)
        never = [(style, condition) for style, condition in pairs if next(places) not in diagram.reachable]
        if never:
            _note_unreachable(rule, numbered[:count], never, problems)
    problems.rule = None
    return diagram


def _note_unreachable(
    rule: Rule, earlier: Sequence[tuple[int, Rule]], never: Sequence[tuple[str, Condition]], problems: Problems
) -> None:
    def beats(wins: Condition) -> bool:
        return all(1 not in DecisionDiagram([wins, one, Condition()]).reachable for _, one in never)

    asked = [(number, Condition(before.all, before.any, before.none)) for number, before in earlier]
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
