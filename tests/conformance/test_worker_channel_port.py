"""What a worker may rely on, whoever is behind the channel: the memory one, and the real services on memory stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from airavata_scheduler.adapters.clock import SystemClock
from airavata_scheduler.adapters.memory.database import MemoryDatabase
from airavata_scheduler.adapters.memory.experiment_store import MemoryExperimentStore
from airavata_scheduler.adapters.memory.leases import MemoryLeases
from airavata_scheduler.adapters.memory.queries import MemoryQueries
from airavata_scheduler.adapters.memory.solver import InProcessSolver
from airavata_scheduler.adapters.memory.storage import MemoryStorage
from airavata_scheduler.adapters.memory.task_store import MemoryTaskStore
from airavata_scheduler.adapters.memory.worker_channel import MemoryWorkerChannel
from airavata_scheduler.adapters.memory.worker_store import MemoryWorkerStore
from airavata_scheduler.adapters.worker_channel.ray import RayWorkerChannel
from airavata_scheduler.platform.domain.axes import Values
from airavata_scheduler.platform.domain.compiled import CompiledExperiment, CompiledStep, ProgramTemplate
from airavata_scheduler.platform.domain.failures import RetryPolicy
from airavata_scheduler.platform.domain.messages import Hello, Program, Report, StorageLocation, WorkerGoneError
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.states import TaskState
from airavata_scheduler.platform.domain.sweep import Sweep
from airavata_scheduler.platform.ports.repository import NewExperiment
from airavata_scheduler.platform.services.scheduler import TaskSchedulerService
from airavata_scheduler.platform.services.workers import WorkerLifecycleService

HERE = StorageLocation("default", "posix", "/data")
TWO = Capacity(cpu=2)


def hello(name: str = "w") -> Hello:
    return Hello(name, "local", "host", "node", 1, "0", TWO)


class Bench:
    channel: Any

    async def submit(self, n: int) -> None:
        raise NotImplementedError


class InMemory(Bench):
    def __init__(self) -> None:
        self.channel = MemoryWorkerChannel([HERE])

    async def submit(self, n: int) -> None:
        program = Program(1, "e", "s", Capacity(), command=("true",))
        await self.channel.submit(program, [{"X": i} for i in range(n)])


class Served(Bench):
    async def open(self) -> None:
        clock = SystemClock()
        database = MemoryDatabase(clock)
        tasks, self.experiments = MemoryTaskStore(database), MemoryExperimentStore(database)
        workers = MemoryWorkerStore(database)
        await workers.ensure_storage(HERE)
        leases = MemoryLeases(database)
        self.scheduler = TaskSchedulerService(
            tasks,
            await leases.take("s", "", 1),
            InProcessSolver(lambda limits: replace(limits, solver="greedy")),
            MemoryStorage(),
            clock,
        )
        woken: set[asyncio.Task[None]] = set()
        lifecycle = WorkerLifecycleService(
            workers, self.experiments, MemoryQueries(database), await leases.take("l", "", 1), clock,
            lease_s=10.0, heartbeat_s=2.0, outage_s=60.0,
            on_change=lambda: woken.add(asyncio.ensure_future(self.scheduler.wake())),
        )  # fmt: skip
        self.channel = RayWorkerChannel(self.scheduler, lifecycle)
        self.loop = asyncio.ensure_future(self.scheduler.run())

    async def submit(self, n: int) -> None:
        step = CompiledStep(
            position=0, name="s", n=n, sweep=Sweep(Values("X", tuple(range(n)))), foreach=(), fan_out=n, gather=(),
            after=(), references={}, program=ProgramTemplate(command=("true",)), retry=RetryPolicy(), priority=0,
            time_s=0.1,
        )  # fmt: skip
        compiled = CompiledExperiment("e", "", (), 0, None, None, {}, (), (), (step,))
        await self.experiments.insert(NewExperiment("e", "admin", "default", compiled, {}))
        await self.scheduler.wake()


@pytest.fixture(params=["memory", "services"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "memory":
        yield InMemory()
        return
    served = Served()
    await served.open()
    yield served
    served.loop.cancel()
    await asyncio.gather(served.loop, return_exceptions=True)


async def test_a_worker_registers_claims_and_reports(bench: Bench) -> None:
    welcome = await bench.channel.register(hello())
    assert (welcome.storages, welcome.lease_s, welcome.heartbeat_s) == ((HERE,), 10.0, 2.0)
    await bench.submit(3)
    batch = await bench.channel.claim(welcome.worker_id, TWO, 100, 60.0)
    assert [(launch.index, launch.attempt, launch.parameters) for launch in batch.launches] == [
        (0, 1, {"X": 0}),
        (1, 1, {"X": 1}),
    ]
    step_id = batch.launches[0].step_id
    assert batch.programs[step_id].command == ("true",)
    ended = [Report(step_id, i, 1, TaskState.SUCCEEDED) for i in (0, 1)]
    assert await bench.channel.report(welcome.worker_id, ended) == []
    assert await bench.channel.report(welcome.worker_id, ended) == [(step_id, 0, 1), (step_id, 1, 1)]
    (last,) = (await bench.channel.claim(welcome.worker_id, TWO, 100, 60.0)).launches
    assert last.index == 2


async def test_no_more_is_handed_out_than_was_asked_for(bench: Bench) -> None:
    welcome = await bench.channel.register(hello())
    await bench.submit(5)
    assert len((await bench.channel.claim(welcome.worker_id, TWO, 1, 60.0)).launches) == 1
    assert (await bench.channel.claim(welcome.worker_id, Capacity(cpu=0.5), 9, 0.01)).launches == ()


async def test_a_claim_waits_for_work_and_comes_back_empty_without(bench: Bench) -> None:
    welcome = await bench.channel.register(hello())
    assert (await bench.channel.claim(welcome.worker_id, TWO, 9, 0.05)).launches == ()
    waiting = asyncio.ensure_future(bench.channel.claim(welcome.worker_id, TWO, 9, 30.0))
    await bench.submit(1)
    assert len((await waiting).launches) == 1


async def test_a_successor_of_the_same_name_gets_the_tasks_and_the_predecessor_nothing(bench: Bench) -> None:
    first = await bench.channel.register(hello())
    await bench.submit(1)
    (held,) = (await bench.channel.claim(first.worker_id, TWO, 9, 60.0)).launches
    second = await bench.channel.register(hello())
    assert second.worker_id != first.worker_id
    with pytest.raises(WorkerGoneError):
        await bench.channel.heartbeat(first.worker_id, TWO, 0, 0.0)
    (again,) = (await bench.channel.claim(second.worker_id, TWO, 9, 60.0)).launches
    assert (again.index, again.attempt) == (held.index, held.attempt + 1)


async def test_a_goodbye_gives_back_and_a_heartbeat_renews(bench: Bench) -> None:
    first, second = await bench.channel.register(hello("a")), await bench.channel.register(hello("b"))
    await bench.submit(1)
    await bench.channel.claim(first.worker_id, TWO, 9, 60.0)
    directives = await bench.channel.heartbeat(first.worker_id, TWO, 1, 0.0)
    assert (directives.lease_s, directives.cancel, directives.drain) == (10.0, (), False)
    await bench.channel.goodbye(first.worker_id)
    assert len((await bench.channel.claim(second.worker_id, TWO, 9, 60.0)).launches) == 1
