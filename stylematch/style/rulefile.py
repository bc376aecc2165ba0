"""A rule set's TOML text -> checked rules, in order.

Each ``[[rules]]`` table becomes one ``Rule``. Everything that could make a rule silently useless is refused
here: unknown keys, attributes or categories, empty or repeated entries, two rules of one style, a rule that
an earlier one always beats, a list without a last rule that takes every face left. Every refusal names the
file, the rule and the key.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from stylematch.errors import UserError

SET_KEYS = ("name", "splits", "rules")
SPLIT_KEYS = ("present", "absent")
RULE_KEYS = ("style", "all", "split", "items")


@dataclass(frozen=True)
class Rule:
    """One rule: its conditions and the one or two styles it ends in.

    Attributes
    ----------
    all : tuple of str
        Attributes that must all be present; empty for the last rule, which always holds.
    split : str or None
        Attribute whose presence chooses between the two styles.
    styles : tuple of str
        One style, or with a split two: first where the split's attribute is present, then where it is absent.
    items : tuple of tuple of str
        The categories to recommend, one tuple per style.
    """

    all: tuple[str, ...]
    split: str | None
    styles: tuple[str, ...]
    items: tuple[tuple[str, ...], ...]


def parse_rules(
    text: str,
    *,
    label: str,
    default_name: str,
    attribute_names: Sequence[str],
    categories: Sequence[str] | None,
) -> tuple[str, tuple[Rule, ...]]:
    """Read a rule set's name and its rules.

    Parameters
    ----------
    text : str
        The TOML text.
    label : str
        What errors call the text, already safe to print (a quoted path).
    default_name : str
        The set's name where the text gives none.
    attribute_names : sequence of str
        The attributes that rules may ask for.
    categories : sequence of str or None
        The categories that items may name; None checks none.

    Raises
    ------
    UserError
        The text is no TOML or no valid rule set; names the rule, its line where it can be found, and the key.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{label} is not valid TOML: {error}") from error
    return _Reader(text, label, document, attribute_names, categories).read(default_name)


