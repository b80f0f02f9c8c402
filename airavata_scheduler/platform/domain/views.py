"""What the platform shows of itself: read-only records, as stored, without behaviour.

Times are seconds since the epoch (float), None where a thing has not happened. `counts` map lower-case state names to
numbers of tasks and always sum up to the total.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from airavata_scheduler.platform.domain.messages import Extent, Output
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.states import ExperimentState, TaskState

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a keyset-paginated list; ``next`` is an opaque cursor, None on the last page."""

    items: Sequence[T]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class StepView:
    """A step and how far it is; ``n`` is the number of its tasks."""

    step_id: int
    name: str
    position: int
    n: int
    counts: Mapping[str, int]
    needs: tuple[str, ...] = ()  #: names of the steps it follows in any way


@dataclass(frozen=True, slots=True)
class ExperimentView:
    """An experiment as a whole: whose it is, how far, what it used, and why it is in its state."""

    id: str
    name: str
    project: str
    owner: str
    status: ExperimentState
    counts: Mapping[str, int]  #: keys: total and every task state in lower case
    created_at: float
    submitted_at: float | None
    started_at: float | None  #: first task started
    finished_at: float | None
    priority: int = 0
    deadline: float | None = None
    budget: float | None = None
    cost: float = 0.0
    cpu_s: float = 0.0
    description: str = ""
    tags: tuple[str, ...] = ()
    reason: str = ""  #: why it is paused, canceled or failed
    derived_from: str | None = None
    hard_deadline: bool = False
    version: int = 0  #: changes whenever anything about the experiment changes; the ETag
    steps: tuple[StepView, ...] = ()  #: filled by `get`, empty in lists


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One try of a task: where it ran, what it used and how it ended. An extent is a piece of a log segment."""

    attempt: int
    state: TaskState
    worker: str | None
    resource: str | None
    started_at: float | None
    wall_s: float
    cpu_s: float
    peak_memory_bytes: int
    exit_code: int | None
    signal: int | None
    cause: str | None
    message: str
    cost: float
    stdout: Extent | None = None
    stderr: Extent | None = None
    outputs: tuple[Output, ...] = ()
    results: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task and its latest attempt; the state comes from the step where the task has no row of its own."""

    experiment: str
    step: str
    index: int
    state: TaskState
    attempt: int  #: number of the latest attempt, 0 before the first
    parameters: Mapping[str, Any] = field(default_factory=dict)
    worker: str | None = None
    resource: str | None = None
    not_before: float | None = None
    cause: str | None = None
    message: str = ""
    attempts: tuple[AttemptView, ...] = ()  #: filled for a single task, empty in lists


@dataclass(frozen=True, slots=True)
class OutputView:
    """A published output: ``key`` on the storage resource, size in bytes, SHA-256 in hexadecimal digits."""

    step: str
    index: int
    name: str
    key: str
    size_bytes: int
    sha256: str
    storage: str


@dataclass(frozen=True, slots=True)
class EventView:
    """Something that happened, as it is streamed to users."""

    seq: int  #: grows in the order of commits; the cursor for replay
    kind: str  #: e.g. experiment.submitted, experiment.progress, task.failed, worker.lost
    at: float
    experiment: str | None
    project: str | None
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ResourceView:
    """A compute resource: what it offers now, what it costs, and whether it may be used."""

    name: str
    kind: str  #: "ray"
    state: str  #: "up" | "down" | "disabled"
    capacity: Capacity  #: sum over its live workers
    largest: Capacity  #: the most that any one worker has of each
    price_per_hour: float  #: per cpu hour
    gpu_price_per_hour: float
    speed: float  #: 1.0 = the reference; runtime = estimate / speed
    labels: Mapping[str, str]
    bandwidth_bytes_per_s: float = 0.0  #: to the platform's storage; 0: the storage lies there
    egress_price_per_gb: float = 0.0  #: of what tasks there read of the platform's storage
    enabled: bool = True
    workers: int = 0
    running: int = 0


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker as it registered, and its latest heartbeat."""

    id: int
    name: str
    resource: str
    host: str
    node_id: str
    pid: int
    state: str  #: "live" | "draining" | "lost" | "gone"
    capacity: Capacity
    running: int
    registered_at: float
    heartbeat_at: float
    version: str


@dataclass(frozen=True, slots=True)
class StorageView:
    """A storage resource; what ``root`` means depends on the kind, a directory for `posix`."""

    name: str
    kind: str
    root: str


@dataclass(frozen=True, slots=True)
class UserView:
    """An account without anything secret."""

    name: str
    full_name: str
    email: str
    admin: bool
    disabled: bool
    created_at: float


@dataclass(frozen=True, slots=True)
class ProjectView:
    """A project with its members; ``weight`` is its share of a contended platform relative to the others."""

    name: str
    description: str
    owner: str
    created_at: float
    members: Mapping[str, str] = field(default_factory=dict)  #: user -> role: owner | editor | viewer
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one resource means for one task or step: the unit of `explain`."""

    resource: str
    feasible: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why something is not running, or how it went. ``summary`` is a sentence; ``reasons`` go from cause to detail."""

    subject: str  #: `experiment`, `experiment/step` or `experiment/step/index`
    state: str
    summary: str
    reasons: tuple[str, ...] = ()
    resources: tuple[Verdict, ...] = ()
    remedy: str = ""
    position: int | None = None  #: number of tasks that are served earlier
    expected_start: float | None = None
