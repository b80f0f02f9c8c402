"""How a worker talks to the platform. Every call may be repeated: each is idempotent or guarded by attempt numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

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

__all__ = ["ChannelUnavailableError", "WorkerChannel", "WorkerGoneError"]


class WorkerChannel(Protocol):
    """The worker's side."""

    async def register(self, hello: Hello) -> Welcome:
        """Join; a former worker of the same name loses its lease and its tasks."""
        ...

    async def claim(
        self,
        worker_id: int,
        free: Capacity,
        most: int,
        wait_s: float,
        held: Sequence[tuple[int, int, int]] | None = None,
    ) -> Batch:
        """Take at most ``most`` tasks. Waits up to ``wait_s`` for one; an empty batch means there is none.

        ``held`` is given after a claim whose answer got lost: (step id, index, attempt) of everything the worker holds.
        What else was assigned to it, and never started, is given back first.

        ``free`` is what the tasks may take together, at one time, times any prefetch factor: the platform never hands
        out a task that does not fit the worker at all. Tasks beyond what fits at once are queued by the worker.
        """
        ...

    async def report(self, worker_id: int, reports: Sequence[Report]) -> list[tuple[int, int, int]]:
        """Say what became of attempts. Returns the (step id, index, attempt) that no longer counted (stale)."""
        ...

    async def heartbeat(self, worker_id: int, free: Capacity, running: int, wait_s: float) -> Directives:
        """Renew the lease and learn what to do. Waits up to ``wait_s``; a directive is answered at once."""
        ...

    async def goodbye(self, worker_id: int) -> None:
        """Leave in order; tasks still held are given back."""
        ...
