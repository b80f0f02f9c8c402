"""The values that one parameter, or several together, run through. Standard library only.

Every axis knows how many values it has (``n``), computes any of them from its index, and is plain JSON. Arithmetic is
done with exact fractions of the decimal numbers as they were written, so ``0..1..0.1`` holds 0.3 and ends at 1.0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

Number = int | float


class Axis(Protocol):
    """A finite sequence of assignments to ``names``."""

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def n(self) -> int: ...

    def put(self, index: int, into: dict[str, Any]) -> None:
        """Write assignment ``index`` (0 <= index < n) into a dictionary."""

    def put_at(self, u: float, into: dict[str, Any]) -> None:
        """Write the assignment at position ``u`` of [0, 1) of the axis."""

    def to_json(self) -> dict[str, Any]: ...


class _Indexed:
    """What all axes with countable values share."""

    __slots__ = ()

    def put_at(self: Any, u: float, into: dict[str, Any]) -> None:
        self.put(min(int(u * self.n), self.n - 1), into)


@dataclass(frozen=True, slots=True)
class Values(_Indexed):
    """An explicit list."""

    name: str
    values: tuple[Any, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def n(self) -> int:
        return len(self.values)

    def put(self, index: int, into: dict[str, Any]) -> None:
        into[self.name] = self.values[index]

    def to_json(self) -> dict[str, Any]:
        return {"kind": "values", "name": self.name, "values": list(self.values)}


@dataclass(frozen=True, slots=True)
class Rows(_Indexed):
    """Several parameters together: a table with one column for each name."""

    names: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    @property
    def n(self) -> int:
        return len(self.rows)

    def put(self, index: int, into: dict[str, Any]) -> None:
        into.update(zip(self.names, self.rows[index], strict=True))

    def to_json(self) -> dict[str, Any]:
        return {"kind": "rows", "names": list(self.names), "rows": [list(row) for row in self.rows]}


def exact(number: Number) -> Fraction:
    """The number as its decimal digits say: 0.1 is 1/10."""
    return Fraction(number) if isinstance(number, int) else Fraction(repr(number))


@dataclass(frozen=True, slots=True)
class Steps(_Indexed):
    """start, start + step, … up to and including ``stop`` where it is met. Whole numbers if all three are."""

    name: str
    start: Number
    stop: Number
    step: Number = 1
    n: int = field(init=False, repr=False, compare=False)
    _start: Fraction = field(init=False, repr=False, compare=False)
    _step: Fraction = field(init=False, repr=False, compare=False)
    _whole: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _finite(self.start, self.stop, self.step)
        if not self.step:
            raise ValueError("the step is 0")
        start, step = exact(self.start), exact(self.step)
        n = math.floor((exact(self.stop) - start) / step) + 1
        object.__setattr__(self, "n", max(0, n))
        object.__setattr__(self, "_start", start)
        object.__setattr__(self, "_step", step)
        object.__setattr__(self, "_whole", all(isinstance(x, int) for x in (self.start, self.stop, self.step)))

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def put(self, index: int, into: dict[str, Any]) -> None:
        if self._whole:
            into[self.name] = self.start + index * self.step
        else:
            into[self.name] = float(self._start + index * self._step)

    def to_json(self) -> dict[str, Any]:
        return {"kind": "steps", "name": self.name, "start": self.start, "stop": self.stop, "step": self.step}


SCALES = ("linspace", "logspace", "geomspace")


@dataclass(frozen=True, slots=True)
class Space(_Indexed):
    """``n`` values from start to stop, both included; as NumPy's functions of the same names have them."""

    name: str
    scale: str  #: One of SCALES. For logspace, start and stop are exponents of ``base``.
    start: Number
    stop: Number
    n: int
    base: Number = 10

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise ValueError(f"unknown scale {self.scale!r}")
        _finite(self.start, self.stop, self.base)
        if self.scale == "geomspace" and self.start * self.stop <= 0:
            raise ValueError("start and stop of a geomspace must both be above 0 or both be below 0")
        if self.scale == "logspace":
            if self.base <= 0:
                raise ValueError("the base must be above 0")
            try:
                _finite(float(self.base) ** self.start, float(self.base) ** self.stop)
            except OverflowError:
                raise ValueError(f"{self.base} to the power of {self.start} or {self.stop} is too large") from None

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def put(self, index: int, into: dict[str, Any]) -> None:
        into[self.name] = self._value(index)

    def _value(self, index: int) -> float:
        last = self.n - 1
        if index in (0, last):
            end = self.start if index == 0 else self.stop
            return float(self.base) ** end if self.scale == "logspace" else float(end)
        if self.scale == "geomspace":
            sign = 1.0 if self.start > 0 else -1.0
            low, high = math.log(abs(self.start)), math.log(abs(self.stop))
            return sign * math.exp(low + (high - low) * index / last)
        start = exact(self.start)
        value = float(start + (exact(self.stop) - start) * index / last)
        return float(self.base) ** value if self.scale == "logspace" else value

    def to_json(self) -> dict[str, Any]:
        row = {"kind": "space", "name": self.name, "scale": self.scale, "start": self.start, "stop": self.stop}
        return {**row, "n": self.n, "base": self.base}


@dataclass(frozen=True, slots=True)
class Interval:
    """Every number from ``low`` to ``high``; only a sample can draw from it. ``n`` is 0: there is no list."""

    name: str
    low: Number
    high: Number
    log: bool = False
    whole: bool = False  #: Whole numbers, both ends included.

    def __post_init__(self) -> None:
        _finite(self.low, self.high)
        if not self.low < self.high:
            raise ValueError(f"min must be below max, not {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"min must be above 0 on a logarithmic scale, not {self.low}")
        if not math.isfinite(self.high - self.low):
            raise ValueError("the interval is too wide")

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def n(self) -> int:
        return 0

    def put(self, index: int, into: dict[str, Any]) -> None:
        raise ValueError(f"{self.name} is an interval without value {index} to add to {list(into)}; it needs a sample")

    def put_at(self, u: float, into: dict[str, Any]) -> None:
        low, high = float(self.low), float(self.high) + self.whole
        value = low * (high / low) ** u if self.log else low + u * (high - low)
        # Rounding may step over an end by one unit in the last place.
        value = min(max(value, float(self.low)), float(self.high))
        into[self.name] = math.floor(value) if self.whole else value

    def to_json(self) -> dict[str, Any]:
        ends = {"low": self.low, "high": self.high, "log": self.log, "whole": self.whole}
        return {"kind": "interval", "name": self.name, **ends}


def _finite(*numbers: Number) -> None:
    for number in numbers:
        try:
            good = math.isfinite(number)
        except OverflowError:
            good = False
        if not good:
            raise ValueError(f"{str(number)[:40]} is not a number that can be used here")


def axis_from_json(value: Mapping[str, Any]) -> Axis | None:
    """The axis that ``to_json`` wrote, or None if ``kind`` is not that of an axis."""
    rest: dict[str, Any] = {k: v for k, v in value.items() if k != "kind"}
    match value["kind"]:
        case "values":
            return Values(rest["name"], tuple(rest["values"]))
        case "rows":
            return Rows(tuple(rest["names"]), _tuples(rest["rows"]))
        case "steps":
            return Steps(**rest)
        case "space":
            return Space(**rest)
        case "interval":
            return Interval(**rest)
    return None


def _tuples(rows: Sequence[Sequence[Any]]) -> tuple[tuple[Any, ...], ...]:
    return tuple(tuple(row) for row in rows)
