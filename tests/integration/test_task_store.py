"""The hot path against a real PostgreSQL: claims, reports and what follows from them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from airavata_scheduler.adapters.persistence.engine import create_engine
from airavata_scheduler.adapters.persistence.experiment_store import PostgresExperimentStore
from airavata_scheduler.adapters.persistence.leases import PostgresLeases
from airavata_scheduler.adapters.persistence.task_store import PostgresTaskStore
from airavata_scheduler.adapters.persistence.worker_store import PostgresWorkerStore
from airavata_scheduler.platform.domain.compiled import (
    CompiledExperiment,
    CompiledStep,
    ProgramTemplate,
    Reference,
)
from airavata_scheduler.platform.domain.errors import ConflictError, LeaseLostError, NotFoundError
from airavata_scheduler.platform.domain.failures import Cause, RetryPolicy
from airavata_scheduler.platform.domain.messages import Hello, Output, Report
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.states import ExperimentState, TaskState
from airavata_scheduler.platform.domain.sweep import Sweep
from airavata_scheduler.platform.ports.repository import Charge, Fence, NewExperiment, ReportContext, TaskKey

FREE = Charge(price_per_hour=3600.0, gpu_price_per_hour=0.0)


def step(position: int, n: int, **more: Any) -> CompiledStep:
    foreach = more.pop("foreach", ())
    values: dict[str, Any] = {
        "name": f"s{position}",
        "sweep": Sweep(),
        "foreach": foreach,
        "fan_out": more.pop("fan_out", 1 if foreach else n),
        "gather": (),
        "after": (),
        "references": {},
        "program": ProgramTemplate(command=("true",)),
        "retry": RetryPolicy(),
        "priority": 0,
        "time_s": None,
    }
    return CompiledStep(position=position, n=n, **{**values, **more})


@dataclass
class World:
    """The stores over one database, with one worker and the scheduler's lease."""

    engine: AsyncEngine
    fence: Fence
    worker: int
    tasks: PostgresTaskStore
    experiments: PostgresExperimentStore
    workers: PostgresWorkerStore
    retries: dict[int, RetryPolicy] = field(default_factory=dict)

    async def submit(self, name: str, *steps: CompiledStep, key: str | None = None) -> list[int]:
        compiled = CompiledExperiment(
            name=name, description="", tags=(), priority=0, deadline=None, budget=None, objective={}, allow=(), deny=(),
            steps=steps,
        )
        new = NewExperiment(name, "admin", "default", compiled, {"name": name}, idempotency_key=key)
        await self.experiments.insert(new)
        async with self.engine.connect() as connection:
            rows = await connection.execute(
                sa.text("SELECT id FROM steps WHERE experiment = :e ORDER BY position"), {"e": name}
            )
            ids = list(rows.scalars())
        self.retries.update(dict(zip(ids, (s.retry for s in steps), strict=False)))
        return ids

    async def claim(self, step_id: int, n: int) -> list[TaskKey]:
        return await self.tasks.claim(self.fence, self.worker, [(step_id, n)])

    async def end(self, keys: list[TaskKey], state: TaskState = TaskState.SUCCEEDED, **more: Any) -> Any:
        reports = [Report(*key, state=state, started_at=1e9, wall_s=1.0, cpu_s=0.5, **more) for key in keys]
        contexts = {i: ReportContext(self.retries[i], 1.0, 0.0) for i in {key[0] for key in keys}}
        return await self.tasks.report(self.worker, reports, contexts, FREE)

    async def counts(self, step_id: int) -> dict[str, int]:
        async with self.engine.connect() as connection:
            row = (
                await connection.execute(
                    sa.text("SELECT c.*, s.n, s.rest_state FROM step_counts c JOIN steps s ON s.id = c.step_id WHERE s.id = :i"),
                    {"i": step_id},
                )
            ).mappings().one()
            real = await connection.execute(
                sa.text("SELECT state, count(*) FROM tasks WHERE step_id = :i GROUP BY 1"), {"i": step_id}
            )
            truth = {TaskState(state).name.lower(): n for state, n in real}
        found = {state.name.lower(): row[state.name.lower()] for state in TaskState}
        assert {k: v for k, v in found.items() if v} == truth
        found[TaskState(row["rest_state"]).name.lower()] += row["n"] - row["written"]
        return {k: v for k, v in found.items() if v}

    async def status(self, experiment: str) -> str:
        async with self.engine.connect() as connection:
            found = await connection.execute(sa.text("SELECT status FROM experiments WHERE id = :e"), {"e": experiment})
            return str(found.scalar_one())


@pytest.fixture
async def world(own_database: str) -> AsyncIterator[World]:
    engine = create_engine(own_database)
    async with engine.begin() as connection:
        await connection.execute(sa.text("INSERT INTO users (name, password_hash, admin) VALUES ('admin', '', true)"))
        await connection.execute(sa.text("INSERT INTO projects (name, owner) VALUES ('default', 'admin')"))
    fence = await PostgresLeases(engine).take("task-scheduler", "test", 10)
    workers = PostgresWorkerStore(engine)
    worker = await workers.register_worker(hello("w"), 30)
    yield World(engine, fence, worker, PostgresTaskStore(engine), PostgresExperimentStore(engine), workers)
    await engine.dispose()


