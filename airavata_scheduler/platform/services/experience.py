"""What finished attempts taught: runtime, memory and failures by step and resource, sizes of outputs, queue waits.

The arithmetic is `scheduler_core.estimates`; here is what was seen, and which prior each estimate starts from. What is
lost with the process is read again from the database, as aggregates of the latest attempts; queue waits are kept there
as they are seen. A new step begins with what the latest run of the same program in its project showed.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, log

from airavata_scheduler.platform.domain.compiled import CompiledStep
from airavata_scheduler.platform.domain.failures import INFRASTRUCTURE_CAUSES, Cause
from airavata_scheduler.platform.domain.messages import Report
from airavata_scheduler.platform.domain.states import TaskState
from airavata_scheduler.platform.ports.repository import AttemptStatistics, OutputStatistics, TaskStore
from airavata_scheduler.platform.services.waits import Arrivals, QueueWaits
from airavata_scheduler.scheduler_core import Estimate, Failures, Observed, estimate, prior_from_others

#: Attempts of a step from which one batch of reports teaches runtime and memory.
_SAMPLE = 64
_MOST_STEPS = 2000
#: Observations beyond this number count half, so that a drift is noticed.
_MEMORY = 1000
#: What an earlier run of the same program showed counts as so many observations on each resource at most.
_INHERITED = 10
#: An estimate that changed by this factor since the last plan is a reason for another one.
_NOTICEABLE = log(1.25)
#: Memory beyond the request is no reason for another plan while it is less than this.
_LITTLE_BYTES = 10**8
#: A plan counts with no more memory than this many times what was ever seen of a step.
_ABOVE_LARGEST = 1.25


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Peak memory of one task: mean, 10 % and 90 % quantiles, the most that was seen, and how many were seen.

    ``asked_bytes`` is what the user asks for; 0: nothing.
    """

    asked_bytes: int
    mean_bytes: float
    low_bytes: float
    high_bytes: float
    largest_bytes: float
    n: int

    @property
    def needed_bytes(self) -> int:
        """What a plan should count with, whatever the user asks for."""
        return int(min(self.high_bytes, _ABOVE_LARGEST * self.largest_bytes))


@dataclass(frozen=True, slots=True)
class StepEstimate:
    """What is believed of a step: a runtime at speed 1, and how often attempts fail; both also where it ran.

    ``memory`` is None while nothing is known of it.
    """

    runtime: Estimate
    on: Mapping[str, Estimate] = field(default_factory=dict)
    failure_rate: float = 0.0
    failure_on: Mapping[str, float] = field(default_factory=dict)
    memory: MemoryUse | None = None
    earlier: int = 0  #: of the attempts seen, those of an earlier run of the same program

    def runtime_on(self, resource: str, speed: float) -> float:
        """Seconds expected on a resource of that speed."""
        there = self.on.get(resource)
        return self.runtime.mean_s / speed if there is None else there.mean_s


@dataclass(frozen=True, slots=True)
class Prior:
    """What is assumed of a step before anything was seen: seconds at speed 1, and the memory its user asks for."""

    runtime_s: float
    memory_bytes: int = 0


@dataclass(slots=True)
class _There:
    """What was seen of one step on one resource."""

    runtimes: Observed = field(default_factory=Observed)
    memory: Observed = field(default_factory=Observed)
    failures: Failures = field(default_factory=Failures)


@dataclass(slots=True)
class _Seen:
    """What was seen of one step."""

    on: dict[str, _There] = field(default_factory=lambda: defaultdict(_There))
    outputs: dict[str, tuple[int, float]] = field(default_factory=dict)  #: name -> number, bytes together
    earlier: int = 0
    loaded: bool = False  #: whether the database was asked for what was seen before

    def add(self, resource: str, runtimes: Observed, memory: Observed, attempts: int, failed: int) -> None:
        there = self.on[resource]
        there.runtimes = _faded(there.runtimes.merged(runtimes))
        there.memory = _faded(there.memory.merged(memory))
        there.failures = there.failures.plus(attempts, failed)

    def add_output(self, name: str, n: int, size_bytes: float) -> None:
        before = self.outputs.get(name, (0, 0.0))
        self.outputs[name] = (before[0] + n, before[1] + size_bytes)


