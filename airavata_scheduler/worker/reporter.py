"""Reports on their way to the platform: in order, in batches, repeated until somebody answers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from airavata_scheduler.platform.domain.messages import ChannelUnavailableError, Report
from airavata_scheduler.platform.domain.states import TaskState
from airavata_scheduler.worker.channel import Channel

BATCH = 800
FIRST_BACKOFF_S = 0.1
MOST_BACKOFF_S = 5.0
#: What ends at the same time, as when an experiment is canceled, is reported together: a report takes far longer.
_TOGETHER_S = 0.002
_PASSING = (TaskState.RUNNING, TaskState.COLLECTING)


class Reporter:
    """Belongs to one registration of the worker. ``patience_s`` says how long a report may wait for others."""

    def __init__(self, channel: Channel, worker_id: int, patience_s: Callable[[], float]) -> None:
        self._channel = channel
        self._patience_s = patience_s
        self._worker_id = worker_id
        self._pending: deque[Report] = deque()
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._sending: list[Report] = []

    @property
    def unsent(self) -> int:
        """Reports that the platform has not acknowledged."""
        return len(self._pending) + len(self._sending)

    def identities(self) -> list[tuple[int, int, int]]:
        """The attempts that unsent reports are about."""
        return [(report.step_id, report.index, report.attempt) for report in (*self._sending, *self._pending)]

    def add(self, report: Report) -> None:
        self._pending.append(report)
        self._arrived.set()
        if len(self._pending) >= BATCH:
            self._full.set()

    def hurry(self) -> None:
        """Nothing more will come soon: send what is there."""
        if self._pending:
            self._full.set()

    async def run(self) -> None:
        """Send for ever. Raises WorkerGoneError."""
        while True:
            await self._arrived.wait()
            try:
                async with asyncio.timeout(self._patience_s()):
                    await self._full.wait()
                    await asyncio.sleep(_TOGETHER_S)
            except TimeoutError:
                pass
            await self.flush()

    async def flush(self) -> None:
        """Send what is there now. What arrives meanwhile waits for company again, or each would be a transaction."""
        batch = [self._pending.popleft() for _ in range(min(len(self._pending), 2 * BATCH))]
        self._full.clear()
        self._sending = batch
        await self._send(_without_superseded(batch))
        self._sending = []
        if not self._pending:
            self._arrived.clear()
        elif len(self._pending) >= BATCH:
            self._full.set()

    async def _send(self, batch: list[Report]) -> None:
        backoff_s = FIRST_BACKOFF_S
        while True:
            try:
                await self._channel.report(self._worker_id, batch)
                return
            except ChannelUnavailableError:
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, MOST_BACKOFF_S)


def _without_superseded(batch: list[Report]) -> list[Report]:
    """A task that ended within the batch needs no report that it runs."""
    if not any(report.state in _PASSING for report in batch):
        return batch
    ended = {(report.step_id, report.index, report.attempt) for report in batch if report.state not in _PASSING}
    return [
        report
        for report in batch
        if report.state not in _PASSING or (report.step_id, report.index, report.attempt) not in ended
    ]
