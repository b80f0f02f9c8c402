"""The output of one attempt as a stream, also while it is being written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

from airavata_scheduler.api.services import ApiServices
from airavata_scheduler.platform.domain.errors import NotFoundError
from airavata_scheduler.platform.domain.messages import Extent
from airavata_scheduler.platform.domain.states import WAITING
from airavata_scheduler.platform.ports.queries import LogSource

Stream = Literal["stdout", "stderr"]
_NOTHING = Extent("", 0, 0)


@dataclass(frozen=True, slots=True)
class LogReader:
    """Reads one stream of one task's attempt; ``attempt`` None follows the first one that starts."""

    services: ApiServices
    experiment: str
    step: str
    index: int
    stream: Stream
    attempt: int | None

    async def source(self, attempt: int | None) -> LogSource:
        """What the database says now."""
        return await self.services.queries.log_source(self.experiment, self.step, self.index, attempt)

    async def extent(self, source: LogSource) -> Extent | None:
        """Where the output is, as far as it was written; None if that cannot be found out."""
        if not source.running:
            stored = source.stdout if self.stream == "stdout" else source.stderr
            return stored or _NOTHING
        if self.services.live_logs is None or source.worker_id is None:
            return None
        # The worker says how far its output goes: behind it in the segment may be that of another task.
        live = await self.services.live_logs(source.worker_id, source.step_id, self.index, source.attempt)
        return None if live is None else live[0 if self.stream == "stdout" else 1]

    async def first(self, *, follow: bool) -> tuple[LogSource, Extent | None]:
        """Where to begin. NotFoundError if there is nothing to read yet and nobody wants to wait."""
        source = await self.source(self.attempt)
        extent = await self.extent(source)
        if extent is None and not follow:
            message, remedy = (
                "the task is running and its output cannot be read yet",
                "use follow=true, or read it when it ended",
            )
            raise NotFoundError(message, path="attempt", remedy=remedy)
        return source, extent

    async def read(
        self, source: LogSource, extent: Extent | None, offset: int, *, follow: bool
    ) -> AsyncIterator[bytes]:
        """Bytes from ``offset`` of the attempt's output on; with ``follow`` until the attempt ends."""
        attempt = self.attempt
        while True:
            if extent is not None and extent.length > offset:
                storage = self.services.storage(source.storage)
                async for chunk in storage.stream(extent.segment, extent.offset + offset, extent.length - offset):
                    offset += len(chunk)
                    yield chunk
            waits = source.running or (source.attempt == 0 and source.state in WAITING)
            if not follow or not waits:
                return
            if source.attempt > 0:
                attempt = source.attempt
            await self.services.clock.sleep(self.services.limits.log_poll_s)
            source = await self.source(attempt)
            extent = await self.extent(source)
