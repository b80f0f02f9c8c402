"""What the read-only queries share: the way to the database, cursors, and the counting of tasks without a row."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from airavata_scheduler.adapters.persistence.engine import single_statements, transaction
from airavata_scheduler.platform.domain.errors import InvalidRequestError
from airavata_scheduler.platform.domain.states import TaskState

STATE_NAMES = tuple(state.name.lower() for state in TaskState)
#: Longer than this nobody waits for a page: better say that the database is away.
_READ_LIMIT_S = 5.0
#: A statement may take longer, as long as this at most.
_SILENCE_S = 20.0
_MAX_INTEGER = 2**63 - 1
_MAX_CURSOR = 1000

#: States that tasks without a row can be in.
_REST_STATES = (TaskState.PENDING, TaskState.READY, TaskState.SKIPPED, TaskState.CANCELED)
#: Number of tasks of step `s` without a row, given its `step_counts` row `c`.
REST = "(s.n - coalesce(c.written, 0))"


def count_of(state: TaskState) -> str:
    """SQL: tasks of step `s` in a state, with and without a row."""
    rows = f"coalesce(c.{STATE_NAMES[state]}, 0)"
    return f"({rows} + CASE WHEN s.rest_state = {state:d} THEN {REST} ELSE 0 END)" if state in _REST_STATES else rows


def epoch(column: str) -> str:
    """SQL: a time as seconds since the epoch."""
    return f"extract(epoch FROM {column})::float8"


def encode_cursor(*parts: Any) -> str:
    """An opaque cursor that holds the place of the last item."""
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, *kinds: type) -> list[Any]:
    """The parts of a cursor. InvalidRequestError if it is not one of ours."""
    try:
        if len(cursor) > _MAX_CURSOR:
            raise ValueError
        parts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        shapes = [type(part) for part in parts]
        if shapes != list(kinds) or any(isinstance(p, int) and not 0 <= p <= _MAX_INTEGER for p in parts):
            raise ValueError
        if any(isinstance(p, str) and ("\0" in p or not p.isprintable()) for p in parts):
            raise ValueError
    except (ValueError, TypeError, binascii.Error, RecursionError):
        remedy = "pass the value of `next` of the page before, or leave it out for the first page"
        raise InvalidRequestError("the cursor is not valid", path="cursor", remedy=remedy) from None
    return list(parts)


class Reader:
    """Runs single statements, again when the connection was lost."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._single = single_statements(engine)

    async def rows(
        self, statement: str, parameters: Mapping[str, Any] | None = None, *, silence_s: float = _SILENCE_S
    ) -> Sequence[Mapping[str, Any]]:
        """All rows of one statement, which may take ``silence_s``."""

        async def work(connection: AsyncConnection) -> Sequence[Mapping[str, Any]]:
            found = await connection.execute(sa.text(statement), parameters)
            return [dict(row) for row in found.mappings()]

        return await transaction(self._single, work, limit_s=min(_READ_LIMIT_S, silence_s), silence_s=silence_s)

    async def row(self, statement: str, parameters: Mapping[str, Any] | None = None) -> Mapping[str, Any] | None:
        """The first row, if there is one."""
        found = await self.rows(statement, parameters)
        return found[0] if found else None
