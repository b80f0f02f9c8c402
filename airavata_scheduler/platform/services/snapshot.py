"""What the database knows, and what was learnt, in the planner's own words.

**Memory.** A plan counts with what the user asks for, and with more where tasks were seen to use more, or where nothing
was asked for; never with more than the largest worker has, because an estimate must not make a step impossible.

**Data.** Outputs lie on the platform's storage. A resource that has it at hand moves nothing; one with a bandwidth, or
a price for what is read, reads over a link of its own what its tasks refer to of other steps. Sizes are those of the
outputs seen so far.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from airavata_scheduler.platform.domain.request import Capacity, most_of_each
from airavata_scheduler.platform.ports.repository import OpenStep, PlannableResource, PlanningState
from airavata_scheduler.platform.services.experience import Experience, StepEstimate
from airavata_scheduler.platform.services.reads import bytes_read
from airavata_scheduler.platform.services.running import Running, left_s
from airavata_scheduler.platform.services.spending import Spending
from airavata_scheduler.platform.services.step_cache import KnownStep
from airavata_scheduler.platform.services.waits import busy_now
from airavata_scheduler.scheduler_core import (
    Estimate,
    Experiment,
    Link,
    Plan,
    Project,
    Resource,
    Snapshot,
    TaskGroup,
    Weights,
)

#: Where the platform's storage is, and every resource that has it at hand.
STORAGE = "storage"
#: Of a resource that pays for what it reads and did not say how fast that is.
_UNLIMITED_BYTES_PER_S = 1e15


def vector(capacity: Capacity) -> dict[str, float]:
    """A capacity as the planner's vector; dimensions of zero are left out."""
    amounts = {
        "cpu": capacity.cpu,
        "memory_bytes": float(capacity.memory_bytes),
        "gpu": capacity.gpu,
        "disk_bytes": float(capacity.disk_bytes),
        **capacity.named,
    }
    return {name: amount for name, amount in amounts.items() if amount > 0}


def total(capacities: list[Capacity]) -> Capacity:
    """The sum of capacities."""
    result = Capacity(cpu=0.0)
    for capacity in capacities:
        result = result.plus(capacity)
    return result


def planned_requests(
    state: PlanningState, known: Mapping[int, KnownStep], estimates: Mapping[int, StepEstimate]
) -> dict[int, Capacity]:
    """Step id -> what a plan and claims count with for one task."""
    largest = _largest_memory(state)
    return {
        step_id: replace(asked, memory_bytes=max(asked.memory_bytes, min(needed, most_bytes)))
        for step_id, step in known.items()
        for most_bytes in (max((n for name, n in largest.items() if step.step.may_use(name)), default=0),)
        for asked in (step.step.program.request,)
        for memory in (estimates[step_id].memory if step_id in estimates else None,)
        for needed in (0 if memory is None else memory.needed_bytes,)
    }


def _largest_memory(state: PlanningState) -> dict[str, int]:
    """The memory of the largest worker of each resource in use, in bytes."""
    enabled = {resource.name for resource in state.resources if resource.enabled}
    largest: dict[str, int] = {}
    for worker in state.workers:
        if not worker.draining and worker.resource in enabled:
            largest[worker.resource] = max(largest.get(worker.resource, 0), worker.capacity.memory_bytes)
    return largest


def leaving(state: PlanningState) -> dict[tuple[int, int], int]:
    """(step id, resource id) -> tasks on draining workers: they end there, and hold no place that a plan could give."""
    found: dict[tuple[int, int], int] = defaultdict(int)
    for worker in state.workers:
        if worker.draining:
            for step_id, n in state.held.get(worker.id, {}).items():
                found[step_id, worker.resource_id] += n
    return found


def build_snapshot(
    state: PlanningState,
    known: Mapping[int, KnownStep],
    estimates: Mapping[int, StepEstimate],
    previous: Plan,
    spending: Spending,
    experience: Experience | None = None,
    running: Running | None = None,
) -> Snapshot:
    """The snapshot for `scheduler_core.plan`. ``estimates`` has every step that is known."""
    seen = Experience() if experience is None else experience
    steps = [step for step in state.steps if step.step_id in known]
    mixed = _with_different_rules(steps, known)
    context = _Context(state, known, estimates, seen, running or Running())
    budgets = _budgets(steps, context, spending)
    return Snapshot(
        groups=tuple(
            replace(group, avoid=context.forbidden(step)) if step.experiment in mixed else group
            for step in steps
            for group in (context.group(step),)
        ),
        resources=tuple(context.resource(resource) for resource in state.resources),
        experiments=tuple(
            {
                step.experiment: replace(experiment, allow=frozenset(), deny=frozenset())
                if step.experiment in mixed
                else experiment
                for step in steps
                for experiment in (_experiment(step, known[step.step_id], budgets),)
            }.values()
        ),
        projects=tuple(
            {step.project: Project(key=step.project, weight=step.project_weight) for step in steps}.values()
        ),
        links=tuple(
            Link(
                source=STORAGE,
                target=resource.name,
                bandwidth_bytes_per_s=resource.bandwidth_bytes_per_s or _UNLIMITED_BYTES_PER_S,
                price_per_gb=resource.egress_price_per_gb,
            )
            for resource in state.resources
            if is_far(resource)
        ),
        previous={(share.group, share.resource): share.places for share in previous.shares},
        arrivals_per_s=seen.arrivals.per_s,
    )


