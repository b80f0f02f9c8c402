"""Leases with epochs, in memory."""

from __future__ import annotations

from airavata_scheduler.adapters.memory.database import MemoryDatabase
from airavata_scheduler.platform.ports.repository import Fence


class MemoryLeases:
    """`Leases` over a memory database."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def take(self, name: str, holder: str, lease_s: float) -> Fence:
        """The epoch alone fences; who holds the lease, and until when, is for people."""
        del holder, lease_s
        epoch = self._database.leases[name] = self._database.leases.get(name, 0) + 1
        return Fence(name, epoch)

    async def renew(self, fence: Fence, lease_s: float) -> None:
        """LeaseLostError if somebody else took it."""
        del lease_s
        self._database.check_fence(fence)
