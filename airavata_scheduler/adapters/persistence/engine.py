"""The database engine, and the repetition of transactions that a lost connection or a deadlock undid."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from airavata_scheduler.platform.domain.errors import UnavailableError

T = TypeVar("T")

#: Undone by the server without a fault of the statement: serialization failure, deadlock, lock timeout, and everything
#: about a server that is going down or coming up.
_TRANSIENT_STATES = frozenset({"40001", "40P01", "55P03", "57P01", "57P02", "57P03", "53300"})
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
            "options": "-c statement_timeout=300000 -c jit=off",
        },
    )


def single_statements(engine: AsyncEngine) -> AsyncEngine:
    """The same connections for work of one statement: that is a transaction by itself, and spares BEGIN and COMMIT."""
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def is_transient(error: DBAPIError) -> bool:
    """Whether the same transaction may succeed when it is tried again."""
    state = getattr(error.orig, "sqlstate", None)
    return bool(error.connection_invalidated) or state in _TRANSIENT_STATES or (state or "08").startswith("08")


async def transaction(
    engine: AsyncEngine, work: Callable[[AsyncConnection], Awaitable[T]], *, limit_s: float = 60.0
) -> T:
    """Run ``work`` in one transaction; again, with back-off and jitter, while the database is away or objects.

    ``work`` must be repeatable: it runs from its beginning each time. UnavailableError after ``limit_s`` seconds.
    """
    give_up_at = time.monotonic() + limit_s
    delay_s = _FIRST_DELAY_S
    while True:
        try:
            async with engine.begin() as connection:
                return await work(connection)
        except DBAPIError as error:
            if not is_transient(error):
                raise
            if time.monotonic() > give_up_at:
                message = "the database does not answer"
                raise UnavailableError(
                    message, remedy="look at `airavata status` and at the log of PostgreSQL"
                ) from error
        await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
        delay_s = min(2 * delay_s, _LONGEST_DELAY_S)
