"""Secrets in PostgreSQL, sealed with AES-256-GCM under a master key that is not in the database."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

import sqlalchemy as sa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from airavata_scheduler.adapters.persistence.engine import transaction
from airavata_scheduler.adapters.persistence.tables import secrets
from airavata_scheduler.platform.domain.errors import NotFoundError

_NONCE_BYTES = 12


class EmbeddedVault:
    """`Vault` on the table `secrets`. ``master_key`` has 32 bytes.

    The path is authenticated with the secret, so a row moved to another path does not open.
    """

    def __init__(self, engine: AsyncEngine, master_key: bytes) -> None:
        self._engine = engine
        self._cipher = AESGCM(master_key)

    async def put(self, path: str, secret: Mapping[str, str]) -> None:
        """Create or replace."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, json.dumps(dict(secret)).encode(), path.encode())
        fresh = {"sealed": sealed, "updated_at": sa.func.clock_timestamp()}
        statement = insert(secrets).values(path=path, **fresh)

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(statement.on_conflict_do_update(index_elements=["path"], set_=fresh))

        await transaction(self._engine, work)

    async def get(self, path: str) -> Mapping[str, str]:
        """NotFoundError if there is none."""

        async def work(connection: AsyncConnection) -> bytes | None:
            return (await connection.execute(sa.select(secrets.c.sealed).where(secrets.c.path == path))).scalar()

        sealed = await transaction(self._engine, work)
        if sealed is None:
            message = f"there is no secret at {path}"
            raise NotFoundError(message)
        opened = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], path.encode())
        secret: dict[str, str] = json.loads(opened)
        return secret

    async def delete(self, path: str) -> None:
        """Deleting what is not there is no error."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(sa.delete(secrets).where(secrets.c.path == path))

        await transaction(self._engine, work)
