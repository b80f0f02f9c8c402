"""The stores of each adapter behind one bench: PostgreSQL, and memory on a clock of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from airavata_scheduler.adapters.memory.database import MemoryDatabase
from airavata_scheduler.adapters.memory.experiment_store import MemoryExperimentStore
from airavata_scheduler.adapters.memory.leases import MemoryLeases
from airavata_scheduler.adapters.memory.task_store import MemoryTaskStore
from airavata_scheduler.adapters.memory.worker_store import MemoryWorkerStore
from airavata_scheduler.adapters.persistence.engine import create_engine
from airavata_scheduler.adapters.persistence.experiment_store import PostgresExperimentStore
from airavata_scheduler.adapters.persistence.leases import PostgresLeases
from airavata_scheduler.adapters.persistence.task_store import PostgresTaskStore
from airavata_scheduler.adapters.persistence.worker_store import PostgresWorkerStore
from airavata_scheduler.platform.domain.compiled import CompiledExperiment, CompiledStep
from airavata_scheduler.platform.domain.failures import RetryPolicy
from airavata_scheduler.platform.domain.messages import Hello, Report
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.states import TaskState
from airavata_scheduler.platform.ports.repository import Charge, Fence, NewExperiment, ReportContext, TaskKey

FREE = Charge(price_per_hour=3600.0, gpu_price_per_hour=0.0)


def hello(name: str, resource: str = "local") -> Hello:
    return Hello(name, resource, "host", "node", 1, "0", Capacity(cpu=2))


class World:
    """What the suite asks of an adapter: its stores, one worker, the scheduler's lease, and a look behind them."""

    leases: Any
    tasks: Any
    experiments: Any
    workers: Any
    fence: Fence
    worker: int

    def __init__(self) -> None:
        self.retries: dict[int, RetryPolicy] = {}
        self.experiment_of: dict[int, str] = {}

    async def open(self) -> None:
        self.fence = await self.leases.take("task-scheduler", "test", 10)
        self.worker = await self.workers.register_worker(hello("w"), 30)

    async def submit(
        self, name: str, *steps: CompiledStep, key: str | None = None, start: bool = True, digest: str = ""
    ) -> list[int]:
        compiled = CompiledExperiment(
            name=name, description="", tags=(), priority=0, deadline=None, budget=None, objective={}, allow=(), deny=(),
            steps=steps,
        )  # fmt: skip
        new = NewExperiment(
            name, "admin", "default", compiled, {"name": name}, start, idempotency_key=key, request_digest=digest
        )
        await self.experiments.insert(new)
        ids = await self.step_ids(name)
        self.experiment_of.update(dict.fromkeys(ids, name))
        self.retries.update(dict(zip(ids, (s.retry for s in steps), strict=False)))
        return ids

    async def claim(self, step_id: int, n: int) -> list[TaskKey]:
        return await self.tasks.claim(self.fence, self.worker, [(step_id, n)])

    async def end(self, keys: list[TaskKey], state: TaskState = TaskState.SUCCEEDED, **more: Any) -> Any:
        reports = [Report(*key, state=state, started_at=1e9, wall_s=1.0, cpu_s=0.5, **more) for key in keys]
        contexts = {
            i: ReportContext(self.experiment_of[i], self.retries[i], 1.0, 0.0) for i in {key[0] for key in keys}
        }
        return await self.tasks.report(self.worker, reports, contexts, FREE)

    async def step_ids(self, experiment: str) -> list[int]:
        raise NotImplementedError

    async def counts(self, step_id: int) -> dict[str, int]:
        """Tasks by state; the counts kept must agree with the rows."""
        raise NotImplementedError

    async def status(self, experiment: str) -> str:
        raise NotImplementedError

    async def usage(self, experiment: str) -> tuple[float, float]:
        raise NotImplementedError

    async def attempts(self) -> int:
        raise NotImplementedError

    async def end_back_offs(self) -> None:
        raise NotImplementedError

    async def end_lease(self, worker_id: int) -> None:
        raise NotImplementedError

    async def move_clock(self, by_s: float) -> None:
        """Set the database's clock forward, or back."""
        raise NotImplementedError


#: A schema that is searched before the server's own functions.
SHIFTED = """
CREATE SCHEMA IF NOT EXISTS shifted;
CREATE TABLE IF NOT EXISTS shifted.clock (by_s float8);
CREATE OR REPLACE FUNCTION shifted.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
$$ SELECT pg_catalog.clock_timestamp() + make_interval(secs => (SELECT sum(by_s) FROM shifted.clock)) $$;
DO $$ BEGIN
EXECUTE format('ALTER DATABASE %I SET search_path = shifted, pg_catalog, public', current_database()); END $$
"""


