"""The `DataMover` actor: manifests, outputs, clean-up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airavata_scheduler.actors.service import ServiceActor
from airavata_scheduler.bootstrap import Stores, data_mover
from airavata_scheduler.platform.domain.views import OutputView, Page
from airavata_scheduler.platform.ports.repository import Fence

if TYPE_CHECKING:
    from airavata_scheduler.platform.services.data import DataMoverService


class DataMover(ServiceActor["DataMoverService"]):
    """See `interfaces.DataMover`."""

    lease = "data-mover"

    def build(self, stores: Stores, fence: Fence) -> DataMoverService:  # noqa: ARG002 - what it writes is atomic by itself
        return data_mover(stores)

    async def outputs(self, experiment: str, step: str | None, after: str | None, limit: int) -> Page[OutputView]:
        return await (await self.service()).outputs(experiment, step, after, limit)

    async def write_manifest(self, step_id: int) -> None:
        await (await self.service()).write_manifest(step_id)

    async def remove_experiment(self, experiment: str) -> None:
        await (await self.service()).remove_experiment(experiment)
