"""What goes wrong, and how often; every decision comes from one seeded generator."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from airavata_scheduler.adapters.memory.database import LIVING, MemoryDatabase
from airavata_scheduler.adapters.memory.task_store import MemoryTaskStore
from airavata_scheduler.platform.domain.messages import Report
from airavata_scheduler.platform.domain.states import TERMINAL
from airavata_scheduler.platform.ports.repository import PlanningState, ReportOutcome
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


class FaultySolver:
    """The real planner: now and then late, without an answer, failing, or with the answer to an earlier question."""

    def __init__(self, rng: random.Random, odds: Odds) -> None:
        self._rng = rng
        self._odds = odds
        self._last: Plan | None = None
        self.solved = 0
        # The rungs of the ladder that cost tens of milliseconds are for a few seeds only.
        self._limits = {"solver": "auto"} if rng.random() < 0.03 else {"solver": "greedy", "detail_tasks": 0}

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
