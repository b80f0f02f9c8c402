"""One reader of the events table for a whole process: two hundred listeners cost one query."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from airavata_scheduler.platform.domain.errors import UnavailableError
from airavata_scheduler.platform.domain.views import EventView
from airavata_scheduler.platform.ports.event_bus import EVENTS_TOPIC, EventBus
from airavata_scheduler.platform.ports.queries import Queries

_LOG = structlog.get_logger(__name__)
_PAGE = 1000
_IDLE_S = 1.0


@dataclass(eq=False)
class Listener:
    """Wants the events that ``wants`` says; falls behind when its queue is full, and then gets none any more."""

    wants: Callable[[EventView], bool]
    queue: asyncio.Queue[EventView] = field(default_factory=lambda: asyncio.Queue(2000))
    overrun: asyncio.Event = field(default_factory=asyncio.Event)

    def offer(self, event: EventView) -> None:
        """Take an event, if it is wanted and there is room."""
        if self.overrun.is_set() or not self.wants(event):
            return
        try:
            self.queue.put_nowait(event)
        except asyncio.QueueFull:
            self.overrun.set()


class EventHub:
    """Reads while somebody listens."""

    def __init__(self, queries: Queries, bus: EventBus) -> None:
        self._queries = queries
        self._bus = bus
        self._listeners: set[Listener] = set()
        self._reader: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self.last = 0  #: number of the last event that was handed out

    async def attach(self, listener: Listener) -> int:
        """Hand events to the listener from now on; the number of the last one that it does not get."""
        async with self._starting:
            if self._reader is None or self._reader.done():
                self.last = await self._queries.last_event()
                self._reader = asyncio.create_task(self._read(), name="event hub")
        self._listeners.add(listener)
        return self.last

    async def detach(self, listener: Listener) -> None:
        """Hand it nothing more; the reader ends with its last listener."""
        self._listeners.discard(listener)
        if not self._listeners and self._reader is not None:
            reader, self._reader = self._reader, None
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader

    async def _read(self) -> None:
        nudges = self._bus.listen(EVENTS_TOPIC, idle_s=_IDLE_S)
        async with contextlib.aclosing(nudges):  # type: ignore[type-var]  # the port promises an iterator, adapters are generators
            async for _ in nudges:
                try:
                    await self._catch_up()
                except UnavailableError as error:
                    _LOG.warning("events cannot be read", error=str(error))

    async def _catch_up(self) -> None:
        while True:
            events = await self._queries.events(self.last, _PAGE)
            for event in events:
                for listener in self._listeners:
                    listener.offer(event)
                self.last = event.seq
            if len(events) < _PAGE:
                return
