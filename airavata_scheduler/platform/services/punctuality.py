"""When tasks of experiments with a hard deadline may start for the last time. Pure.

A plan bounds what such an experiment starts until the next plan; this holds at dispatch, whatever the age of the plan.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from airavata_scheduler.platform.interfaces import DEADLINE_OUT_OF_REACH, Alarm
from airavata_scheduler.platform.ports.repository import OpenStep, PlanningState
from airavata_scheduler.platform.services.experience import StepEstimate
from airavata_scheduler.platform.services.step_cache import KnownStep

#: (step id, resource) -> a moment in seconds since the epoch.
LastStarts = Mapping[tuple[int, str], float]


def last_starts(
    state: PlanningState, known: Mapping[int, KnownStep], estimates: Mapping[int, StepEstimate]
) -> LastStarts:
    """For every step of an experiment with a hard deadline and every resource; nothing for others."""
    return {
        (step.step_id, resource.name): step.deadline - estimates[step.step_id].runtime_on(resource.name, resource.speed)
        for step in state.steps
        if step.hard_deadline and step.deadline is not None and step.step_id in known
        for resource in state.resources
    }


def late_alarms(state: PlanningState, known: Mapping[int, KnownStep], last: LastStarts) -> list[Alarm]:
    """Experiments with ready tasks of which none can end in time anywhere, once nothing of theirs runs."""
    by_experiment: dict[str, list[OpenStep]] = defaultdict(list)
    for step in state.steps:
        if step.hard_deadline and step.step_id in known:
            by_experiment[step.experiment].append(step)
    found = (_late_alarm(experiment, steps, state, known, last) for experiment, steps in by_experiment.items())
    return [alarm for alarm in found if alarm is not None]


def _late_alarm(
    experiment: str, steps: list[OpenStep], state: PlanningState, known: Mapping[int, KnownStep], last: LastStarts
) -> Alarm | None:
    due, ready = steps[0].deadline or 0.0, sum(step.ready for step in steps)
    left_s = due - state.now
    latest = [
        last[step.step_id, worker.resource]
        for step in steps
        if step.ready > 0
        for worker in state.workers
        if known[step.step_id].step.may_use(worker.resource)
    ]
    if ready == 0 or any(step.active for step in steps) or max(latest, default=due) >= state.now:
        return None
    shortest_s = due - max(latest, default=due)
    if left_s <= 0:
        reason = f"its hard deadline passed {-left_s:.0f} s ago"
    else:
        reason = f"{left_s:.0f} s are left until its hard deadline, and a task is expected to take {shortest_s:.3g} s"
    reason += f"; {ready} of its tasks are ready"
    data = {"deadline": due, "next_task_s": shortest_s, "ready": ready}
    return Alarm(DEADLINE_OUT_OF_REACH, experiment, reason, data)
