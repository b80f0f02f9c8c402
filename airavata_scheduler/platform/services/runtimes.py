"""How long tasks of a step took on a resource, learnt from reports. Small, bounded, and lost without harm."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from airavata_scheduler.platform.domain.messages import Report
from airavata_scheduler.scheduler_core import Estimate

_MOST_STEPS = 2000
_MEMORY = 200  #: after so many observations older ones fade


@dataclass(slots=True)
class _Moving:
    n: int = 0
    mean_s: float = 0.0

    def add(self, n: int, sum_s: float) -> None:
        self.n += n
        self.mean_s += (sum_s - n * self.mean_s) / min(self.n, max(_MEMORY, n))


class Runtimes:
    """Moving means by step and resource."""

    def __init__(self) -> None:
        self._of: OrderedDict[int, dict[str, _Moving]] = OrderedDict()

    def add(self, resource: str, reports: Sequence[Report]) -> None:
        """Learn from attempts that succeeded."""
        sums: dict[int, list[float]] = {}
        for report in reports:
            sums.setdefault(report.step_id, []).append(report.wall_s)
        for step_id, walls in sums.items():
            means = self._of.setdefault(step_id, {})
            for name in ("", resource):
                means.setdefault(name, _Moving()).add(len(walls), sum(walls))
        while len(self._of) > _MOST_STEPS:
            self._of.popitem(last=False)

    def estimates(self) -> Mapping[int, Mapping[str, Estimate]]:
        """Step id -> resource name, "" for all together -> estimate."""
        return {
            step_id: {name: Estimate(mean_s=max(m.mean_s, 1e-4), n=m.n) for name, m in means.items()}
            for step_id, means in self._of.items()
        }
