"""Load a rule set: one that is shipped, by its name, or a TOML file; checked, with all that is wrong with it."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from stylematch.data.item_words import TAGS
from stylematch.errors import UserError
from stylematch.style.rule import Vocabulary
from stylematch.style.rulefile import parse_rules
from stylematch.style.ruleset import RuleSet


def shipped_rule_sets() -> tuple[str, ...]:
    """Return the names of the rule sets that come with the package, sorted."""
    files = resources.files("stylematch.style").joinpath("rulesets").iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def load_rules(
    source: str | Path,
    *,
    attribute_names: Sequence[str],
    categories: Sequence[str] | None = None,
    without: Sequence[str] = (),
) -> RuleSet:
    """Load and check a rule set.

    Parameters
    ----------
    source : str or Path
        The name of a shipped set ("wardrobe") or the path of a TOML file. A ``Path`` is always a file.
    attribute_names : sequence of str
        The attributes that rules may ask for, in the order of the arrays' columns.
    categories : sequence of str, optional
        The categories that items may name; without it they are not checked.
    without : sequence of str
        Attributes that are switched off; a rule that asks for one is refused.

    Raises
    ------
    RuleProblemsError
        The file is no valid rule set; it holds all that is wrong with it.
    UserError
        There is no such set or file, it cannot be read, or ``without`` names what is no attribute.
    """
    for name in without:
        if name not in attribute_names:
            close = difflib.get_close_matches(name, attribute_names, n=1)
            known = f"did you mean {close[0]}?" if close else f"it has {', '.join(attribute_names)}"
            raise UserError(f"--without {name}: the model has no such attribute; {known}")
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
    vocabulary = Vocabulary(attribute_names, categories, TAGS, without)
    name, rules, diagram = parse_rules(text, label=label, default_name=default_name, vocabulary=vocabulary)
    return RuleSet(name, hashlib.sha256(data).hexdigest(), tuple(attribute_names), rules, diagram)
