"""Write docs/reference/settings.md from the settings' classes; a test holds the page to them.

Run ``make reference-pages`` after a change of a setting. Types, bounds and defaults are pydantic's, meanings come
from the classes' docstrings.
"""

from __future__ import annotations

import inspect
import re
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from stylematch.settings.embed import EmbedJob
from stylematch.settings.export import ExportJob
from stylematch.settings.index import IndexSettings
from stylematch.settings.predict import PredictSettings
from stylematch.settings.score import ScoreSettings
from stylematch.settings.similar import SimilarSettings
from stylematch.settings.train import TrainJob

PAGE = Path(__file__).with_name("settings.md")
PAGES: tuple[tuple[str, str, type[BaseModel]], ...] = (
    ("A training job", "`stylematch-batch train JOB.toml`; each section is a table of the file.", TrainJob),
    ("An embedding job", "`stylematch-batch embed JOB.toml`.", EmbedJob),
    ("A nightly export", "`stylematch-batch export JOB.toml`; `[score]` has the keys of scoring, below.", ExportJob),
    ("Scoring", "The options of `score`, with underscores; they stand in a run's manifest.", ScoreSettings),
    ("Predicting", "The options of `predict`, likewise.", PredictSettings),
    ("Items like items", "The options of `similar`, likewise.", SimilarSettings),
    ("Building an index", "The options of `index build`.", IndexSettings),
)
BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def settings_page() -> str:
    """Return the page as Markdown."""
    lines = [
        "# Settings",
        "",
        "This page is made from `stylematch/settings` by `make reference-pages`. A key that is not here is refused,",
        "with its line, its name and the fix; one that changes nothing in its job (`momentum` without `sgd`) is",
        "warned of. Any key of a job can be changed for one run: `--set schedule.epochs=3`.",
    ]
    for title, text, kind in PAGES:
        lines += ["", f"## {title}", "", text]
        lines += _tables(kind)
    return "\n".join(lines) + "\n"


def _tables(kind: type[BaseModel]) -> list[str]:
    meanings = _meanings(kind)
    rows, below = [], []
    for name, field in kind.model_fields.items():
        section = _section_of(field.annotation)
        if section is None:
            meaning = meanings.get(name) or _told_with(name, meanings)
            rows.append(f"| `{name}` | {_type(field)} | {_default(field)} | {_cell(meaning)} |")
        else:
            repeated = get_origin(field.annotation) is tuple
            heading = f"[[{name}]]" if repeated else f"[{name}]"
            summary = _cell(inspect.cleandoc(section.__doc__ or "").split("\n\n")[0])
            below += ["", f"### `{heading}`", "", summary, *_tables(section)]
    table = ["", "| key | type | default | meaning |", "| --- | --- | --- | --- |", *rows] if rows else []
    return [*table, *below]


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """Return the settings class that a key's value is made of, if it is one, or a list of one, or may be absent."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        if found := _section_of(argument):
            return found
    return None


def _meanings(kind: type[BaseModel]) -> dict[str, str]:
    """Return what the docstrings of a class and of its parents say of their attributes."""
    found: dict[str, str] = {}
    for parent in reversed(kind.__mro__):
        text = inspect.cleandoc(parent.__doc__ or "").partition("Attributes\n----------\n")[2]
        for names, meaning in re.findall(r"^(\w[\w, ]*?)(?: : [^\n]*)?\n((?:    [^\n]*\n?)+)", text, re.MULTILINE):
            found |= {name.strip(): meaning for name in names.split(",")}
    return found


def _told_with(name: str, meanings: dict[str, str]) -> str:
    """Return which other key's meaning tells this one's, too."""
    return next((f"See `{other}`." for other, text in meanings.items() if f"`{name}`" in text), "")


def _type(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {_number(getattr(part, bound))}"
        for part in field.metadata
        for bound, sign in BOUNDS.items()
        if getattr(part, bound, None) is not None
    ]
    return " ".join([_name(field.annotation), ", ".join(bounds)]).strip()


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _name(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        return _name(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join(_name(part) for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is tuple:
        return f"list of {_name(get_args(annotation)[0])}"
    if get_origin(annotation) is dict:
        return f"table of {_name(get_args(annotation)[1])}"
    names = {str: "text", int: "integer", float: "number", bool: "true or false"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    if value is None or value in ((), {}):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _cell(text: str) -> str:
    return " ".join(text.replace("``", "`").split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(settings_page(), encoding="utf-8")
