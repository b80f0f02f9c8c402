"""A nudge across processes that something was committed. Events themselves are rows; losing a nudge loses nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

#: The topic under which new events are announced.
EVENTS_TOPIC = "airavata_events"


class EventBus(Protocol):
    """Wakes whoever waits for new events."""

    async def publish(self, topic: str) -> None: ...

    def listen(self, *topics: str, idle_s: float) -> AsyncIterator[str]:
        """Yields a topic when it was published, and "" at least every ``idle_s`` seconds: nothing waits for ever."""
        ...
