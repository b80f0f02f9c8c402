"""Plans, explanations and frontiers as plain JSON, for people and programs outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from math import isfinite
from typing import Any

from airavata_scheduler.platform.services.experience import StepEstimate
from airavata_scheduler.scheduler_core import (
    Cause,
    Estimate,
    Explanation,
    Forecast,
    Plan,
    Point,
    Reason,
    Snapshot,
    TaskGroup,
    Weights,
)

#: Verdicts on resources that could run the tasks, now or later.
_FEASIBLE = frozenset({Cause.CHOSEN, Cause.DEARER, Cause.FULL})
_WEIGHTS = ("time", "cost", "deadline", "locality")


#: Resource -> whether it had a live worker -> how long work waited there.
Waits = Mapping[str, Mapping[bool, Estimate]]


def plan_json(
    plan: Plan, snapshot: Snapshot, believed: Mapping[int, StepEstimate], waits: Waits, trouble: str = ""
) -> dict[str, Any]:
    """The plan in force, and what it was made with; ``trouble``: why the latest attempt to make another one failed."""
    return {
        "solver": plan.solver,
        "objective": plan.objective,
        "bound": plan.bound,
        "gap": plan.gap,
        "spent_s": plan.spent_s,
        "classes": plan.classes,
        "trouble": trouble,
        "shares": [
            {
                "step_id": int(s.group),
                "resource": s.resource,
                "places": s.places,
                "burst": s.burst,
                "order": s.order,
                "quota": s.quota,
                "reserve": s.reserve,
            }
            for s in plan.shares
        ],
        "unplaced": [
            {"step_id": int(u.group), "count": u.count, "reasons": [reason.text for reason in u.reasons]}
            for u in plan.unplaced
        ],
        "runtimes": [
            {"step_id": int(group.key), **estimates_json(group, believed.get(int(group.key)))}
            for group in snapshot.groups
        ],
        "queue_waits": waits_json(waits),
        "forecasts": [forecast_json(found) for found in plan.forecasts],
    }


def estimates_json(group: TaskGroup, believed: StepEstimate | None) -> dict[str, Any]:
    """What is believed of a task: runtime on a resource of speed 1 and where it was learnt, failures, memory, input."""
    return {
        "runtime": estimate_json(group.runtime),
        "runtime_on": {name: estimate_json(found) for name, found in group.runtime_on.items()},
        "failure_rate": group.failure_rate,
        "failure_on": dict(group.failure_on),
        "memory": None if believed is None or believed.memory is None else asdict(believed.memory),
        "planned_memory_bytes": group.request.get("memory_bytes", 0.0),
        "earlier_attempts": 0 if believed is None else believed.earlier,
        "input_bytes": sum(group.inputs.values()),
    }


def waits_json(waits: Waits) -> list[dict[str, Any]]:
    """How long work waited on resources, in seconds: with a live worker, and until one came."""
    return [
        {
            "resource": name,
            "with_worker": estimate_json(found[True]) if True in found else None,
            "without_worker": estimate_json(found[False]) if False in found else None,
        }
        for name, found in waits.items()
    ]


def estimate_json(found: Estimate) -> dict[str, Any]:
    """Mean, 10 % and 90 % quantiles, and the number of observations behind them."""
    low_s, high_s = found.bounds()
    return {"mean_s": found.mean_s, "low_s": low_s, "high_s": high_s, "n": found.n}


def forecast_json(found: Forecast) -> dict[str, Any]:
    """Durations from the moment of the plan; None for what is not finite."""
    return {name: _finite(value) for name, value in asdict(found).items()}


def explanation_json(
    found: Explanation,
    snapshot: Snapshot,
    plan: Plan,
    planned_at: float,
    believed: Mapping[int, StepEstimate],
    waits: Waits,
) -> dict[str, Any]:
    """An explanation of one group, with what was believed when the plan was made."""
    group = next(group for group in snapshot.groups if group.key == found.group)
    forecast = next((f for f in plan.forecasts if f.experiment == group.experiment), None)
    start_s = found.expected_start_s
    return {
        "step_id": int(found.group),
        "verdicts": [
            {"feasible": verdict.cause in _FEASIBLE, **reason_json(verdict), "text": _without_name(verdict)}
            for verdict in found.verdicts
        ],
        "shares": {share.resource: share.places for share in plan.of_group(found.group)},
        "position": found.position,
        "expected_resource": found.expected_resource,
        "expected_start": planned_at + start_s if start_s is not None and isfinite(start_s) else None,
        "unplaced": found.unplaced,
        "reasons": [reason_json(reason) for reason in found.reasons],
        "planned_at": planned_at,
        "forecast": forecast_json(forecast) if forecast is not None else None,
        **estimates_json(group, believed.get(int(group.key))),
        "queue_waits": waits_json(waits),
    }


def reason_json(reason: Reason) -> dict[str, Any]:
    """The obstacle, in words and by amount."""
    return {
        "cause": str(reason.cause),
        "text": reason.text,
        "resource": reason.resource,
        "amount": _finite(reason.amount),
        "dimension": reason.dimension,
    }


def places_json(plan: Plan, group: str) -> list[dict[str, Any]]:
    """What of a group runs where."""
    return [
        {"resource": s.resource, "tasks": s.total, "places": s.places, "start_in_s": _finite(s.start_in_s)}
        for s in plan.of_group(group)
        if s.total > 0
    ]


def point_json(point: Point, names: Mapping[str, str]) -> dict[str, Any]:
    """A plan of the frontier: what to expect, what makes it, and tasks by step and resource.

    ``names``: group -> name of the step, of the groups to show.
    """
    figures = ("finish_s", "finish_low_s", "finish_high_s", "cost", "moved_bytes", "deadline_risk", "budget")
    return {
        "number": point.number,
        **{name: _finite(getattr(point, name)) for name in figures},
        "objective": objective_json(point.weights),
        "places": {
            name: {p["resource"]: p["tasks"] for p in places_json(point.plan, key)} for key, name in names.items()
        },
    }


def objective_json(weights: Weights) -> dict[str, float]:
    """The weights as a document's `objective` takes them."""
    return {name: getattr(weights, name) for name in _WEIGHTS}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not isfinite(value) else value


def _without_name(reason: Reason) -> str:
    return reason.text.removeprefix(f"{reason.resource}: ")
