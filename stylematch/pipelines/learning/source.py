"""A data set as a training or an evaluation sees it: label groups, examples by part, and what goes into the bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from stylematch.data.labels import LabelSchema
from stylematch.vision.examples import Examples

TO_TEST_ON = "pictures to test on"
"""The note of how many pictures a source's tests have, before they are cut."""


@dataclass(frozen=True)
class Source:
    """What a data set gives a training.

    Attributes
    ----------
    schema : LabelSchema
        The label groups to learn.
    parts : list of (Examples, int)
        What is learned from, and how often an epoch shows each.
    val : Examples
        What is watched, and what temperatures and thresholds are chosen on.
    tests : callable
        Gives titles and examples that nothing is learned from, one after another.
    licence : str
        Under which what was learned may be used.
    description : dict
        More to say in ``bundle.json``.
    notes : dict
        What a person should know of the data: what was dropped or left out, by name.
    learned_names : tuple of str
        What tells the pictures that are learned from or watched apart, where other folders may share the data set out
        otherwise: their names, or, of a table or of folders, hashes of their contents.
    """

    schema: LabelSchema
    parts: list[tuple[Examples, int]]
    val: Examples
    tests: Callable[[], Iterator[tuple[str, Examples]]]
    licence: str
    description: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    learned_names: tuple[str, ...] = ()

    @property
    def pictures(self) -> int:
        """Pictures that are learned from."""
        return sum(len(part) for part, _ in self.parts)

    def mean_shapes(self) -> dict[str, npt.NDArray[np.floating]]:
        """Return the mean of every group of points over the first training part, where any is known."""
        points = {g.name: self.parts[0][0].targets[g.name] for g in self.schema.groups if g.kind == "points"}
        known = {name: values[np.isfinite(values).all(1)] for name, values in points.items()}
        return {name: values.mean(axis=0) for name, values in known.items() if len(values)}

    def trained_counts(self) -> dict[str, npt.NDArray[np.int64]]:
        """Return how many training pictures each class of every categorical group has."""
        counts = {}
        for group in self.schema.groups:
            if group.kind == "categorical":
                labels = np.concatenate([part.targets[group.name] for part, _ in self.parts])
                counts[group.name] = np.bincount(labels[labels >= 0], minlength=group.width)
        return counts
