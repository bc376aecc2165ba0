"""What a catalogue's owner is told of cells that are kept but mean nothing here: a sentence a column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from stylematch.data.item_numbers import SAYS_NOTHING
from stylematch.data.item_words import TAGS, names_of
from stylematch.tables.shown import shown

MAX_WORDS = 10
"""How many unknown words of a column are listed."""


def remark(name: str, cells: pa.ChunkedArray, strange: Sequence[int], where: str, kind: str) -> str:
    """Return the sentence.

    Parameters
    ----------
    name : str
        The column's.
    cells : pyarrow.ChunkedArray
        n texts.
    strange : sequence of int
        Which of them, counted from 0, mean nothing; at least one.
    where : str
        Where the first of these stood: "line 4".
    kind : str
        What they are not: "number".
    """
    count = len(strange)
    are = f"cell is no {kind}" if count == 1 else f"cells are no {kind}s"
    return f"{name}: {count:,} {are}, e.g. {where} '{shown(cells[strange[0]].as_py())}'"


def strange_words(columns: pa.Table, numbers: Sequence[int], counted: str) -> tuple[str, ...]:
    """Return a remark for each tag that has cells which no rule's words can mean: which words, and what to do.

    Parameters
    ----------
    columns : pyarrow.Table
        n items.
    numbers : sequence of int
        n of them: where each stood.
    counted : str
        What is counted so: "line" or "row".
    """
    remarks = []
    for tag in (name for name in TAGS if name in columns.column_names):
        cells = columns[tag].to_pylist()
        meant = {cell: names_of(tag, cell) or cell.strip().lower() in SAYS_NOTHING for cell in set(cells) - {None}}
        strange = [place for place, cell in enumerate(cells) if cell is not None and not meant[cell]]
        if strange:
            first = f"{counted} {numbers[strange[0]]:,}"
            words = Counter(cells[place] for place in strange)
            remarks.append(f"{remark(tag, columns[tag], strange, first, 'known word')}{_listed(tag, words)}")
    return tuple(remarks)


def _listed(tag: str, words: Counter[str]) -> str:
    """Return the words with their counts, the most frequent first, and how one of them can be given a meaning."""
    most = words.most_common(MAX_WORDS)
    more = f", and {len(words) - len(most):,} words more" if len(words) > len(most) else ""
    counts = ", ".join(f"'{shown(word)}' {count:,}" for word, count in most)
    return f" ({counts}{more}); unknown to rules, unless --value '{tag}:{shown(most[0][0])}=NAME' names what it means"
