"""Reading: what people and programs look at. Nothing here changes anything, and no answer is kept.

Each page is one statement, whatever the number of tasks: a step of a million tasks is one row, and the tasks that have
no row are filled in (docs/architecture.md, "Ranges, not rows"). Cursors are opaque: InvalidRequestError for one that
is not ours.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from airavata_scheduler.platform.domain.compiled import CompiledStep
from airavata_scheduler.platform.domain.messages import Extent
from airavata_scheduler.platform.domain.states import ExperimentState, TaskState
from airavata_scheduler.platform.domain.views import (
    EventView,
    ExperimentView,
    OutputView,
    Page,
    ResourceView,
    StorageView,
    TaskView,
    WorkerView,
)


@dataclass(frozen=True, slots=True)
class ExperimentFilter:
    """Which experiments. Everything given must hold."""

    visible: Sequence[str] | None = None  #: projects that may be seen; None for all
    project: str | None = None
    owner: str | None = None
    statuses: tuple[ExperimentState, ...] = ()  #: any of them; empty for all
    name: str | None = None  #: part of the name, upper and lower case alike
    tag: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class LogSource:
    """Where the output of one attempt is. Extents are None while it runs, and when it never started."""

    step_id: int
    attempt: int
    state: TaskState
    worker_id: int | None
    storage: str
    stdout: Extent | None
    stderr: Extent | None

    @property
    def running(self) -> bool:
        """Whether more output may come."""
        return TaskState.ASSIGNED <= self.state <= TaskState.COLLECTING


@dataclass(frozen=True, slots=True)
class ResultStep:
    """What the result rows of one step have in common."""

    name: str
    step: CompiledStep
    #: declared column -> "int" | "float" | "bool" | "str", which all of its values fit; "null" when there is none yet
    columns: Mapping[str, str]


class ResultRow(NamedTuple):
    """One task of the results table, with its latest attempt. A tuple, because there are millions."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs of a row
    state: TaskState
    attempt: int
    started_at: float | None = None
    wall_s: float | None = None
    cpu_s: float | None = None
    peak_memory_bytes: int | None = None
    exit_code: int | None = None
    cause: str | None = None
    resource: str | None = None
    worker: str | None = None
    cost: float | None = None
    results: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LiveTotals:
    """The platform at this moment, as numbers for metrics."""

    tasks: Mapping[str, int] = field(default_factory=dict)  #: state -> tasks of open experiments
    experiments: Mapping[str, int] = field(default_factory=dict)  #: status -> experiments, finished ones included
    finished_tasks: Mapping[str, int] = field(default_factory=dict)  #: terminal state -> tasks of all experiments
    workers: Mapping[str, int] = field(default_factory=dict)  #: state -> workers, ended ones included
    resources: Mapping[str, tuple[float, int]] = field(default_factory=dict)  #: name -> (live cpus, tasks held)
    duration_s: tuple[int, float] = (0, 0.0)  #: number of finished experiments, sum of their durations


class Queries(Protocol):
    """Every read of the API. NotFoundError for things that are not there."""

    async def ping(self) -> None:
        """One round trip; UnavailableError when the database does not answer."""
        ...

    async def experiments(self, where: ExperimentFilter, limit: int, cursor: str | None) -> Page[ExperimentView]:
        """Newest first, without steps."""
        ...

    async def experiment(self, experiment: str) -> ExperimentView:
        """One, with its steps."""
        ...

    async def project_of(self, experiment: str) -> str | None:
        """The project that an experiment is judged by; None if there is no such experiment."""
        ...

    async def known_key(self, owner: str, idempotency_key: str) -> bool:
        """Whether an experiment was made with this key."""
        ...

    async def document(self, experiment: str) -> Mapping[str, Any]:
        """The stored document."""
        ...

    async def tasks(
        self, experiment: str, step: str | None, states: Sequence[TaskState], limit: int, cursor: str | None
    ) -> Page[TaskView]:
        """Tasks by position of their step and index."""
        ...

    async def task(self, experiment: str, step: str, index: int) -> TaskView:
        """One, with its attempts."""
        ...

    async def log_source(self, experiment: str, step: str, index: int, attempt: int | None) -> LogSource:
        """Where an attempt's output is; the latest attempt if none is named."""
        ...

    async def outputs(self, experiment: str, step: str | None, limit: int, cursor: str | None) -> Page[OutputView]:
        """Published outputs by position of their step, index and name."""
        ...

    async def output(self, experiment: str, step: str, index: int, name: str) -> OutputView: ...

    async def result_steps(self, experiment: str, step: str | None) -> Sequence[ResultStep]:
        """Columns of the results table, step by step."""
        ...

    def result_rows(self, experiment: str, step: str) -> AsyncIterator[Sequence[ResultRow]]:
        """Every task of a step by index, in batches of some thousand, whatever their number."""
        ...

    async def events(
        self, after: int, limit: int, *, experiment: str | None = None, visible: Sequence[str] | None = None
    ) -> Sequence[EventView]:
        """Events with a greater number, oldest first; of one experiment, or of some projects."""
        ...

    async def last_event(self) -> int:
        """Number of the newest event, 0 if there is none."""
        ...

    async def resources(self) -> Sequence[ResourceView]: ...

    async def resource(self, name: str) -> ResourceView: ...

    async def workers(self, *, ended: bool = False) -> Sequence[WorkerView]:
        """Live and draining ones; with ``ended`` also those that are lost or gone."""
        ...

    async def storages(self) -> Sequence[StorageView]: ...

    async def totals(self) -> LiveTotals: ...
