"""The services of the hot path over a real PostgreSQL, with workers that report at once: our own cost and nothing else.

No Ray, no actors, no processes of tasks: planner, claims, parameters, reports, counts and events are the real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from airavata_scheduler import bootstrap
from airavata_scheduler.adapters.persistence.migrate import migrate
from airavata_scheduler.launcher import processes
from airavata_scheduler.launcher.postgres import EmbeddedPostgres
from airavata_scheduler.launcher.secrets import ensure_secrets
from airavata_scheduler.platform.domain.failures import Cause
from airavata_scheduler.platform.domain.messages import Hello, Launch, Report
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.states import TaskState
from airavata_scheduler.platform.interfaces import Submission
from airavata_scheduler.platform.services.identity import ensure_admin
from airavata_scheduler.settings import Settings
from benchmarks.bare import TRUE
from benchmarks.live import sweep
from benchmarks.proc import anonymous_bytes, cpu_s, used_since

CLAIM = 400
WORKERS = 2
WARM_UP = 2000
SAMPLES = 20  #: how often memory is looked at during a run


@dataclass(frozen=True, slots=True)
class Sample:
    """How far a run was, ``at_s`` on the monotonic clock, and CPU time and memory of our processes then."""

    done: int
    at_s: float
    cpu_s: float
    resident_bytes: int


@dataclass(frozen=True, slots=True)
class NoopRun:
    """``submit_s`` ends when the experiment is stored and can be queried, ``took_s`` begins there."""

    experiment: str
    tasks: int
    submit_s: float
    took_s: float
    cpu_s: float
    pending_bytes: float  #: by which our processes grew when the tasks were submitted
    samples: tuple[Sample, ...]  #: about every twentieth of the tasks, and at the end

    @property
    def per_task_ms(self) -> float:
        """Wall time."""
        return self.took_s / self.tasks * 1000

    @property
    def growth_bytes(self) -> float:
        """Memory per task between the first tenth of the run and its end: what is flat is near 0."""
        early, last = self._after(0.1), self.samples[-1]
        return (last.resident_bytes - early.resident_bytes) / max(1, last.done - early.done)

    @property
    def linearity(self) -> tuple[float, float]:
        """Wall and CPU time per task in the last tenth of the run over that in the second tenth."""
        (early_s, early_cpu_s), (late_s, late_cpu_s) = self._pace_s(0.1, 0.2), self._pace_s(0.9, 1.0)
        return late_s / early_s, late_cpu_s / early_cpu_s

    @property
    def paces_us(self) -> list[int]:
        """Time per task from sample to sample."""
        return [
            round((last.at_s - first.at_s) / max(1, last.done - first.done) * 1e6)
            for first, last in pairwise(self.samples)
        ]

    def _after(self, part: float) -> Sample:
        return next(sample for sample in self.samples if sample.done >= part * self.tasks)

    def _pace_s(self, start: float, end: float) -> tuple[float, float]:
        first, last = self._after(start), self._after(end)
        done = max(1, last.done - first.done)
        return (last.at_s - first.at_s) / done, (last.cpu_s - first.cpu_s) / done


@contextlib.contextmanager
def database(home: Path) -> Iterator[Settings]:
    """The embedded PostgreSQL of a home, with its schema, and nothing else of the platform."""
    settings = Settings.load(home=home)
    settings.paths.create()
    ensure_secrets(settings.paths)
    postgres = EmbeddedPostgres(settings.paths)
    try:
        postgres.start()
        migrate(settings.sqlalchemy_url())
        yield settings
    finally:
        postgres.stop()


@contextlib.asynccontextmanager
async def noop_platform(settings: Settings) -> AsyncIterator[NoopPlatform]:
    """Started and warm; ended on leaving."""
    platform = NoopPlatform(bootstrap.open_stores(settings))
    await platform.start()
    try:
        await platform.measure(WARM_UP)
        yield platform
    finally:
        await platform.stop()


class NoopPlatform:
    """Services with their loops, and workers that have done what they claim before they are asked."""

    def __init__(self, stores: bootstrap.Stores) -> None:
        self._stores = stores
        self._workers: list[int] = []
        self._loops: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Leases, services with their loops, and the workers."""
        stores = self._stores
        admin = json.loads(stores.settings.paths.admin.read_text())
        await ensure_admin(bootstrap.identity_store(stores), admin["username"], admin["password"], time.time(), cost=4)
        self._admin = str(admin["username"])
        await stores.workers.ensure_storage(bootstrap.default_storage(stores.settings))
        scheduling, orchestrating, living = [
            await stores.leases.take(name, "bench", 600.0) for name in ("scheduler", "orchestrator", "lifecycle")
        ]
        self._scheduler = bootstrap.task_scheduler(stores, scheduling, lambda _: None)
        self._lifecycle = bootstrap.worker_lifecycle(stores, living, lambda: None, lambda _: None)
        self._orchestrator = bootstrap.experiment_orchestrator(
            stores, orchestrating, bootstrap.data_mover(stores), self._scheduler.explain, lambda: None, _nobody
        )
        for number in range(WORKERS):
            hello = Hello(f"noop-{number}", "local", "localhost", "node", os.getpid(), "0", Capacity(cpu=1))
            self._workers.append((await self._lifecycle.register(hello)).worker_id)
        services = (self._scheduler, self._lifecycle, self._orchestrator)
        loops = [*(service.run() for service in services), *map(self._live, self._workers)]
        self._loops = [asyncio.create_task(loop) for loop in loops]

    async def stop(self) -> None:
        """End the loops, the solver's child and the connections."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self._stores.engine.dispose()

    async def measure(self, tasks: int, fail_every: int = 0) -> NoopRun:
        """Submit so many tasks and work them off; of ``fail_every`` tasks one fails for good.

        RuntimeError if not every task ended as it should.
        """
        memory, before = anonymous_bytes(_ours()), cpu_s(_ours())
        began = time.perf_counter()
        submitted = await self._orchestrator.submit(self._admin, Submission(sweep([TRUE], tasks, "noop")))
        await self._stores.queries.experiment(submitted.id)
        stored = time.perf_counter()
        grown = anonymous_bytes(_ours()) - memory
        worked = _Work(tasks, fail_every)
        await self._work_off(worked)
        took_s = time.perf_counter() - stored
        spent_s = used_since(before, _ours())
        view = await self._stores.queries.experiment(submitted.id)
        if view.counts.get("succeeded") != tasks - worked.failed or view.counts.get("failed") != worked.failed:
            message = f"experiment {submitted.id} ended as {view.status} with {dict(view.counts)}"
            raise RuntimeError(message)
        worked.sample()
        return NoopRun(
            submitted.id, tasks, stored - began, took_s, spent_s, max(0.0, grown / tasks), tuple(worked.samples)
        )

    async def _work_off(self, work: _Work) -> None:
        await self._scheduler.wake()
        workers = [asyncio.create_task(self._work(worker, work)) for worker in self._workers]
        ending = asyncio.create_task(work.done.wait())
        ended, _ = await asyncio.wait([ending, *workers], return_when=asyncio.FIRST_COMPLETED)
        for task in (ending, *workers):
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        for task in ended:
            task.result()

    async def _work(self, worker_id: int, work: _Work) -> None:
        free = Capacity(cpu=float(CLAIM))
        while work.left > 0:
            batch = await self._scheduler.claim(worker_id, free, CLAIM, 5.0)
            if batch.launches:
                reports = [work.report(launch) for launch in batch.launches]
                stale = await self._scheduler.report(worker_id, reports)
                work.count(len(reports) - len(stale))
        work.done.set()

    async def _live(self, worker_id: int) -> None:
        while True:
            await self._lifecycle.heartbeat(worker_id, Capacity(cpu=0.0), 0, self._stores.settings.heartbeat_s)


class _Work:
    """What is left to do, and memory on the way."""

    def __init__(self, tasks: int, fail_every: int) -> None:
        self.tasks = self.left = tasks
        self.failed = 0
        self.done = asyncio.Event()
        self.samples: list[Sample] = []
        self._fail_every = fail_every

    def count(self, done: int) -> None:
        """So many more have ended."""
        self.left -= done
        if self.tasks - self.left >= (len(self.samples) + 1) * self.tasks / SAMPLES:
            self.sample()

    def sample(self) -> None:
        """Look at the memory now."""
        ours = _ours()
        spent_s = sum(cpu_s(ours).values())
        self.samples.append(Sample(self.tasks - self.left, time.monotonic(), spent_s, anonymous_bytes(ours)))

    def report(self, launch: Launch) -> Report:
        """As a worker reports a program that ran for two milliseconds and wrote nothing."""
        fails = self._fail_every > 0 and launch.index % self._fail_every == 0
        self.failed += fails
        return Report(
            launch.step_id,
            launch.index,
            launch.attempt,
            TaskState.FAILED if fails else TaskState.SUCCEEDED,
            cause=Cause.EXIT_CODE if fails else None,
            message="the program ended with 1" if fails else "",
            exit_code=int(fails),
            started_at=time.time(),
            wall_s=0.002,
            cpu_s=0.001,
            peak_memory_bytes=1_500_000,
        )


async def _nobody(_: Sequence[int]) -> None:
    """No worker has to be told of what was canceled, because nothing is."""


def _ours() -> set[int]:
    return {os.getpid(), *processes.descendants(os.getpid())}
