"""What a task asks for and what a resource holds. Standard library only (workers import it)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Capacity:
    """Amounts of things that can be shared out: a task's request, or what a worker has free."""

    cpu: float = 1.0
    memory_bytes: int = 0  #: 0 in a request: no claim, no limit.
    gpu: float = 0.0
    disk_bytes: int = 0
    named: Mapping[str, float] = field(default_factory=dict)  #: licences, tokens: any name, any unit

    def fits_in(self, free: Capacity, times: int = 1) -> bool:
        """Whether ``times`` copies of this fit into ``free``."""
        return self.copies_in(free) >= times

    def copies_in(self, free: Capacity) -> int:
        """How many copies of this fit into ``free``, at the same time."""
        ratios = [
            _copies(self.cpu, free.cpu),
            _copies(self.memory_bytes, free.memory_bytes),
            _copies(self.gpu, free.gpu),
            _copies(self.disk_bytes, free.disk_bytes),
            *(_copies(want, free.named.get(name, 0.0)) for name, want in self.named.items()),
        ]
        return min(ratios)

    def plus(self, other: Capacity, times: int = 1) -> Capacity:
        """This and ``times`` copies of the other (negative: taken away)."""
        names = {*self.named, *other.named}
        return Capacity(
            cpu=round(self.cpu + times * other.cpu, 9),
            memory_bytes=self.memory_bytes + times * other.memory_bytes,
            gpu=round(self.gpu + times * other.gpu, 9),
            disk_bytes=self.disk_bytes + times * other.disk_bytes,
            named={k: round(self.named.get(k, 0.0) + times * other.named.get(k, 0.0), 9) for k in names},
        )

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "named": dict(self.named)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Capacity:
        return cls(**value)


def most_of_each(capacities: Iterable[Capacity]) -> Capacity:
    """The most that any of them has of each thing, which need not be the same one."""
    most = Capacity(cpu=0.0)
    for capacity in capacities:
        most = Capacity(
            cpu=max(most.cpu, capacity.cpu),
            memory_bytes=max(most.memory_bytes, capacity.memory_bytes),
            gpu=max(most.gpu, capacity.gpu),
            disk_bytes=max(most.disk_bytes, capacity.disk_bytes),
            named={
                name: max(most.named.get(name, 0.0), capacity.named.get(name, 0.0))
                for name in sorted({*most.named, *capacity.named})
            },
        )
    return most


#: Stands for "no bound" where a request asks for nothing.
UNBOUNDED = 1 << 30
_EPSILON = 1e-9


def _copies(want: float, have: float) -> int:
    return UNBOUNDED if want <= 0 else max(0, int((have + _EPSILON) / want))
