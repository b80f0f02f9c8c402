"""What the agent needs of its way to the platform; the same shape as `platform.ports.worker_channel`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from airavata_scheduler.platform.domain.messages import Batch, Directives, Hello, Report, Welcome
from airavata_scheduler.platform.domain.request import Capacity


class Channel(Protocol):
    """See `platform.ports.worker_channel.WorkerChannel` for what each call promises."""

    async def register(self, hello: Hello) -> Welcome: ...
    async def claim(
        self,
        worker_id: int,
        free: Capacity,
        most: int,
        wait_s: float,
        held: Sequence[tuple[int, int, int]] | None = None,
    ) -> Batch: ...
    async def report(self, worker_id: int, reports: Sequence[Report]) -> list[tuple[int, int, int]]: ...
    async def heartbeat(self, worker_id: int, free: Capacity, running: int, wait_s: float) -> Directives: ...
    async def goodbye(self, worker_id: int) -> None: ...
