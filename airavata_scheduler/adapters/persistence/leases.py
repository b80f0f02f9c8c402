"""Leases with epochs: who may write. The database's clock decides; the epoch fences."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from airavata_scheduler.adapters.persistence.engine import single_statements, transaction
from airavata_scheduler.platform.domain.errors import LeaseLostError
from airavata_scheduler.platform.ports.repository import Fence

_TAKE = sa.text("""
INSERT INTO leases (name, epoch, holder, expires_at)
VALUES (:name, 1, :holder, clock_timestamp() + make_interval(secs => :lease_s))
ON CONFLICT (name) DO UPDATE
SET epoch = leases.epoch + 1, holder = excluded.holder, expires_at = excluded.expires_at
RETURNING epoch
""")
_RENEW = sa.text("""
UPDATE leases SET expires_at = clock_timestamp() + make_interval(secs => :lease_s)
WHERE name = :name AND epoch = :epoch
""")
#: Nobody waits longer to become a holder: who asks again and again is told at once when the database is back.
_TAKE_LIMIT_S = 4.0
_CHECK = sa.text("SELECT 1 FROM leases WHERE name = :name AND epoch = :epoch FOR SHARE")


async def check_fence(connection: AsyncConnection, fence: Fence) -> None:
    """Hold the lease until the transaction ends. LeaseLostError if somebody else has it."""
    row = await connection.execute(_CHECK, {"name": fence.name, "epoch": fence.epoch})
    if row.first() is None:
        raise _lost(fence)


def _lost(fence: Fence) -> LeaseLostError:
    return LeaseLostError(f"the lease {fence.name} is no longer at epoch {fence.epoch}")


class PostgresLeases:
    """`Leases` on the table of that name."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def take(self, name: str, holder: str, lease_s: float) -> Fence:
        """Become the holder, whoever held it before: Ray starts a successor only for one it believes dead."""

        async def work(connection: AsyncConnection) -> Fence:
            row = await connection.execute(_TAKE, {"name": name, "holder": holder, "lease_s": lease_s})
            return Fence(name, row.scalar_one())

        return await transaction(self._engine, work, limit_s=_TAKE_LIMIT_S, silence_s=_TAKE_LIMIT_S)

    async def renew(self, fence: Fence, lease_s: float) -> None:
        """Push the end of the lease; LeaseLostError if somebody else took it."""

        async def work(connection: AsyncConnection) -> None:
            values = {"name": fence.name, "epoch": fence.epoch, "lease_s": lease_s}
            if not (await connection.execute(_RENEW, values)).rowcount:
                raise _lost(fence)

        await transaction(single_statements(self._engine), work, limit_s=lease_s / 3, silence_s=lease_s / 3)
