"""The `ResourceRegistry` actor: what there is to run on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airavata_scheduler.actors.service import ServiceActor
from airavata_scheduler.adapters.actor_calls.handles import SCHEDULER, ActorHandle, nudge
from airavata_scheduler.bootstrap import Stores, resource_registry
from airavata_scheduler.platform.domain.views import ResourceView, StorageView
from airavata_scheduler.platform.ports.repository import Fence

if TYPE_CHECKING:
    from airavata_scheduler.platform.services.registry import ResourceRegistryService

_PROBE_PERIOD_S = 3600.0


class ResourceRegistry(ServiceActor["ResourceRegistryService"]):
    """See `interfaces.ResourceRegistry`."""

    lease = "resource-registry"

    def build(self, stores: Stores, fence: Fence) -> ResourceRegistryService:  # noqa: ARG002 - it writes nothing fenced
        return resource_registry(stores, on_change=nudge(ActorHandle(SCHEDULER), "wake"))

    def loop(self, service: ResourceRegistryService) -> Callable[[], Awaitable[None]]:
        async def probe() -> None:
            while True:
                await service.probe()
                await asyncio.sleep(_PROBE_PERIOD_S)

        return probe

    async def resources(self) -> Sequence[ResourceView]:
        return await (await self.service()).resources()

    async def resource(self, name: str) -> ResourceView:
        return await (await self.service()).resource(name)

    async def update(self, actor: str, name: str, changes: Mapping[str, Any]) -> ResourceView:
        return await (await self.service()).update(actor, name, changes)

    async def storages(self) -> Sequence[StorageView]:
        return await (await self.service()).storages()

    async def probe(self) -> None:
        await (await self.service()).probe()
