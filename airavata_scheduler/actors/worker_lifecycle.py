"""The `WorkerLifecycle` actor: registrations, heartbeats, the reaper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from airavata_scheduler.actors.service import ServiceActor
from airavata_scheduler.adapters.actor_calls.handles import ORCHESTRATOR, SCHEDULER, ActorHandle, nudge
from airavata_scheduler.bootstrap import Stores, worker_lifecycle
from airavata_scheduler.platform.domain.messages import Directives, Hello, Welcome
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.views import WorkerView
from airavata_scheduler.platform.ports.repository import Fence

if TYPE_CHECKING:
    from airavata_scheduler.platform.services.workers import WorkerLifecycleService


class WorkerLifecycle(ServiceActor["WorkerLifecycleService"]):
    """See `interfaces.WorkerLifecycle`."""

    lease = "worker-lifecycle"

    def build(self, stores: Stores, fence: Fence) -> WorkerLifecycleService:
        return worker_lifecycle(
            stores,
            fence,
            on_change=nudge(ActorHandle(SCHEDULER), "wake"),
            on_advance=nudge(ActorHandle(ORCHESTRATOR), "advance"),
        )

    async def register(self, hello: Hello) -> Welcome:
        return await (await self.service()).register(hello)

    async def heartbeat(self, worker_id: int, free: Capacity, running: int, wait_s: float) -> Directives:
        return await (await self.service()).heartbeat(worker_id, free, running, wait_s)

    async def goodbye(self, worker_id: int) -> None:
        await (await self.service()).goodbye(worker_id)

    async def workers(self) -> Sequence[WorkerView]:
        return await (await self.service()).workers()

    async def drain(self, actor: str, worker_id: int) -> WorkerView:
        return await (await self.service()).drain(actor, worker_id)

    async def notify_canceled(self, workers: Sequence[int]) -> None:
        await (await self.service()).notify_canceled(workers)

    async def reap(self) -> int:
        return await (await self.service()).reap()
