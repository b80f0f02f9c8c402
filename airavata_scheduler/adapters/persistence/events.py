"""Events: rows whose sequence numbers grow in the order of their commits."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from psycopg.types.json import Jsonb
from sqlalchemy.ext.asyncio import AsyncConnection

from airavata_scheduler.platform.domain.events import Event

#: Held from here to the commit, so that whoever has the higher number commits later: a reader never misses one.
_ORDER = sa.text("SELECT pg_advisory_xact_lock(7236002)")
_APPEND = sa.text("""
INSERT INTO events (kind, experiment, project, data)
SELECT * FROM unnest(CAST(:kinds AS text[]), CAST(:experiments AS text[]), CAST(:projects AS text[]),
                     CAST(:data AS jsonb[]))
RETURNING seq
""")
#: The topic of `EventBus` under which new events are announced.
TOPIC = "airavata_events"
_NOTIFY = sa.text(f"NOTIFY {TOPIC}")


async def append(connection: AsyncConnection, events: Sequence[Event]) -> int:
    """Write events as the last thing of a transaction. The highest sequence number, 0 without events."""
    if not events:
        return 0
    await connection.execute(_ORDER)
    values = {
        "kinds": [event.kind for event in events],
        "experiments": [event.experiment for event in events],
        "projects": [event.project for event in events],
        "data": [Jsonb(dict(event.data)) for event in events],
    }
    highest = max((await connection.execute(_APPEND, values)).scalars())
    await connection.execute(_NOTIFY)
    return int(highest)
