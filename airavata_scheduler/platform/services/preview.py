"""What would happen if an experiment were submitted now: the live state plus its steps, planned and not stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airavata_scheduler.platform.domain.compiled import CompiledExperiment, CompiledStep
from airavata_scheduler.platform.domain.errors import UnavailableError
from airavata_scheduler.platform.ports.repository import OpenStep, PlanningState, StepSpec, TaskStore
from airavata_scheduler.platform.ports.solver import Solver
from airavata_scheduler.platform.services.experience import Experience, Prior, StepEstimate, recall
from airavata_scheduler.platform.services.plan_json import (
    estimates_json,
    forecast_json,
    places_json,
    point_json,
    reason_json,
)
from airavata_scheduler.platform.services.reads import bytes_read, read_from
from airavata_scheduler.platform.services.snapshot import build_snapshot
from airavata_scheduler.platform.services.spending import Spending, prior_s
from airavata_scheduler.platform.services.step_cache import KnownStep, StepCache
from airavata_scheduler.scheduler_core import Limits, Plan, Snapshot

#: Names nothing that is stored can have.
_EXPERIMENT = "(this experiment)"
_LIMITS = Limits(time_s=1.0)
#: Each point is a plan of its own.
_FRONTIER_LIMITS = Limits(time_s=0.3, effort=3_000)
_POINTS = 8


class Previewer:
    """Plans what is not there yet, beside the scheduler and in a solver of its own."""

    def __init__(self, tasks: TaskStore, solver: Solver) -> None:
        self._tasks = tasks
        self._steps = StepCache(tasks)
        self._solver = solver

    async def preview(self, compiled: CompiledExperiment, project: str, *, frontier: bool) -> dict[str, Any]:
        """As JSON; see docs/api.md. UnavailableError when the solver gave up."""
        state = await self._tasks.planning_state()
        hypothetical = _hypothetical(compiled, project, state)
        snapshot, believed = await self._snapshot(state, compiled, hypothetical)
        plan = await self._solver.solve(snapshot, state.now, _LIMITS)
        if plan is None:
            raise UnavailableError("the planner took too long", retry_after_s=2.0, remedy="try again")
        names = {str(step.step_id): compiled.steps[p].name for p, step in enumerate(hypothetical)}
        found = _expected(compiled, plan, names, state.now)
        found["steps"] = [_step(snapshot, plan, believed, key, name) for key, name in names.items()]
        found["frontier"] = await self._frontier(snapshot, state.now, names) if frontier else None
        return found

    async def _snapshot(
        self, state: PlanningState, compiled: CompiledExperiment, hypothetical: Sequence[OpenStep]
    ) -> tuple[Snapshot, dict[int, StepEstimate]]:
        known = dict(await self._steps.get(step.step_id for step in state.steps))
        known.update(await self._steps.get(read_from(known)))
        open_steps = [step for step in state.steps if step.step_id in known]
        ids = {position: step.step_id for position, step in enumerate(hypothetical)}
        seen = await self._experience(known)
        for step, compiled_step in zip(hypothetical, compiled.steps, strict=True):
            spec = StepSpec(step.step_id, _EXPERIMENT, compiled_step.position, compiled_step.name, step.n, {}, ids)
            known[step.step_id] = KnownStep(spec, compiled_step)
        await recall(self._tasks, seen, [(s.step_id, s.project, known[s.step_id].step) for s in hypothetical])
        everything = PlanningState(
            state.now, [*open_steps, *hypothetical], state.workers, state.resources, state.next_retry_at
        )
        priors = {
            step.step_id: Prior(
                prior_s(step, compiled_step, state.resources), compiled_step.program.request.memory_bytes
            )
            for step in everything.steps
            for compiled_step in (known[step.step_id].step,)
        }
        estimates = seen.estimates(priors, {resource.name: resource.speed for resource in state.resources})
        spending = Spending.of(everything, known, estimates, bytes_read(known, seen))
        return build_snapshot(everything, known, estimates, Plan(), spending, seen), estimates

    async def _experience(self, known: Mapping[int, KnownStep]) -> Experience:
        """What the database knows of these steps."""
        seen = Experience()
        attempts = await self._tasks.attempt_statistics(list(known))
        seen.load(known, attempts, await self._tasks.output_statistics(list(known)))
        return seen

    async def _frontier(self, snapshot: Snapshot, now: float, names: Mapping[str, str]) -> list[dict[str, Any]]:
        points = await self._solver.frontier(snapshot, now, _EXPERIMENT, _POINTS, _FRONTIER_LIMITS)
        if points is None:
            raise UnavailableError("the planner took too long", retry_after_s=2.0, remedy="try again")
        return [point_json(point, names) for point in points]


def _hypothetical(compiled: CompiledExperiment, project: str, state: PlanningState) -> list[OpenStep]:
    """Its steps as if they were stored, with ids below zero."""
    weight = next((step.project_weight for step in state.steps if step.project == project), 1.0)
    return [
        OpenStep(
            step_id=-1 - step.position,
            experiment=_EXPERIMENT,
            project=project,
            project_weight=weight,
            priority=compiled.priority,
            objective=compiled.objective,
            deadline=compiled.deadline,
            hard_deadline=compiled.hard_deadline,
            budget=compiled.budget,
            cost=0.0,
            submitted_at=state.now,
            n=step.n,
            ready=0 if _waits(step) else step.n,
            remaining=step.n,
        )
        for step in compiled.steps
    ]


def _waits(step: CompiledStep) -> bool:
    return bool(step.foreach or step.gather or step.after)


def _expected(compiled: CompiledExperiment, plan: Plan, names: Mapping[str, str], now: float) -> dict[str, Any]:
    forecast = next((f for f in plan.forecasts if f.experiment == _EXPERIMENT), None)
    expected = {} if forecast is None else forecast_json(forecast)
    expected.pop("experiment", None)
    missing = expected.get("unplaced", compiled.n_tasks)
    return {
        "name": compiled.name,
        "n_tasks": compiled.n_tasks,
        **expected,
        "finish_at": None if missing or forecast is None else now + forecast.finish_s,
        "budget": compiled.budget,
        "deadline": compiled.deadline,
        "objective": dict(compiled.objective),
        "resources": _by_resource(plan, names),
        "planned_at": now,
        "solver": plan.solver,
        "gap": plan.gap,
    }


def _step(snapshot: Snapshot, plan: Plan, believed: Mapping[int, StepEstimate], key: str, name: str) -> dict[str, Any]:
    group = next(group for group in snapshot.groups if group.key == key)
    left = next((unplaced for unplaced in plan.unplaced if unplaced.group == key), None)
    return {
        "name": name,
        "n": group.n_ready + group.n_blocked,
        "request": dict(group.request),
        "places": places_json(plan, key),
        "unplaced": 0 if left is None else left.count,
        "reasons": [] if left is None else [reason_json(reason) for reason in left.reasons],
        **estimates_json(group, believed.get(int(key))),
    }


def _by_resource(plan: Plan, names: Mapping[str, str]) -> dict[str, int]:
    tasks: dict[str, int] = {}
    for share in plan.shares:
        if share.group in names and share.total > 0:
            tasks[share.resource] = tasks.get(share.resource, 0) + share.total
    return tasks
