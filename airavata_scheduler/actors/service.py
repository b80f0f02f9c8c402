"""What all service actors have in common: a lease with an epoch, a background loop, an answer to "are you there?"."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import structlog

from airavata_scheduler import __version__
from airavata_scheduler.actors.attempts import Attempts
from airavata_scheduler.actors.collector import spare_what_is_loaded
from airavata_scheduler.actors.tracebacks import plain_tracebacks
from airavata_scheduler.bootstrap import Stores, open_stores
from airavata_scheduler.platform.domain.errors import LeaseLostError, UnavailableError
from airavata_scheduler.platform.ports.repository import Fence
from airavata_scheduler.settings import Settings

S = TypeVar("S")

_LOG = structlog.get_logger(__name__)


class ServiceActor(Generic[S]):
    """Base of the six. A subclass names its lease, builds its service from the stores, and gives its loop.

    The lease is taken at the first call after a start, of which the keeper's ping is one. Whoever lost it ends its
    process at once: another instance is at work, and every write of this one is refused.
    """

    lease = ""

    def __init__(self, home: str) -> None:
        plain_tracebacks()
        self._settings = Settings.from_run(home)
        self._stores: Stores | None = None
        self._starting: asyncio.Task[S] | None = None
        self._loops: list[asyncio.Task[None]] = []
        self._attempts = Attempts()

    def build(self, stores: Stores, fence: Fence) -> S:
        """The service."""
        raise NotImplementedError

    def loop(self, service: S) -> Callable[[], Awaitable[None]] | None:
        """What runs in the background, if anything."""
        return getattr(service, "run", None)

    async def service(self) -> S:
        """The service, started once however many calls arrive at the same time."""
        if self._starting is None or (self._starting.done() and self._starting.exception() is not None):
            self._starting = asyncio.get_running_loop().create_task(self._start())
        return await asyncio.shield(self._starting)

    async def _start(self) -> S:
        stores = self._stores = self._stores or open_stores(self._settings)
        holder = f"{os.uname().nodename}:{os.getpid()}"
        fence = await stores.leases.take(self.lease, holder, self._settings.actor_lease_s)
        service = self.build(stores, fence)
        spare_what_is_loaded()
        loops = [self._renew(stores, fence)]
        run = self.loop(service)
        if run is not None:
            loops.append(self._keep_running(run))
        self._loops = [asyncio.get_running_loop().create_task(loop) for loop in loops]
        return service

    async def _renew(self, stores: Stores, fence: Fence) -> None:
        while True:
            await asyncio.sleep(self._settings.actor_lease_s / 3)
            try:
                await stores.leases.renew(fence, self._settings.actor_lease_s)
            except LeaseLostError:
                _end(self.lease)
            except UnavailableError as error:
                _LOG.warning("lease not renewed", lease=self.lease, error=error.message)

    async def _keep_running(self, run: Callable[[], Awaitable[None]]) -> None:
        """A loop that fails is started again, with back-off; one that lost its lease ends the process."""
        while True:
            self._attempts.started(time.monotonic())
            try:
                await run()
            except LeaseLostError:
                _end(self.lease)
            except Exception as error:  # noqa: BLE001 - whatever a look stumbled over, the next starts from the database
                delay_s = self._attempts.failed(error, time.monotonic())
                # Where the database is away is no news to anybody.
                trace = None if isinstance(error, UnavailableError) else error
                _LOG.error(
                    "background loop failed", lease=self.lease, error=str(error), again_in_s=delay_s, exc_info=trace
                )
                await asyncio.sleep(delay_s)

    async def ping(self) -> dict[str, Any]:
        """Proof of a live event loop; starts the service after a restart, and says what its loop stumbles over."""
        await self.service()
        return {"pid": os.getpid(), "version": __version__, "problem": self._attempts.problem(time.monotonic())}

    def __repr__(self) -> str:
        return type(self).__name__


def _end(lease: str) -> None:
    _LOG.error("lease lost to another instance: this process ends", lease=lease)
    os._exit(1)
