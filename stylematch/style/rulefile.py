"""A rule set's TOML text -> checked rules, in order.

Each ``[[rules]]`` table becomes one ``Rule``. Everything that could make a rule silently useless is a problem:
unknown keys, attributes, categories or tags, empty or repeated entries, two rules of one style, a rule that
the ones before it always beat, a list without a last rule that takes every face left. All problems of a text are
collected, each a sentence that names the file, the line, the rule and the key.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from stylematch.data.item_words import names_of
from stylematch.style.diagram import DecisionDiagram
from stylematch.style.reach import PlacedRule, draw_rules
from stylematch.style.rule import CONDITION_KEYS, Rule, Tags, Vocabulary
from stylematch.style.rule_problems import Problems, RuleProblemsError
from stylematch.style.toml_document import BrokenTomlError, load_document

T = TypeVar("T")

SET_KEYS = ("name", "splits", "rules")
SPLIT_KEYS = ("present", "absent")
RULE_KEYS = ("style", "all", "any", "not", "split", "weight", "items", "tags")
WEIGHTS = (0.001, 1000.0)
"""The smallest and the largest weight: 0 would make a style that never is."""


def parse_rules(
    text: str, *, label: str, default_name: str, vocabulary: Vocabulary
) -> tuple[str, tuple[Rule, ...], DecisionDiagram]:
    """Read a rule set's name, its rules and which style is the first that holds.

    Parameters
    ----------
    text : str
        The TOML text.
    label : str
        What errors call the text, already safe to print (a quoted path).
    default_name : str
        The set's name where the text gives none.
    vocabulary : Vocabulary
        What rules may name.

    Raises
    ------
    RuleProblemsError
        The text is no TOML or no valid rule set.
    """
    try:
        document = load_document(text)
    except BrokenTomlError as error:
        raise RuleProblemsError([f"{label}, {error}"]) from error
    problems = Problems(text, document, label, sorted(vocabulary.without))
    name, placed = _Reader(document, vocabulary, problems).read(default_name)
    diagram = draw_rules(placed, problems)
    rules = tuple(one.rule for one in placed if one.is_whole)
    problems.raise_any(rules)
    return name, rules, diagram


class _Reader:
    """Walks one parsed document; what is wrong with it is noted, and reading goes on where it can."""

    def __init__(self, document: dict[str, Any], vocabulary: Vocabulary, problems: Problems) -> None:
        self.document = document
        self.known = vocabulary
        self.problems = problems
        self.splits: Mapping[str, tuple[str, str] | None] | None = None
        self.number_of: dict[str, int] = {}

    def read(self, default_name: str) -> tuple[str, list[PlacedRule]]:
        """Return the set's name, and the rules of which it is known what they ask for."""
        tried = self.problems.tried
        self.problems.check_keys(self.document, SET_KEYS)
        name = tried(default_name, self.read_name, self.document.get("name", default_name), "name")
        self.splits = tried(None, self.read_splits)
        return name, tried([], self.read_rules)

    def read_splits(self) -> dict[str, tuple[str, str] | None]:
        """Return each split's endings, None where they are wrong: the rules that use it are not to blame."""
        tables = self.document.get("splits", {})
        if not isinstance(tables, dict):
            self.problems.refuse(
                "splits", 'write a table such as [splits.Male] with present = "Male" and absent = "Female"'
            )
        return {name: self.problems.tried(None, self.read_split, name, table) for name, table in tables.items()}

    def read_split(self, attribute: str, table: object) -> tuple[str, str] | None:
        key, path = f"splits.{attribute}", ("splits", attribute)
        self.problems.check_known(attribute, self.known.attributes, "attribute", "splits", path)
        if isinstance(table, dict):
            self.problems.check_keys(table, SPLIT_KEYS, path)
        if not isinstance(table, dict) or not set(SPLIT_KEYS) <= set(table):
            self.problems.refuse(key, 'it needs the two endings, such as present = "Male" and absent = "Female"', path)
        present, absent = (
            self.problems.tried("", self.read_name, table[part], f"{key}.{part}", (*path, part)) for part in SPLIT_KEYS
        )
        if present and present == absent:
            self.problems.refuse(key, f"both endings are {present!r}; give each its own", path)
        return (present, absent) if present and absent and attribute in self.known.attributes else None

    def read_rules(self) -> list[PlacedRule]:
        tables = self.document.get("rules", [])
        if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
            self.problems.refuse("rules", "there must be at least one rule, each in its own [[rules]] table")
        placed: list[PlacedRule] = []
        for number, table in enumerate(tables):
            self.problems.rule = number
            rule, asks_well = self.read_rule(table, number)
            is_whole = set(table) <= set(RULE_KEYS)
            is_known = asks_well and is_whole
            if self.check_place(rule, number, is_last=number == len(tables) - 1, is_known=is_known) and asks_well:
                placed.append(PlacedRule(number, rule, is_whole))
        self.problems.rule = None
        return placed

    def read_rule(self, table: dict[str, Any], number: int) -> tuple[Rule, bool]:
        """Return a rule, and whether what its known keys ask for is sound, whatever is wrong with the others."""
        self.problems.check_keys(table, RULE_KEYS)
        for key in ("style", "items"):
            if key not in table:
                self.problems.note(key, "this key is missing; every rule needs a style and its items")
        style = f"(rule {number + 1})"
        if "style" in table:
            style = self.problems.tried(style, self.read_name, table["style"], "style")
        before = len(self.problems.found)
        asked = {key: self.problems.tried((), self.read_condition, table, key) for key in CONDITION_KEYS}
        for key, other in (("not", "all"), ("not", "any"), ("any", "all")):
            for name in asked[key]:
                if name in asked[other]:
                    self.problems.note(
                        key, f"{name!r} is also in `{other}`, so one of the two says nothing or too much; drop one"
                    )
        endings = self.problems.tried(None, self.read_endings, table, asked)
        asks_well = len(self.problems.found) == before and endings is not None
        rule = Rule(
            asked["all"],
            asked["any"],
            asked["not"],
            table["split"] if endings else None,
            () if endings is None else tuple(f"{style} {ending}" for ending in endings) or (style,),
            self.by_ending(self.read_items, table, "items", endings, ()),
            self.by_ending(self.read_weight, table, "weight", endings, 1.0),
            self.by_ending(self.read_tags, table, "tags", endings, ()),
        )
        return rule, asks_well

    def read_endings(self, table: dict[str, Any], asked: Mapping[str, tuple[str, ...]]) -> tuple[str, ...] | None:
        """Return the endings of a rule's styles: none where it has no split, None where they are not known."""
        if "split" not in table:
            return ()
        split = self.read_name(table["split"], "split")
        if self.splits is None:
            return None
        if split not in self.splits:
            fix = f"describe it in a table [splits.{split}]"
            self.problems.check_known(split, self.splits, "split", "split", fix=fix)
            return None
        self.check_not_off(split, "split")
        for key in CONDITION_KEYS:
            if split in asked[key]:
                self.problems.note(
                    "split", f"{split!r} is also in `{key}`; of two styles it would leave one, so drop it"
                )
        return self.splits[split]

    def by_ending(
        self,
        read: Callable[[object, str], T],
        table: dict[str, Any],
        key: str,
        endings: Sequence[str] | None,
        otherwise: T,
    ) -> tuple[T, ...]:
        """Return a key's value for each style: one for all, or where it is a table of the endings, each its own."""
        value = table.get(key)
        each = isinstance(value, dict) and (key != "tags" or any(isinstance(inner, dict) for inner in value.values()))
        if endings == () or not isinstance(value, dict) or not each:
            one = self.problems.tried(otherwise, read, value, key) if key in table else otherwise
            return (one,) * (len(endings or ()) or 1)
        if endings is None:  # then it is not known either which of them there should be
            endings = tuple(value)
        self.problems.check_keys(value, endings, (key,))
        found = []
        for ending in endings:
            place = f"{key}.{ending}"
            if ending not in value:
                self.problems.note(place, f"this is missing; give one for each ending, or one `{key}` for both")
            found.append(self.problems.tried(otherwise, read, value[ending], place) if ending in value else otherwise)
        return tuple(found)

    def read_condition(self, table: dict[str, Any], key: str) -> tuple[str, ...]:
        if key not in table:
            return ()
        names = self.read_names(
            table[key], key, self.known.attributes, "attribute", f"leave `{key}` out where nothing is asked"
        )
        for name in names:
            self.check_not_off(name, key)
        return names

    def check_not_off(self, name: str, key: str) -> None:
        if name in self.known.without:
            self.problems.note(
                key,
                f"asks for {name!r}, which --without switches off; take it out of the rule, or take rules that do "
                "not ask for it (wardrobe-neutral asks for neither Male nor Young)",
            )

    def read_items(self, value: object, key: str) -> tuple[str, ...]:
        return self.read_names(value, key, self.known.categories, "category", "name at least one category")

    def read_weight(self, value: object, key: str) -> float:
        smallest, largest = WEIGHTS
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not smallest <= value <= largest:  # type: ignore[operator]
            self.problems.refuse(key, f"must be a number from {smallest:g} to {largest:g}, not {value!r}")
        return float(value)  # type: ignore[arg-type]

    def read_tags(self, value: object, key: str) -> Tags:
        if not isinstance(value, dict):
            self.problems.refuse(key, f'must be a table such as {{ usage = ["Casual"] }}, not {value!r}')
        read = []
        for tag, values in value.items():
            path = f"{key}.{tag}"
            if not self.problems.tried("", self.read_name, tag, path):
                continue
            if tag not in self.known.tags:
                self.problems.check_known(tag, self.known.tags, "tag", path)
                continue
            known, if_empty = self.known.tags[tag], "leave a tag out that may be anything"
            read.append((tag, self.problems.tried((), self.read_names, values, path, known, "value", if_empty, tag)))
        return tuple(read)

    def read_names(
        self, value: object, key: str, known: Collection[str] | None, kind: str, if_empty: str, tag: str | None = None
    ) -> tuple[str, ...]:
        if not isinstance(value, list):
            self.problems.refuse(key, f"must be a list of {kind} names, not {value!r}")
        if not value:
            self.problems.refuse(key, f"the list is empty; {if_empty}")
        names = tuple(name for entry in value if (name := self.problems.tried("", self.read_name, entry, key)))
        for position, name in enumerate(names):
            if known is not None:
                fix = "a rule set's categories are those of the items: --index names another catalogue's"
                # By its letters alone "Damen" would be closest to "Men".
                meant = sorted(names_of(tag, name).intersection(known)) if tag else ()
                self.problems.check_known(name, known, kind, key, meant=meant, fix=fix if kind == "category" else None)
            if name in names[:position]:
                self.problems.note(key, f"names {name!r} twice; drop one")
        return names

    def read_name(self, value: object, key: str, path: Sequence[str] | None = None) -> str:
        # Names end up in tables, terminals and pages: one line of visible text.
        if not isinstance(value, str) or not value.isprintable() or value != value.strip() or not value:
            self.problems.refuse(
                key, f"must be a name of visible characters without spaces around it, not {value!r}", path
            )
        return value

    def check_place(self, rule: Rule, number: int, *, is_last: bool, is_known: bool) -> bool:
        """Note what is wrong with a rule's place; return whether it leaves faces to the rules after it."""
        asks = bool(rule.all or rule.any or rule.none)
        if is_last and asks:
            key = next(key for key, names in zip(CONDITION_KEYS, (rule.all, rule.any, rule.none), strict=True) if names)
            self.problems.note(
                key,
                "the last rule asks for attributes, so faces without them would have no style; "
                "end with a rule that has no `all`, `any` or `not`",
            )
        if not is_last and not asks and is_known:
            self.problems.note(
                "all",
                "a rule without `all`, `any` or `not` takes every face, so it must be the last one; give it conditions",
            )
        for style in rule.styles:
            first = self.number_of.setdefault(style, number)
            if first != number:
                self.problems.note("style", f"{style!r} is already rule {first + 1}'s style; give each rule its own")
        return is_last or asks
