"""An ordered list of conditions -> a decision diagram, which says exactly which of them is the first that holds.

- A node asks for one attribute and goes on to one of two nodes; a leaf is the first condition that holds.
- What is left of the conditions once some attributes are known is the node's identity, so equal rests are one node.
- Where attributes are independent, the probability to come by a node is the sum over its parents of theirs times the
  edge's, so one pass from the root gives the exact probability of every leaf. A product over the rules would not:
  where two rules ask for the same attribute, the one failing says something of the other.
- A condition without a leaf can never be the first that holds.

Source: reduced decision diagrams, Bryant, "Graph-Based Algorithms for Boolean Function Manipulation", IEEE Transactions
on Computers, 1986; here the order of the attributes may differ from path to path.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_NODES = 20_000
"""Above it a batch's evaluation would take longer than the model that made its probabilities."""


@dataclass(frozen=True)
class Condition:
    """What a style asks for: each of ``all``, one or more of ``any`` (where there is one), and none of ``none``."""

    all: tuple[str, ...] = ()
    any: tuple[str, ...] = ()
    none: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return it as text, such as ``Smiling and (Goatee or Mustache) and not Male``; empty where it asks nothing."""
        some = " or ".join(self.any)
        some = f"({some})" if len(self.any) > 1 and (self.all or self.none) else some
        return " and ".join(part for part in (*self.all, some, *(f"not {name}" for name in self.none)) if part)


class TooEntangledError(ValueError):
    """The conditions share so many attributes that the diagram would have more than ``MAX_NODES`` nodes."""


class DecisionDiagram:
    """Which of the conditions is the first that holds.

    Parameters
    ----------
    conditions : sequence of Condition
        In order; the last asks for nothing.

    Attributes
    ----------
    reachable : frozenset of int
        The places of the conditions that can be the first that holds.

    Raises
    ------
    TooEntangledError
        There are too many nodes.
    """

    def __init__(self, conditions: Sequence[Condition]) -> None:
        self._count = len(conditions)
        self._attributes = tuple(dict.fromkeys(name for c in conditions for name in (*c.all, *c.any, *c.none)))
        bit = {name: 1 << place for place, name in enumerate(self._attributes)}
        asked = (
            _Asked(*(sum(bit[name] for name in set(names)) for names in (c.all, c.any, c.none))) for c in conditions
        )
        # A node is (attribute, child if present, child if absent); a child below 0 is the leaf -1 - place. Children
        # come before their parents.
        self._nodes: list[tuple[str, int, int]] = []
        self._known: dict[_Rest, int] = {}
        self._root = self._node(_shortened(enumerate(asked)))
        self.reachable = frozenset(-1 - child for child in self._children() if child < 0)

    def __len__(self) -> int:
        """Return the number of nodes, leaves left out."""
        return len(self._nodes)

    def probabilities(self, columns: Mapping[str, NDArray[np.float64]], count: int) -> NDArray[np.float64]:
        """Return the probability that each condition is the first that holds, attributes being independent.

        Parameters
        ----------
        columns : mapping of str to ndarray of float64, shape (n,)
            Each attribute's probability.
        count : int
            The number n of faces.

        Returns
        -------
        ndarray of float64, shape (n, conditions)
            Rows sum to 1 up to rounding; exactly one 1 where every probability is 0 or 1. Only elementwise sums and
            products in a fixed order are used, so a face's row never depends on the others.
        """
        first = np.zeros((self._count, count))
        arriving: dict[int, NDArray[np.float64]] = {self._root: np.ones(count)}
        for place in range(len(self._nodes) - 1, -1, -1):
            attribute, *children = self._nodes[place]
            here, present = arriving.pop(place), columns[attribute]
            for child, share in zip(children, (here * present, here * (1.0 - present)), strict=True):
                if child < 0:
                    first[-1 - child] += share
                elif child in arriving:
                    arriving[child] += share
                else:
                    arriving[child] = share
        if self._root < 0:
            first[-1 - self._root] = 1.0
        return np.ascontiguousarray(first.T)

    def _children(self) -> Iterator[int]:
        yield self._root
        for _, present, absent in self._nodes:
            yield from (present, absent)

    def _node(self, rest: _Rest) -> int:
        """Return the node of what is left of the conditions, made if it is new."""
        place, first = rest[0]
        if first == _NOTHING:
            return -1 - place
        if rest not in self._known:
            wanted = first.all or first.any or first.none
            bit = wanted & -wanted
            present = self._node(_shortened((at, asked.given(bit, True)) for at, asked in rest))
            absent = self._node(_shortened((at, asked.given(bit, False)) for at, asked in rest))
            if len(self._nodes) == MAX_NODES:
                raise TooEntangledError
            self._known[rest] = len(self._nodes)
            self._nodes.append((self._attributes[bit.bit_length() - 1], present, absent))
        return self._known[rest]


class _Asked(NamedTuple):
    """A condition, or what is left of one, as bits: attribute number b of the diagram is ``1 << b``."""

    all: int
    any: int
    none: int

    def given(self, bit: int, present: bool) -> _Asked | None:
        """Return what is left to ask once an attribute is known, None where the condition cannot hold any more."""
        if (self.none if present else self.all) & bit or (not present and self.any == bit):
            return None
        any_left = 0 if present and self.any & bit else self.any & ~bit
        return _Asked(self.all & ~bit, any_left, self.none & ~bit)

    def implies(self, other: _Asked) -> bool:
        """Whether the other holds for every face for which this one does (some such faces may be missed)."""
        if other.all & ~self.all or other.none & ~self.none:
            return False
        return bool(not other.any or other.any & self.all or (self.any and not self.any & ~self.none & ~other.any))


_NOTHING = _Asked(0, 0, 0)
_Rest = tuple[tuple[int, _Asked], ...]


def _shortened(conditions: Iterable[tuple[int, _Asked | None]]) -> _Rest:
    """Drop the conditions that cannot be the first any more: those that fail, and those that an earlier one implies."""
    kept: list[tuple[int, _Asked]] = []
    for place, asked in conditions:
        if asked is None or asked.all & asked.none or (asked.any and not asked.any & ~asked.none):
            continue
        if not any(asked.implies(before) for _, before in kept):
            kept.append((place, asked))
        if asked == _NOTHING:
            break
    return tuple(kept)
