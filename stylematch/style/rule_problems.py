"""What is wrong with a rule file: every problem is a sentence that names the file, the line, the rule and the key."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, NoReturn, ParamSpec, TypeVar

from stylematch.errors import UserError
from stylematch.settings.toml_lines import KeyLines
from stylematch.style.rule import Rule
from stylematch.tables.shown import closest, shown

P = ParamSpec("P")
T = TypeVar("T")


class RuleProblemsError(UserError):
    """A text that is no valid rule set.

    Parameters
    ----------
    problems : sequence of str
        A sentence each, in the order of the text; at least one.
    readable : sequence of Rule
        The rules of which it is known whom they take, in order.
    without : sequence of str
        The attributes that were switched off, which the check has to be told to find the same.
    """

    def __init__(self, problems: Sequence[str], readable: Sequence[Rule] = (), without: Sequence[str] = ()) -> None:
        more = len(problems) - 1
        told = f" --without {','.join(without)}" if without else ""
        hint = f" ({more} more: 'stylematch-batch rules check{told}' lists them)" if more else ""
        super().__init__(f"{problems[0]}{hint}")
        self.problems = tuple(problems)
        self.readable = tuple(readable)
        self.without = tuple(without)

    def __reduce__(
        self,
    ) -> tuple[type[RuleProblemsError], tuple[tuple[str, ...], tuple[Rule, ...], tuple[str, ...]]]:
        """Return how it is made again in another process: of its problems, not of the message."""
        return type(self), (self.problems, self.readable, self.without)


class UnreadableError(Exception):
    """What is being read cannot be used and is skipped; the problem is noted."""


class Problems:
    """Collects the problems of one text; knows where in it the reader is.

    Parameters
    ----------
    text : str
        The TOML text.
    document : dict
        What it holds.
    label : str
        What sentences call the text.
    without : sequence of str
        The attributes that are switched off.

    Attributes
    ----------
    found : list of (int, str)
        Lines and sentences so far.
    rule : int or None
        The rule that is being read, counted from 0.
    """

    def __init__(self, text: str, document: Mapping[str, Any], label: str, without: Sequence[str] = ()) -> None:
        self.without = without
        self.text = text
        self.document = document
        self.label = label
        self.found: list[tuple[int, str]] = []
        self.rule: int | None = None

    def raise_any(self, readable: Sequence[Rule]) -> None:
        """Raise the problems, if there are any, with the rules of which it is known whom they take."""
        if self.found:
            raise self.error(readable)

    def error(self, readable: Sequence[Rule] = ()) -> RuleProblemsError:
        """Return the problems as an error, in the order of the text."""
        problems = [problem for _, problem in sorted(self.found, key=lambda found: found[0])]
        return RuleProblemsError(problems, readable, self.without)

    def tried(self, otherwise: T, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what ``read`` does, or ``otherwise`` where it gives up, so that what follows is still looked at."""
        try:
            return read(*args, **kwargs)
        except UnreadableError:
            return otherwise

    def check_keys(self, table: dict[str, Any], known: Collection[str], path: Sequence[str] = ()) -> None:
        """Note the keys of a table that mean nothing."""
        for key in table:
            if key not in known:
                self.note(".".join((*path, key)), f"there is no such key{_suggestion(key, known)}", (*path, key))

    def check_known(
        self,
        name: str,
        known: Collection[str],
        kind: str,
        key: str,
        path: Sequence[str] | None = None,
        *,
        meant: Collection[str] = (),
        fix: str | None = None,
    ) -> None:
        """Note a name that is not known; ``meant`` are the known ones that it is another word for."""
        if name not in known:
            proposed = f", did you mean {' or '.join(map(repr, meant))}?" if meant else _suggestion(name, known)
            self.note(key, f"unknown {kind} {name!r}{proposed}{f'; {fix}' if fix else ''}", path)

    def note(self, key: str, message: str, path: Sequence[str] | None = None) -> None:
        """Note a problem and go on."""
        path = tuple(key.split(".")) if path is None else tuple(path)
        rules = self.document.get("rules")
        named = ""
        if self.rule is None or not isinstance(rules, list):
            line = self.lines.line(*path)
        else:
            style = rules[self.rule].get("style")
            line = self.lines.line("rules", self.rule, *path)
            # A style that is no name of one line is its own problem, which shows it safely.
            named = f", rule {self.rule + 1}" + (f" {style!r}" if isinstance(style, str) else "")
        problem = line, f"{self.label}, line {line}{named}, key {shown(key)}: {message}"
        if problem not in self.found:  # an unknown name may be there twice
            self.found.append(problem)

    def refuse(self, key: str, message: str, path: Sequence[str] | None = None) -> NoReturn:
        """Note a problem and give up what is being read."""
        self.note(key, message, path)
        raise UnreadableError

    @cached_property
    def lines(self) -> KeyLines:
        """Where the keys stand: only looked for where there is a problem."""
        return KeyLines(self.text)


def _suggestion(name: str, known: Collection[str]) -> str:
    """Return the end of a sentence: the closest known name, or all of them where none is close."""
    close = closest(name, known)
    if close is not None:
        return f", did you mean {close!r}?"
    return f"; known: {', '.join(known)}" if known else ""