def _with_different_rules(steps: Sequence[OpenStep], known: Mapping[int, KnownStep]) -> set[str]:
    """Experiments whose steps do not all allow and deny the same; the planner knows such rules by experiment only."""
    rules: dict[str, set[object]] = {}
    for step in steps:
        compiled = known[step.step_id].step
        rules.setdefault(step.experiment, set()).add((compiled.allow, compiled.deny))
    return {experiment for experiment, different in rules.items() if len(different) > 1}


class _Context:
    """What the translation of every step and resource looks things up in."""

    def __init__(
        self,
        state: PlanningState,
        known: Mapping[int, KnownStep],
        estimates: Mapping[int, StepEstimate],
        seen: Experience,
        running: Running,
    ) -> None:
        self._known = known
        self._estimates = estimates
        self._waits = seen.waits
        self._resources = {resource.id: resource for resource in state.resources}
        self._mine = {
            resource.id: [w.capacity for w in state.workers if w.resource_id == resource.id]
            for resource in state.resources
        }
        self._workers = state.workers
        self._busy = busy_now(state)
        self._leaving = leaving(state)
        self._ages = running.ages(state.workers, state.now)
        self._reads = bytes_read(known, seen)
        self._requests = planned_requests(state, known, estimates)
        self._ranks = _upward_ranks(state.steps, known, estimates)

    def forbidden(self, step: OpenStep) -> frozenset[str]:
        """Resources that the rules of a step exclude."""
        compiled = self._known[step.step_id].step
        return frozenset(r.name for r in self._resources.values() if not compiled.may_use(r.name))

    def group(self, open_step: OpenStep) -> TaskGroup:
        """A step as one group of tasks."""
        step, believed = self._known[open_step.step_id], self._estimates[open_step.step_id]
        running, ahead = self.places_of(open_step)
        upstream = {step.upstream(p) for p in (*step.step.foreach, *step.step.gather, *step.step.after)}
        read_bytes = self._reads.get(open_step.step_id, 0.0)
        return TaskGroup(
            key=str(open_step.step_id),
            experiment=open_step.experiment,
            request=vector(self._requests[open_step.step_id]),
            runtime=believed.runtime,
            runtime_on=self._without_transfer(believed.on, read_bytes),
            failure_rate=believed.failure_rate,
            failure_on=believed.failure_on,
            # What a worker claimed ahead holds no place yet: to the planner it waits like the rest.
            n_ready=open_step.ready + sum(ahead.values()),
            n_running=running,
            running_left_s={
                resource.name: left_s(
                    ages[: running[resource.name]], believed.runtime_on(resource.name, resource.speed)
                )
                for resource in self._resources.values()
                if resource.name in running and (ages := self._ages.get((open_step.step_id, resource.name)))
            },
            n_blocked=max(0, open_step.remaining - open_step.ready - sum(open_step.active.values())),
            after=tuple(str(step_id) for step_id in sorted(upstream) if step_id in self._known),
            # A step's own stands in place of its experiment's, to which the planner adds it.
            priority=step.step.priority - open_step.priority,
            rank_s=self._ranks[open_step.step_id],
            inputs={STORAGE: read_bytes} if read_bytes else {},
        )

    def places_of(self, open_step: OpenStep) -> tuple[dict[str, int], dict[str, int]]:
        """By resource: tasks that hold a place there, and those that its workers claimed ahead.

        What is on a draining worker is neither.
        """
        running: dict[str, int] = {}
        ahead: dict[str, int] = {}
        for resource_id, n in open_step.active.items():
            if resource_id not in self._resources:
                continue
            name = self._resources[resource_id].name
            staying = max(0, n - self._leaving.get((open_step.step_id, resource_id), 0))
            places = self._requests[open_step.step_id].copies_in(total(self._mine[resource_id]))
            running[name] = min(staying, places or staying)
            ahead[name] = staying - running[name]
        return running, ahead

    def _without_transfer(self, on: Mapping[str, Estimate], read_bytes: float) -> Mapping[str, Estimate]:
        """Tasks read while they run, so what was learnt at the end of a link holds the transfer the planner adds."""
        pace = {r.name: r.bandwidth_bytes_per_s for r in self._resources.values() if r.bandwidth_bytes_per_s > 0}
        return {name: _shifted(there, read_bytes / pace[name]) if name in pace else there for name, there in on.items()}

    def resource(self, resource: PlannableResource) -> Resource:
        """A resource as its live workers are together."""
        mine = [w.capacity for w in self._workers if w.resource_id == resource.id and not w.draining]
        wait = self._waits.estimate(resource.name, live=bool(mine))
        return Resource(
            name=resource.name,
            capacity=vector(total(mine)),
            largest=vector(most_of_each(mine)),
            workers=len(mine),
            sizes=_sizes(mine),
            unit_prices={"cpu": resource.price_per_hour, "gpu": resource.gpu_price_per_hour},
            speed=resource.speed,
            # Where something of ours runs, the next task waits for a place only.
            queue_wait_s=wait.mean_s if wait is not None and mine and resource.name not in self._busy else 0.0,
            location=resource.name if is_far(resource) else STORAGE,
            labels=frozenset(f"{key}={value}" for key, value in resource.labels.items()),
            cut_off=_cut_off(resource, bool(mine), wait),
        )


