"""Models of experiments, tasks, outputs and events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from airavata_scheduler.api.models import Asked, Listing, Shown, Time, asked, shown
from airavata_scheduler.platform.domain.states import TaskState
from airavata_scheduler.platform.domain.views import AttemptView, ExperimentView, StepView, TaskView
from airavata_scheduler.platform.interfaces import Validation

#: Values as text or number: `--param K=V` sends text, programs may send numbers.
Parameters = dict[Annotated[str, Field(max_length=200)], str | int | float | bool]
Key = Annotated[str, Field(min_length=1, max_length=200)]
StateName = Literal[
    "pending", "ready", "assigned", "staging", "running", "collecting", "succeeded", "failed", "skipped", "canceled"
]
EXAMPLE_DOCUMENT = {
    "name": "square",
    "tasks": {"square": {"command": ["sh", "-c", "echo $((X * X))"], "task_inputs": {"X": "1..100"}}},
}
_COUNTS = {"total": 100, **{state.name.lower(): 0 for state in TaskState}, "succeeded": 99, "failed": 1}


def texts(parameters: Parameters | None) -> dict[str, str] | None:
    """Overrides as the services take them: text, numbers and truth values as YAML would have them."""
    if parameters is None:
        return None
    return {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in parameters.items()}


class NewExperiment(Asked):
    """An experiment document with files inlined, as YAML or JSON text or as an object."""

    model_config = asked({"document": EXAMPLE_DOCUMENT, "project": "default", "parameters": {"N": "10"}, "start": True})
    document: str | dict[str, Any]
    project: Annotated[str, Field(max_length=64)] = "default"
    parameters: Parameters | None = None
    start: bool = True


class Reason(Asked):
    """Why; shown wherever the experiment is."""

    model_config = asked({"reason": "wrong input file"})
    reason: Annotated[str, Field(max_length=1000)] = ""


class Resume(Asked):
    """How to go on: with another budget or deadline, if one is given; a deadline is a date or a duration from now."""

    model_config = asked({"budget": 25.0, "deadline": "2h"})
    budget: Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)] | None = None
    deadline: Annotated[str, Field(max_length=100)] | None = None


class Derive(Asked):
    """Which tasks of the old experiment the new one has, and what is different; ``changes`` are a JSON merge patch."""

    model_config = asked({"select": "failed", "parameters": {"N": "20"}, "changes": {"timeout": "2h"}, "start": True})
    select: Literal["all", "failed", "succeeded"] = "all"
    parameters: Parameters | None = None
    changes: dict[str, Any] | None = None
    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    start: bool = True


class Resubmit(Asked):
    """The same experiment once more."""

    model_config = asked({"parameters": {"N": "20"}})
    parameters: Parameters | None = None


class ValidStep(BaseModel):
    """One step of a valid document."""

    name: str
    n: int
    needs: list[str] = []
    request: Any = None
    first: dict[str, Any] = {}


class ValidationModel(BaseModel):
    """What a valid document amounts to."""

    model_config = shown(
        {
            "name": "square",
            "n_tasks": 100,
            "steps": [{"name": "square", "n": 100, "needs": [], "request": {"cpu": 1.0}, "first": {"X": 1}}],
            "warnings": [],
        }
    )
    name: str
    n_tasks: int
    steps: list[ValidStep]
    warnings: list[str]

    @classmethod
    def of(cls, found: Validation) -> ValidationModel:
        """From the service's answer."""
        steps = [ValidStep.model_validate(dict(step)) for step in found.steps]
        return cls(name=found.name, n_tasks=found.n_tasks, steps=steps, warnings=list(found.warnings))


class Counts(BaseModel):
    """Tasks by state; they add up to the total."""

    total: int
    pending: int
    ready: int
    assigned: int
    staging: int
    running: int
    collecting: int
    succeeded: int
    failed: int
    skipped: int
    canceled: int

    @classmethod
    def of(cls, counts: Mapping[str, int]) -> Counts:
        """States that are not named have no tasks."""
        return cls(**{name: counts.get(name, 0) for name in cls.model_fields})


class StepModel(BaseModel):
    """A step of an experiment."""

    name: str
    n: int
    tasks: Counts
    needs: list[str]

    @classmethod
    def of(cls, view: StepView) -> StepModel:
        """From a view."""
        return cls(name=view.name, n=view.n, tasks=Counts.of({"total": view.n, **view.counts}), needs=list(view.needs))


