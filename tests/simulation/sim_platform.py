"""The real services on memory stores, with instances that die, are replaced, and go on although they were."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sim_faults import FaultySolver, FaultyTaskStore, Odds, Outage, Remote, WatchedWorkerStore
from sim_invariants import Watch

from airavata_scheduler.adapters.memory.clock import VirtualClock
from airavata_scheduler.adapters.memory.database import MemoryDatabase
from airavata_scheduler.adapters.memory.experiment_store import MemoryExperimentStore
from airavata_scheduler.adapters.memory.leases import MemoryLeases
from airavata_scheduler.adapters.memory.queries import MemoryQueries
from airavata_scheduler.adapters.memory.storage import MemoryStorage
from airavata_scheduler.platform.domain.errors import LeaseLostError, UnavailableError
from airavata_scheduler.platform.domain.messages import Batch, ChannelUnavailableError, Directives
from airavata_scheduler.platform.ports.repository import Fence
from airavata_scheduler.platform.services.data import DataMoverService
from airavata_scheduler.platform.services.explain import Explainer
from airavata_scheduler.platform.services.orchestrator import ExperimentOrchestratorService
from airavata_scheduler.platform.services.preview import Previewer
from airavata_scheduler.platform.services.scheduler import TaskSchedulerService
from airavata_scheduler.platform.services.workers import WorkerLifecycleService
from airavata_scheduler.scheduler_core import PlannerError

LEASE_S = 6.0
HEARTBEAT_S = 1.5
ROLES = ("task-scheduler", "worker-lifecycle", "experiment-orchestrator")


class Instance:
    """One process of a service: its loop, and the calls it is answering."""

    def __init__(self, role: str, fence: Fence, service: Any, failures: list[BaseException]) -> None:
        self.role = role
        self.failures = failures
        self.fence = fence
        self.service = service
        self.alive = True
        # No set: its order would depend on addresses, and the run with it.
        self._running: dict[asyncio.Task[Any], None] = {}
        self.start(self._loop())

    def start(self, work: Awaitable[Any]) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        self._running[task] = None
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """What a call raised is its caller's business, and nobody's if the caller is gone."""
        self._running.pop(task, None)
        if not task.cancelled():
            task.exception()

    async def _loop(self) -> None:
        """As `actors.service` does: again after an error, never again after the lease is lost."""
        delay_s = 0.1
        while True:
            try:
                await self.service.run()
            except LeaseLostError:
                return
            except (PlannerError, UnavailableError):
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, 5.0)
            except Exception as error:
                self.failures.append(error)
                raise

    def kill(self) -> None:
        self.alive = False
        for task in list(self._running):
            task.cancel()


class Platform:
    """Everything but the workers and the users."""

    def __init__(self, rng: random.Random, odds: Odds) -> None:
        self.rng = rng
        self.odds = odds
        self.clock = VirtualClock(asyncio.get_running_loop(), 1e9)
        self.database = MemoryDatabase(self.clock)
        self.watch = Watch(self.database)
        self.outage = Outage(rng)
        self.leases = self._remote(MemoryLeases(self.database))
        self.tasks = self._remote(FaultyTaskStore(self.database, rng, odds))
        #: As the simulation itself sees them, whatever happens.
        self.experiments = MemoryExperimentStore(self.database)
        self.queries = MemoryQueries(self.database)
        self.workers = self._remote(WatchedWorkerStore(self.database, self._lease_of))
        self.remote_experiments, self.remote_queries = self._remote(self.experiments), self._remote(self.queries)
        self.storage = MemoryStorage()
        self.solver = FaultySolver(rng, odds)
        self.instances: dict[str, list[Instance]] = {role: [] for role in ROLES}
        #: Until when each worker believes to have a lease, and the epoch of who renewed it last.
        self.lease_until: dict[int, float] = {}
        self.renewed_by: dict[int, int] = {}
        self.calls = 0
        self._told: set[asyncio.Task[Any]] = set()
        #: What broke a rule in the background, where no caller would see it.
        self.failures: list[BaseException] = []

    def _remote(self, store: Any) -> Any:
        return Remote(store, self.outage, LEASE_S / 10)

    def _lease_of(self, worker_id: int) -> float:
        """A promise of an instance that was replaced is its own: nobody can know of it."""
        kept = self.renewed_by.get(worker_id) == self.database.leases["worker-lifecycle"]
        return self.lease_until.get(worker_id, -1.0) if kept else -1.0

    # ------------------------------------------------------------------------------------------------------- services

    async def start(self, role: str) -> None:
        """A new instance takes the lease; whoever had it goes on until it is killed."""
        fence = await self._take(role)
        self.instances[role].append(Instance(role, fence, self._build(role, fence), self.failures))

    async def _take(self, role: str) -> Fence:
        while True:
            with contextlib.suppress(UnavailableError):
                fence: Fence = await self.leases.take(role, f"instance {len(self.instances[role])}", LEASE_S)
                return fence

    def _build(self, role: str, fence: Fence) -> Any:
        advance = self._nudge("experiment-orchestrator", "advance")
        wake = self._nudge("task-scheduler", "wake")
        if role == "task-scheduler":
            return TaskSchedulerService(self.tasks, fence, self.solver, self.storage, self.clock, advance)
        if role == "worker-lifecycle":
            return WorkerLifecycleService(
                self.workers, self.remote_experiments, self.remote_queries, fence, self.clock,
                lease_s=LEASE_S, heartbeat_s=HEARTBEAT_S, outage_s=60.0, on_change=wake, on_advance=advance,
            )  # fmt: skip

        async def notify(workers: Sequence[int]) -> None:
            self._nudge("worker-lifecycle", "notify_canceled")(workers)

        mover = DataMoverService(self.tasks, self.remote_experiments, self.remote_queries, self.storage, self.clock)
        explainer = Explainer(self.remote_queries, self.clock, self.explain_step)
        return ExperimentOrchestratorService(
            self.remote_experiments, self.tasks, self.remote_queries, mover, explainer, fence, self.clock,
            wake_scheduler=wake, notify_canceled=notify, previewer=Previewer(self.tasks, self.solver),
        )  # fmt: skip

    def current(self, role: str) -> Instance:
        return self.instances[role][-1]

    async def explain_step(self, step_id: int) -> Any:
        return await self.current("task-scheduler").service.explain(step_id)

    def _nudge(self, role: str, method: str) -> Callable[..., None]:
        def tell(*arguments: Any) -> None:
            given = arguments if method == "notify_canceled" else ()
            task = asyncio.ensure_future(self._tell(role, method, given))
            self._told.add(task)
            task.add_done_callback(self._told.discard)

        return tell

    async def _tell(self, role: str, method: str, arguments: Sequence[Any]) -> None:
        with contextlib.suppress(ChannelUnavailableError):
            await self.call(role, method, *arguments)

    # ----------------------------------------------------------------------------------------------------------- calls

    async def call(self, role: str, method: str, *arguments: Any) -> Any:
        """One call over a network that loses requests and answers, delays them, and delivers some twice."""
        rng, odds = self.rng, self.odds
        await self._travel()
        if rng.random() < odds.lost_request:
            await self._away()
        if rng.random() < odds.twice:
            copy = asyncio.ensure_future(self._late(role, method, arguments))
            self._told.add(copy)
            copy.add_done_callback(self._told.discard)
        answer = await self._answered(role, method, arguments)
        if rng.random() < odds.lost_answer:
            await self._away()
        await self._travel()
        return answer

    async def _travel(self) -> None:
        rng = self.rng
        await asyncio.sleep(rng.uniform(0.5, 8.0) if rng.random() < self.odds.slow else rng.uniform(0.0005, 0.02))

    async def _away(self) -> None:
        await asyncio.sleep(self.rng.uniform(0.0, 2.0))
        message = "drawn"
        raise ChannelUnavailableError(message)

    async def _late(self, role: str, method: str, arguments: Sequence[Any]) -> None:
        await self._travel()
        with contextlib.suppress(Exception):
            await self._answered(role, method, arguments)

    async def _answered(self, role: str, method: str, arguments: Sequence[Any]) -> Any:
        living = [instance for instance in self.instances[role] if instance.alive]
        if not living:
            await self._away()
        instance = self.rng.choice(living)
        fenced_off = instance.fence.epoch != self.database.leases[role]
        self.calls += 1
        task = instance.start(getattr(instance.service, method)(*arguments))
        try:
            answer = await asyncio.shield(task)
        except asyncio.CancelledError:
            if instance.alive:
                raise
            message = "the instance died"
            raise ChannelUnavailableError(message) from None
        except (LeaseLostError, UnavailableError) as error:
            # The process of an instance that lost its lease ends: whoever called it gets no answer.
            raise ChannelUnavailableError(error.message) from error
        finally:
            self._check()
        if isinstance(answer, Directives):
            self.renewed_by[arguments[0]] = instance.fence.epoch
        if fenced_off and isinstance(answer, Batch):
            self.require(not answer.launches, f"{role} was replaced and handed out {answer.launches}")
        return answer

    # ---------------------------------------------------------------------------------------------------------- checks

    def _check(self) -> None:
        try:
            self.watch.check()
        except AssertionError as error:
            self.failures.append(error)
            raise

    def require(self, holds: bool, message: str) -> None:
        if not holds:
            error = AssertionError(message)
            self.failures.append(error)
            raise error