def _some(reports: Sequence[Report]) -> Sequence[Report]:
    """At most about `_SAMPLE` of them, evenly: hundreds of one kind, that ended within a second, say no more."""
    return reports[:: 1 + len(reports) // _SAMPLE]


class Experience:
    """Estimates by step. The least recently reported steps are forgotten when there are too many."""

    def __init__(self) -> None:
        self._seen: OrderedDict[int, _Seen] = OrderedDict()
        self._planned: dict[tuple[int, str], float] = {}
        self.waits = QueueWaits()
        self.arrivals = Arrivals()

    def unknown(self, step_ids: Iterable[int]) -> list[int]:
        """Those about which the database was not asked yet."""
        return [i for i in step_ids if (seen := self._seen.get(i)) is None or not seen.loaded]

    def load(
        self,
        step_ids: Iterable[int],
        attempts: Iterable[AttemptStatistics],
        outputs: Iterable[OutputStatistics],
    ) -> None:
        """Take what the database says of these steps; nothing was seen of those without statistics."""
        fresh = set(self.unknown(step_ids))
        attempts = list(attempts)
        for step_id in {found.step_id for found in attempts} & fresh:
            # What was reported meanwhile is in the database, too.
            self._seen[step_id] = _Seen()
        for step_id in fresh:
            self._seen.setdefault(step_id, _Seen()).loaded = True
        for found in attempts:
            if found.step_id in fresh:
                runtimes, memory = _observed(found)
                self._seen[found.step_id].add(found.resource, runtimes, memory, found.attempts, found.failed)
        for output in outputs:
            if output.step_id in fresh:
                self._seen[output.step_id].add_output(output.name, output.n, output.size_bytes)
        self._forget()

    def inherit(self, step_id: int, attempts: Iterable[AttemptStatistics], outputs: Iterable[OutputStatistics]) -> None:
        """Begin a step of which nothing was seen with what an earlier run of its program showed, at a low weight."""
        seen = self._seen.setdefault(step_id, _Seen(loaded=True))
        if seen.on:
            return
        for found in attempts:
            runtimes, memory = _observed(found)
            attempts_kept = min(found.attempts, _INHERITED)
            failed = round(found.failed * attempts_kept / max(1, found.attempts))
            seen.add(
                found.resource, _faded(runtimes, _INHERITED, _INHERITED), _faded(memory, _INHERITED, _INHERITED),
                attempts_kept, failed,
            )  # fmt: skip
            seen.earlier += seen.on[found.resource].runtimes.n
        for output in outputs:
            kept = min(output.n, _INHERITED)
            seen.add_output(output.name, kept, output.size_bytes * kept / output.n)

    def add(self, resource: str, reports: Sequence[Report]) -> None:
        """Learn from attempts that ended, on a resource."""
        by_step: dict[int, list[Report]] = defaultdict(list)
        for report in reports:
            by_step[report.step_id].append(report)
        for step_id, mine in by_step.items():
            good = [r for r in mine if r.state is TaskState.SUCCEEDED]
            failed = [r for r in mine if r.state is TaskState.FAILED and r.cause not in INFRASTRUCTURE_CAUSES]
            # Who ran out of memory needs at least what it had: leaving it out would make the rest look modest.
            sized = [r for r in (*good, *failed) if r.state is TaskState.SUCCEEDED or r.cause is Cause.OUT_OF_MEMORY]
            seen = self._seen.setdefault(step_id, _Seen())
            seen.add(
                resource,
                Observed().plus(max(0.0, r.wall_s) for r in _some(good)),
                Observed().plus(float(r.peak_memory_bytes) for r in _some(sized) if r.peak_memory_bytes > 0),
                len(good) + len(failed),
                len(failed),
            )
            for output in (output for r in good for output in r.outputs):
                seen.add_output(output.name, 1, output.size_bytes)
            self._seen.move_to_end(step_id)
        starts = [report.started_at for report in reports if report.started_at > 0]
        if starts:
            self.waits.started(resource, min(starts))
        self._forget()

    def typical_s(self, step_id: int) -> float | None:
        """The median runtime seen of a step, wherever it ran; None before the first."""
        seen = self._seen.get(step_id)
        n = sum(there.runtimes.n for there in seen.on.values()) if seen else 0
        return exp(sum(there.runtimes.total for there in seen.on.values()) / n) if seen and n else None

    def output_bytes(self, step_id: int, name: str) -> float | None:
        """The mean size of an output of a step; None before the first was seen."""
        seen = self._seen.get(step_id)
        n, size_bytes = seen.outputs.get(name, (0, 0.0)) if seen else (0, 0.0)
        return size_bytes / n if n else None

    def estimates(self, priors: Mapping[int, Prior], speeds: Mapping[str, float]) -> dict[int, StepEstimate]:
        """Step id -> what is believed."""
        return {step_id: self._estimate(step_id, prior, speeds) for step_id, prior in priors.items()}

    def _estimate(self, step_id: int, prior: Prior, speeds: Mapping[str, float]) -> StepEstimate:
        seen = self._seen.get(step_id)
        if seen is None or not seen.on:
            return StepEstimate(estimate(Observed(), prior.runtime_s))
        known = [(name, there.runtimes, speeds.get(name, 1.0)) for name, there in seen.on.items() if there.runtimes.n]
        pooled, failures = Observed(), Failures()
        for _, found, speed in known:
            pooled = pooled.merged(found.scaled(speed))
        for there in seen.on.values():
            failures = failures.plus(there.failures.attempts, there.failures.failed)
        on = {
            name: estimate(
                found,
                prior_from_others(
                    [(o, s) for other, o, s in known if other != name], speeds.get(name, 1.0), prior.runtime_s
                ),
            )
            for name, found, _ in known
        }
        rate = failures.rate() if failures.attempts else 0.0
        rates = {name: there.failures.rate(rate) for name, there in seen.on.items() if there.failures.attempts}
        memory = _memory(seen, prior.memory_bytes)
        return StepEstimate(estimate(pooled, prior.runtime_s), on, rate, rates, memory, seen.earlier)

    def drifted(self, estimates: Mapping[int, StepEstimate]) -> bool:
        """Whether an estimate differs noticeably from what the plan in force was made with."""
        return any(
            (before := self._planned.get(key)) is not None and abs(log(figure / before)) > _NOTICEABLE
            for key, figure in _figures(estimates)
        )

    def planned_with(self, estimates: Mapping[int, StepEstimate]) -> None:
        """A plan was made with these."""
        self._planned = dict(_figures(estimates))

    def _forget(self) -> None:
        while len(self._seen) > _MOST_STEPS:
            self._seen.popitem(last=False)


def _memory(seen: _Seen, asked_bytes: int) -> MemoryUse | None:
    """Memory does not depend on where a task runs: what all resources saw, shrunk towards what the user asks for."""
    pooled = Observed()
    for there in seen.on.values():
        pooled = pooled.merged(there.memory)
    if not pooled.n:
        return None
    found = estimate(pooled, asked_bytes or exp(pooled.total / pooled.n))
    low, high = found.bounds()
    return MemoryUse(asked_bytes, found.mean_s, low, high, pooled.largest, pooled.n)


def _figures(estimates: Mapping[int, StepEstimate]) -> Iterable[tuple[tuple[int, str], float]]:
    """Everything learnt that a plan depends on, by step and what it is."""
    for step_id, believed in estimates.items():
        yield (step_id, ""), believed.runtime.mean_s
        for name, there in believed.on.items():
            yield (step_id, f"on {name}"), there.mean_s
        memory = believed.memory
        beyond = 0 if memory is None or memory.needed_bytes <= memory.asked_bytes else memory.needed_bytes
        yield (step_id, "memory"), float(max(_LITTLE_BYTES, beyond))


def _observed(found: AttemptStatistics) -> tuple[Observed, Observed]:
    """Runtimes and memory."""
    return (
        Observed(found.n, found.log_sum, found.log_square_sum, found.largest_s),
        Observed(found.memory_n, found.memory_log_sum, found.memory_log_square_sum, found.largest_bytes),
    )


def _faded(seen: Observed, most: int = _MEMORY, kept: int = _MEMORY // 2) -> Observed:
    """As it is up to a number of observations, beyond that as fewer of the same mean and spread."""
    if seen.n <= most:
        return seen
    part = kept / seen.n
    return Observed(kept, seen.total * part, seen.squares * part, seen.largest)


async def recall(store: TaskStore, experience: Experience, steps: Sequence[tuple[int, str, CompiledStep]]) -> None:
    """Look for earlier runs of steps that nothing was seen of, as (step id, project, step)."""
    by_project: dict[str, list[tuple[int, CompiledStep]]] = defaultdict(list)
    for step_id, project, step in steps:
        by_project[project].append((step_id, step))
    for project, mine in by_project.items():
        found = await store.forerunners(project, [step.program.to_json() for _, step in mine])
        ids = sorted({i for i in found if i is not None})
        attempts, outputs = await store.attempt_statistics(ids), await store.output_statistics(ids)
        for (step_id, _), earlier in zip(mine, found, strict=True):
            if earlier is not None:
                experience.inherit(
                    step_id,
                    [row for row in attempts if row.step_id == earlier],
                    [row for row in outputs if row.step_id == earlier],
                )
