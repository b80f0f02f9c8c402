"""A sweep: which values the parameters of task 0, 1, 2, … have. Standard library only.

A sweep stays encoded. It knows how many combinations there are and computes any one of them in time proportional to
the number of parameters; nothing is ever expanded or stored, whatever the size. It is plain JSON, and the same JSON
gives the same tasks for ever.

The parts are axes (:mod:`.axes`) and joins: ``Product`` (the first part varies slowest), ``Zip`` (side by side),
``Sample`` (a design of :mod:`.sampling` over the parts) and ``Selection`` (some indexes of another sweep).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from airavata_scheduler.platform.domain.axes import Axis, Interval, axis_from_json
from airavata_scheduler.platform.domain.sampling import Design, Method

Range = tuple[int, int]  #: First and last index, both included.


class _Join:
    """What all joins share: the names of their parts, and their JSON."""

    __slots__ = ()
    parts: tuple[Axis, ...]
    n: int
    kind = ""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for part in self.parts for name in part.names)

    def put(self, index: int, into: dict[str, Any]) -> None:
        raise NotImplementedError

    def put_at(self, u: float, into: dict[str, Any]) -> None:
        self.put(min(int(u * self.n), self.n - 1), into)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "parts": [part.to_json() for part in self.parts]}


@dataclass(frozen=True, slots=True)
class Product(_Join):
    """Every combination; the first part varies slowest. Without parts: one empty combination."""

    parts: tuple[Axis, ...] = ()
    n: int = field(init=False, repr=False, compare=False)
    kind = "product"

    def __post_init__(self) -> None:
        _countable(self.parts)
        object.__setattr__(self, "n", math.prod(part.n for part in self.parts))

    def put(self, index: int, into: dict[str, Any]) -> None:
        scale = self.n
        for part in self.parts:
            scale //= part.n
            at, index = divmod(index, scale)
            part.put(at, into)


@dataclass(frozen=True, slots=True)
class Zip(_Join):
    """The first values together, the second values together, … All parts have the same length."""

    parts: tuple[Axis, ...]
    n: int = field(init=False, repr=False, compare=False)
    kind = "zip"

    def __post_init__(self) -> None:
        _countable(self.parts)
        lengths = {part.n for part in self.parts}
        if len(lengths) != 1:
            found = ", ".join(f"{'+'.join(part.names)} has {part.n}" for part in self.parts)
            raise ValueError(f"what is zipped must have the same number of values: {found or 'nothing is there'}")
        object.__setattr__(self, "n", lengths.pop())

    def put(self, index: int, into: dict[str, Any]) -> None:
        for part in self.parts:
            part.put(index, into)


@dataclass(frozen=True, slots=True)
class Sample(_Join):
    """``n`` points of a design, one dimension for each part."""

    parts: tuple[Axis, ...]
    method: Method
    n: int
    seed: int = 0
    _design: Design = field(init=False, repr=False, compare=False)
    kind = "sample"

    def __post_init__(self) -> None:
        if any(part.n < 1 and not isinstance(part, Interval) for part in self.parts):
            raise ValueError("a part of the sample has no values")
        object.__setattr__(self, "_design", Design(self.method, self.n, len(self.parts), self.seed))

    def put(self, index: int, into: dict[str, Any]) -> None:
        for dimension, part in enumerate(self.parts):
            part.put_at(self._design.at(index, dimension), into)

    def to_json(self) -> dict[str, Any]:
        base = _Join.to_json(self)
        return {**base, "method": self.method, "n": self.n, "seed": self.seed}


@dataclass(frozen=True, slots=True)
class Selection(_Join):
    """Some indexes of another sweep, as ranges in ascending order that do not overlap."""

    of: Axis
    ranges: tuple[Range, ...]
    n: int = field(init=False, repr=False, compare=False)
    _ends: tuple[int, ...] = field(init=False, repr=False, compare=False)
    kind = "selection"

    def __post_init__(self) -> None:
        low = 0
        for first, last in self.ranges:
            if not low <= first <= last < self.of.n:
                raise ValueError(f"range {first}..{last} is out of order or outside of 0..{self.of.n - 1}")
            low = last + 1
        ends = tuple(accumulate(last - first + 1 for first, last in self.ranges))
        object.__setattr__(self, "_ends", ends)
        object.__setattr__(self, "n", ends[-1] if ends else 0)

    @property
    def names(self) -> tuple[str, ...]:
        return self.of.names

    def original(self, index: int) -> int:
        """The index in the other sweep."""
        at = bisect_right(self._ends, index)
        return self.ranges[at][1] - (self._ends[at] - 1 - index)

    def put(self, index: int, into: dict[str, Any]) -> None:
        self.of.put(self.original(index), into)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "of": self.of.to_json(), "ranges": [list(pair) for pair in self.ranges]}


@dataclass(frozen=True, slots=True)
class Sweep:
    """A frozen value: ``n`` combinations of the parameters ``names``. The default has one combination, of nothing."""

    root: Axis = field(default_factory=Product)

    @property
    def n(self) -> int:
        """How many combinations there are, exactly."""
        return self.root.n

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters, in the order in which they are decoded."""
        return self.root.names

    def decode(self, index: int) -> dict[str, Any]:
        """The parameters of combination ``index``. Raises IndexError outside of 0 <= index < n."""
        if not 0 <= index < self.root.n:
            raise IndexError(f"index {index} is outside of 0..{self.root.n - 1}")
        values: dict[str, Any] = {}
        self.root.put(index, values)
        return values

    def decode_many(self, indexes: Iterable[int]) -> list[dict[str, Any]]:
        """``decode`` for each of ``indexes``, in their order."""
        decode = self.decode
        return [decode(index) for index in indexes]

    def select(self, ranges: Sequence[Range]) -> Sweep:
        """The combinations in ``ranges`` (first and last index, included) only, renumbered from 0.

        Ranges must ascend and not overlap, else ValueError.
        """
        return Sweep(Selection(self.root, tuple((int(first), int(last)) for first, last in ranges)))

    def original(self, index: int) -> int:
        """The index in the sweep that the first ``select`` was made of (``index`` itself if there was none)."""
        node = self.root
        while isinstance(node, Selection):
            index = node.original(index)
            node = node.of
        return index

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; ``from_json`` gives an equal sweep."""
        return self.root.to_json()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Sweep:
        """The sweep that ``to_json`` wrote."""
        return cls(_node(value))


def _node(value: Mapping[str, Any]) -> Axis:
    axis = axis_from_json(value)
    if axis is not None:
        return axis
    if value["kind"] == "selection":
        return Selection(_node(value["of"]), tuple((first, last) for first, last in value["ranges"]))
    parts = tuple(_node(part) for part in value["parts"])
    match value["kind"]:
        case "product":
            return Product(parts)
        case "zip":
            return Zip(parts)
        case "sample":
            return Sample(parts, value["method"], value["n"], value["seed"])
    raise ValueError(f"unknown kind of sweep {value['kind']!r}")


def _countable(parts: Sequence[Axis]) -> None:
    for part in parts:
        if isinstance(part, Interval):
            raise ValueError(f"{part.name} is given as min and max, from which only a sample can draw")  # noqa: TRY004
