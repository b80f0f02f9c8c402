"""What the database knows, in the planner's own words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.ports.repository import LiveWorker, OpenStep, PlannableResource, PlanningState
from airavata_scheduler.platform.services.runtimes import StepEstimate
from airavata_scheduler.platform.services.spending import Spending
from airavata_scheduler.platform.services.step_cache import KnownStep
from airavata_scheduler.scheduler_core import (
    Experiment,
    Plan,
    Project,
    Resource,
    Snapshot,
    TaskGroup,
    Weights,
)


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


def largest(capacities: list[Capacity]) -> Capacity:
    """The largest worker: by cpu, then GPU, then memory."""
    return max(capacities, key=lambda c: (c.cpu, c.gpu, c.memory_bytes), default=Capacity(cpu=0.0))


def build_snapshot(
    state: PlanningState,
    known: Mapping[int, KnownStep],
    estimates: Mapping[int, StepEstimate],
    previous: Plan,
    spending: Spending,
) -> Snapshot:
    """The snapshot for `scheduler_core.plan`. ``estimates`` has every step that is known."""
    steps = [step for step in state.steps if step.step_id in known]
    names = {resource.id: resource.name for resource in state.resources}
    mixed = _with_different_rules(steps, known)
    capacities = {
        resource.id: total([worker.capacity for worker in state.workers if worker.resource_id == resource.id])
        for resource in state.resources
    }
    return Snapshot(
        groups=tuple(
            replace(group, avoid=_forbidden(known[step.step_id], names)) if step.experiment in mixed else group
            for step in steps
            for group in (_group(step, known, names, capacities, estimates[step.step_id]),)
        ),
        resources=tuple(_resource(resource, state.workers) for resource in state.resources),
        experiments=tuple(
            {
                step.experiment: replace(experiment, allow=frozenset(), deny=frozenset())
                if step.experiment in mixed
                else experiment
                for step in steps
                for experiment in (_experiment(step, known[step.step_id], spending),)
            }.values()
        ),
        projects=tuple(
            {step.project: Project(key=step.project, weight=step.project_weight) for step in steps}.values()
        ),
        previous={(share.group, share.resource): share.places for share in previous.shares},
    )


def _with_different_rules(steps: Sequence[OpenStep], known: Mapping[int, KnownStep]) -> set[str]:
    """Experiments whose steps do not all allow and deny the same; the planner knows such rules by experiment only."""
    rules: dict[str, set[object]] = {}
    for step in steps:
        compiled = known[step.step_id].step
        rules.setdefault(step.experiment, set()).add((compiled.allow, compiled.deny))
    return {experiment for experiment, different in rules.items() if len(different) > 1}


def _forbidden(known: KnownStep, names: Mapping[int, str]) -> frozenset[str]:
    return frozenset(name for name in names.values() if not known.step.may_use(name))


def _group(
    open_step: OpenStep,
    known: Mapping[int, KnownStep],
    names: Mapping[int, str],
    capacities: Mapping[int, Capacity],
    believed: StepEstimate,
) -> TaskGroup:
    step = known[open_step.step_id]
    active = sum(open_step.active.values())
    running = {
        names[resource_id]: min(n, step.step.program.request.copies_in(capacities[resource_id]) or n)
        for resource_id, n in open_step.active.items()
        if resource_id in capacities
    }
    upstream = {step.upstream(p) for p in (*step.step.foreach, *step.step.gather, *step.step.after)}
    return TaskGroup(
        key=str(open_step.step_id),
        experiment=open_step.experiment,
        request=vector(step.step.program.request),
        runtime=believed.runtime,
        runtime_on=believed.on,
        failure_rate=believed.failure_rate,
        # What a worker claimed ahead holds no place yet: to the planner it waits like the rest.
        n_ready=open_step.ready + active - sum(running.values()),
        n_running=running,
        n_blocked=max(0, open_step.remaining - open_step.ready - active),
        after=tuple(str(step_id) for step_id in sorted(upstream) if step_id in known),
        priority=step.step.priority,
    )


def _experiment(step: OpenStep, known: KnownStep, spending: Spending) -> Experiment:
    weights = dict(step.objective)
    return Experiment(
        key=step.experiment,
        project=step.project,
        weights=Weights(**weights) if weights else Weights(),
        priority=step.priority,
        submitted_at_s=step.submitted_at,
        deadline_at_s=step.deadline,
        budget_left=None if step.budget is None else max(0.0, spending.left[step.experiment]),
        allow=frozenset(known.step.allow),
        deny=frozenset(known.step.deny),
    )


def _resource(resource: PlannableResource, workers: Sequence[LiveWorker]) -> Resource:
    mine = [worker.capacity for worker in workers if worker.resource_id == resource.id and not worker.draining]
    return Resource(
        name=resource.name,
        capacity=vector(total(mine)),
        largest=vector(largest(mine)),
        workers=len(mine),
        unit_prices={"cpu": resource.price_per_hour, "gpu": resource.gpu_price_per_hour},
        speed=resource.speed,
        labels=frozenset(f"{key}={value}" for key, value in resource.labels.items()),
        cut_off="" if resource.enabled and mine else "disabled" if not resource.enabled else "it has no live worker",
    )
