"""Those reads of `Queries` that services need, over a memory database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airavata_scheduler.adapters.memory.database import LIVING, MemoryDatabase, ResourceRow, StepRow, WorkerRow
from airavata_scheduler.platform.domain.errors import NotFoundError
from airavata_scheduler.platform.domain.request import Capacity, most_of_each
from airavata_scheduler.platform.domain.states import ACTIVE, TaskState
from airavata_scheduler.platform.domain.views import (
    AttemptView,
    ExperimentView,
    ResourceView,
    StepView,
    StorageView,
    TaskView,
    WorkerView,
)


class MemoryQueries:
    """Experiments, single tasks, resources and workers. Lists and results are not simulated."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def experiment(self, experiment: str) -> ExperimentView:
        """One, with its steps."""
        row = self._database.experiment(experiment)
        names = {step.step_id: step.compiled.name for step in row.steps}
        steps = tuple(_step_view(step, names) for step in row.steps)
        keys = ("total", *(state.name.lower() for state in TaskState))
        compiled = row.new.compiled
        return ExperimentView(
            id=row.new.id,
            name=compiled.name,
            project=row.new.project,
            owner=row.new.owner,
            status=row.status,
            counts={key: sum(step.counts[key] for step in steps) for key in keys},
            created_at=row.created_at,
            submitted_at=row.submitted_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
            priority=compiled.priority,
            deadline=row.deadline,
            hard_deadline=compiled.hard_deadline,
            budget=row.budget,
            cost=row.cost,
            cpu_s=row.cpu_s,
            description=compiled.description,
            tags=compiled.tags,
            reason=row.reason,
            derived_from=row.new.derived_from,
            version=row.version,
            steps=steps,
        )

    async def document(self, experiment: str) -> Mapping[str, Any]:
        """The stored document."""
        return self._database.experiment(experiment).new.document

    async def task(self, experiment: str, step: str, index: int) -> TaskView:
        """One, with its attempts."""
        found = next((s for s in self._database.experiment(experiment).steps if s.compiled.name == step), None)
        if found is None or not 0 <= index < found.n:
            message = f"there is no task {experiment}/{step}/{index}"
            raise NotFoundError(message, remedy=f"list them with `airavata experiment tasks {experiment}`")
        row = found.tasks.get(index)
        attempts = self._attempts(found.step_id, index)
        worker = None if row is None or row.worker_id is None else self._database.workers.get(row.worker_id)
        return TaskView(
            experiment=experiment,
            step=step,
            index=index,
            state=found.state(index),
            attempt=row.attempt if row else 0,
            parameters=found.compiled.parameters(index),
            worker=worker.hello.name if worker else None,
            resource=worker.hello.resource if worker else None,
            not_before=row.not_before if row else None,
            cause=attempts[-1].cause if attempts else None,
            message=attempts[-1].message if attempts else "",
            attempts=attempts,
        )

    def _attempts(self, step_id: int, index: int) -> tuple[AttemptView, ...]:
        views = []
        for (step, i, attempt), row in sorted(self._database.attempts.items()):
            if (step, i) != (step_id, index):
                continue
            r, worker = row.report, self._database.workers[row.worker_id]
            views.append(
                AttemptView(
                    attempt=attempt,
                    state=r.state,
                    worker=worker.hello.name,
                    resource=worker.hello.resource,
                    started_at=r.started_at or None,
                    wall_s=r.wall_s,
                    cpu_s=r.cpu_s,
                    peak_memory_bytes=r.peak_memory_bytes,
                    exit_code=r.exit_code,
                    signal=r.signal,
                    cause=r.cause,
                    message=r.message,
                    cost=row.cost,
                    outputs=r.outputs,
                    results=r.results,
                )
            )
        return tuple(views)

    async def resources(self) -> Sequence[ResourceView]:
        """By name."""
        return [self._resource(row) for row in sorted(self._database.resources.values(), key=lambda row: row.name)]

    async def resource(self, name: str) -> ResourceView:
        """NotFoundError if there is none."""
        row = self._database.resource_named(name)
        if row is None:
            message = f"there is no resource {name!r}"
            raise NotFoundError(message, path="name", remedy="list them at /api/v1/resources")
        return self._resource(row)

    def _resource(self, row: ResourceRow) -> ResourceView:
        workers = [w for w in self._database.workers.values() if w.resource_id == row.id and w.state in LIVING]
        capacity = Capacity(cpu=0.0)
        for worker in workers:
            capacity = capacity.plus(worker.hello.capacity)
        return ResourceView(
            name=row.name,
            kind=row.kind,
            state="disabled" if not row.enabled else "up" if workers else "down",
            capacity=capacity,
            largest=most_of_each(worker.hello.capacity for worker in workers),
            price_per_hour=row.price_per_hour,
            gpu_price_per_hour=row.gpu_price_per_hour,
            speed=row.speed,
            labels=row.labels,
            bandwidth_bytes_per_s=row.bandwidth_bytes_per_s,
            egress_price_per_gb=row.egress_price_per_gb,
            enabled=row.enabled,
            workers=len(workers),
            running=sum(self._running(worker) for worker in workers),
        )

    async def workers(self, *, ended: bool = False) -> Sequence[WorkerView]:
        """Newest first; with ``ended`` also those that are lost or gone."""
        rows = [row for row in self._database.workers.values() if ended or row.state in LIVING]
        return [self._worker(row) for row in reversed(rows)]

    def _worker(self, row: WorkerRow) -> WorkerView:
        hello = row.hello
        return WorkerView(
            id=row.id,
            name=hello.name,
            resource=hello.resource,
            host=hello.host,
            node_id=hello.node_id,
            pid=hello.pid,
            state=row.state,
            capacity=hello.capacity,
            running=self._running(row),
            registered_at=row.registered_at,
            heartbeat_at=row.heartbeat_at,
            version=hello.version,
        )

    def _running(self, worker: WorkerRow) -> int:
        return sum(
            1
            for step in self._database.steps.values()
            for row in step.tasks.values()
            if row.worker_id == worker.id and row.state in ACTIVE
        )

    async def storages(self) -> Sequence[StorageView]:
        """By name."""
        found = sorted(self._database.storages.values(), key=lambda location: location.name)
        return [StorageView(location.name, location.kind, location.root) for location in found]


def _step_view(step: StepRow, names: Mapping[int, str]) -> StepView:
    counts = {state.name.lower(): n for state, n in step.counts().items()}
    needs = tuple(dict.fromkeys(names[i] for i in (*step.needs, *step.follows)))
    return StepView(
        step.step_id, step.compiled.name, step.compiled.position, step.n, {"total": step.n, **counts}, needs
    )
