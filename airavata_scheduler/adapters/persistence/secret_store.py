"""Sealed secrets by path; what is inside, only the vault's master key tells."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from airavata_scheduler.adapters.persistence.engine import transaction
from airavata_scheduler.adapters.persistence.tables import secrets


class PostgresSecretStore:
    """What `EmbeddedVault` keeps its ciphertexts in: the table `secrets`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def put(self, path: str, sealed: bytes) -> None:
        """Create or replace."""
        fresh = {"sealed": sealed, "updated_at": sa.func.clock_timestamp()}
        statement = insert(secrets).values(path=path, **fresh)

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(statement.on_conflict_do_update(index_elements=["path"], set_=fresh))

        await transaction(self._engine, work)

    async def get(self, path: str) -> bytes | None:
        """None if there is nothing at the path."""

        async def work(connection: AsyncConnection) -> bytes | None:
            return (await connection.execute(sa.select(secrets.c.sealed).where(secrets.c.path == path))).scalar()

        return await transaction(self._engine, work)

    async def delete(self, path: str) -> None:
        """Deleting what is not there is no error."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(sa.delete(secrets).where(secrets.c.path == path))

        await transaction(self._engine, work)