class PostgresWorld(World):
    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__()
        self.engine = engine
        self.leases = PostgresLeases(engine)
        self.tasks = PostgresTaskStore(engine)
        self.experiments = PostgresExperimentStore(engine)
        self.workers = PostgresWorkerStore(engine)

    async def open(self) -> None:
        await self._run("INSERT INTO users (name, password_hash, admin) VALUES ('admin', '', true)")
        await self._run("INSERT INTO projects (name, owner) VALUES ('default', 'admin')")
        await super().open()

    async def _run(self, statement: str, **values: Any) -> list[Any]:
        async with self.engine.begin() as connection:
            result = await connection.execute(sa.text(statement), values)
            return list(result.mappings()) if result.returns_rows else []

    async def step_ids(self, experiment: str) -> list[int]:
        rows = await self._run("SELECT id FROM steps WHERE experiment = :e ORDER BY position", e=experiment)
        return [row["id"] for row in rows]

    async def counts(self, step_id: int) -> dict[str, int]:
        (row,) = await self._run(
            "SELECT c.*, s.n, s.rest_state FROM step_counts c JOIN steps s ON s.id = c.step_id WHERE s.id = :i",
            i=step_id,
        )
        real = await self._run("SELECT state, count(*) AS n FROM tasks WHERE step_id = :i GROUP BY 1", i=step_id)
        found = {state.name.lower(): row[state.name.lower()] for state in TaskState}
        assert {k: v for k, v in found.items() if v} == {TaskState(r["state"]).name.lower(): r["n"] for r in real}
        found[TaskState(row["rest_state"]).name.lower()] += row["n"] - row["written"]
        return {k: v for k, v in found.items() if v}

    async def status(self, experiment: str) -> str:
        return str((await self._run("SELECT status FROM experiments WHERE id = :e", e=experiment))[0]["status"])

    async def usage(self, experiment: str) -> tuple[float, float]:
        (row,) = await self._run("SELECT cost, cpu_s FROM experiments WHERE id = :e", e=experiment)
        return row["cost"], row["cpu_s"]

    async def attempts(self) -> int:
        return int((await self._run("SELECT count(*) AS n FROM attempts"))[0]["n"])

    async def end_back_offs(self) -> None:
        await self._run("UPDATE tasks SET not_before = NULL")

    async def end_lease(self, worker_id: int) -> None:
        await self._run("UPDATE workers SET lease_until = now() - interval '1 minute' WHERE id = :i", i=worker_id)

    async def move_clock(self, by_s: float) -> None:
        for statement in SHIFTED.strip().split(";\n"):
            await self._run(statement)
        await self._run("INSERT INTO shifted.clock VALUES (:by_s)", by_s=by_s)
        await self.engine.dispose()


class StandingClock:
    now = 1e9

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, delay_s: float) -> None: ...


class MemoryWorld(World):
    def __init__(self) -> None:
        super().__init__()
        self.clock = StandingClock()
        self.database = MemoryDatabase(self.clock)
        self.leases = MemoryLeases(self.database)
        self.tasks = MemoryTaskStore(self.database)
        self.experiments = MemoryExperimentStore(self.database)
        self.workers = MemoryWorkerStore(self.database)

    async def step_ids(self, experiment: str) -> list[int]:
        row = self.database.experiments.get(experiment)
        return [step.step_id for step in row.steps] if row else []

    async def counts(self, step_id: int) -> dict[str, int]:
        step = self.database.steps[step_id]
        assert +step.written == Counter(row.state for row in step.tasks.values())
        return {state.name.lower(): n for state, n in step.counts().items() if n}

    async def status(self, experiment: str) -> str:
        return str(self.database.experiments[experiment].status)

    async def usage(self, experiment: str) -> tuple[float, float]:
        row = self.database.experiments[experiment]
        return row.cost, row.cpu_s

    async def attempts(self) -> int:
        return len(self.database.attempts)

    async def end_back_offs(self) -> None:
        for step in self.database.steps.values():
            for row in step.tasks.values():
                row.not_before = None

    async def end_lease(self, worker_id: int) -> None:
        self.database.workers[worker_id].lease_until -= 60.0

    async def move_clock(self, by_s: float) -> None:
        self.clock.now += by_s


@pytest.fixture(params=["memory", "postgres"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "memory":
        bench: World = MemoryWorld()
        await bench.open()
        yield bench
        return
    engine = create_engine(request.getfixturevalue("own_database"))
    bench = PostgresWorld(engine)
    await bench.open()
    yield bench
    await engine.dispose()
