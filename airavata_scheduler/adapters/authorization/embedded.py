"""Authorization over the tables of users, projects and members: each decision is one statement."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from airavata_scheduler.platform.domain.errors import UnavailableError
from airavata_scheduler.platform.ports.authorization import PERMISSIONS, ROLES

_PROJECT = """
EXISTS (SELECT FROM projects p WHERE p.name = :object AND (u.admin OR p.owner = u.name OR EXISTS (
  SELECT FROM project_members m WHERE m.project = p.name AND m.user_name = u.name AND m.role = ANY(:roles))))
"""
_CREDENTIAL = "EXISTS (SELECT FROM credentials c WHERE c.name = :object AND (u.admin OR c.owner = u.name))"
_DECISION = "SELECT {test} FROM users u WHERE u.name = :user AND NOT u.disabled"
_VISIBLE = {
    "project": """
SELECT u.admin AS everything, array(
  SELECT p.name FROM projects p WHERE NOT u.admin AND (p.owner = u.name OR EXISTS (
    SELECT FROM project_members m WHERE m.project = p.name AND m.user_name = u.name)) ORDER BY p.name) AS ids
FROM users u WHERE u.name = :user AND NOT u.disabled""",
    "credential": """
SELECT u.admin AS everything, array(SELECT c.name FROM credentials c WHERE c.owner = u.name ORDER BY c.name) AS ids
FROM users u WHERE u.name = :user AND NOT u.disabled""",
    "platform": """
SELECT false AS everything, ARRAY['*'] AS ids FROM users u WHERE u.name = :user AND NOT u.disabled""",
}


class EmbeddedAuthorization:
    """The authorization port over an engine; administrators may do everything."""

    def __init__(self, engine: AsyncEngine) -> None:
        # A decision is one statement, which is a transaction by itself: one round trip instead of three.
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def _first(self, statement: str, given: dict[str, Any]) -> sa.Row[Any] | None:
        try:
            async with self._engine.connect() as connection:
                return (await connection.execute(sa.text(statement), given)).first()
        except DBAPIError as error:
            message = "permissions cannot be looked up, because the database does not answer"
            raise UnavailableError(message, remedy="look at `airavata status`") from error

    async def allowed(self, user: str, permission: str, kind: str, object_id: str) -> bool:
        """Whether the user has the permission. ValueError for a kind or permission that there is not."""
        if permission not in PERMISSIONS.get(kind, ()):
            raise ValueError(f"there is no permission {permission!r} on {kind!r}")
        given: dict[str, Any] = {"user": user, "object": object_id}
        if kind == "project":
            test = _PROJECT
            given["roles"] = [role for role, permissions in ROLES.items() if permission in permissions]
        elif kind == "credential":
            test = _CREDENTIAL
        else:
            test = "CAST(:object AS text) = '*' AND " + ("true" if permission == "view" else "u.admin")
        row = await self._first(_DECISION.format(test=test), given)
        return row is not None and bool(row[0])

    async def visible(self, user: str, kind: str) -> list[str] | None:
        """Ids of the objects the user may view; None stands for all of them."""
        row = await self._first(_VISIBLE[kind], {"user": user})
        if row is None:
            return []
        return None if row.everything else list(row.ids)
