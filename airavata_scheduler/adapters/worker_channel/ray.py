"""A worker's way to the platform when it is a Ray actor: calls of the service actors, in batches."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TypeVar

import structlog

from airavata_scheduler.platform.domain.errors import LeaseLostError, UnavailableError
from airavata_scheduler.platform.domain.messages import (
    Batch,
    ChannelUnavailableError,
    Directives,
    Hello,
    Report,
    Welcome,
    WorkerGoneError,
)
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.interfaces import TaskScheduler, WorkerLifecycle

T = TypeVar("T")

_LOG = structlog.get_logger(__name__)


class RayWorkerChannel:
    """`WorkerChannel` over the proxies of the two actors that serve workers."""

    def __init__(self, scheduler: TaskScheduler, lifecycle: WorkerLifecycle) -> None:
        self._scheduler = scheduler
        self._lifecycle = lifecycle

    async def register(self, hello: Hello) -> Welcome:
        """See the port."""
        return await _tried(self._lifecycle.register(hello))

    async def claim(
        self,
        worker_id: int,
        free: Capacity,
        most: int,
        wait_s: float,
        held: Sequence[tuple[int, int, int]] | None = None,
    ) -> Batch:
        """See the port."""
        return await _tried(self._scheduler.claim(worker_id, free, most, wait_s, held))

    async def report(self, worker_id: int, reports: Sequence[Report]) -> list[tuple[int, int, int]]:
        """See the port."""
        return await _tried(self._scheduler.report(worker_id, reports))

    async def heartbeat(self, worker_id: int, free: Capacity, running: int, wait_s: float) -> Directives:
        """See the port."""
        return await _tried(self._lifecycle.heartbeat(worker_id, free, running, wait_s))

    async def goodbye(self, worker_id: int) -> None:
        """See the port."""
        await _tried(self._lifecycle.goodbye(worker_id))


async def _tried(call: Awaitable[T]) -> T:
    try:
        return await call
    except WorkerGoneError:
        raise
    except (UnavailableError, LeaseLostError) as error:
        # A lost lease is the platform's affair: the successor that holds it answers the next call.
        raise ChannelUnavailableError(error.message) from error
    except Exception as error:
        # What the platform stumbles over is no reason to end what runs here.
        _LOG.exception("the platform could not carry out a call")
        raise ChannelUnavailableError(str(error)) from error
