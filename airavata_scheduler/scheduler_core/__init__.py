"""Snapshot in, plan out: the planner. Imports nothing of ours, no clock, no I/O.

>>> from airavata_scheduler.scheduler_core import Limits, plan
>>> decided = plan(snapshot, now, Limits(time_s=0.4))
"""

from __future__ import annotations

from .errors import PlannerError, SnapshotError, SolverError
from .estimates import Failures, Observed, estimate, prior_from_others
from .explain import Explanation, explain
from .frontier import Point, frontier
from .plan import Cause, Forecast, Plan, Reason, Share, Unplaced, WorkerTarget
from .planner import plan
from .snapshot import (
    BALANCED,
    CHEAPEST,
    FASTEST,
    PRESETS,
    Estimate,
    Experiment,
    Limits,
    Link,
    Project,
    Resource,
    Snapshot,
    TaskGroup,
    Weights,
    WorkerOffer,
)

__all__ = [
    "BALANCED",
    "CHEAPEST",
    "FASTEST",
    "PRESETS",
    "Cause",
    "Estimate",
    "Experiment",
    "Explanation",
    "Failures",
    "Forecast",
    "Limits",
    "Link",
    "Observed",
    "Plan",
    "PlannerError",
    "Point",
    "Project",
    "Reason",
    "Resource",
    "Share",
    "Snapshot",
    "SnapshotError",
    "SolverError",
    "TaskGroup",
    "Unplaced",
    "Weights",
    "WorkerOffer",
    "WorkerTarget",
    "estimate",
    "explain",
    "frontier",
    "plan",
    "prior_from_others",
]
