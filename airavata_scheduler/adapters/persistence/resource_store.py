"""`ResourceStore` and `CredentialStore` on PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from airavata_scheduler.adapters.persistence.engine import transaction
from airavata_scheduler.adapters.persistence.tables import credentials, resources
from airavata_scheduler.platform.domain.errors import ConflictError, NotFoundError

_FORGET = sa.text("""
DELETE FROM workers w
WHERE w.state IN ('lost', 'gone') AND w.lease_until < clock_timestamp() - make_interval(secs => :age_s)
  AND NOT EXISTS (SELECT FROM tasks t WHERE t.worker_id = w.id AND t.state IN (2, 3, 4, 5, 9))
  AND NOT EXISTS (SELECT FROM attempts a WHERE a.worker_id = w.id)
""")


class PostgresResourceStore:
    """Both ports over an engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def update_resource(self, name: str, changes: Mapping[str, Any]) -> None:
        """``changes`` are columns, already validated."""
        statement = (
            sa.update(resources).where(resources.c.name == name).values(**changes, updated_at=sa.func.clock_timestamp())
        )

        async def work(connection: AsyncConnection) -> None:
            if not (await connection.execute(statement)).rowcount:
                message = f"there is no resource {name!r}"
                raise NotFoundError(message, remedy="see `airavata resource list`")

        await transaction(self._engine, work)

    async def forget_ended_workers(self, older_than_s: float) -> int:
        """Those that some attempt names are kept: they are part of its record."""

        async def work(connection: AsyncConnection) -> int:
            return (await connection.execute(_FORGET, {"age_s": older_than_s})).rowcount

        return await transaction(self._engine, work)

    async def put_credential(self, name: str, owner: str, kind: str) -> None:
        """Replacing one's own rotates it."""
        fresh = insert(credentials).values(name=name, owner=owner, kind=kind)
        statement = fresh.on_conflict_do_update(
            index_elements=["name"],
            set_={"kind": kind, "rotated_at": sa.func.clock_timestamp()},
            where=credentials.c.owner == owner,
        ).returning(credentials.c.name)

        async def work(connection: AsyncConnection) -> None:
            if (await connection.execute(statement)).first() is None:
                message = f"the name {name!r} is taken"
                raise ConflictError(message, path="name", remedy="choose another name")

        await transaction(self._engine, work)

    async def delete_credential(self, name: str) -> None:
        """Deleting what is not there is no error."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(sa.delete(credentials).where(credentials.c.name == name))

        await transaction(self._engine, work)

    async def credentials(self, owner: str) -> list[dict[str, Any]]:
        """By name."""
        statement = (
            sa.select(credentials.c.name, credentials.c.kind, credentials.c.created_at, credentials.c.rotated_at)
            .where(credentials.c.owner == owner)
            .order_by(credentials.c.name)
        )

        async def work(connection: AsyncConnection) -> list[dict[str, Any]]:
            return [dict(row) for row in (await connection.execute(statement)).mappings()]

        return await transaction(self._engine, work)
