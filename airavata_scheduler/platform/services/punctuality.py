"""When tasks of experiments with a hard deadline may start for the last time. Pure.

A plan bounds what such an experiment starts until the next plan; this holds at dispatch, whatever the age of the plan.
"""

from __future__ import annotations

from collections.abc import Mapping

from airavata_scheduler.platform.ports.repository import PlanningState
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
