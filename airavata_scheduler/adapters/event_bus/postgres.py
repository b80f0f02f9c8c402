"""Nudges between processes by LISTEN and NOTIFY: a topic is a channel, the payload is empty.

A writer can also say ``NOTIFY topic`` within its own transaction: it is sent with the commit.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

import psycopg
import structlog
from psycopg import sql

_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 5.0
_LOG = structlog.get_logger(__name__)


class PostgresEventBus:
    """``conninfo`` is libpq's; each `listen` holds a connection of its own, publishing holds one for all."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._publisher: psycopg.AsyncConnection[tuple[object, ...]] | None = None
        self._lock = asyncio.Lock()

    async def _connect(self) -> psycopg.AsyncConnection[tuple[object, ...]]:
        return await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True, connect_timeout=10)

    async def publish(self, topic: str) -> None:
        """Wake listeners. A database that is away is no error: whoever waits looks again by itself."""
        async with self._lock:
            for again in (True, False):
                try:
                    if self._publisher is None or self._publisher.closed:
                        self._publisher = await self._connect()
                    await self._publisher.execute("SELECT pg_notify(%s, %s)", (topic, ""))
                    return
                except psycopg.OperationalError as error:
                    await self._drop_publisher()
                    if not again:
                        _LOG.warning("nudge lost", topic=topic, error=str(error).strip())

    async def _drop_publisher(self) -> None:
        if self._publisher is not None:
            await self._publisher.close()
            self._publisher = None

    async def close(self) -> None:
        """Close the publishing connection."""
        async with self._lock:
            await self._drop_publisher()

    async def listen(self, *topics: str, idle_s: float) -> AsyncIterator[str]:
        """Yields a topic when it was published, and "" at least every ``idle_s`` seconds; reconnects for ever."""
        delay_s = _FIRST_DELAY_S
        while True:
            began = time.monotonic()
            try:
                async with await self._connect() as connection:
                    for topic in topics:
                        await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(topic)))
                    delay_s = _FIRST_DELAY_S
                    # What was published while nobody listened is not told again: have a look.
                    yield ""
                    while True:
                        heard = False
                        async for notice in connection.notifies(timeout=idle_s, stop_after=1):
                            heard = True
                            yield notice.channel
                        if not heard:
                            yield ""
            except psycopg.OperationalError as error:
                _LOG.warning("no nudges: the database connection is lost", error=str(error).strip(), retry_s=delay_s)
            await asyncio.sleep(min(idle_s, delay_s * random.uniform(0.5, 1.0)))  # noqa: S311 - jitter, not a secret
            delay_s = min(2 * delay_s, _LONGEST_DELAY_S)
            if time.monotonic() - began >= idle_s:
                yield ""
