"""One label schema for every data set: binary, categorical (with "unknown") and point groups.

A schema says what a model predicts and under which names; losses, metrics, table columns and the model bundle
all follow from it. It is plain data: ``to_json`` and ``from_json`` are inverse, and a bundle carries the
result.

Unknown labels are ``-1`` in binary and categorical targets and NaN in point targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from stylematch.errors import UserError

PIXEL_CENTRE_PX = 0.5
"""A landmark names its pixel, the first of which is 0; measured from the picture's corner, as boxes are, it is here."""


@dataclass(frozen=True)
class BinaryGroup:
    """Independent yes/no labels, such as CelebA's 40 attributes. Targets: int8 (n, labels) of 0, 1 or -1."""

    name: str
    labels: tuple[str, ...]
    kind: Literal["binary"] = "binary"

    @property
    def width(self) -> int:
        """Number of network outputs of the group."""
        return len(self.labels)


@dataclass(frozen=True)
class CategoricalGroup:
    """One of several classes, such as Fashion-MNIST's ten. Targets: int64 (n,) of class indices or -1."""

    name: str
    labels: tuple[str, ...]
    kind: Literal["categorical"] = "categorical"

    @property
    def width(self) -> int:
        """Number of network outputs of the group."""
        return len(self.labels)


@dataclass(frozen=True)
class PointGroup:
    """Coordinates named ``<point>_x``, ``<point>_y`` in units of the crop's side, 0 to 1.

    Targets: float32 (n, 2 points).
    """

    name: str
    labels: tuple[str, ...]
    kind: Literal["points"] = "points"

    @property
    def width(self) -> int:
        """Number of network outputs of the group."""
        return len(self.labels)


Group = BinaryGroup | CategoricalGroup | PointGroup
_KINDS: dict[str, type[BinaryGroup] | type[CategoricalGroup] | type[PointGroup]] = {
    "binary": BinaryGroup,
    "categorical": CategoricalGroup,
    "points": PointGroup,
}


@dataclass(frozen=True)
class LabelSchema:
    """The groups that a model predicts, in the order of its outputs."""

    groups: tuple[Group, ...]

    def group(self, name: str) -> Group:
        """Return the group called ``name``.

        Raises
        ------
        UserError
            If the schema has no such group.
        """
        for group in self.groups:
            if group.name == name:
                return group
        known = ", ".join(group.name for group in self.groups)
        raise UserError(f"The model has no label group '{name}'; it has: {known}.")

    def to_json(self) -> list[dict[str, Any]]:
        """Return the schema as plain lists and dicts."""
        return [{"name": g.name, "kind": g.kind, "labels": list(g.labels)} for g in self.groups]

    @classmethod
    def from_json(cls, data: list[Mapping[str, Any]]) -> LabelSchema:
        """Read what ``to_json`` wrote.

        Raises
        ------
        UserError
            If a group's kind is unknown.
        """
        groups: list[Group] = []
        for entry in data:
            kind = _KINDS.get(entry["kind"])
            if kind is None:
                raise UserError(f"Label group '{entry['name']}' has the unknown kind '{entry['kind']}'.")
            groups.append(kind(name=entry["name"], labels=tuple(entry["labels"])))
        return cls(tuple(groups))
