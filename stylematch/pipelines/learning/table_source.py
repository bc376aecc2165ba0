"""Pictures that somebody labelled, in a table or by folders, as a source of examples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from stylematch.data.class_folders import read_class_folders
from stylematch.data.label_table import LabelColumns, LabelTable, read_label_table
from stylematch.data.splits import Rows, split_random, split_stratified
from stylematch.errors import UserError
from stylematch.pipelines.learning.source import TO_TEST_ON, Source
from stylematch.pipelines.learning.whole_source import TEST_SHARE, cut_whole, dropped_rows, undecodable
from stylematch.pipelines.predictions import doubled_column
from stylematch.settings.train_data import TrainData
from stylematch.tables.shown import shown
from stylematch.vision.examples import Examples

_LICENCE = "Learned from {}, somebody's own labelled pictures; under which licence they are, their owner knows."


def table_source(data: TrainData, input_px: int, cache: Path, margin: bool) -> Source:
    """Open a table of labelled pictures, split by a column of it, at random, or stratified by its first group."""
    assert data.root is not None  # TrainJob sees to it
    images = None if data.images is None else Path(data.images)
    part = data.split_column if data.split == "column" else None
    columns = LabelColumns(data.groups, data.tags, data.image_column, part=part)
    return _source(read_label_table(Path(data.root), columns, images), data, input_px, cache, margin)


def folders_source(data: TrainData, input_px: int, cache: Path, margin: bool) -> Source:
    """Open a folder of classes, split by folders above them, at random, or stratified."""
    assert data.root is not None
    read = read_class_folders(Path(data.root), data.label_groups[0])
    if data.split == "folders" and read.parts is None:
        raise UserError(
            f"{shown(data.root)} has not just the folders train, val and test, of which train is needed; "
            'write data.split = "stratified" to have them shared out.'
        )
    if data.split != "folders":
        read = replace(read, parts=None)
    return _source(read, data, input_px, cache, margin)


def _source(read: LabelTable, data: TrainData, input_px: int, cache: Path, margin: bool) -> Source:
    source = read.source
    table = read.without_copies().without_rare(data.min_label_count)
    _check_columns(table, data.min_label_count)
    train, val, test = _split(table, data)
    if not len(train) or not len(val):
        raise UserError(
            f"{shown(source)} has {len(train):,} pictures to learn from and {len(val):,} to watch, and there has to be "
            f"one of each at least{_dropped(table)}; add pictures, raise data.validation, or split them at random."
        )
    cut = cut_whole(
        table.pictures,
        table.names,
        table.labels,
        data.label_groups,
        input_px,
        cache,
        data.resize,
        data.limit,
        source.name,
    )
    learned, watched = cut(train, margin), cut(val, margin)
    title = {"column": "its own", "folders": "its own", "random": "a random fifth", "stratified": "a stratified fifth"}[
        data.split
    ]

    def tests() -> Iterator[tuple[str, Examples]]:
        if len(test):
            yield f"{source.stem} test ({title})", cut(test)

    return Source(
        table.schema,
        [(learned, 1)],
        watched,
        tests,
        _LICENCE.format(source.name),
        {"input": {"resize": data.resize}},
        {TO_TEST_ON: len(test[: data.limit])}
        | dropped_rows(table.dropped)
        | _too_rare(read, table, data.min_label_count)
        | _never_learned(table, train)
        | undecodable(learned, watched),
        tuple(table.contents[row] for rows in (train, val) for row in rows),
    )


def _check_columns(table: LabelTable, min_label_count: int) -> None:
    """Refuse what cannot be learned or tabled, before any picture is cut."""
    rare = f" that {min_label_count:,} pictures have" if min_label_count > 1 else ""
    for group in table.schema.groups:
        values = table.labels[group.name]
        columns = dict(zip(group.labels, values.T, strict=True)) if group.kind == "binary" else {group.name: values}
        said = ("no", "yes") if group.kind == "binary" else group.labels
        for name, column in columns.items():
            answers = [said[answer] for answer in np.unique(column[column >= 0])]
            if len(answers) < 2:
                few = f"only one answer{rare}, '{shown(answers[0])}'" if answers else f"no answer{rare}"
                where = shown(name) if table.source.is_dir() else f"column {shown(name)}"
                raise UserError(f"{shown(table.source)}: {where} has {few}; there have to be two to learn.")
    if doubled := doubled_column(table.schema):
        raise UserError(
            f"{shown(table.source)}: predict's tables would have two columns {shown(doubled)}, case apart: one is a "
            "label, or follows from one; rename that column."
        )


def _split(table: LabelTable, data: TrainData) -> tuple[Rows, Rows, Rows]:
    """Return the rows to learn from, to watch and to test on."""
    stratum = next((group.name for group in table.schema.groups if group.kind == "categorical"), None)

    def shared(rows: Rows, share: float) -> tuple[Rows, Rows]:
        if data.split == "random" or not stratum:
            kept, held = split_random(len(rows), share, data.split_seed)
        else:
            kept, held = split_stratified(table.labels[stratum][rows], share, data.split_seed)
        return rows[kept], rows[held]

    if table.parts is None:
        rest, test = shared(np.arange(len(table)), TEST_SHARE)
        return *shared(rest, data.validation), test
    train, val, test = (np.flatnonzero(table.parts == part) for part in range(3))
    if not len(val):
        train, val = shared(train, data.validation)
    return train, val, test


def _too_rare(read: LabelTable, kept: LabelTable, min_label_count: int) -> dict[str, str]:
    """Return the classes that have become unknown, by group."""
    rare = {
        name: [label for label in classes if label not in kept.classes[name]] for name, classes in read.classes.items()
    }
    return {
        f"{name} that fewer than {min_label_count:,} pictures have": shown(", ".join(labels))
        for name, labels in rare.items()
        if labels
    }


def _never_learned(table: LabelTable, train: Rows) -> dict[str, str]:
    """Return the classes, and the answers to yes or no, that no picture is learned from has, by what lacks them."""
    notes = {}
    for group in table.schema.groups:
        values = table.labels[group.name][train]
        if group.kind == "categorical":
            counts = np.bincount(values[values >= 0], minlength=group.width)
            if not counts.all():
                lacking = ", ".join(shown(group.labels[place]) for place in np.flatnonzero(counts == 0))
                notes[f"{group.name} that no training picture has"] = lacking
            continue
        for answer, said in enumerate(("no", "yes")):
            if empty := ", ".join(np.array(group.labels, object)[~(values == answer).any(0)]):
                notes[f"{group.name} that no training picture has as {said}"] = shown(empty)
    return notes


def _dropped(table: LabelTable) -> str:
    rows = ", ".join(f"{reason} {count:,}" for reason, count in sorted(table.dropped.items()) if count)
    return f" (rows dropped: {rows})" if rows else ""
