"""`WorkerLifecycle`: registration, heartbeats that carry directives, and the reaper.

While the database is away nobody's lease is written, and nobody's tasks are taken either, as the reaper needs it, too.
So a worker whose renewal fails is promised another lease, and the reaper keeps the promise: its next look gives
everybody a whole lease before any ends. See `WorkerStore.expire_workers` for the outages that no heartbeat noticed.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence

from airavata_scheduler.platform.domain.errors import NotFoundError, UnavailableError
from airavata_scheduler.platform.domain.messages import Directives, Hello, Welcome, WorkerGoneError
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.views import WorkerView
from airavata_scheduler.platform.domain.workers import LastLook
from airavata_scheduler.platform.ports.clock import Clock
from airavata_scheduler.platform.ports.queries import Queries
from airavata_scheduler.platform.ports.repository import ExperimentStore, Fence, ReportOutcome, WorkerStore


class WorkerLifecycleService:
    """See `interfaces.WorkerLifecycle`.

    ``outage_s`` is how long it goes on promising leases while the database is away.
    ``has_ended`` tells of the token of a worker's process whether that has ended for certain; its lease is over then.
    ``on_change`` is called when workers came or went, ``on_advance`` when lost tasks had consequences.
    """

    def __init__(
        self,
        store: WorkerStore,
        audit: ExperimentStore,
        queries: Queries,
        fence: Fence,
        clock: Clock,
        *,
        lease_s: float,
        heartbeat_s: float,
        outage_s: float,
        has_ended: Callable[[str], bool] = lambda _: False,
        on_change: Callable[[], None] = lambda: None,
        on_advance: Callable[[ReportOutcome], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._audit = audit
        self._queries = queries
        self._fence = fence
        self._clock = clock
        self._lease_s = lease_s
        self._heartbeat_s = heartbeat_s
        self._outage_s = outage_s
        self._has_ended = has_ended
        self._on_change = on_change
        self._on_advance = on_advance
        self._nudges: dict[int, asyncio.Event] = defaultdict(asyncio.Event)
        #: When the reaper last got through to the database: by the database's clock, and by ours.
        self._looked_at: tuple[float, float] | None = None
        self._looking = asyncio.Lock()
        self._deciding = False  #: whose lease is over, at this moment
        self._promised: set[int] = set()  #: who was given a lease that is not written, since the last look began
        self._away_since: float | None = None

    async def run(self) -> None:
        """The reaper; never returns. A lost worker is noticed within its lease and a third of it."""
        while True:
            await self.reap()
            await self._clock.sleep(self._lease_s / 3)

    async def register(self, hello: Hello) -> Welcome:
        """See `ports.worker_channel`. The predecessor's tasks are given back before this answers."""
        worker_id = await self._store.register_worker(hello, self._lease_s)
        await self._take_back()
        self._on_change()
        return Welcome(worker_id, self._lease_s, self._heartbeat_s, tuple(await self._store.storages()))

    async def heartbeat(self, worker_id: int, free: Capacity, running: int, wait_s: float) -> Directives:  # noqa: ARG002
        """Renew, and wait up to ``wait_s`` for something to say. What to cancel is read from the database each time."""
        # Before the look, so that what is said from then on is not missed.
        nudge = self._nudges[worker_id]
        nudge.clear()
        directives = await self._renew(worker_id)
        if directives.cancel or directives.recall_steps or directives.drain:
            return directives
        try:
            async with asyncio.timeout(wait_s):
                await nudge.wait()
        except TimeoutError:
            return directives
        return await self._renew(worker_id)

    async def _renew(self, worker_id: int) -> Directives:
        try:
            orders = await self._store.renew_worker(worker_id, self._lease_s)
        except NotFoundError as error:
            self._nudges.pop(worker_id, None)
            raise WorkerGoneError(error.message) from error
        except UnavailableError:
            return self._promise(worker_id)
        self._away_since = None
        return Directives(self._lease_s, cancel=orders.canceled, recall_steps=orders.recalled, drain=orders.draining)

    def _promise(self, worker_id: int) -> Directives:
        """A lease that is not written. UnavailableError, so that the worker's runs out, if that would not be kept."""
        now = self._clock.monotonic()
        if self._away_since is None:
            self._away_since = now
        if now - self._away_since > self._outage_s:
            message = f"the database is away for more than {self._outage_s:g} s"
            raise UnavailableError(message, remedy="raise `database_outage_s`, or bring the database back")
        if self._deciding:
            message = "it is just being decided whose lease is over"
            raise UnavailableError(message, remedy="ask again")
        self._promised.add(worker_id)
        return Directives(self._lease_s)

    async def goodbye(self, worker_id: int) -> None:
        """See `ports.worker_channel`."""
        await self._store.remove_worker(worker_id)
        self._nudges.pop(worker_id, None)
        self._on_change()

    async def workers(self) -> Sequence[WorkerView]:
        """Those that live."""
        return await self._queries.workers()

    async def drain(self, actor: str, worker_id: int) -> WorkerView:
        """It learns of it with the heartbeat that waits."""
        await self._store.drain_worker(worker_id)
        await self._audit.audit(actor, "worker.drain", str(worker_id), {})
        self._nudges[worker_id].set()
        self._on_change()
        for worker in await self._queries.workers():
            if worker.id == worker_id:
                return worker
        message = f"worker {worker_id} left while it was told to drain"
        raise NotFoundError(message)

    async def notify_canceled(self, workers: Sequence[int]) -> None:
        """Answer the waiting heartbeats of these workers: they hold canceled tasks."""
        for worker_id in workers:
            if worker_id in self._nudges:
                self._nudges[worker_id].set()

    async def reap(self) -> int:
        """End the registrations whose lease is over, and take back their tasks; how many."""
        async with self._looking:
            last, promised = self._last_look(), self._promised
            # Should this look fail, the next one finds that the database was away.
            self._looked_at, self._promised, self._deciding = None, set(), last is not None
            try:
                processes = await self._store.worker_processes()
                ended = [worker_id for worker_id, token in processes.items() if self._has_ended(token)]
                lost, now = await self._store.expire_workers(self._fence, self._lease_s, last, ended, promised)
            finally:
                self._deciding = False
            self._looked_at = now, self._clock.monotonic()
        self._away_since = None
        for worker_id in lost:
            self._nudges.pop(worker_id, None)
        if lost:
            self._on_change()
        return await self._take_back()

    def _last_look(self) -> LastLook | None:
        if self._looked_at is None:
            return None
        at, seen_at = self._looked_at
        return LastLook(at, self._clock.monotonic() - seen_at)

    async def _take_back(self) -> int:
        tasks, outcome = await self._store.take_back(self._fence)
        if tasks:
            self._on_change()
        if outcome.manifests_due or outcome.finished:
            self._on_advance(outcome)
        return tasks
