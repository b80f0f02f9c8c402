"""`TaskStore` in memory: planning state, claims and reports."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from math import log
from typing import Any

from airavata_scheduler.adapters.memory.database import LIVING, ExperimentRow, MemoryDatabase, StepRow
from airavata_scheduler.adapters.memory.reports import record
from airavata_scheduler.platform.domain.failures import INFRASTRUCTURE_CAUSES, Cause
from airavata_scheduler.platform.domain.messages import Report
from airavata_scheduler.platform.domain.states import ACTIVE, TERMINAL, ExperimentState, TaskState
from airavata_scheduler.platform.ports.repository import (
    AttemptStatistics,
    Charge,
    Fence,
    LiveWorker,
    OpenStep,
    OutputStatistics,
    PlannableResource,
    PlanningState,
    QueueWaitsSeen,
    ReportContext,
    ReportOutcome,
    StepSpec,
    TaskKey,
)


class MemoryTaskStore:
    """`TaskStore` over a memory database."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def planning_state(self) -> PlanningState:
        """Counts by step and resource, workers and resources."""
        database, now = self._database, self._database.clock.time()
        steps = [
            _open_step(database, experiment, step)
            for experiment in database.experiments.values()
            if experiment.finished_at is None and experiment.status is ExperimentState.RUNNING
            for step in experiment.steps
            if step.rest_state in (TaskState.PENDING, TaskState.READY) and _remaining(step)
        ]
        workers = [
            LiveWorker(
                row.id,
                row.hello.name,
                row.resource_id,
                row.hello.resource,
                row.hello.capacity,
                row.state == "draining",
                row.hello.facts,
            )
            for row in database.workers.values()
            if row.state in LIVING and row.lease_until > now
        ]
        resources = [
            PlannableResource(
                r.id,
                r.name,
                r.enabled,
                r.price_per_hour,
                r.gpu_price_per_hour,
                r.speed,
                r.labels,
                r.bandwidth_bytes_per_s,
                r.egress_price_per_gb,
                r.queue_waits,
            )
            for r in database.resources.values()
        ]
        held: dict[int, Counter[int]] = defaultdict(Counter)
        for step in database.steps.values():
            for row in step.tasks.values():
                if row.worker_id is not None and row.state in ACTIVE:
                    held[row.worker_id][step.step_id] += 1
        ends = self._back_offs(now)
        next_retry_at = min((end for of_step in ends.values() for end in of_step), default=None)
        in_back_off = {step_id: len(of_step) for step_id, of_step in ends.items()}
        return PlanningState(now, steps, workers, resources, next_retry_at, held, in_back_off)

    def _back_offs(self, now: float) -> dict[int, list[float]]:
        """By step, when they end."""
        found = {
            step.step_id: [
                row.not_before
                for row in step.tasks.values()
                if row.state is TaskState.READY and row.not_before is not None and row.not_before > now
            ]
            for step in self._database.steps.values()
            if step.written[TaskState.READY]
        }
        return {step_id: ends for step_id, ends in found.items() if ends}

    async def step_specs(self, step_ids: Sequence[int]) -> list[StepSpec]:
        """The specifications of steps that still exist."""
        found = [self._database.steps[step_id] for step_id in step_ids if step_id in self._database.steps]
        return [
            StepSpec(
                step.step_id,
                step.experiment,
                step.compiled.position,
                step.compiled.name,
                step.n,
                step.spec,
                {s.compiled.position: s.step_id for s in self._database.experiments[step.experiment].steps},
            )
            for step in found
        ]

    async def attempt_statistics(self, step_ids: Sequence[int]) -> list[AttemptStatistics]:
        """Of all attempts of these steps."""
        reports: dict[tuple[int, str], list[Report]] = {}
        for (step_id, _, _), row in sorted(self._database.attempts.items()):
            if step_id in step_ids and (row.report.state is TaskState.SUCCEEDED or _own_fault(row.report)):
                resource = self._database.workers[row.worker_id].hello.resource
                reports.setdefault((step_id, resource), []).append(row.report)
        return [_statistics(*key, reports[key]) for key in sorted(reports)]

    async def output_statistics(self, step_ids: Sequence[int]) -> list[OutputStatistics]:
        """Of all outputs of these steps."""
        sizes: dict[tuple[int, str], list[int]] = {}
        for (step_id, _, name), (_, output) in sorted(self._database.outputs.items()):
            if step_id in step_ids:
                sizes.setdefault((step_id, name), []).append(output.size_bytes)
        return [OutputStatistics(*key, len(sizes[key]), float(sum(sizes[key]))) for key in sorted(sizes)]

    async def forerunners(self, project: str, programs: Sequence[Mapping[str, Any]]) -> list[int | None]:
        """Of all steps of the project."""
        ran = {key[0] for key, row in self._database.attempts.items() if row.report.state is TaskState.SUCCEEDED}
        steps = [
            step
            for step_id, step in sorted(self._database.steps.items(), reverse=True)
            if step_id in ran and self._database.experiments[step.experiment].new.project == project
        ]
        return [
            next((step.step_id for step in steps if step.compiled.program.to_json() == program), None)
            for program in programs
        ]

    async def keep_queue_waits(self, fence: Fence, waits: Mapping[str, QueueWaitsSeen]) -> None:
        """Replace them."""
        self._database.check_fence(fence)
        for row in self._database.resources.values():
            row.queue_waits = waits.get(row.name, row.queue_waits)

    async def claim(self, fence: Fence, worker_id: int, wants: Sequence[tuple[int, int]]) -> list[TaskKey]:
        """First what waits in rows (retries, released one by one), then the next of the range."""
        database, now = self._database, self._database.clock.time()
        database.check_fence(fence)
        worker = database.workers.get(worker_id)
        if worker is None or worker.state != "live" or worker.lease_until <= now:
            return []
        resource = database.resources[worker.resource_id]
        priced = max(resource.price_per_hour, resource.gpu_price_per_hour, resource.egress_price_per_gb) > 0
        opened = [
            (step, n)
            for step_id, n in wants
            if n > 0
            and (step := database.steps.get(step_id)) is not None
            and _may_start(database.experiments[step.experiment], priced=priced)
        ]
        from_rows = [(step, _rows_that_may_start(step, now)[:n]) for step, n in opened]
        from_range = [
            (step, _next_of_range(step, n - len(rows))) for (step, n), (_, rows) in zip(opened, from_rows, strict=True)
        ]
        return [
            *sorted(_assign(step, index, worker_id) for step, rows in from_rows for index in rows),
            *sorted(_assign(step, index, worker_id) for step, fresh in from_range for index in fresh),
        ]

    async def resource_of(self, worker_id: int) -> str:
        """Of a worker of whatever state."""
        worker = self._database.workers.get(worker_id)
        return worker.hello.resource if worker else ""

    async def give_back(self, worker_id: int, held: Sequence[TaskKey]) -> int:
        """What never started is given back, and what was canceled is let go; what runs, the worker would hold."""
        kept, count = set(held), 0
        for step in self._database.steps.values():
            for index in step.in_state(TaskState.ASSIGNED, TaskState.CANCELED):
                row = step.tasks[index]
                if row.worker_id == worker_id and (step.step_id, index, row.attempt) not in kept:
                    row.worker_id = None
                    if row.state is TaskState.ASSIGNED:
                        step.move(index, TaskState.READY)
                        count += 1
        return count

    async def report(
        self, worker_id: int, reports: Sequence[Report], contexts: Mapping[int, ReportContext], charge: Charge
    ) -> ReportOutcome:
        """See `reports.record`."""
        known = [report for report in reports if report.step_id in self._database.steps]
        outcome = record(self._database, worker_id, known, contexts, charge)
        gone = {(r.step_id, r.index, r.attempt) for r in reports if r.state in TERMINAL and r not in known}
        outcome.stale.extend(sorted(gone))
        return outcome

    async def output_keys(self, wanted: Sequence[tuple[int, int]]) -> Mapping[tuple[int, int], Mapping[str, str]]:
        """Of tasks that have outputs."""
        found: dict[tuple[int, int], dict[str, str]] = {}
        for (step_id, index, name), (_, output) in self._database.outputs.items():
            if (step_id, index) in wanted:
                found.setdefault((step_id, index), {})[name] = output.key
        return found