def hello(name: str) -> Hello:
    return Hello(name, "local", "host", "node", 1, "0", Capacity(cpu=2))


async def test_a_range_is_claimed_in_order_and_finished_once(world: World) -> None:
    (a,) = await world.submit("e", step(0, 10))
    assert await world.counts(a) == {"ready": 10}
    first = await world.claim(a, 4)
    assert first == [(a, i, 1) for i in range(4)]
    assert await world.counts(a) == {"ready": 6, "assigned": 4}
    rest = await world.claim(a, 100)
    assert [index for _, index, _ in rest] == list(range(4, 10))
    assert await world.claim(a, 1) == []
    outcome = await world.end(first)
    assert outcome.stale == [] and outcome.finished == []
    again = await world.end(first)
    assert again.stale == first
    assert (await world.end(rest)).finished == ["e"]
    assert await world.status("e") == "SUCCEEDED"
    assert await world.counts(a) == {"succeeded": 10}
    async with world.engine.connect() as connection:
        cost, cpu_s = (await connection.execute(sa.text("SELECT cost, cpu_s FROM experiments"))).one()
        assert (cost, cpu_s) == (pytest.approx(10.0), pytest.approx(5.0))
        assert (await connection.execute(sa.text("SELECT count(*) FROM attempts"))).scalar() == 10


async def test_followers_are_released_and_skipped_index_by_index(world: World) -> None:
    a, b, c, d = await world.submit(
        "e", step(0, 3), step(1, 3), step(2, 6, foreach=(0, 1), fan_out=2), step(3, 6, foreach=(2,))
    )
    in_a, in_b = await world.claim(a, 3), await world.claim(b, 3)
    await world.end(in_a[:2])
    assert await world.counts(c) == {"pending": 6}
    outcome = await world.end([in_b[0], in_b[2]])
    assert outcome.released == 2
    assert await world.counts(c) == {"pending": 4, "ready": 2}
    await world.end([in_a[2]], TaskState.FAILED, cause=Cause.EXIT_CODE, exit_code=3)
    assert await world.counts(c) == {"pending": 2, "ready": 2, "skipped": 2}
    assert await world.counts(d) == {"pending": 4, "skipped": 2}
    await world.end([in_b[1]])
    in_c = await world.claim(c, 10)
    assert [index for _, index, _ in in_c] == [0, 1, 2, 3]
    await world.end(in_c)
    last = await world.claim(d, 10)
    assert (await world.end(last)).finished == ["e"]
    assert await world.status("e") == "PARTIAL"
    assert await world.experiments.retry("e") == 5
    assert await world.status("e") == "RUNNING"
    assert await world.counts(d) == {"succeeded": 4, "pending": 2}
    await world.end(await world.claim(a, 10))
    await world.end(await world.claim(c, 10))
    assert (await world.end(await world.claim(d, 10))).finished == ["e"]
    assert await world.status("e") == "SUCCEEDED"


async def test_gates_open_after_their_needs_and_manifests_are_asked_for(world: World) -> None:
    reference = {"PARTS": Reference(0, "OUT", "gather")}
    a, b, c = await world.submit("e", step(0, 2), step(1, 1, gather=(0,), references=reference), step(2, 2, after=(1,)))
    keys = await world.claim(a, 2)
    outputs = (Output("OUT", "e/s0/0/1/o", 3, "ff"),)
    assert (await world.end(keys[:1], outputs=outputs)).manifests_due == []
    assert (await world.end(keys[1:], outputs=(Output("OUT", "e/s0/1/1/o", 3, "ff"),))).manifests_due == [b]
    assert await world.experiments.due_manifests() == [b]
    assert await world.claim(b, 1) == []
    assert [list(page) async for page in world.experiments.manifest_keys(a, "OUT")] == [["e/s0/0/1/o", "e/s0/1/1/o"]]
    assert await world.tasks.output_keys([(a, 0)]) == {(a, 0): {"OUT": "e/s0/0/1/o"}}
    assert await world.experiments.open_gate(world.fence, b) == 1
    assert (await world.end(await world.claim(b, 1))).released == 2
    assert (await world.end(await world.claim(c, 2))).finished == ["e"]


async def test_a_failed_need_skips_the_whole_step(world: World) -> None:
    a, b = await world.submit("e", step(0, 1), step(1, 1_000_000, after=(0,)))
    outcome = await world.end(await world.claim(a, 1), TaskState.FAILED, cause=Cause.EXIT_CODE)
    assert outcome.finished == ["e"]
    assert await world.status("e") == "FAILED"
    assert await world.counts(b) == {"skipped": 1_000_000}
    assert await world.experiments.retry("e") == 1_000_001
    assert await world.counts(b) == {"pending": 1_000_000}
    await world.end(await world.claim(a, 1))
    assert await world.counts(b) == {"ready": 1_000_000}