class _Reader:
    """Walks one parsed document and knows where it is, so that every refusal can say so."""

    def __init__(
        self,
        text: str,
        label: str,
        document: dict[str, Any],
        attribute_names: Sequence[str],
        categories: Sequence[str] | None,
    ) -> None:
        self.where = label
        self.label = label
        self.document = document
        self.attribute_names = attribute_names
        self.categories = categories
        # tomllib keeps no positions. The headers' lines are only used where there is one for each rule.
        self.header_lines = [
            number for number, line in enumerate(text.split("\n"), start=1) if re.match(r"\s*\[\[\s*rules\s*\]\]", line)
        ]

    def read(self, default_name: str) -> tuple[str, tuple[Rule, ...]]:
        self.refuse_unknown_keys(self.document, SET_KEYS)
        name = self.read_name(self.document.get("name", default_name), "name")
        splits = self.read_splits()
        tables = self.document.get("rules", [])
        if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
            self.refuse("rules", "there must be at least one rule, each in its own [[rules]] table")
        rules: list[Rule] = []
        for number, table in enumerate(tables, start=1):
            self.where = self.place(number, table, len(tables))
            rule = self.read_rule(table, splits)
            self.refuse_useless(rule, rules, is_last=number == len(tables))
            rules.append(rule)
        return name, tuple(rules)

    def read_splits(self) -> dict[str, tuple[str, str]]:
        tables = self.document.get("splits", {})
        if not isinstance(tables, dict):
            self.refuse("splits", 'write a table such as [splits.Male] with present = "Male" and absent = "Female"')
        splits: dict[str, tuple[str, str]] = {}
        for attribute, table in tables.items():
            key = f"splits.{attribute}"
            self.refuse_unknown(attribute, self.attribute_names, "attribute", "splits")
            if not isinstance(table, dict) or not set(SPLIT_KEYS) <= set(table):
                self.refuse(key, 'it needs the two endings, such as present = "Male" and absent = "Female"')
            self.refuse_unknown_keys(table, SPLIT_KEYS, prefix=f"{key}.")
            present, absent = (self.read_name(table[part], f"{key}.{part}") for part in SPLIT_KEYS)
            if present == absent:
                self.refuse(key, f"both endings are {present!r}; give each its own")
            splits[attribute] = (present, absent)
        return splits

    def read_rule(self, table: dict[str, Any], splits: dict[str, tuple[str, str]]) -> Rule:
        self.refuse_unknown_keys(table, RULE_KEYS)
        for key in ("style", "items"):
            if key not in table:
                self.refuse(key, "this key is missing; every rule needs a style and its items")
        style = self.read_name(table["style"], "style")
        conditions: tuple[str, ...] = ()
        if "all" in table:
            conditions = self.read_names(
                table["all"], "all", self.attribute_names, "attribute", "leave `all` out in the last rule"
            )
        if "split" not in table:
            return Rule(conditions, None, (style,), (self.read_items(table["items"], "items"),))
        split = self.read_name(table["split"], "split")
        self.refuse_unknown(split, splits, "split", "split", fix=f"describe it in a table [splits.{split}]")
        if split in conditions:
            self.refuse("split", f"{split!r} is also in `all`, so one of the two styles could never be; drop one")
        endings = splits[split]
        return Rule(
            conditions,
            split,
            (f"{style} {endings[0]}", f"{style} {endings[1]}"),
            self.read_split_items(table["items"], endings),
        )

    def read_split_items(self, items: object, endings: tuple[str, str]) -> tuple[tuple[str, ...], ...]:
        if not isinstance(items, dict):
            shared = self.read_items(items, "items")
            return shared, shared
        self.refuse_unknown_keys(items, endings, prefix="items.")
        for ending in endings:
            if ending not in items:
                self.refuse(f"items.{ending}", "this list is missing; give one for each ending, or one `items` list")
        return tuple(self.read_items(items[ending], f"items.{ending}") for ending in endings)

    def read_items(self, value: object, key: str) -> tuple[str, ...]:
        return self.read_names(value, key, self.categories, "category", "name at least one category")

    def read_names(
        self, value: object, key: str, known: Collection[str] | None, kind: str, if_empty: str
    ) -> tuple[str, ...]:
        if not isinstance(value, list):
            self.refuse(key, f"must be a list of {kind} names, not {value!r}")
        if not value:
            self.refuse(key, f"the list is empty; {if_empty}")
        names = tuple(self.read_name(entry, key) for entry in value)
        for position, name in enumerate(names):
            if known is not None:
                self.refuse_unknown(name, known, kind, key)
            if name in names[:position]:
                self.refuse(key, f"names {name!r} twice; drop one")
        return names

    def read_name(self, value: object, key: str) -> str:
        # Names end up in tables, terminals and pages: one line of visible text.
        if not isinstance(value, str) or not value.isprintable() or value != value.strip() or not value:
            self.refuse(key, f"must be a name of visible characters without spaces around it, not {value!r}")
        return value

    def refuse_useless(self, rule: Rule, earlier: Sequence[Rule], *, is_last: bool) -> None:
        if is_last and rule.all:
            self.refuse(
                "all",
                "the last rule asks for attributes, so faces without them would have no style; "
                "end with a rule that has no `all`",
            )
        if not is_last and not rule.all:
            self.refuse("all", "a rule without `all` takes every face, so it must be the last one; give it conditions")
        for number, before in enumerate(earlier, start=1):
            for style in rule.styles:
                if style in before.styles:
                    self.refuse("style", f"{style!r} is already rule {number}'s style; give each rule its own")
            if rule.all and set(before.all) <= set(rule.all):
                self.refuse(
                    "all",
                    f"rule {number} ({' and '.join(before.all)}) always wins over this one; put this rule before it",
                )

    def refuse_unknown_keys(self, table: dict[str, Any], known: Collection[str], prefix: str = "") -> None:
        for key in table:
            if key not in known:
                self.refuse(f"{prefix}{key}", f"there is no such key{_suggestion(key, known)}")

    def refuse_unknown(self, name: str, known: Collection[str], kind: str, key: str, fix: str | None = None) -> None:
        if name not in known:
            self.refuse(key, f"unknown {kind} {name!r}{_suggestion(name, known)}{f'; {fix}' if fix else ''}")

    def place(self, number: int, table: dict[str, Any], count: int) -> str:
        style = table.get("style")
        name = f" {style!r}" if isinstance(style, str) else ""
        line = f" (line {self.header_lines[number - 1]})" if len(self.header_lines) == count else ""
        return f"{self.label}, rule {number}{name}{line}"

    def refuse(self, key: str, message: str) -> NoReturn:
        raise UserError(f"{self.where}, key {key if key.isprintable() else repr(key)}: {message}")


def _suggestion(name: str, known: Collection[str]) -> str:
    """Return the end of a sentence: the closest known name, or all of them where none is close."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(name.casefold(), list(by_folded), n=1, cutoff=0.6)
    if close:
        return f", did you mean {by_folded[close[0]]!r}?"
    return f"; known: {', '.join(known)}" if known else ""
