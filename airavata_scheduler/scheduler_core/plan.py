"""What the planner answers: shares, worker targets, forecasts, prices, and a reason for everything unplaced.

How a share is used between two plans. Tasks may be far shorter than a planning period, so a share never says "start
two tasks": it says how many *places* a group may hold at a time on a resource. A worker that asks for work is
answered in two passes over the shares of its resource, in ascending `order`:

1. each group up to `hold` running tasks (counting those that run already): its fair part of the places, or, where a
   rehearsed plan serves one project alone, all it has left, as the order was rehearsed;
2. what is still free goes round again, each group up to `burst` running tasks, so that a group which runs dry never
   leaves the resource idle until the next plan.

`quota`, where given, is the number of tasks that may still be *started* under this plan, whatever the pass: it is how
budgets and hard deadlines hold between solves. A share with `reserve` must not be overtaken (gangs, large tasks): while
it has ready tasks and less running than `hold`, but its next task does not fit yet, no later share is served there.
Places of a resource never add up to more than its live capacity, what runs there included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Cause(StrEnum):
    """Why tasks are not placed, or why a resource is not used: the obstacle to lift."""

    CUT_OFF = "cut_off"  #: the resource is unreachable or closed
    DENIED = "denied"  #: the experiment's allow or deny list
    PERMISSION = "permission"  #: the project has no permission or credential there
    CREDENTIAL = "credential"  #: the credential ends before the task would
    LABEL = "label"  #: a required label is missing
    AVOIDED = "avoided"  #: these tasks failed there
    TOO_LARGE = "too_large"  #: does not fit one worker
    TOO_FEW_WORKERS = "too_few_workers"  #: a gang needs more workers than there can be
    LIFE = "life"  #: runs longer than the workers live
    UNREACHABLE_DATA = "unreachable_data"  #: no link from any replica of the inputs
    DEADLINE = "deadline"  #: would end after a hard deadline
    BUDGET = "budget"  #: the experiment's money is used up
    FULL = "full"  #: capacity is taken by others
    BLOCKED = "blocked"  #: waits for other tasks
    DEARER = "dearer"  #: possible, but worse than where it goes
    NO_RESOURCE = "no_resource"  #: there is no resource at all
    CHOSEN = "chosen"  #: the plan uses it


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """An obstacle: its cause, in words, and its amount (bytes too many, seconds late, money missing)."""

    cause: Cause
    text: str
    resource: str = ""
    amount: float = 0.0
    dimension: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What a group may hold on a resource until the next plan; see the module's docstring.

    `total` is how many of the group's remaining tasks the plan means to run there in the end. `start_in_s` is when
    the first of them is expected to start.
    """

    group: str
    resource: str
    places: int
    burst: int
    order: int
    total: int
    weight: float = 1.0
    quota: int | None = None
    reserve: bool = False
    hold: int = 0
    start_in_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTarget:
    """Workers a resource should have: `start` more of an offer's size, for `walltime_s`; 0 means none beyond `keep`.

    `keep` live workers are worth keeping; `workers - keep` may be drained.
    """

    resource: str
    offer: str
    start: int
    walltime_s: float | None
    keep: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplaced:
    """Tasks of a group that have no place in the plan, and why; `reasons` holds at least one."""

    group: str
    count: int
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is expected of an experiment under the plan; durations from now, money from now."""

    experiment: str
    finish_s: float
    finish_low_s: float
    finish_high_s: float
    cost: float
    moved_bytes: float
    late_s: float
    deadline_risk: float
    placed: int
    unplaced: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The decision. Shares are sorted by resource and order; every mapping is keyed by names of the snapshot.

    `objective` and `bound` are seconds (see `objective.py`); `gap` is `(objective - bound) / bound` of the solver's own
    model, None without a bound. `bound_scope` is `any` if no plan at all can be better, `stages` if no plan can that
    serves the experiments in the same order of urgency (the gap is then that of the assignment before rehearsal).
    `prices[resource][dimension]` is what one more unit there would save, in
    objective seconds; `budget_prices[experiment]` the same for one unit of money; `task_prices[(group, resource)]`
    by how much a task is worse there than where it is planned (0 where it is planned), the tie-break for dispatch.
    """

    shares: tuple[Share, ...] = ()
    targets: tuple[WorkerTarget, ...] = ()
    unplaced: tuple[Unplaced, ...] = ()
    forecasts: tuple[Forecast, ...] = ()
    prices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    budget_prices: Mapping[str, float] = field(default_factory=dict)
    task_prices: Mapping[tuple[str, str], float] = field(default_factory=dict)
    objective: float = 0.0
    bound: float | None = None
    bound_scope: str = "any"
    gap: float | None = None
    solver: str = "greedy"
    spent_s: float = 0.0
    classes: int = 0
    notes: tuple[str, ...] = ()

    def of_resource(self, resource: str) -> tuple[Share, ...]:
        """The shares of one resource, in claiming order."""
        return tuple(share for share in self.shares if share.resource == resource)

    def of_group(self, group: str) -> tuple[Share, ...]:
        """The shares of one group, over all resources."""
        return tuple(share for share in self.shares if share.group == group)
