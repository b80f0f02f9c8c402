"""The `TaskScheduler` actor: planning loop, claims, reports; launches and reports pass packed, see `proxies.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airavata_scheduler.actors.gauges import SchedulerGauges
from airavata_scheduler.actors.service import ServiceActor
from airavata_scheduler.adapters.actor_calls.handles import nudge
from airavata_scheduler.adapters.actor_calls.proxies import OrchestratorProxy
from airavata_scheduler.bootstrap import Stores, task_scheduler
from airavata_scheduler.platform.domain.messages import Program
from airavata_scheduler.platform.domain.packed import pack_batch, unpack_reports
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.ports.repository import Fence

if TYPE_CHECKING:
    from airavata_scheduler.platform.services.scheduler import TaskSchedulerService


class TaskScheduler(ServiceActor["TaskSchedulerService"]):
    """See `interfaces.TaskScheduler`."""

    lease = "task-scheduler"

    def __init__(self, home: str) -> None:
        super().__init__(home)
        self._gauges = SchedulerGauges()

    def build(self, stores: Stores, fence: Fence) -> TaskSchedulerService:
        orchestrator = OrchestratorProxy()
        return task_scheduler(stores, fence, nudge(orchestrator.handle, "advance"), orchestrator.heed)

    async def ping(self) -> dict[str, Any]:
        """Also publishes what the dashboard shows."""
        answer = await super().ping()
        self._gauges.show(*(await self.service()).figures())
        return answer

    async def plan(self) -> Mapping[str, Any]:
        return await (await self.service()).plan()

    async def current_plan(self) -> Mapping[str, Any]:
        return await (await self.service()).current_plan()

    async def explain(self, step_id: int) -> Mapping[str, Any]:
        return await (await self.service()).explain(step_id)

    async def claim(
        self,
        worker_id: int,
        free: Capacity,
        most: int,
        wait_s: float,
        held: Sequence[tuple[int, int, int]] | None,
    ) -> tuple[Mapping[int, Program], bytes]:
        return pack_batch(await (await self.service()).claim(worker_id, free, most, wait_s, held))

    async def report(self, worker_id: int, reports: bytes) -> list[tuple[int, int, int]]:
        return await (await self.service()).report(worker_id, unpack_reports(reports))

    async def wake(self) -> None:
        await (await self.service()).wake()
