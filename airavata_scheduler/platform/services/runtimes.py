"""How long tasks of a step take on each resource, and how often they fail: learnt from attempts, bounded in memory.

The arithmetic is `scheduler_core.estimates`; here is what was seen, by step and resource, and which prior each estimate
starts from. What is lost with the process is read again from the database, as aggregates of the latest attempts.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, log

from airavata_scheduler.platform.domain.failures import INFRASTRUCTURE_CAUSES
from airavata_scheduler.platform.domain.messages import Report
from airavata_scheduler.platform.domain.states import TaskState
from airavata_scheduler.platform.ports.repository import AttemptStatistics
from airavata_scheduler.scheduler_core import Estimate, Failures, Observed, estimate, prior_from_others

_MOST_STEPS = 2000
#: Observations beyond this number count half, so that a drift is noticed.
_MEMORY = 1000
#: An estimate that changed by this factor since the last plan is a reason for another one.
_NOTICEABLE = log(1.25)


@dataclass(frozen=True, slots=True)
class StepEstimate:
    """What is believed of a step: a runtime at speed 1, actual runtimes where it ran, and how often attempts fail."""

    runtime: Estimate
    on: Mapping[str, Estimate] = field(default_factory=dict)
    failure_rate: float = 0.0

    def runtime_on(self, resource: str, speed: float) -> float:
        """Seconds expected on a resource of that speed."""
        there = self.on.get(resource)
        return self.runtime.mean_s / speed if there is None else there.mean_s


@dataclass(slots=True)
class _Seen:
    """What was seen of one step, by resource."""

    runtimes: dict[str, Observed] = field(default_factory=dict)
    failures: Failures = field(default_factory=Failures)
    loaded: bool = False  #: whether the database was asked for what was seen before

    def add(self, resource: str, runtimes: Observed, attempts: int, failed: int) -> None:
        if runtimes.n:
            self.runtimes[resource] = _faded(self.runtimes.get(resource, Observed()).merged(runtimes))
        self.failures = self.failures.plus(attempts, failed)


class Runtimes:
    """Estimates by step. The least recently reported steps are forgotten when there are too many."""

    def __init__(self) -> None:
        self._seen: OrderedDict[int, _Seen] = OrderedDict()
        self._planned: dict[tuple[int, str], float] = {}

    def unknown(self, step_ids: Iterable[int]) -> list[int]:
        """Those about which the database was not asked yet."""
        return [i for i in step_ids if (seen := self._seen.get(i)) is None or not seen.loaded]

    def load(self, step_ids: Iterable[int], statistics: Iterable[AttemptStatistics]) -> None:
        """Take what the database says of these steps; nothing was seen of those without statistics."""
        fresh = set(self.unknown(step_ids))
        for step_id in fresh:
            self._seen.setdefault(step_id, _Seen()).loaded = True
        for found in statistics:
            if found.step_id in fresh:
                runtimes = Observed(found.n, found.log_sum, found.log_square_sum, found.largest_s)
                self._seen[found.step_id].add(found.resource, runtimes, found.attempts, found.failed)
        self._forget()

    def add(self, resource: str, reports: Sequence[Report]) -> None:
        """Learn from attempts that ended, on a resource."""
        walls: dict[int, list[float]] = {}
        failed: dict[int, int] = {}
        for report in reports:
            if report.state is TaskState.SUCCEEDED:
                walls.setdefault(report.step_id, []).append(max(0.0, report.wall_s))
            elif report.state is TaskState.FAILED and report.cause not in INFRASTRUCTURE_CAUSES:
                failed[report.step_id] = failed.get(report.step_id, 0) + 1
        for step_id in {*walls, *failed}:
            succeeded, lost = walls.get(step_id, []), failed.get(step_id, 0)
            seen = self._seen.setdefault(step_id, _Seen())
            seen.add(resource, Observed().plus(succeeded), len(succeeded) + lost, lost)
            self._seen.move_to_end(step_id)
        self._forget()

    def typical_s(self, step_id: int) -> float | None:
        """The median runtime seen of a step, wherever it ran; None before the first."""
        seen = self._seen.get(step_id)
        n = sum(found.n for found in seen.runtimes.values()) if seen else 0
        return exp(sum(found.total for found in seen.runtimes.values()) / n) if seen and n else None

    def estimates(self, priors_s: Mapping[int, float], speeds: Mapping[str, float]) -> dict[int, StepEstimate]:
        """Step id -> what is believed. ``priors_s``: what to assume of each step at speed 1 while nothing was seen."""
        return {step_id: self._estimate(step_id, prior_s, speeds) for step_id, prior_s in priors_s.items()}

    def _estimate(self, step_id: int, prior_s: float, speeds: Mapping[str, float]) -> StepEstimate:
        seen = self._seen.get(step_id)
        if seen is None or not seen.runtimes:
            rate = seen.failures.rate() if seen is not None and seen.failures.attempts else 0.0
            return StepEstimate(estimate(Observed(), prior_s), failure_rate=rate)
        known = [(name, found, speeds.get(name, 1.0)) for name, found in seen.runtimes.items()]
        pooled = Observed()
        for _, found, speed in known:
            pooled = pooled.merged(found.scaled(speed))
        on = {
            name: estimate(
                found,
                prior_from_others([(o, s) for other, o, s in known if other != name], speeds.get(name, 1.0), prior_s),
            )
            for name, found, _ in known
        }
        return StepEstimate(estimate(pooled, prior_s), on, seen.failures.rate())

    def drifted(self, estimates: Mapping[int, StepEstimate]) -> bool:
        """Whether an estimate differs noticeably from what the plan in force was made with."""
        return any(
            (before := self._planned.get(key)) is not None and abs(log(mean_s / before)) > _NOTICEABLE
            for key, mean_s in _means(estimates)
        )

    def planned_with(self, estimates: Mapping[int, StepEstimate]) -> None:
        """A plan was made with these."""
        self._planned = dict(_means(estimates))

    def _forget(self) -> None:
        while len(self._seen) > _MOST_STEPS:
            self._seen.popitem(last=False)


def _means(estimates: Mapping[int, StepEstimate]) -> Iterable[tuple[tuple[int, str], float]]:
    for step_id, believed in estimates.items():
        yield (step_id, ""), believed.runtime.mean_s
        for name, there in believed.on.items():
            yield (step_id, name), there.mean_s


def _faded(seen: Observed) -> Observed:
    if seen.n <= _MEMORY:
        return seen
    part = _MEMORY // 2 / seen.n
    return Observed(_MEMORY // 2, seen.total * part, seen.squares * part, seen.largest)
