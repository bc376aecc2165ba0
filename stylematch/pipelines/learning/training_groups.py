"""Which of a data set's label groups a training can learn: those of which a picture to learn from knows anything."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import replace

import numpy as np

from stylematch.data.labels import Group, LabelSchema
from stylematch.errors import UserError
from stylematch.pipelines.learning.source import Source
from stylematch.tables.shown import shown

logger = logging.getLogger(__name__)
LEFT_OUT = "groups left out, since no picture to learn from has their points"
"""The note of which groups are not learned."""


def learnable(source: Source, kept: Collection[Group], *, of_all: bool) -> Source:
    """Return a source without the points that no picture to learn from has: their head would stay as it began.

    Parameters
    ----------
    source : Source
        With pictures to learn from.
    kept : collection of Group
        Groups whose heads are there already: these stay as they are.
    of_all : bool
        Whether these are all pictures; a few of them, for a try, may be of one class.

    Raises
    ------
    UserError
        If there is no group of which anything can be learned, or one has attributes that nobody knows, or classes of
        one kind alone.
    """
    groups = source.schema.groups
    unknown = [group for group in groups if group.kind == "points" and not _any_known(source, group)]
    if len(unknown) == len(groups):
        raise UserError(
            f"data: none of the {source.pictures:,} pictures to learn from has points of {_named(groups)}; put their "
            "file beside the pictures, or name other data.groups."
        )
    for group in groups:
        if group.kind != "points":
            _check_answers(source, group, of_all=of_all)
    left_out = [group for group in unknown if group not in kept]
    if not left_out:
        return source
    logger.warning("no picture to learn from has points of %s: not learned", _named(left_out))
    schema = LabelSchema(tuple(group for group in groups if group not in left_out))
    return replace(source, schema=schema, notes={**source.notes, LEFT_OUT: [group.name for group in left_out]})


def _named(groups: Iterable[Group]) -> str:
    return ", ".join(shown(group.name) for group in groups)


def _any_known(source: Source, group: Group) -> bool:
    return any(np.isfinite(part.targets[group.name]).all(1).any() for part, _ in source.parts)


def _check_answers(source: Source, group: Group, *, of_all: bool) -> None:
    values = np.concatenate([part.targets[group.name] for part, _ in source.parts])
    answers = len(np.unique(values[values >= 0]))
    if answers < (2 if group.kind == "categorical" and of_all else 1):
        raise UserError(
            f"data: of {shown(group.name)} the {source.pictures:,} pictures to learn from have "
            f"{'one answer' if answers else 'no label'}; leave the group out, or add pictures."
        )