class ExperimentModel(BaseModel):
    """An experiment; ``steps`` are empty in lists. ``wall_s``: from its submission to its end, or to now."""

    model_config = shown(
        {
            "id": "e01hx3",
            "name": "square",
            "project": "default",
            "owner": "ada",
            "status": "PARTIAL",
            "tasks": _COUNTS,
            "created_at": "2026-01-01T00:00:00Z",
            "submitted_at": "2026-01-01T00:00:00Z",
            "started_at": "2026-01-01T00:00:01Z",
            "finished_at": "2026-01-01T00:00:12.5Z",
            "wall_s": 12.5,
            "priority": 0,
            "deadline": "2026-01-02T00:00:00Z",
            "hard_deadline": False,
            "budget": 5.0,
            "cost": 0.01,
            "cpu_s": 7.9,
            "description": "",
            "tags": [],
            "reason": "",
            "derived_from": "e01ab7",
            "version": 17,
            "steps": [{"name": "square", "n": 100, "tasks": _COUNTS, "needs": []}],
        }
    )
    id: str
    name: str
    project: str
    owner: str
    status: str
    tasks: Counts
    created_at: Time
    submitted_at: Time | None
    started_at: Time | None
    finished_at: Time | None
    wall_s: float
    priority: int
    deadline: Time | None
    hard_deadline: bool
    budget: float | None
    cost: float
    cpu_s: float
    description: str
    tags: list[str]
    reason: str
    derived_from: str | None
    version: int
    steps: list[StepModel]

    @classmethod
    def of(cls, view: ExperimentView, now: float) -> ExperimentModel:
        """From a view; ``now`` in seconds since the epoch."""
        same = {name: getattr(view, name) for name in cls.model_fields if name not in {"tasks", "steps", "wall_s"}}
        begin, end = view.submitted_at, view.finished_at
        return cls(
            **{**same, "status": view.status.value, "tags": list(view.tags)},
            tasks=Counts.of(view.counts),
            wall_s=0.0 if begin is None else max(0.0, round((now if end is None else end) - begin, 3)),
            steps=[StepModel.of(step) for step in view.steps],
        )


class ExtentModel(Shown):
    """Where a piece of output is kept."""

    segment: str
    offset: int
    length: int
    truncated: bool


class PublishedModel(Shown):
    """An output of one attempt."""

    name: str
    key: str
    size_bytes: int
    sha256: str


class AttemptModel(BaseModel):
    """One attempt that has ended."""

    attempt: int
    state: str
    worker: str | None
    resource: str | None
    started_at: Time | None
    wall_s: float
    cpu_s: float
    peak_memory_bytes: int
    exit_code: int | None
    signal: int | None
    cause: str | None
    message: str
    cost: float
    stdout: ExtentModel | None
    stderr: ExtentModel | None
    outputs: list[PublishedModel]
    results: dict[str, Any] | None

    @classmethod
    def of(cls, view: AttemptView) -> AttemptModel:
        """From a view."""
        return cls.model_validate({**asdict(view), "state": view.state.name})


class TaskModel(BaseModel):
    """A task; ``attempts`` are empty in lists."""

    model_config = shown(
        {
            "experiment": "e01hx3",
            "step": "square",
            "index": 4,
            "state": "FAILED",
            "attempt": 1,
            "parameters": {"X": 5},
            "worker": "exec.local.n1",
            "resource": "local",
            "not_before": "2026-01-01T00:00:07Z",
            "cause": "exit_code",
            "message": "the program ended with code 3",
            "attempts": [],
        }
    )
    experiment: str
    step: str
    index: int
    state: str
    attempt: int
    parameters: dict[str, Any]
    worker: str | None
    resource: str | None
    not_before: Time | None
    cause: str | None
    message: str
    attempts: list[AttemptModel]

    @classmethod
    def of(cls, view: TaskView) -> TaskModel:
        """From a view."""
        same = {name: getattr(view, name) for name in cls.model_fields if name not in {"state", "attempts"}}
        return cls(**same, state=view.state.name, attempts=[AttemptModel.of(attempt) for attempt in view.attempts])


class OutputModel(Shown):
    """A published output of a task that succeeded."""

    model_config = shown(
        {
            "step": "square",
            "index": 4,
            "name": "RESULT",
            "key": "e01hx3/square/4/1/result.json",
            "size_bytes": 120,
            "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "storage": "default",
        }
    )
    step: str
    index: int
    name: str
    key: str
    size_bytes: int
    sha256: str
    storage: str


class VerdictModel(Shown):
    """What one resource means for the task or step."""

    resource: str
    feasible: bool
    reason: str


class ExplanationModel(Shown):
    """Why something waits, or how it ended."""

    model_config = shown(
        {
            "subject": "e01hx3/square/4",
            "state": "READY",
            "summary": "It waits for a free place: 96 tasks are served earlier.",
            "reasons": ["all 4 places of `local` are taken"],
            "resources": [{"resource": "local", "feasible": True, "reason": "fits"}],
            "remedy": "",
            "position": 96,
            "expected_start": "2026-01-01T00:00:30Z",
        }
    )
    subject: str
    state: str
    summary: str
    reasons: list[str]
    resources: list[VerdictModel]
    remedy: str
    position: int | None
    expected_start: Time | None


class EventModel(Shown):
    """Something that happened."""

    model_config = shown(
        {
            "seq": 51,
            "kind": "experiment.progress",
            "at": "2026-01-01T00:00:05Z",
            "experiment": "e01hx3",
            "project": "default",
            "data": {"succeeded": 8},
        }
    )
    seq: int
    kind: str
    at: Time
    experiment: str | None
    project: str | None
    data: dict[str, Any]


class Events(Listing[EventModel]):
    """Some events, and the number to pass as ``after`` for those that follow."""

    next_seq: Annotated[int, Field(examples=[51])]
