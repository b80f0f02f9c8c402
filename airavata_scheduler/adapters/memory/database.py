"""The rows that the memory stores share: what PostgreSQL holds, for tests and simulation, in dictionaries.

No operation on it waits for anything, so each is a transaction of its own. Tasks are kept as in the database: a row
only for those that were claimed, released, skipped or retried one by one, and `StepRow.rest_state` for all others.
Counts by state are carried along with every change, as the triggers do it, and a transition that `TRANSITIONS` does
not know is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from airavata_scheduler.platform.domain.compiled import CompiledStep
from airavata_scheduler.platform.domain.errors import LeaseLostError, NotFoundError
from airavata_scheduler.platform.domain.events import Event
from airavata_scheduler.platform.domain.gates import StepStatus
from airavata_scheduler.platform.domain.messages import Hello, Output, Report, StorageLocation
from airavata_scheduler.platform.domain.states import TRANSITIONS, ExperimentState, TaskState
from airavata_scheduler.platform.domain.views import EventView
from airavata_scheduler.platform.ports.clock import Clock
from airavata_scheduler.platform.ports.repository import Fence, NewExperiment, TaskKey

LIVING = ("live", "draining")


class IllegalTransitionError(Exception):
    """A store tried to move a task along an edge that does not exist: a fault of the store."""


@dataclass(slots=True)
class TaskRow:
    """A task that has a row."""

    state: TaskState
    attempt: int = 0
    user_failures: int = 0
    infrastructure_failures: int = 0
    worker_id: int | None = None
    not_before: float | None = None


@dataclass
class StepRow:
    """A step with its tasks; needs and follows are step ids."""

    step_id: int
    experiment: str
    compiled: CompiledStep
    needs: tuple[int, ...]
    follows: tuple[int, ...]
    gate_open: bool
    rest_state: TaskState
    next_index: int = 0
    tasks: dict[int, TaskRow] = field(default_factory=dict)
    written: Counter[TaskState] = field(default_factory=Counter)  #: rows by state

    @property
    def n(self) -> int:
        return self.compiled.n

    @cached_property
    def spec(self) -> Mapping[str, Any]:
        """The step as JSON."""
        return self.compiled.to_json()

    def counts(self) -> dict[TaskState, int]:
        """Tasks by state, those without a row included."""
        counts = {**dict.fromkeys(TaskState, 0), **self.written}
        counts[self.rest_state] += self.n - len(self.tasks)
        return counts

    def state(self, index: int) -> TaskState:
        """The state of any task."""
        row = self.tasks.get(index)
        return self.rest_state if row is None else row.state

    def move(self, index: int, state: TaskState) -> TaskRow:
        """Put a task into a state, making its row if it has none."""
        self._check(self.state(index), state)
        row = self.tasks.get(index)
        if row is None:
            row = self.tasks[index] = TaskRow(state)
        else:
            self.written[row.state] -= 1
            row.state = state
        self.written[state] += 1
        return row

    def move_rest(self, state: TaskState) -> None:
        """Put all tasks without a row into a state."""
        self._check(self.rest_state, state)
        self.rest_state = state

    def forget(self, index: int) -> None:
        """Remove a row: the task is what the rest is."""
        self.written[self.tasks.pop(index).state] -= 1

    def in_state(self, *states: TaskState) -> list[int]:
        """Indexes of the rows in these states, in order."""
        if not any(self.written[state] for state in states):
            return []
        return sorted(index for index, row in self.tasks.items() if row.state in states)

    def status(self) -> StepStatus:
        """The step as the rules see it."""
        return StepStatus(
            self.step_id,
            self.n,
            self.counts(),
            self.needs,
            self.follows,
            self.gate_open,
            self.rest_state,
            bool(self.compiled.gather),
        )

    def _check(self, before: TaskState, after: TaskState) -> None:
        if after is not before and after not in TRANSITIONS[before]:
            raise IllegalTransitionError(f"step {self.step_id}: {before.name} -> {after.name}")


@dataclass
class ExperimentRow:
    """An experiment; its steps by position."""

    new: NewExperiment
    steps: list[StepRow]
    status: ExperimentState
    created_at: float
    submitted_at: float | None
    reason: str = ""
    cost: float = 0.0
    cpu_s: float = 0.0
    version: int = 0
    started_at: float | None = None
    finished_at: float | None = None
    raised_budget: float | None = None  #: another budget than the document's
    moved_deadline: float | None = None  #: another deadline than the document's

    @property
    def budget(self) -> float | None:
        """Most that may be spent."""
        return self.new.compiled.budget if self.raised_budget is None else self.raised_budget

    @property
    def deadline(self) -> float | None:
        """When it is due, in seconds since the epoch."""
        return self.new.compiled.deadline if self.moved_deadline is None else self.moved_deadline

    def rows(self) -> Iterator[tuple[StepRow, TaskRow]]:
        """Every task row of every step."""
        return ((step, row) for step in self.steps for row in step.tasks.values())


@dataclass
class WorkerRow:
    """A registration; state is live, draining, lost or gone."""

    id: int
    hello: Hello
    resource_id: int
    lease_until: float
    registered_at: float
    heartbeat_at: float
    state: str = "live"


@dataclass
class ResourceRow:
    """A compute resource with what a user may set."""

    id: int
    name: str
    kind: str = "ray"
    enabled: bool = True
    price_per_hour: float = 0.0
    gpu_price_per_hour: float = 0.0
    speed: float = 1.0
    labels: Mapping[str, str] = field(default_factory=dict)
    bandwidth_bytes_per_s: float = 0.0
    egress_price_per_gb: float = 0.0
    queue_waits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """How one attempt ended, as its worker told it."""

    report: Report
    worker_id: int
    ended_at: float
    cost: float


class MemoryDatabase:
    """All tables. ``clock`` is the database's own: it alone decides about leases and back-offs."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.leases: dict[str, int] = {}
        self.experiments: dict[str, ExperimentRow] = {}
        self.steps: dict[int, StepRow] = {}
        self.workers: dict[int, WorkerRow] = {}
        self.resources: dict[int, ResourceRow] = {}
        self.storages: dict[str, StorageLocation] = {}
        self.attempts: dict[TaskKey, AttemptRow] = {}
        self.outputs: dict[tuple[int, int, str], tuple[int, Output]] = {}
        self.events: list[EventView] = []
        self.audit: list[tuple[str, str, str, Mapping[str, Any]]] = []
        self.project_weights: dict[str, float] = {}
        self.last_step_id = 0

    def check_fence(self, fence: Fence) -> None:
        """LeaseLostError if somebody else has the lease."""
        if self.leases.get(fence.name) != fence.epoch:
            raise LeaseLostError(f"the lease {fence.name} is no longer at epoch {fence.epoch}")

    def experiment(self, experiment: str) -> ExperimentRow:
        """NotFoundError if there is none."""
        row = self.experiments.get(experiment)
        if row is None:
            raise NotFoundError(f"there is no experiment {experiment}", remedy="see `airavata experiment list`")
        return row

    def resource_named(self, name: str) -> ResourceRow | None:
        """The resource of that name, if there is one."""
        return next((row for row in self.resources.values() if row.name == name), None)

    def owned(self, worker_id: int, key: TaskKey) -> TaskRow | None:
        """The row of a task, if it is with this worker in this attempt."""
        step = self.steps.get(key[0])
        row = None if step is None else step.tasks.get(key[1])
        return row if row is not None and row.worker_id == worker_id and row.attempt == key[2] else None

    def append(self, events: Sequence[Event]) -> int:
        """Write events; the number of the newest, 0 without events."""
        for event in events:
            seq = len(self.events) + 1
            self.events.append(
                EventView(seq, event.kind, self.clock.time(), event.experiment, event.project, dict(event.data))
            )
        return len(self.events) if events else 0
