"""What SQLAlchemy has no word for: COPY through the psycopg connection of the same transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from sqlalchemy.ext.asyncio import AsyncConnection


async def copy_rows(connection: AsyncConnection, table: str, columns: str, rows: Iterable[Sequence[Any]]) -> None:
    """Append rows to a table. ``table`` and ``columns`` are names in our own code, never input."""
    raw = (await connection.get_raw_connection()).driver_connection
    assert isinstance(raw, psycopg.AsyncConnection)  # noqa: S101 - the engine is made for this driver
    async with raw.cursor() as cursor, cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
        for row in rows:
            await copy.write_row(row)
