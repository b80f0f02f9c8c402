"""What an experiment's user must hear of: its budget is spent, its deadline is in danger or out of reach. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from airavata_scheduler.platform.interfaces import BUDGET_EXHAUSTED, DEADLINE_AT_RISK, DEADLINE_OUT_OF_REACH, Alarm
from airavata_scheduler.platform.ports.repository import OpenStep, PlanningState
from airavata_scheduler.platform.services.punctuality import LastStarts
from airavata_scheduler.platform.services.spending import Spending
from airavata_scheduler.platform.services.step_cache import KnownStep
from airavata_scheduler.scheduler_core import Experiment, Forecast, Plan, Snapshot

_RISKY = 0.5


def budget_alarms(state: PlanningState, known: Mapping[int, KnownStep], spending: Spending) -> list[Alarm]:
    """Experiments that have ready tasks and no money to start one anywhere."""
    steps = [step for step in state.steps if step.budget is not None and step.step_id in known]
    return [
        alarm
        for experiment, mine in _by_experiment(steps).items()
        if (alarm := _budget_alarm(experiment, mine, state, known, spending)) is not None
    ]


def _by_experiment(steps: Sequence[OpenStep]) -> Mapping[str, list[OpenStep]]:
    found: dict[str, list[OpenStep]] = defaultdict(list)
    for step in steps:
        found[step.experiment].append(step)
    return found


def _budget_alarm(
    experiment: str,
    steps: Sequence[OpenStep],
    state: PlanningState,
    known: Mapping[int, KnownStep],
    spending: Spending,
) -> Alarm | None:
    budget, cost = steps[0].budget or 0.0, steps[0].cost
    # As a plan counts, or there would be an amount that is too little for the plan and enough to go on.
    prices = [
        spending.whole[step.step_id, resource]
        for step in steps
        if step.ready > 0
        for resource in _usable(known[step.step_id], state)
    ]
    cheapest = min(prices, default=0.0)
    if cheapest <= 0:
        return None
    left = budget - cost
    if left <= 0:
        reason = f"its budget of {budget:.6g} is spent: its tasks have cost {cost:.6g}"
    elif left < cheapest and not any(step.active for step in steps):
        reason = f"{left:.4g} is left of its budget of {budget:.6g}, and a task is expected to cost {cheapest:.4g}"
    else:
        return None
    ready = sum(step.ready for step in steps)
    data = {"budget": budget, "cost": cost, "next_task": cheapest, "ready": ready}
    return Alarm(BUDGET_EXHAUSTED, experiment, reason, data)


def _usable(known: KnownStep, state: PlanningState) -> set[str]:
    enabled = {resource.name for resource in state.resources if resource.enabled}
    request = known.step.program.request
    return {
        worker.resource
        for worker in state.workers
        if worker.resource in enabled
        and not worker.draining
        and known.step.may_use(worker.resource)
        and request.fits_in(worker.capacity)
    }


def late_alarms(state: PlanningState, known: Mapping[int, KnownStep], last: LastStarts) -> list[Alarm]:
    """Experiments with ready tasks of which none can end before a hard deadline, once nothing of theirs runs."""
    steps = [step for step in state.steps if step.hard_deadline and step.step_id in known]
    return [
        alarm
        for experiment, mine in _by_experiment(steps).items()
        if (alarm := _late_alarm(experiment, mine, state, known, last)) is not None
    ]


def _late_alarm(
    experiment: str, steps: Sequence[OpenStep], state: PlanningState, known: Mapping[int, KnownStep], last: LastStarts
) -> Alarm | None:
    due, ready = steps[0].deadline or 0.0, sum(step.ready for step in steps)
    moments = [
        last[step.step_id, resource]
        for step in steps
        if step.ready > 0
        for resource in _usable(known[step.step_id], state)
    ]
    latest = max(moments, default=due)
    if ready == 0 or any(step.active for step in steps) or latest >= state.now:
        return None
    left_s, shortest_s = due - state.now, due - latest
    if left_s <= 0:
        reason = f"its hard deadline passed {-left_s:.0f} s ago"
    else:
        reason = f"{left_s:.0f} s are left until its hard deadline, and a task is expected to take {shortest_s:.3g} s"
    data = {"deadline": due, "next_task_s": shortest_s, "ready": ready}
    return Alarm(DEADLINE_OUT_OF_REACH, experiment, f"{reason}; {ready} of its tasks are ready", data)


def deadline_alarms(snapshot: Snapshot, plan: Plan, planned_at: float, known: Mapping[int, KnownStep]) -> list[Alarm]:
    """Experiments that the plan is likely to finish too late, as soon as there is something to go by."""
    experiments = {e.key: e for e in snapshot.experiments if e.deadline_at_s is not None}
    return [
        _deadline_alarm(snapshot, plan, planned_at, experiments[forecast.experiment], forecast)
        for forecast in plan.forecasts
        if forecast.experiment in experiments
        and _in_danger(forecast, experiments[forecast.experiment], planned_at)
        and _is_known(snapshot, forecast.experiment, known)
    ]


def _in_danger(forecast: Forecast, experiment: Experiment, planned_at: float) -> bool:
    due_s = (experiment.deadline_at_s or 0.0) - planned_at
    if forecast.placed + forecast.unplaced == 0:
        return False
    # Who has no place now may have one when a node is back; until half of the time is over that is no ground for alarm.
    stuck = forecast.unplaced > 0 and due_s < ((experiment.deadline_at_s or 0.0) - experiment.submitted_at_s) / 2
    return stuck or due_s < 0 or forecast.finish_high_s > due_s or forecast.deadline_risk > _RISKY


def _is_known(snapshot: Snapshot, experiment: str, known: Mapping[int, KnownStep]) -> bool:
    """Whether every runtime is the user's or was seen: a default is no ground for an alarm."""
    return all(
        group.runtime.n > 0 or ((step := known.get(int(group.key))) is not None and step.step.time_s)
        for group in snapshot.groups
        if group.experiment == experiment
    )


