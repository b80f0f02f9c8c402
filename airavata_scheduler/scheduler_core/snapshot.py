"""What the planner is told: groups of tasks, resources, experiments, projects and links, at one moment.

Every type is frozen and made of plain values, so a snapshot can be pickled to the solver's process, stored with a
bug report, and planned again with the same result. Times called `*_at_s` are seconds since the epoch (any epoch, the
same as `now`); all others are durations in seconds. Capacities are vectors as mappings from a dimension's name to an
amount in that dimension's own unit (`cpu` cores, `memory_bytes`, `gpu` devices, or any named unit).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

Vector = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What an experiment wants, as weights of the objective's terms, each of which is in seconds.

    `time` weighs the seconds until the experiment is finished, `cost` its money (made seconds by `seconds_per_money`),
    `deadline` the seconds it is late, `locality` the seconds its transfers keep links busy.
    """

    time: float = 1.0
    cost: float = 1.0
    deadline: float = 10.0
    locality: float = 0.05
    seconds_per_money: float = 3600.0


FASTEST = Weights(time=1.0, cost=0.001, deadline=10.0, locality=0.0)
CHEAPEST = Weights(time=0.001, cost=1.0, deadline=10.0, locality=0.0)
BALANCED = Weights()
PRESETS: Mapping[str, Weights] = MappingProxyType({"fastest": FASTEST, "cheapest": CHEAPEST, "balanced": BALANCED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A duration that is not known exactly: its mean and quantiles, and how many observations stand behind it."""

    mean_s: float
    low_s: float | None = None
    high_s: float | None = None
    n: int = 0

    def bounds(self) -> tuple[float, float]:
        """The 10 % and 90 % quantiles; a missing one is taken as half, or as one and a half times the mean."""
        low = self.mean_s * 0.5 if self.low_s is None else self.low_s
        high = self.mean_s * 1.5 if self.high_s is None else self.high_s
        return low, high


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project and its weight in the dominant-resource fairness between projects."""

    key: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """What holds for all groups of one experiment.

    `budget_left` is money not yet spent *nor committed to running tasks*; None means unlimited. A `deadline_at_s` that
    is `hard` forbids placements that would end after it; otherwise lateness is paid for by `weights.deadline`.
    An empty `allow` means every resource.
    """

    key: str
    project: str = "default"
    weights: Weights = BALANCED
    priority: int = 0
    submitted_at_s: float = 0.0
    deadline_at_s: float | None = None
    hard: bool = False
    budget_left: float | None = None
    allow: frozenset[str] = frozenset()
    deny: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskGroup:
    """Tasks of one step that are alike for the decision: same request, inputs, runtime; usually one group a step.

    `n_ready` tasks wait and may start now, `n_running[resource]` run, `n_blocked` wait for tasks of the groups in
    `after`. `running_left_s[resource]` is how long each running task is expected to go on (absent: evenly spread over
    a runtime). `runtime` is on a resource of speed 1; `runtime_on[resource]` is the *actual* time there, where it was
    learnt, and `failure_on[resource]` the failure rate there (absent: `failure_rate`). `rank_s` is the work that
    follows on the critical path, at speed 1, this task excluded (upward rank). `inputs[location]` gives bytes one task
    reads, of which a replica is at that location; several locations of the same data are alternatives. `nodes` > 1 is
    a gang: that many workers of a resource at once, `request` from each. `avoid` are resources where these tasks
    failed; `labels` must all be among the labels of a resource.
    """

    key: str
    experiment: str
    request: Vector
    runtime: Estimate
    n_ready: int = 0
    n_blocked: int = 0
    n_running: Mapping[str, int] = field(default_factory=dict)
    running_left_s: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    priority: int = 0
    rank_s: float = 0.0
    nodes: int = 1
    runtime_on: Mapping[str, Estimate] = field(default_factory=dict)
    failure_rate: float = 0.0
    failure_on: Mapping[str, float] = field(default_factory=dict)
    inputs: Vector = field(default_factory=dict)
    labels: frozenset[str] = frozenset()
    avoid: frozenset[str] = frozenset()
    waiting_since_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOffer:
    """Workers that could be started on a resource: the size of one, how many more, and what starting means.

    `queue_wait` is until such a worker takes tasks. A started worker lives `walltime_s` at most and costs
    `idle_price_per_hour` while it has nothing to do.
    """

    name: str = "default"
    size: Vector
    max_workers: int
    queue_wait: Estimate = Estimate(mean_s=0.0)
    walltime_s: float | None = None
    idle_price_per_hour: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A place where tasks run.

    `capacity` is the total of its live workers, `largest` the most one of them has of each dimension (None: all of
    `capacity`); a task must fit one worker. `workers` counts the live ones; `sizes` are their sizes and numbers where
    they differ (empty: all are as `largest`). A task pays `price_per_hour` for its dominant share of one worker of size
    `largest` (or of the offer), plus `unit_prices[dimension]` per unit and hour. `life_left_s` ends the live workers.
    `max_tasks` limits tasks at a time. `usable_by` names the projects with a permission and a credential for it (None:
    all) until `credential_until_s`. A resource with a `cut_off` reason gets nothing.
    """

    name: str
    capacity: Vector
    largest: Vector | None = None
    workers: int = 1
    sizes: tuple[tuple[Vector, int], ...] = ()
    offers: tuple[WorkerOffer, ...] = ()
    price_per_hour: float = 0.0
    unit_prices: Vector = field(default_factory=dict)
    speed: float = 1.0
    queue_wait_s: float = 0.0
    failure_rate: float = 0.0
    life_left_s: float | None = None
    max_tasks: int | None = None
    location: str = ""
    labels: frozenset[str] = frozenset()
    usable_by: frozenset[str] | None = None
    credential_until_s: float | None = None
    cut_off: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """How data gets from a storage location to a location of resources."""

    source: str
    target: str
    bandwidth_bytes_per_s: float
    price_per_gb: float = 0.0
    latency_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything one plan depends on, besides the time.

    `previous` are the places of the plan in force. `arrivals_per_s` is how often new experiments come: those that come
    while there is a backlog will wait for part of it.
    """

    groups: tuple[TaskGroup, ...]
    resources: tuple[Resource, ...]
    experiments: tuple[Experiment, ...]
    projects: tuple[Project, ...] = ()
    links: tuple[Link, ...] = ()
    previous: Mapping[tuple[str, str], int] = field(default_factory=dict)
    arrivals_per_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far one call of `plan` may go.

    `time_s` is what the caller means to wait for; it is for whoever runs the call (see `Solver`), as nothing here looks
    at a clock. `window_s` switches from planning the whole backlog, with the
    finish of each experiment as a variable, to filling a window of that length, with mean completion as the time term.
    Up to `detail_tasks` tasks a plan is rehearsed task by task, and improved with at most `effort` task starts in
    rehearsals. Beyond, it is a fluid; with `bundles` it is rehearsed in at most as many bundles of alike tasks where
    that is better (deadlines, gangs and other large tasks). `solver` forces one rung of the ladder (`greedy`, `flow`,
    `linear`); `auto` climbs it.
    """

    time_s: float = 0.4
    window_s: float | None = None
    max_classes: int = 300
    detail_tasks: int = 500
    effort: int = 10_000
    bundles: bool = False
    solver: str = "auto"
    ageing_s: float = 3600.0
    stickiness: float = 0.02
    default_bandwidth_bytes_per_s: float = 100e6
