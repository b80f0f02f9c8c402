"""`ExperimentStore` in memory: experiments as a whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from airavata_scheduler.adapters.memory.database import ExperimentRow, MemoryDatabase, StepRow
from airavata_scheduler.adapters.memory.following import follow, open_gate
from airavata_scheduler.platform.domain.derive import merge
from airavata_scheduler.platform.domain.errors import ConflictError
from airavata_scheduler.platform.domain.events import Event
from airavata_scheduler.platform.domain.states import ACTIVE, FINISHED, ExperimentState, TaskState
from airavata_scheduler.platform.ports.repository import Fence, NewExperiment

_PAGE = 10_000


class MemoryExperimentStore:
    """`ExperimentStore` over a memory database."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def insert(self, new: NewExperiment) -> tuple[str, bool]:
        """Experiment and steps, whatever the number of tasks."""
        database = self._database
        if new.id in database.experiments:
            return new.id, True
        if new.idempotency_key is not None:
            for known in database.experiments.values():
                if (known.new.owner, known.new.idempotency_key) == (new.owner, new.idempotency_key):
                    return new.replay_of(known.new.id, known.new.request_digest), False
        first = database.last_step_id + 1
        ids = range(first, first + len(new.compiled.steps))
        database.last_step_id += len(ids)
        steps = [_step_row(new, ids, position) for position in range(len(ids))]
        now = database.clock.time()
        status = ExperimentState.RUNNING if new.start else ExperimentState.DRAFT
        database.experiments[new.id] = ExperimentRow(new, steps, status, now, now if new.start else None)
        database.steps.update(zip(ids, steps, strict=True))
        kind = "experiment.submitted" if new.start else "experiment.created"
        data = {"name": new.compiled.name, "tasks": new.compiled.n_tasks}
        database.append([Event(kind, new.id, new.project, data)])
        return new.id, True

    async def start(self, experiment: str) -> ExperimentState:
        """DRAFT -> RUNNING; starting what runs is no error."""
        return self._move(experiment, ExperimentState.RUNNING, ExperimentState.DRAFT, "experiment.submitted")

    async def pause(
        self, experiment: str, reason: str, *, kind: str = "experiment.paused", data: Mapping[str, Any] | None = None
    ) -> ExperimentState:
        """RUNNING -> PAUSED."""
        return self._move(experiment, ExperimentState.PAUSED, ExperimentState.RUNNING, kind, reason, data)

    async def resume(
        self, experiment: str, budget: float | None = None, deadline: float | None = None
    ) -> ExperimentState:
        """PAUSED -> RUNNING."""
        state = self._move(experiment, ExperimentState.RUNNING, ExperimentState.PAUSED, "experiment.resumed")
        row = self._database.experiment(experiment)
        row.raised_budget = row.raised_budget if budget is None else budget
        row.moved_deadline = row.moved_deadline if deadline is None else deadline
        return state

    async def warn(self, experiment: str, kind: str, reason: str, data: Mapping[str, Any]) -> bool:
        """Once for each experiment and kind."""
        row = self._database.experiment(experiment)
        known = any(event.kind == kind and event.experiment == experiment for event in self._database.events)
        if row.status is not ExperimentState.RUNNING or known:
            return False
        self._set_status(row, row.status, reason)
        self._announce(row, kind, {"reason": reason, **data})
        return True

    def _move(
        self,
        experiment: str,
        to: ExperimentState,
        allowed: ExperimentState,
        kind: str,
        reason: str = "",
        data: Mapping[str, Any] | None = None,
    ) -> ExperimentState:
        row = self._database.experiment(experiment)
        if row.status is to:
            return to
        if row.status is not allowed:
            message = f"experiment {experiment} is {row.status}; {kind.removeprefix('experiment.')} needs {allowed}"
            raise ConflictError(message, remedy=f"see `airavata experiment status {experiment}`")
        self._set_status(row, to, reason)
        self._announce(row, kind, {"reason": reason, **(data or {})} if reason else {})
        return to

    def _set_status(self, row: ExperimentRow, status: ExperimentState, reason: str) -> None:
        now = self._database.clock.time()
        row.status, row.reason = status, reason
        row.version += 1
        if status is not ExperimentState.DRAFT and row.submitted_at is None:
            row.submitted_at = now
        row.finished_at = (row.finished_at or now) if status in FINISHED else None

    def _announce(self, row: ExperimentRow, kind: str, data: Mapping[str, Any]) -> None:
        self._database.append([Event(kind, row.new.id, row.new.project, data)])

    async def cancel(self, experiment: str, reason: str) -> tuple[ExperimentState, list[int]]:
        """What has no row is canceled by the step's `rest_state`; only rows in flight are touched one by one."""
        row = self._database.experiment(experiment)
        if row.status.finished:
            return row.status, []
        self._set_status(row, ExperimentState.CANCELED, reason)
        workers = set()
        for step in row.steps:
            if step.rest_state in (TaskState.PENDING, TaskState.READY):
                step.move_rest(TaskState.CANCELED)
            for index in step.in_state(TaskState.READY, *ACTIVE):
                workers.add(step.move(index, TaskState.CANCELED).worker_id)
        self._announce(row, "experiment.canceled", {"reason": reason})
        return ExperimentState.CANCELED, sorted(worker for worker in workers if worker is not None)

    async def holding(self, experiment: str) -> int:
        """A worker that ended a canceled task lets go of its row."""
        row = self._database.experiments.get(experiment)
        return 0 if row is None else _holding(row)

    async def retry(self, experiment: str) -> int:
        """Back to READY, or PENDING where something else must be tried again first; how many."""
        row = self._database.experiment(experiment)
        if row.status is ExperimentState.DRAFT:
            message = f"experiment {experiment} was never started"
            raise ConflictError(message, remedy=f"start it: `airavata experiment start {experiment}`")
        if _holding(row):
            message = f"canceled tasks of experiment {experiment} are still being ended"
            raise ConflictError(message, remedy="try again in a few seconds")
        again = sum(_retry_step(step) for step in row.steps)
        if again:
            self._set_status(row, ExperimentState.RUNNING, "")
            follow(self._database, [experiment])
            self._announce(row, "experiment.retried", {"tasks": again})
        return again

    async def delete(self, experiment: str) -> None:
        """Everything about it, events included."""
        database, row = self._database, self._database.experiment(experiment)
        held = _holding(row)
        if held or (not row.status.finished and row.status is not ExperimentState.DRAFT):
            message = f"experiment {experiment} is {row.status}" + (", its processes are being ended" if held else "")
            raise ConflictError(message, remedy=f"cancel it first: `airavata experiment cancel {experiment}`")
        ids = {step.step_id for step in row.steps}
        for step_id in ids:
            del database.steps[step_id]
        database.attempts = {key: value for key, value in database.attempts.items() if key[0] not in ids}
        database.outputs = {key: value for key, value in database.outputs.items() if key[0] not in ids}
        del database.experiments[experiment]
        database.append([Event("experiment.deleted", None, row.new.project, {"id": experiment})])

    async def deleted(self) -> list[str]:
        """As their events say."""
        return [str(event.data["id"]) for event in self._database.events if event.kind == "experiment.deleted"]

    async def indexes(self, experiment: str, states: Sequence[TaskState]) -> dict[int, list[tuple[int, int]]]:
        """As ranges."""
        row = self._database.experiments.get(experiment)
        found = {
            step.compiled.position: merge((i, i) for i in range(step.n) if step.state(i) in states)
            for step in (row.steps if row else ())
        }
        return {position: ranges for position, ranges in found.items() if ranges}

    async def due_manifests(self) -> list[int]:
        """Found anew each time, so none is forgotten when whoever should write it dies."""
        gathering = sorted(
            experiment
            for experiment, row in self._database.experiments.items()
            if row.finished_at is None
            and any(s.compiled.gather and not s.gate_open and s.rest_state is TaskState.PENDING for s in row.steps)
        )
        return follow(self._database, gathering).manifests_due

    async def open_gate(self, fence: Fence, step_id: int) -> int:
        """Its needs stay met once they are; nothing happens if it was canceled, skipped or deleted meanwhile."""
        self._database.check_fence(fence)
        step = self._database.steps.get(step_id)
        return 0 if step is None else open_gate(self._database, step)

    async def manifest_keys(self, step_id: int, output: str) -> AsyncIterator[Sequence[str]]:
        """Ten thousand at a time."""
        found = sorted(
            (index, stored.key)
            for (step, index, name), (_, stored) in self._database.outputs.items()
            if step == step_id and name == output
        )
        for start in range(0, len(found), _PAGE):
            yield [key for _, key in found[start : start + _PAGE]]

    async def append_event(
        self, kind: str, experiment: str | None, project: str | None, data: Mapping[str, Any]
    ) -> int:
        """One event by itself."""
        return self._database.append([Event(kind, experiment, project, data)])

    async def announce_progress(self, fence: Fence, seen: Mapping[str, int]) -> dict[str, int]:
        """The number that stands for an experiment's progress is a hash of its counts."""
        self._database.check_fence(fence)
        now: dict[str, int] = {}
        for experiment, row in self._database.experiments.items():
            if row.finished_at is not None or row.submitted_at is None:
                continue
            every = [step.counts() for step in row.steps]
            counts = {state.name.lower(): sum(of[state] for of in every) for state in TaskState}
            now[experiment] = hash((row.status, *counts.values()))
            if seen.get(experiment) != now[experiment]:
                tasks = {"total": row.new.compiled.n_tasks, **counts}
                self._announce(row, "experiment.progress", {"status": str(row.status), "tasks": tasks})
        return now

    async def audit(self, actor: str, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        """One line of who did what."""
        self._database.audit.append((actor, action, subject, dict(detail)))


def _step_row(new: NewExperiment, ids: Sequence[int], position: int) -> StepRow:
    step = new.compiled.steps[position]
    needs = tuple(sorted({ids[p] for p in (*step.gather, *step.after)}))
    follows = tuple(ids[p] for p in step.foreach)
    rest = TaskState.PENDING if needs or follows else TaskState.READY
    return StepRow(ids[position], new.id, step, needs, follows, gate_open=not needs, rest_state=rest)


def _holding(row: ExperimentRow) -> int:
    return sum(1 for _, task in row.rows() if task.state is TaskState.CANCELED and task.worker_id is not None)


def _retry_step(step: StepRow) -> int:
    """Failed, skipped and canceled tasks of one step go back; how many."""
    again = step.in_state(TaskState.FAILED, TaskState.CANCELED)
    for index in again:
        row = step.move(index, TaskState.READY)
        row.user_failures = row.infrastructure_failures = 0
        row.not_before = row.worker_id = None
    skipped = step.in_state(TaskState.SKIPPED)
    for index in skipped:
        step.forget(index)
    rest = 0
    if step.rest_state in (TaskState.SKIPPED, TaskState.CANCELED):
        rest = step.n - len(step.tasks)
        step.move_rest(TaskState.READY if step.gate_open and not step.follows else TaskState.PENDING)
    return len(again) + len(skipped) + rest