async def test_retries_wait_for_their_back_off_and_infrastructure_does_not_count(world: World) -> None:
    policy = RetryPolicy(max_attempts=2, backoff_s=3600.0, max_backoff_s=3600.0)
    (a,) = await world.submit("e", step(0, 2, retry=policy))
    one, two = await world.claim(a, 2)
    assert (await world.end([one], TaskState.FAILED, cause=Cause.EXIT_CODE)).released == 1
    assert await world.claim(a, 5) == []
    state = await world.tasks.planning_state()
    assert state.next_retry_at is not None and state.next_retry_at > state.now + 3000
    await world.end([two], TaskState.FAILED, cause=Cause.INFRASTRUCTURE)
    async with world.engine.begin() as connection:
        await connection.execute(sa.text("UPDATE tasks SET not_before = NULL"))
    again = await world.claim(a, 5)
    assert again == [(a, 0, 2), (a, 1, 2)]
    await world.end(again, TaskState.FAILED, cause=Cause.EXIT_CODE)
    assert await world.counts(a) == {"failed": 1, "ready": 1}


async def test_cancel_is_independent_of_size_and_late_reports_change_nothing(world: World) -> None:
    a, b = await world.submit("e", step(0, 1_000_000), step(1, 1_000_000, foreach=(0,)))
    held = await world.claim(a, 3)
    assert await world.experiments.cancel("e", "enough") == (ExperimentState.CANCELED, [world.worker])
    assert await world.counts(a) == {"canceled": 1_000_000}
    assert await world.experiments.holding("e") == 3
    assert await world.workers.renew_worker(world.worker, 30) == (False, held)
    assert await world.claim(a, 5) == []
    assert (await world.end(held[:1])).stale == []
    assert (await world.end(held[1:], TaskState.CANCELED)).stale == []
    assert await world.counts(b) == {"canceled": 1_000_000}
    assert await world.experiments.holding("e") == 0
    assert await world.experiments.retry("e") == 2_000_000
    assert (await world.claim(a, 5))[0] == (a, 0, 2)


async def test_a_lost_worker_gives_back_its_tasks_and_can_change_nothing(world: World) -> None:
    (a,) = await world.submit("e", step(0, 4))
    held = await world.claim(a, 3)
    await world.end(held[:1], TaskState.RUNNING)
    second = await world.workers.register_worker(hello("w"), 30)
    with pytest.raises(NotFoundError):
        await world.workers.renew_worker(world.worker, 30)
    assert await world.tasks.claim(world.fence, world.worker, [(a, 1)]) == []
    _, back, _ = await world.workers.expire_workers(world.fence)
    assert back == 3
    assert (await world.end(held)).stale == held
    assert await world.counts(a) == {"ready": 4}
    world.worker = second
    async with world.engine.begin() as connection:
        await connection.execute(sa.text("UPDATE tasks SET not_before = NULL"))
    assert (await world.end(await world.claim(a, 9))).finished == ["e"]


async def test_what_a_worker_did_not_get_goes_back(world: World) -> None:
    (a,) = await world.submit("e", step(0, 3))
    held = await world.claim(a, 3)
    assert await world.tasks.give_back(world.worker, held[:1]) == 2
    assert await world.tasks.give_back(world.worker, []) == 1
    assert await world.claim(a, 3) == [(a, 0, 2), (a, 1, 2), (a, 2, 2)]


async def test_a_stolen_lease_stops_claims(world: World) -> None:
    (a,) = await world.submit("e", step(0, 3))
    leases = PostgresLeases(world.engine)
    await leases.take("task-scheduler", "successor", 10)
    with pytest.raises(LeaseLostError):
        await world.claim(a, 1)
    with pytest.raises(LeaseLostError):
        await leases.renew(world.fence, 10)


async def test_pause_resume_delete_and_idempotency(world: World) -> None:
    (a,) = await world.submit("e", step(0, 3), key="k")
    assert await world.submit("f", step(0, 3), key="k") == []
    await world.experiments.pause("e", "lunch")
    assert await world.claim(a, 1) == []
    with pytest.raises(ConflictError):
        await world.experiments.delete("e")
    await world.experiments.resume("e")
    held = await world.claim(a, 3)
    await world.end(held[:1], TaskState.FAILED, cause=Cause.EXIT_CODE)
    await world.end(held[1:])
    assert await world.experiments.indexes("e", [TaskState.SUCCEEDED]) == {0: [(1, 2)]}
    assert await world.experiments.indexes("e", [TaskState.FAILED]) == {0: [(0, 0)]}
    seen = await world.experiments.announce_progress(world.fence, {})
    assert seen == {}
    await world.experiments.delete("e")
    with pytest.raises(NotFoundError):
        await world.experiments.cancel("e", "")
