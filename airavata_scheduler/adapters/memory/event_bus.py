"""Nudges within one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator


class MemoryEventBus:
    """Every listener has a queue of its own."""

    def __init__(self) -> None:
        self._listeners: list[tuple[frozenset[str], asyncio.Queue[str]]] = []

    async def publish(self, topic: str) -> None:
        """Wake those who listen to the topic."""
        for topics, queue in self._listeners:
            if topic in topics:
                queue.put_nowait(topic)

    async def listen(self, *topics: str, idle_s: float) -> AsyncIterator[str]:
        """Yields a topic when it was published, and "" at least every ``idle_s`` seconds."""
        entry = (frozenset(topics), asyncio.Queue[str]())
        self._listeners.append(entry)
        try:
            while True:
                try:
                    yield await asyncio.wait_for(entry[1].get(), idle_s)
                except TimeoutError:
                    yield ""
        finally:
            self._listeners.remove(entry)