def _own_fault(report: Report) -> bool:
    return report.state is TaskState.FAILED and report.cause not in INFRASTRUCTURE_CAUSES


def _statistics(step_id: int, resource: str, reports: Sequence[Report]) -> AttemptStatistics:
    walls = [report.wall_s for report in reports if report.state is TaskState.SUCCEEDED]
    logged = [log(max(wall_s, 1e-6)) for wall_s in walls]
    sized = [r for r in reports if r.state is TaskState.SUCCEEDED or r.cause is Cause.OUT_OF_MEMORY]
    peaks = [log(r.peak_memory_bytes) for r in sized if r.peak_memory_bytes > 0]
    return AttemptStatistics(
        step_id=step_id,
        resource=resource,
        attempts=len(reports),
        failed=len(reports) - len(walls),
        n=len(walls),
        log_sum=sum(logged),
        log_square_sum=sum(value * value for value in logged),
        largest_s=max(walls, default=0.0),
        memory_n=len(peaks),
        memory_log_sum=sum(peaks),
        memory_log_square_sum=sum(value * value for value in peaks),
        largest_bytes=float(max((r.peak_memory_bytes for r in sized), default=0)),
    )


def _may_start(experiment: ExperimentRow, *, priced: bool) -> bool:
    budget = experiment.budget
    return experiment.status is ExperimentState.RUNNING and not (
        priced and budget is not None and experiment.cost >= budget
    )


def _remaining(step: StepRow) -> int:
    counts = step.counts()
    return step.n - sum(counts[state] for state in TERMINAL)


def _open_step(database: MemoryDatabase, experiment: ExperimentRow, step: StepRow) -> OpenStep:
    compiled = experiment.new.compiled
    return OpenStep(
        step_id=step.step_id,
        experiment=experiment.new.id,
        project=experiment.new.project,
        project_weight=database.project_weights.get(experiment.new.project, 1.0),
        priority=compiled.priority,
        objective=compiled.objective,
        deadline=experiment.deadline,
        hard_deadline=compiled.hard_deadline,
        budget=experiment.budget,
        cost=experiment.cost,
        submitted_at=experiment.submitted_at or 0.0,
        n=step.n,
        ready=step.counts()[TaskState.READY],
        remaining=_remaining(step),
        active=Counter(
            database.workers[row.worker_id].resource_id
            for row in step.tasks.values()
            if row.state in ACTIVE and row.worker_id is not None
        ),
    )


def _rows_that_may_start(step: StepRow, now: float) -> list[int]:
    ready = step.in_state(TaskState.READY)
    return [i for i in ready if (not_before := step.tasks[i].not_before) is None or not_before <= now]


def _next_of_range(step: StepRow, n: int) -> range:
    if step.rest_state is not TaskState.READY or n <= 0:
        return range(0)
    first, step.next_index = step.next_index, min(step.next_index + n, step.n)
    return range(first, step.next_index)


def _assign(step: StepRow, index: int, worker_id: int) -> TaskKey:
    row = step.move(index, TaskState.ASSIGNED)
    row.attempt += 1
    row.worker_id, row.not_before = worker_id, None
    return step.step_id, index, row.attempt
