"""Pictures that somebody labelled, in a table or by folders, as a source of examples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stylematch.data.class_folders import read_class_folders
from stylematch.data.label_table import LabelColumns, LabelTable, read_label_table
from stylematch.data.splits import Rows, split_random, split_stratified
from stylematch.errors import UserError
from stylematch.pipelines.learning.source import Source
from stylematch.pipelines.learning.whole_source import TEST_SHARE, cut_whole, dropped_rows, undecodable
from stylematch.pipelines.predictions import predictions_schema
from stylematch.settings import TrainData
from stylematch.tables.disk import shown
from stylematch.vision.examples import Examples

_LICENCE = "Learned from {}, somebody's own labelled pictures; under which licence they are, their owner knows."


def label_columns(data: TrainData) -> LabelColumns:
    """Return which columns a job reads."""
    part = data.split_column if data.split == "column" else None
    return LabelColumns(data.groups, data.tags, data.image_column, part)


def table_source(data: TrainData, input_px: int, cache: Path) -> Source:
    """Open a table of labelled pictures, split by a column of it, at random, or stratified by its first group."""
    assert data.root is not None  # TrainJob sees to it
    images = None if data.images is None else Path(data.images)
    return _source(read_label_table(Path(data.root), label_columns(data), images), data, input_px, cache)


def folders_source(data: TrainData, input_px: int, cache: Path) -> Source:
    """Open a folder of classes, split by folders above them, at random, or stratified."""
    assert data.root is not None
    table = read_class_folders(Path(data.root), data.label_groups[0])
    if data.split == "folders" and table.parts is None:
        raise UserError(
            f"{shown(data.root)} has not just the folders train, val and test, of which train is needed; "
            'write data.split = "stratified" to have them shared out.'
        )
    if data.split != "folders":
        table = replace(table, parts=None)
    return _source(table, data, input_px, cache)


def _source(table: LabelTable, data: TrainData, input_px: int, cache: Path) -> Source:
    table, source = table.without_rare(data.min_label_count), table.source
    _check_classes(table, data.min_label_count)
    train, val, test = _split(table, data)
    notes: dict[str, Any] = dropped_rows(table.dropped)
    for group in table.schema.groups:
        if group.kind == "categorical" and (untrained := _never_trained(table, group.name, train, test)):
            notes[f"{group.name} that no training picture has"] = untrained
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
    learned, watched = cut(train), cut(val)
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
        notes | undecodable(learned, watched),
        tuple(table.names[row] for rows in (train, val) for row in rows),
    )


def _check_classes(table: LabelTable, min_label_count: int) -> None:
    """Refuse what cannot be learned or tabled, before any picture is cut."""
    for name, classes in table.classes.items():
        if table.labels[name].ndim == 1 and len(classes) < 2:
            rare = f" that {min_label_count:,} pictures have" if min_label_count > 1 else ""
            answers = f"only one answer{rare}, '{shown(classes[0])}'" if classes else f"no answer{rare}"
            raise UserError(
                f"{shown(table.source)}: column {shown(name)} has {answers}; there have to be two to learn."
            )
    try:
        predictions_schema(table.schema)
    except UserError as error:
        raise UserError(
            f"{shown(table.source)}: a column of its labels is called as a column of predict's tables is; rename it: "
            f"{error}"
        ) from error


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


def _never_trained(table: LabelTable, group: str, train: Rows, test: Rows) -> list[str]:
    """Return the classes that are tested and not learned."""
    learned, tested = (set(table.labels[group][rows].tolist()) for rows in (train, test))
    return [table.classes[group][label] for label in sorted(tested - learned - {-1})]
