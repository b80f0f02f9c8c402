"""What goes wrong, and how often; every decision comes from one seeded generator."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from airavata_scheduler.adapters.memory.database import LIVING, MemoryDatabase
from airavata_scheduler.adapters.memory.task_store import MemoryTaskStore
from airavata_scheduler.adapters.memory.worker_store import MemoryWorkerStore
from airavata_scheduler.platform.domain.errors import UnavailableError
from airavata_scheduler.platform.domain.messages import Report
from airavata_scheduler.platform.domain.states import TERMINAL
from airavata_scheduler.platform.ports.repository import Fence, PlanningState, ReportOutcome
from airavata_scheduler.scheduler_core import Limits, Plan, Snapshot, SolverError, plan


@dataclass
class Odds:
    """Probabilities per occasion; all zero once the faults have stopped."""

    lost_request: float = 0.0
    lost_answer: float = 0.0
    twice: float = 0.0
    slow: float = 0.0
    stale_state: float = 0.0
    no_plan: float = 0.0
    failing_plan: float = 0.0
    old_plan: float = 0.0

    def stop(self) -> None:
        for name in self.__dataclass_fields__:
            setattr(self, name, 0.0)


def draw_odds(rng: random.Random) -> Odds:
    """Some seeds are calm in some respect: faults hide each other."""
    return Odds(**{name: rng.choice((0.0, 0.02, 0.1, 0.3)) for name in Odds.__dataclass_fields__})


class Outage:
    """The database is away until a moment: it refuses, or it is frozen and goes on with what it was asked."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._until = 0.0
        self._frozen = False

    def begin(self, for_s: float) -> None:
        self._until = asyncio.get_running_loop().time() + for_s
        self._frozen = self._rng.random() < 0.5

    def end(self) -> None:
        self._until = 0.0

    async def pass_through(self, patience_s: float) -> None:
        """As a transaction with that limit: UnavailableError if the database stays away for longer."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + patience_s
        while loop.time() < self._until:
            if loop.time() >= give_up_at:
                raise UnavailableError("the database is away")
            wait_s = self._until - loop.time() if self._frozen else self._rng.uniform(0.01, 2.0)
            await asyncio.sleep(min(wait_s, give_up_at - loop.time()))


class Remote:
    """A store behind an outage. What decides about leases is not waited for, as in the adapters."""

    def __init__(self, store: Any, outage: Outage, short_s: float) -> None:
        self._store = store
        self._outage = outage
        self._limits = {"renew_worker": short_s, "expire_workers": 0.0, "worker_processes": 0.0, "take": 4.0}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method, outage, limit_s = getattr(self._store, name), self._outage, self._limits.get(name, 60.0)

        async def call(*args: Any, **more: Any) -> Any:
            await outage.pass_through(limit_s)
            return await method(*args, **more)

        async def stream(*args: Any, **more: Any) -> AsyncIterator[Any]:
            await outage.pass_through(limit_s)
            async for item in method(*args, **more):
                yield item

        behind = stream if inspect.isasyncgenfunction(method) else call
        setattr(self, name, behind)
        return behind


class FaultySolver:
    """The real planner: now and then late, without an answer, failing, or with the answer to an earlier question."""

    def __init__(self, rng: random.Random, odds: Odds) -> None:
        self._rng = rng
        self._odds = odds
        self._last: Plan | None = None
        self.solved = 0
        # The rungs of the ladder that cost tens of milliseconds are for a few seeds only.
        self._limits = {"solver": "auto"} if rng.random() < 0.01 else {"solver": "greedy", "detail_tasks": 0}

    async def solve(self, snapshot: Snapshot, now: float, limits: Limits) -> Plan | None:
        rng, odds = self._rng, self._odds
        if rng.random() < odds.slow:
            await asyncio.sleep(rng.uniform(0.0, 3.0))
        if rng.random() < odds.no_plan:
            return None
        if rng.random() < odds.failing_plan:
            message = "drawn"
            raise SolverError(message)
        if rng.random() < odds.old_plan:
            return self._last
        self._last = plan(snapshot, now, replace(limits, **self._limits))
        self.solved += 1
        return self._last


class FaultyTaskStore(MemoryTaskStore):
    """Planning states may be old; and what workers without a lease say is watched."""

    def __init__(self, database: MemoryDatabase, rng: random.Random, odds: Odds) -> None:
        super().__init__(database)
        self._rng = rng
        self._odds = odds
        self._old: PlanningState | None = None

    async def planning_state(self) -> PlanningState:
        if self._old is not None and self._rng.random() < self._odds.stale_state:
            return self._old
        self._old = await super().planning_state()
        return self._old

    async def report(self, worker_id: int, reports: Sequence[Report], *more: object) -> ReportOutcome:
        """S3: a worker whose lease is over and whose tasks were taken changes nothing."""
        database = self._database
        powerless = database.workers[worker_id].state not in LIVING and not _holds(database, worker_id)
        before = _fingerprint(database) if powerless else None
        outcome = await super().report(worker_id, reports, *more)
        if powerless:
            assert _fingerprint(database) == before, f"worker {worker_id} has no lease and changed something"
            sent = {(r.step_id, r.index, r.attempt) for r in reports if r.state in TERMINAL}
            assert set(outcome.stale) == sent
        return outcome


class WatchedWorkerStore(MemoryWorkerStore):
    """No registration is ended before its worker knows that its lease is over.

    ``lease_of`` tells until when a worker believes to have one; -1 for workers that nobody minds.
    """

    def __init__(self, database: MemoryDatabase, lease_of: Callable[[int], float]) -> None:
        super().__init__(database)
        self._lease_of = lease_of

    async def expire_workers(self, fence: Fence, *more: Any) -> tuple[Sequence[int], float]:
        lost, now = await super().expire_workers(fence, *more)
        early = [i for i in lost if self._lease_of(i) > self._database.clock.monotonic()]
        assert not early, f"workers {early} still have a lease and were given up"
        return lost, now


def _holds(database: MemoryDatabase, worker_id: int) -> bool:
    states = TERMINAL - {9}
    return any(
        row.worker_id == worker_id and row.state not in states
        for step in database.steps.values()
        for row in step.tasks.values()
    )


def _fingerprint(database: MemoryDatabase) -> object:
    rows = [
        (step.step_id, index, row.state, row.attempt, row.worker_id)
        for step in database.steps.values()
        for index, row in step.tasks.items()
    ]
    return (
        rows,
        len(database.attempts),
        len(database.outputs),
        [(e.cost, e.status) for e in database.experiments.values()],
    )
