"""The six domain interfaces. Services implement them; actors and the API only ever see these.

Commands take the name of the user who acts (``actor``), who has been authorised by the caller; they are idempotent, so
an answer that got lost is asked for again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from airavata_scheduler.platform.domain.messages import Batch, Directives, Hello, Report, Welcome
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.views import (
    ExperimentView,
    Explanation,
    OutputView,
    Page,
    ResourceView,
    StorageView,
    WorkerView,
)


@dataclass(frozen=True, slots=True)
class Submission:
    """A request to make an experiment. ``document`` is YAML or JSON text, or the mapping itself, with files inlined."""

    document: str | Mapping[str, Any]
    project: str = "default"
    parameters: Mapping[str, str] | None = None  #: overrides of global parameters
    start: bool = True  #: False leaves a DRAFT
    idempotency_key: str | None = None  #: per user: the same key gives the same experiment


@dataclass(frozen=True, slots=True)
class Derivation:
    """A new experiment from an old one."""

    select: str = "all"  #: "all" | "failed" (failed, skipped, canceled) | "succeeded"
    parameters: Mapping[str, str] | None = None
    changes: Mapping[str, Any] | None = None  #: merged into the document (JSON merge patch)
    name: str | None = None
    start: bool = True
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Validation:
    """What a valid document amounts to."""

    name: str
    n_tasks: int
    steps: tuple[Mapping[str, Any], ...]  #: {"name","n","needs","request","first": parameters of the first task}
    warnings: tuple[str, ...] = ()


BUDGET_EXHAUSTED = "experiment.budget_exhausted"
DEADLINE_AT_RISK = "experiment.deadline_at_risk"
DEADLINE_OUT_OF_REACH = "experiment.deadline_out_of_reach"


@dataclass(frozen=True, slots=True)
class Alarm:
    """What the scheduler noticed about a limit of an experiment; ``kind`` is that of the event."""

    kind: str  #: one of the three above
    experiment: str
    reason: str  #: a sentence for people
    data: Mapping[str, Any]


class ExperimentOrchestrator(Protocol):
    """Experiments from document to end."""

    async def validate(self, submission: Submission) -> Validation:
        """Check everything, store nothing. Raises InvalidDocumentError with every problem."""
        ...

    async def preview(self, submission: Submission, *, frontier: bool = False) -> Mapping[str, Any]:
        """What would happen if it were submitted now, as JSON; with the frontier of cost and time. Stores nothing."""
        ...

    async def submit(self, actor: str, submission: Submission) -> ExperimentView:
        """Validate and store; start unless told otherwise."""
        ...

    async def start(self, actor: str, experiment: str) -> ExperimentView:
        """DRAFT -> RUNNING."""
        ...

    async def cancel(self, actor: str, experiment: str, reason: str = "") -> ExperimentView:
        """Everything not finished becomes CANCELED; running processes are ended."""
        ...

    async def pause(self, actor: str, experiment: str, reason: str = "") -> ExperimentView:
        """No task of it is started any more; running ones go on."""
        ...

    async def resume(
        self, actor: str, experiment: str, budget: float | None = None, deadline: str | None = None
    ) -> ExperimentView:
        """PAUSED -> RUNNING, with another budget or deadline (a date or a duration from now) if one is given."""
        ...

    async def retry(self, actor: str, experiment: str) -> ExperimentView:
        """Failed tasks, and what was skipped or canceled because of them, are tried again."""
        ...

    async def derive(self, actor: str, experiment: str, derivation: Derivation) -> ExperimentView:
        """A new experiment from an old one; `resubmit` is a derivation with everything."""
        ...

    async def delete(self, actor: str, experiment: str) -> None:
        """Remove a finished experiment (ConflictError otherwise) with its outputs."""
        ...

    async def explain(self, experiment: str, step: str | None = None, index: int | None = None) -> Explanation:
        """Why it waits, or how it ended."""
        ...

    async def heed(self, alarms: Sequence[Alarm]) -> None:
        """Pause what has spent its budget or its time, announce deadlines in danger; each alarm may be raised again."""
        ...


class TaskScheduler(Protocol):
    """Planning, claiming, completing."""

    async def plan(self) -> Mapping[str, Any]:
        """Plan now; a summary of the plan."""
        ...

    async def claim(
        self,
        worker_id: int,
        free: Capacity,
        most: int,
        wait_s: float,
        held: Sequence[tuple[int, int, int]] | None = None,
    ) -> Batch: ...

    async def report(self, worker_id: int, reports: Sequence[Report]) -> list[tuple[int, int, int]]: ...

    async def wake(self) -> None:
        """Something changed that may let tasks start: plan and answer waiting claims."""
        ...

    async def current_plan(self) -> Mapping[str, Any]:
        """The plan in force, as JSON."""
        ...

    async def explain(self, step_id: int) -> Mapping[str, Any]:
        """Where the tasks of a step may run and why not elsewhere, by the plan in force, as JSON.

        Empty while no plan knows the step.
        """
        ...


class WorkerLifecycle(Protocol):
    """Workers from registration to their end."""

    async def register(self, hello: Hello) -> Welcome: ...

    async def heartbeat(self, worker_id: int, free: Capacity, running: int, wait_s: float) -> Directives: ...

    async def goodbye(self, worker_id: int) -> None: ...

    async def workers(self) -> Sequence[WorkerView]: ...

    async def drain(self, actor: str, worker_id: int) -> WorkerView:
        """Let it finish what it holds and claim nothing more."""
        ...

    async def notify_canceled(self, workers: Sequence[int]) -> None:
        """Answer the waiting heartbeats of these workers: they hold canceled tasks."""
        ...

    async def reap(self) -> int:
        """Take the tasks of workers whose lease is over; how many."""
        ...


class ResourceRegistry(Protocol):
    """Compute and storage resources."""

    async def resources(self) -> Sequence[ResourceView]: ...

    async def resource(self, name: str) -> ResourceView: ...

    async def update(self, actor: str, name: str, changes: Mapping[str, Any]) -> ResourceView:
        """Change price_per_hour, gpu_price_per_hour, speed, bandwidth_bytes_per_s, egress_price_per_gb,
        labels, enabled.

        InvalidRequestError names a bad field.
        """
        ...

    async def storages(self) -> Sequence[StorageView]: ...

    async def probe(self) -> None:
        """Look at what is there and record it."""
        ...


class CredentialVault(Protocol):
    """Secrets: the only way to read one, and every read is audited."""

    async def store(self, actor: str, name: str, kind: str, secret: Mapping[str, str]) -> None: ...

    async def retrieve(self, actor: str, name: str, purpose: str) -> Mapping[str, str]: ...

    async def delete(self, actor: str, name: str) -> None: ...

    async def names(self, actor: str) -> Sequence[Mapping[str, Any]]:
        """Name, kind, owner and age of what the user may see; never a secret."""
        ...


class DataMover(Protocol):
    """Outputs, manifests, clean-up."""

    async def outputs(self, experiment: str, step: str | None, after: str | None, limit: int) -> Page[OutputView]: ...

    async def write_manifest(self, step_id: int) -> None:
        """Write the manifests of a gather step: for each reference a file with one path a line, in index order."""
        ...

    async def remove_experiment(self, experiment: str) -> None:
        """Delete the stored files of an experiment whose records are deleted."""
        ...
