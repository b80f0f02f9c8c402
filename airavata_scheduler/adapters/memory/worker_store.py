"""`WorkerStore` in memory: registration, leases on the database's clock, and what becomes of a lost worker's tasks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from airavata_scheduler.adapters.memory.database import (
    LIVING,
    MemoryDatabase,
    ResourceRow,
    StepRow,
    TaskRow,
    WorkerRow,
)
from airavata_scheduler.adapters.memory.reports import record
from airavata_scheduler.platform.domain.errors import NotFoundError
from airavata_scheduler.platform.domain.events import Event
from airavata_scheduler.platform.domain.failures import Cause
from airavata_scheduler.platform.domain.messages import Hello, Report, StorageLocation
from airavata_scheduler.platform.domain.states import ACTIVE, ExperimentState, TaskState
from airavata_scheduler.platform.domain.workers import LastLook, over_before
from airavata_scheduler.platform.ports.repository import Charge, Fence, ReportContext, ReportOutcome, WorkerOrders


class MemoryWorkerStore:
    """`WorkerStore` over a memory database."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def register_worker(self, hello: Hello, lease_s: float) -> int:
        """A new id; the resource is made if there is none of its name."""
        database, now = self._database, self._database.clock.time()
        resource = database.resource_named(hello.resource)
        if resource is None:
            resource = ResourceRow(len(database.resources) + 1, hello.resource)
            database.resources[resource.id] = resource
        for row in database.workers.values():
            if row.hello.name == hello.name and row.state in LIVING:
                row.state, row.lease_until = "lost", min(row.lease_until, now)
        worker_id = max(database.workers, default=0) + 1
        database.workers[worker_id] = WorkerRow(worker_id, hello, resource.id, now + lease_s, now, now)
        data = {"worker": worker_id, "name": hello.name, "resource": hello.resource}
        database.append([Event("worker.registered", None, None, data)])
        return worker_id

    async def renew_worker(self, worker_id: int, lease_s: float) -> WorkerOrders:
        """A worker that was not reaped yet goes on."""
        worker = self._living(worker_id)
        worker.heartbeat_at = self._database.clock.time()
        worker.lease_until = worker.heartbeat_at + lease_s
        canceled = tuple(
            (step.step_id, index, row.attempt)
            for step, index, row in self._held((worker_id,), frozenset({TaskState.CANCELED}))
        )
        experiments = self._database.experiments
        recalled = {
            step.step_id
            for step, _, _ in self._held((worker_id,), frozenset({TaskState.ASSIGNED}))
            if experiments[step.experiment].status is ExperimentState.PAUSED
        }
        return WorkerOrders(worker.state == "draining", canceled, tuple(sorted(recalled)))

    async def drain_worker(self, worker_id: int) -> None:
        """It claims nothing more from now on."""
        self._living(worker_id).state = "draining"

    async def remove_worker(self, worker_id: int) -> int:
        """It said goodbye, after it ended its processes."""
        worker = self._database.workers.get(worker_id)
        if worker is not None:
            worker.state, worker.lease_until = "gone", self._database.clock.time()
        self._forget_canceled((worker_id,))
        held = self._held((worker_id,), ACTIVE)
        for step, index, _ in held:
            step.move(index, TaskState.READY).worker_id = None
        self._database.append([Event("worker.left", None, None, {"worker": worker_id, "returned": len(held)})])
        return len(held)

    async def worker_processes(self) -> Mapping[int, str]:
        """See the port."""
        living = [row for row in self._database.workers.values() if row.state in LIVING]
        return {row.id: str(row.hello.facts["process"]) for row in living if "process" in row.hello.facts}

    async def expire_workers(
        self,
        fence: Fence,
        lease_s: float,
        last: LastLook | None,
        ended: Collection[int] = (),
        promised: Collection[int] = (),
    ) -> tuple[Sequence[int], float]:
        """See the port."""
        database, now = self._database, self._database.clock.time()
        database.check_fence(fence)
        living = [row for row in database.workers.values() if row.state in LIVING]
        was_regular = last is not None and last.was_regular(now, lease_s)
        for row in living:
            if not was_regular or row.id in promised:
                row.lease_until = now + lease_s
        end = over_before(now, lease_s)
        lost = [row.id for row in living if row.lease_until < end or row.id in ended]
        for worker_id in lost:
            database.workers[worker_id].state = "lost"
        if lost:
            held = len(self._held(tuple(lost), ACTIVE))
            database.append([Event("worker.lost", None, None, {"workers": lost, "tasks": held})])
        return lost, now

    async def take_back(self, fence: Fence) -> tuple[int, ReportOutcome]:
        """Tasks that never started go back as they are; attempts under way end as `worker_lost`."""
        database = self._database
        database.check_fence(fence)
        ended = tuple(row.id for row in database.workers.values() if row.state not in LIVING)
        not_started = self._held(ended, frozenset({TaskState.ASSIGNED}))
        for step, index, _ in not_started:
            step.move(index, TaskState.READY).worker_id = None
        self._forget_canceled(ended)
        orphans = self._held(ended, ACTIVE)
        return len(not_started) + len(orphans), self._lose(orphans)

    async def storages(self) -> list[StorageLocation]:
        """Every storage resource, by name."""
        return [self._database.storages[name] for name in sorted(self._database.storages)]

    async def ensure_storage(self, location: StorageLocation) -> None:
        """Make or move a storage resource."""
        self._database.storages[location.name] = location

    def _living(self, worker_id: int) -> WorkerRow:
        row = self._database.workers.get(worker_id)
        if row is None or row.state not in LIVING:
            message = f"worker {worker_id} is not known, or its lease was taken away"
            raise NotFoundError(message, remedy="the worker must register again")
        return row

    def _held(self, workers: tuple[int, ...], states: frozenset[TaskState]) -> list[tuple[StepRow, int, TaskRow]]:
        return [
            (step, index, step.tasks[index])
            for step in self._database.steps.values()
            for index in step.in_state(*states)
            if step.tasks[index].worker_id in workers
        ]

    def _forget_canceled(self, workers: tuple[int, ...]) -> None:
        for _, _, row in self._held(workers, frozenset({TaskState.CANCELED})):
            row.worker_id = None

    def _lose(self, orphans: list[tuple[StepRow, int, TaskRow]]) -> ReportOutcome:
        """Report attempts as lost in the name of the workers that cannot."""
        total = ReportOutcome()
        contexts = {
            step.step_id: ReportContext(
                step.experiment,
                step.compiled.retry,
                step.compiled.program.request.cpu,
                step.compiled.program.request.gpu,
            )
            for step, _, _ in orphans
        }
        for worker_id in sorted({row.worker_id for _, _, row in orphans if row.worker_id is not None}):
            reports = [
                Report(step.step_id, index, row.attempt, TaskState.FAILED, Cause.WORKER_LOST, _LOST)
                for step, index, row in orphans
                if row.worker_id == worker_id
            ]
            outcome = record(self._database, worker_id, reports, contexts, Charge(0.0, 0.0))
            total.manifests_due.extend(outcome.manifests_due)
            total.finished.extend(outcome.finished)
        return total


_LOST = "the worker that ran it was lost"
