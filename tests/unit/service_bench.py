"""The scheduler's service over memory adapters, with one worker on each resource."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from airavata_scheduler.adapters.memory.clock import VirtualClock
from airavata_scheduler.adapters.memory.database import MemoryDatabase
from airavata_scheduler.adapters.memory.experiment_store import MemoryExperimentStore
from airavata_scheduler.adapters.memory.leases import MemoryLeases
from airavata_scheduler.adapters.memory.solver import InProcessSolver
from airavata_scheduler.adapters.memory.storage import MemoryStorage
from airavata_scheduler.adapters.memory.task_store import MemoryTaskStore
from airavata_scheduler.adapters.memory.worker_store import MemoryWorkerStore
from airavata_scheduler.platform.domain.compile import compile_document
from airavata_scheduler.platform.domain.document import parse_document
from airavata_scheduler.platform.domain.messages import Hello, Launch, Report
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.states import TaskState
from airavata_scheduler.platform.interfaces import Alarm
from airavata_scheduler.platform.ports.repository import NewExperiment
from airavata_scheduler.platform.services.scheduler import TaskSchedulerService

NOW = 1e9


class Bench:
    """One worker of four cores on each resource, the service, and what it announced."""

    solver = InProcessSolver()
    thinker: InProcessSolver | None = None

    async def open(self, *resources: str) -> Bench:
        self.clock = VirtualClock(asyncio.get_running_loop(), NOW)
        self.database = MemoryDatabase(self.clock)
        self.tasks = MemoryTaskStore(self.database)
        self.experiments = MemoryExperimentStore(self.database)
        self.workers = MemoryWorkerStore(self.database)
        self.alarms: list[Alarm] = []
        self.worker_of = {}
        for name in resources or ("local",):
            hello = Hello(f"w-{name}", name, "host", "node", 1, "0", Capacity(cpu=4))
            self.worker_of[name] = await self.workers.register_worker(hello, 1e9)
        await self.restart()
        return self

    async def restart(self) -> None:
        fence = await MemoryLeases(self.database).take("task-scheduler", "test", 1e9)
        storage = MemoryStorage()
        self.service = TaskSchedulerService(
            self.tasks, fence, self.solver, storage, self.clock, lambda _: None, self.heed, self.thinker
        )

    async def heed(self, alarms: Sequence[Alarm]) -> None:
        self.alarms.extend(alarms)

    def set(self, resource: str, **changes: Any) -> None:
        row = self.database.resource_named(resource)
        assert row is not None
        for name, value in changes.items():
            setattr(row, name, value)

    def due_in(self, experiment: str, left_s: float) -> None:
        self.database.experiments[experiment].moved_deadline = self.clock.time() + left_s

    async def submit(self, name: str, n: int, *, project: str = "default", task: Any = None, **more: Any) -> int:
        step = {"command": ["true"], "task_inputs": {"X": f"1..{n}"}, **(task or {})}
        document = {"name": name, "tasks": {"t": step}, **more}
        compiled = compile_document(parse_document(document, now=self.clock.time()))
        await self.experiments.insert(NewExperiment(name, "admin", project, compiled, document))
        return self.database.experiments[name].steps[0].step_id

    async def look(self) -> None:
        await self.service.plan()
        await asyncio.sleep(0)

    async def claim(self, resource: str = "local", most: int = 4) -> tuple[Launch, ...]:
        return (await self.service.claim(self.worker_of[resource], Capacity(cpu=4), most, 0.0)).launches

    async def looked(self, resource: str, most: int = 4) -> tuple[Launch, ...]:
        """A claim under a plan of this moment."""
        await self.look()
        return await self.claim(resource, most)

    async def end(self, launches: Sequence[Launch], wall_s: float, resource: str = "local", **more: Any) -> None:
        reports = [
            Report(x.step_id, x.index, x.attempt, TaskState.SUCCEEDED, started_at=NOW, wall_s=wall_s, **more)
            for x in launches
        ]
        await self.service.report(self.worker_of[resource], reports)

    def cost(self, experiment: str) -> float:
        return self.database.experiments[experiment].cost

    async def explained(self, step_id: int) -> Mapping[str, Any]:
        await self.look()
        return await self.service.explain(step_id)