def _deadline_alarm(
    snapshot: Snapshot, plan: Plan, planned_at: float, experiment: Experiment, forecast: Forecast
) -> Alarm:
    due = experiment.deadline_at_s or 0.0
    expected = planned_at + forecast.finish_s
    late_s, worst_s = expected - due, planned_at + forecast.finish_high_s - due
    helps = list(_helps(snapshot, plan, experiment))
    data = {
        "deadline": due,
        "expected_finish": expected,
        "expected_finish_low": planned_at + forecast.finish_low_s,
        "expected_finish_high": planned_at + forecast.finish_high_s,
        "risk": forecast.deadline_risk,
        "unplaced": forecast.unplaced,
        "helps": helps,
    }
    reason = f"its deadline is at risk: it is expected to end {_relative(late_s)}, and at worst {_relative(worst_s)}"
    if forecast.unplaced:
        reason = f"its deadline is at risk: {forecast.unplaced} of its tasks have no place"
    return Alarm(DEADLINE_AT_RISK, experiment.key, f"{reason}; what would help: {'; '.join(helps)}", data)


def _relative(late_s: float) -> str:
    return f"{late_s:.0f} s after it" if late_s > 0 else f"{-late_s:.0f} s before it"


def _helps(snapshot: Snapshot, plan: Plan, experiment: Experiment) -> Iterator[str]:
    """What its user, or an administrator, could change."""
    groups = {group.key for group in snapshot.groups if group.experiment == experiment.key}
    if any(unplaced.group in groups for unplaced in plan.unplaced) and experiment.budget_left is not None:
        yield "a larger budget"
    barred = [
        resource.name
        for resource in snapshot.resources
        if not resource.cut_off
        and (resource.name in experiment.deny or (experiment.allow and resource.name not in experiment.allow))
    ]
    if barred:
        yield f"allowing {', '.join(barred)}"
    closed = [resource.name for resource in snapshot.resources if resource.cut_off]
    if closed:
        yield f"bringing back {', '.join(closed)}"
    if any(other.key != experiment.key for other in snapshot.experiments):
        yield "a higher priority than the other experiments have"
    if experiment.weights.deadline < max(experiment.weights.time, experiment.weights.cost):
        yield "the objective on_time"
    used = sorted({share.resource for share in plan.shares if share.group in groups})
    yield f"more workers on {', '.join(used)}" if used else "more workers"
