"""Figures, names and schemas as Markdown shows them: tables, numbers, intervals; names from elsewhere are escaped."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from stylematch.tables.shown import shown

UNDEFINED = "\N{EN DASH}"
"""What stands where a figure is undefined or was not measured."""


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table, and an empty one after it; cells are Markdown already."""
    return [*(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)), ""]


def markdown_columns(schema: Any, described: Callable[[str], tuple[str, str]]) -> list[str]:
    """Return the lines of a table of a schema's columns, and an empty one after it.

    Parameters
    ----------
    schema : pyarrow.Schema
        The columns; one of Arrow's null type stands for any type.
    described : callable
        Given a column's name, returns how that is shown and what the column means, both Markdown.
    """
    rows = []
    for field in schema:
        name, meaning = described(field.name)
        rows.append((name, _shown_type(field.type), "yes" if field.nullable else "", meaning))
    return markdown_table(("column", "type", "null", "meaning"), rows)


def _shown_type(kind: Any) -> str:
    import pyarrow as pa

    if pa.types.is_fixed_size_list(kind):
        return f"{kind.list_size} x {kind.value_type}"
    if pa.types.is_list(kind) and not pa.types.is_nested(kind.value_type):
        return f"list of {kind.value_type}"
    return "any" if pa.types.is_null(kind) else str(kind)


def shown_number(value: object) -> str:
    """Return a figure with three digits behind the point, a count with commas, anything else as text."""
    if value is None:
        return UNDEFINED
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else markdown_text(value)


def shown_interval(ends: Sequence[float] | None) -> str:
    """Return the two ends of an interval."""
    return UNDEFINED if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}"


def markdown_text(value: object) -> str:
    """Return a name as it is, whatever Markdown would make of it, on one line."""
    escaped = re.sub(r"([\\`|*<>\[\]&~])", r"\\\1", shown(str(value)))
    return re.sub(r"(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])", r"\_", escaped)  # within a word it is only itself
