"""The database engine, and the repetition of transactions that a lost connection, a deadlock or a full disk undid."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import psycopg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from airavata_scheduler.platform.domain.errors import UnavailableError

T = TypeVar("T")

#: Undone by the server without a fault of the statement: lost connections, serialization failures and deadlocks, lack
#: of room or connections (53), a server that goes down, comes up or canceled it (57), and errors of its disk (58).
_TRANSIENT_CLASSES = ("08", "40", "53", "57", "58")
_TRANSIENT_STATES = frozenset({"25P03", "25P04", "55P03"})
_NO_ROOM = "53100"
#: The server itself ends a statement that takes longer.
_STATEMENT_S = 300
_FIRST_DELAY_S = 0.02
_LONGEST_DELAY_S = 2.0


def create_engine(url: str | sa.URL, *, pool_size: int = 8) -> AsyncEngine:
    """An engine for an SQLAlchemy URL with the psycopg driver; connections are made when first needed."""
    return create_async_engine(
        sa.make_url(url).set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=4,
        pool_recycle=1800,
        # READ COMMITTED is what the guarded statements are written for; a server default must not change it.
        isolation_level="READ COMMITTED",
        # Prepared at first use: the hot statements are few, and parsing them again costs more than running them.
        connect_args={
            "prepare_threshold": 2,
            "connect_timeout": 10,
            "options": f"-c statement_timeout={1000 * _STATEMENT_S} -c jit=off",
        },
    )


def single_statements(engine: AsyncEngine) -> AsyncEngine:
    """The same connections for work of one statement: that is a transaction by itself, and spares BEGIN and COMMIT."""
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def is_transient(error: DBAPIError | psycopg.Error) -> bool:
    """Whether the same transaction may succeed when it is tried again. COPY raises the driver's errors as they are."""
    state = getattr(getattr(error, "orig", error), "sqlstate", None) or "08"
    invalidated = isinstance(error, DBAPIError) and error.connection_invalidated
    return invalidated or state in _TRANSIENT_STATES or state.startswith(_TRANSIENT_CLASSES)


async def transaction(
    engine: AsyncEngine,
    work: Callable[[AsyncConnection], Awaitable[T]],
    *,
    limit_s: float = 60.0,
    silence_s: float = _STATEMENT_S + 30.0,
) -> T:
    """Run ``work`` in one transaction; again, with back-off and jitter, while the database is away or objects.

    ``work`` must be repeatable: it runs from its beginning each time. No new try is made after ``limit_s`` seconds; a
    try during which the server says nothing for ``silence_s`` is given up. UnavailableError when there are no more.
    """
    give_up_at = time.monotonic() + limit_s
    delay_s = _FIRST_DELAY_S
    while True:
        try:
            async with _connected(engine, silence_s) as connection, connection.begin():
                return await work(connection)
        except (DBAPIError, psycopg.Error, PoolTimeoutError, TimeoutError) as error:
            if isinstance(error, DBAPIError | psycopg.Error) and not is_transient(error):
                raise
            if time.monotonic() > give_up_at:
                raise _unavailable(error) from error
        await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
        delay_s = min(2 * delay_s, _LONGEST_DELAY_S)


@contextlib.asynccontextmanager
async def _connected(engine: AsyncEngine, silence_s: float) -> AsyncIterator[AsyncConnection]:
    """A connection that breaks when it is held for longer than ``silence_s``, as a frozen server breaks none."""
    connection = engine.connect()
    async with asyncio.timeout(silence_s):
        await connection.start()
    try:
        raw = (await connection.get_raw_connection()).driver_connection
        assert isinstance(raw, psycopg.AsyncConnection)  # the engine is made for this driver
        hang_up = asyncio.get_running_loop().call_later(silence_s, _hang_up, raw)
        try:
            yield connection
        finally:
            hang_up.cancel()
    finally:
        await connection.close()


def _hang_up(connection: psycopg.AsyncConnection[object]) -> None:
    """Shut the socket down: whoever waits for the server then finds the connection lost.

    Canceling the wait would not do, as the driver then asks the server to cancel, and waits for it to say that it did.
    """
    if not connection.closed:
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)


def _unavailable(error: Exception) -> UnavailableError:
    message, remedy = "the database does not answer", "look at `airavata status` and at the log of PostgreSQL"
    if getattr(getattr(error, "orig", error), "sqlstate", None) == _NO_ROOM:
        message, remedy = "the database finds no room on its disk", "make room where its data is; it goes on by itself"
    return UnavailableError(message, remedy=remedy)