def _sizes(capacities: Sequence[Capacity]) -> tuple[tuple[Mapping[str, float], int], ...]:
    """Workers by size where they are not all alike."""
    counted: dict[frozenset[tuple[str, float]], int] = {}
    for capacity in capacities:
        size = frozenset(vector(capacity).items())
        counted[size] = counted.get(size, 0) + 1
    return tuple((dict(sorted(size)), n) for size, n in counted.items()) if len(counted) > 1 else ()


def is_far(resource: PlannableResource) -> bool:
    """Whether what its tasks read of the storage takes time or money."""
    return resource.bandwidth_bytes_per_s > 0 or resource.egress_price_per_gb > 0


def _shifted(there: Estimate, transfer_s: float) -> Estimate:
    """An estimate of what is left of a duration without a transfer; at least a tenth of it."""
    kept = max(0.1, 1.0 - transfer_s / there.mean_s)
    low_s, high_s = there.bounds()
    return Estimate(mean_s=there.mean_s * kept, low_s=low_s * kept, high_s=high_s * kept, n=there.n)


def _cut_off(resource: PlannableResource, live: bool, wait: Estimate | None) -> str:
    if not resource.enabled:
        return "disabled"
    if live:
        return ""
    return "it has no live worker" + (
        "" if wait is None else f"; when one was wanted before, tasks started after about {wait.mean_s:.0f} s"
    )


def _upward_ranks(
    steps: Sequence[OpenStep], known: Mapping[int, KnownStep], estimates: Mapping[int, StepEstimate]
) -> dict[int, float]:
    """Step id -> seconds of work that follows it on the longest way to the end, at speed 1 (HEFT's upward rank)."""
    ranks = {step.step_id: 0.0 for step in steps}
    for step_id in sorted((i for i in ranks if i in known), key=lambda i: known[i].step.position, reverse=True):
        step = known[step_id]
        through_s = ranks[step_id] + estimates[step_id].runtime.mean_s
        for position in (*step.step.foreach, *step.step.gather, *step.step.after):
            upstream = step.upstream(position)
            ranks[upstream] = max(ranks.get(upstream, 0.0), through_s)
    return ranks


def _budgets(steps: Sequence[OpenStep], context: _Context, spending: Spending) -> dict[str, float]:
    """What a plan may spend, by experiment: what is left, and what is set aside for tasks that the plan places anew."""
    budgets = dict(spending.left)
    for step in steps:
        _, ahead = context.places_of(step)
        for resource, n in ahead.items():
            for experiment, amount in spending.cost(step.step_id, resource, n).items():
                budgets[experiment] += amount
    return budgets


def _experiment(step: OpenStep, known: KnownStep, budgets: Mapping[str, float]) -> Experiment:
    weights = dict(step.objective)
    return Experiment(
        key=step.experiment,
        project=step.project,
        weights=Weights(**weights) if weights else Weights(),
        priority=step.priority,
        submitted_at_s=step.submitted_at,
        deadline_at_s=step.deadline,
        hard=step.hard_deadline,
        budget_left=None if step.budget is None else max(0.0, budgets[step.experiment]),
        allow=frozenset(known.step.allow),
        deny=frozenset(known.step.deny),
    )
