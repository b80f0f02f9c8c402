"""What the services ask of the database. Every method is one transaction; sets in, sets out.

A `Fence` is proof of a lease: its holder's statements take effect only while the lease has the same epoch
(LeaseLostError otherwise). Times that decide anything are the database's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from airavata_scheduler.platform.domain.compiled import CompiledExperiment
from airavata_scheduler.platform.domain.errors import KeyReusedError
from airavata_scheduler.platform.domain.failures import RetryPolicy
from airavata_scheduler.platform.domain.messages import Hello, Report, StorageLocation
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.states import ExperimentState, TaskState
from airavata_scheduler.platform.domain.workers import LastLook

TaskKey = tuple[int, int, int]  #: (step id, index, attempt)


@dataclass(frozen=True, slots=True)
class Fence:
    """Proof that the lease ``name`` was taken; a later holder has a higher epoch."""

    name: str
    epoch: int


@dataclass(frozen=True, slots=True)
class NewExperiment:
    """An experiment ready to be stored."""

    id: str
    owner: str
    project: str
    compiled: CompiledExperiment
    document: Mapping[str, Any]
    start: bool = True
    idempotency_key: str | None = None
    derived_from: str | None = None
    request_digest: str = ""  #: of what was asked for, so that a key cannot stand for two requests

    def replay_of(self, known: str, digest: str) -> str:
        """The id of the experiment that the key stands for; KeyReusedError if it was made for another request."""
        if digest != self.request_digest:
            raise KeyReusedError(
                f"the idempotency key {self.idempotency_key!r} was used for another request before: experiment {known}",
                path="Idempotency-Key",
                remedy="take a new key for every new request, and the old one only to send the same request again",
            )
        return known


@dataclass(frozen=True, slots=True)
class StepSpec:
    """What never changes about a step."""

    step_id: int
    experiment: str
    position: int
    name: str
    n: int
    spec: Mapping[str, Any]  #: CompiledStep as JSON
    step_ids: Mapping[int, int]  #: position -> id, of all steps of the experiment


@dataclass(frozen=True, slots=True)
class OpenStep:
    """A step with work to plan: counts of tasks that are ready or on a worker."""

    step_id: int
    experiment: str
    project: str
    project_weight: float
    priority: int
    objective: Mapping[str, float]
    deadline: float | None
    budget: float | None
    cost: float
    submitted_at: float
    n: int
    ready: int  #: including tasks that wait for the end of their back-off
    remaining: int  #: not finished
    active: Mapping[int, int] = field(default_factory=dict)  #: resource id -> tasks on its workers
    hard_deadline: bool = False


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """A worker whose lease is good; ``capacity`` is all of it, not what is free."""

    id: int
    name: str
    resource_id: int
    resource: str
    capacity: Capacity
    draining: bool
    facts: Mapping[str, Any]


#: With a live worker ("live") or without ("none") -> sums over logarithms of seconds, as in `scheduler_core.Observed`.
QueueWaitsSeen = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class PlannableResource:
    """What a plan must know of a resource: prices per hour of one cpu and one gpu, and relative speed.

    ``bandwidth_bytes_per_s`` is what one task reads the platform's storage with, and ``egress_price_per_gb`` what that
    costs; both 0: the storage lies there, nothing has to move.
    ``queue_waits`` are those that were kept by `TaskStore.keep_queue_waits`.
    """

    id: int
    name: str
    enabled: bool
    price_per_hour: float
    gpu_price_per_hour: float
    speed: float
    labels: Mapping[str, str]
    bandwidth_bytes_per_s: float = 0.0
    egress_price_per_gb: float = 0.0
    queue_waits: QueueWaitsSeen = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlanningState:
    """Everything the planner looks at, read in one transaction."""

    now: float
    steps: Sequence[OpenStep]
    workers: Sequence[LiveWorker]
    resources: Sequence[PlannableResource]
    next_retry_at: float | None  #: end of the earliest back-off
    held: Mapping[int, Mapping[int, int]] = field(default_factory=dict)  #: worker id -> step id -> tasks with it
    in_back_off: Mapping[int, int] = field(default_factory=dict)  #: step id -> ready tasks that cannot start yet


@dataclass(frozen=True, slots=True)
class Charge:
    """What a resource costs, for turning usage into money.

    ``to_start`` is by step what each attempt costs that has started, however long it runs: for what it reads.
    """

    price_per_hour: float
    gpu_price_per_hour: float
    to_start: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AttemptStatistics:
    """What the latest attempts of a step on one resource were like.

    ``log_sum`` and the like are of the seconds of those that succeeded, ``memory_log_sum`` and the like of the peak
    bytes of those that succeeded or ran out of memory, where these are known.
    """

    step_id: int
    resource: str
    attempts: int  #: succeeded, or failed by the task's own fault
    failed: int
    n: int  #: succeeded
    log_sum: float
    log_square_sum: float
    largest_s: float
    memory_n: int = 0
    memory_log_sum: float = 0.0
    memory_log_square_sum: float = 0.0
    largest_bytes: float = 0.0


@dataclass(frozen=True, slots=True)
class OutputStatistics:
    """Sizes of the latest files of one output of a step."""

    step_id: int
    name: str
    n: int
    size_bytes: float  #: of all n together


@dataclass(frozen=True, slots=True)
class ReportContext:
    """What the store must know about the step of a report to judge it."""

    experiment: str
    retry: RetryPolicy
    cpu: float
    gpu: float


@dataclass(frozen=True, slots=True)
class ReportOutcome:
    """What became of a batch of reports, and what followed from them."""

    stale: list[TaskKey] = field(default_factory=list)
    released: int = 0  #: tasks that became ready: dependants and retries
    manifests_due: list[int] = field(default_factory=list)  #: gather steps whose needs are met
    finished: list[str] = field(default_factory=list)  #: experiments that ended


@dataclass(frozen=True, slots=True)
class WorkerOrders:
    """What a worker must be told with every heartbeat until it has done it."""

    draining: bool = False
    canceled: tuple[TaskKey, ...] = ()  #: tasks it holds and must end
    recalled: tuple[int, ...] = ()  #: steps of paused experiments: what it holds of them and has not started goes back


class Leases(Protocol):
    """Who may write: one holder a name, told apart by growing epochs."""

    async def take(self, name: str, holder: str, lease_s: float) -> Fence:
        """Become the holder; whoever held it before is fenced off from now on."""
        ...

    async def renew(self, fence: Fence, lease_s: float) -> None:
        """LeaseLostError if somebody else took it."""
        ...


class TaskStore(Protocol):
    """The hot path: planning, claiming, reporting."""

    async def planning_state(self) -> PlanningState: ...

    async def step_specs(self, step_ids: Sequence[int]) -> list[StepSpec]: ...

    async def attempt_statistics(self, step_ids: Sequence[int]) -> list[AttemptStatistics]:
        """Of each of these steps, the latest attempts, a bounded number; one entry for each step and resource."""
        ...

    async def output_statistics(self, step_ids: Sequence[int]) -> list[OutputStatistics]:
        """Of each of these steps, the latest outputs, a bounded number; one entry for each step and name."""
        ...

    async def forerunners(self, project: str, programs: Sequence[Mapping[str, Any]]) -> list[int | None]:
        """For each program (`ProgramTemplate` as JSON) the latest step of a project that ran it with success, if any.

        Only the latest few hundred steps of the project are looked at.
        """
        ...

    async def keep_queue_waits(self, fence: Fence, waits: Mapping[str, QueueWaitsSeen]) -> None:
        """Replace what was seen of the queue waits of these resources, by name."""
        ...

    async def resource_of(self, worker_id: int) -> str:
        """Name of the resource that a worker, of whatever state, belongs to; empty if there is no such worker."""
        ...

    async def give_back(self, worker_id: int, held: Sequence[TaskKey]) -> int:
        """Take back tasks assigned to the worker that it does not hold, because the answer to a claim got lost.

        How many. Those that were canceled meanwhile are let go of, too, and not counted.
        """
        ...

    async def claim(self, fence: Fence, worker_id: int, wants: Sequence[tuple[int, int]]) -> list[TaskKey]:
        """Assign up to n tasks of each wanted step to the worker, as (step id, n); in order of index.

        Nothing is assigned to a worker whose lease is over, from a step of an experiment that does not run, before the
        end of a back-off, or on a resource that has a price when the experiment's budget is spent.
        """
        ...

    async def report(
        self, worker_id: int, reports: Sequence[Report], contexts: Mapping[int, ReportContext], charge: Charge
    ) -> ReportOutcome:
        """Record what became of attempts, release or skip what follows, finish what is finished."""
        ...

    async def output_keys(self, wanted: Sequence[tuple[int, int]]) -> Mapping[tuple[int, int], Mapping[str, str]]:
        """(step id, index) -> output name -> key on the storage resource."""
        ...


class WorkerStore(Protocol):
    """Workers and their leases."""

    async def register_worker(self, hello: Hello, lease_s: float) -> int:
        """A new worker id. A living worker of that name is replaced: see `take_back` for its tasks."""
        ...

    async def renew_worker(self, worker_id: int, lease_s: float) -> WorkerOrders:
        """What it has to do. NotFoundError if its lease was taken away.

        Answers, or raises UnavailableError, within a fraction of a lease.
        """
        ...

    async def drain_worker(self, worker_id: int) -> None: ...

    async def remove_worker(self, worker_id: int) -> int:
        """It leaves in order: its tasks go back. How many."""
        ...

    async def worker_processes(self) -> Mapping[int, str]:
        """Of the living workers that said so, the token of their process. UnavailableError after a moment."""
        ...

    async def expire_workers(
        self,
        fence: Fence,
        lease_s: float,
        last: LastLook | None,
        ended: Collection[int] = (),
        promised: Collection[int] = (),
    ) -> tuple[Sequence[int], float]:
        """End the registrations whose lease is over, and those of ``ended``: (ids, the database's time of this look).

        The ``promised`` are given a whole lease from now on. Unless the ``last`` look was a regular one, nobody could
        be sure to renew, and every living worker is given that. Answers, or raises UnavailableError, within a fraction
        of a lease.
        """
        ...

    async def take_back(self, fence: Fence) -> tuple[int, ReportOutcome]:
        """Take the tasks that workers without a registration hold: (how many, what followed)."""
        ...

    async def storages(self) -> list[StorageLocation]: ...


class ExperimentStore(Protocol):
    """Experiments as a whole."""

    async def insert(self, new: NewExperiment) -> tuple[str, bool]:
        """(id, whether it is new): an idempotency key that was seen gives the experiment made then.

        KeyReusedError if that was made for another request.
        """
        ...

    async def start(self, experiment: str) -> ExperimentState: ...

    async def cancel(self, experiment: str, reason: str) -> tuple[ExperimentState, list[int]]:
        """Everything unfinished becomes CANCELED. (state, ids of workers that hold tasks of it)."""
        ...

    async def holding(self, experiment: str) -> int:
        """Canceled tasks whose process may still run."""
        ...

    async def pause(
        self, experiment: str, reason: str, *, kind: str = "experiment.paused", data: Mapping[str, Any] | None = None
    ) -> ExperimentState:
        """RUNNING -> PAUSED, with an event of that kind."""
        ...

    async def resume(
        self, experiment: str, budget: float | None = None, deadline: float | None = None
    ) -> ExperimentState:
        """PAUSED -> RUNNING, with another budget or deadline (seconds since the epoch) if one is given."""
        ...

    async def warn(self, experiment: str, kind: str, reason: str, data: Mapping[str, Any]) -> bool:
        """Announce something about a running experiment, once: an event of that kind, and the reason shown with it.

        False if it does not run, or the event was written before.
        """
        ...

    async def retry(self, experiment: str) -> int:
        """Failed, skipped and canceled tasks go back to where they can run; how many."""
        ...

    async def delete(self, experiment: str) -> None:
        """ConflictError unless it is finished."""
        ...

    async def deleted(self) -> list[str]:
        """Every experiment that was ever deleted."""
        ...

    async def indexes(self, experiment: str, states: Sequence[TaskState]) -> dict[int, list[tuple[int, int]]]:
        """Step position -> ranges (first, last) of the tasks in these states, in order."""
        ...

    async def due_manifests(self) -> list[int]:
        """Gather steps whose needs are met and whose gate is closed."""
        ...

    async def open_gate(self, fence: Fence, step_id: int) -> int:
        """The manifests of a gather step are there: its tasks may run. How many became ready."""
        ...

    def manifest_keys(self, step_id: int, output: str) -> AsyncIterator[Sequence[str]]:
        """Keys of one output of all tasks of a step in index order, in chunks."""
        ...

    async def announce_progress(self, fence: Fence, seen: Mapping[str, int]) -> dict[str, int]:
        """Write a progress event for each open experiment whose version differs from the one seen; versions now."""
        ...

    async def audit(self, actor: str, action: str, subject: str, detail: Mapping[str, Any]) -> None: ...


class ResourceStore(Protocol):
    """What a user sets about resources."""

    async def update_resource(self, name: str, changes: Mapping[str, Any]) -> None:
        """NotFoundError if there is none of that name."""
        ...

    async def forget_ended_workers(self, older_than_s: float) -> int:
        """Records of workers that ended so long ago and that no attempt names; how many."""
        ...


class CredentialStore(Protocol):
    """Records of credentials; the secrets are elsewhere."""

    async def put_credential(self, name: str, owner: str, kind: str) -> None:
        """ConflictError if another user has one of that name."""
        ...

    async def delete_credential(self, name: str) -> None: ...

    async def credentials(self, owner: str) -> list[dict[str, Any]]:
        """Name, kind and times of a user's credentials."""
        ...
