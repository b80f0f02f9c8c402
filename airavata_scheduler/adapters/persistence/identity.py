"""Users, refresh tokens and projects in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from airavata_scheduler.adapters.persistence.engine import transaction
from airavata_scheduler.adapters.persistence.reading import Reader, epoch
from airavata_scheduler.platform.domain.errors import ConflictError, NotFoundError
from airavata_scheduler.platform.domain.views import ProjectView, UserView
from airavata_scheduler.platform.ports.identity_store import Account, RefreshToken

_VIEW = f"u.name, u.full_name, u.email, u.admin, u.disabled, {epoch('u.created_at')} AS created_at"
_ACCOUNT = f"SELECT {_VIEW}, u.password_hash, u.token_generation FROM users u WHERE u.name = :name"
_SESSION = f"""
SELECT {_VIEW}, u.password_hash, u.token_generation,
  EXISTS (SELECT FROM refresh_tokens t
    WHERE t.family = :family AND t.user_name = u.name AND t.revoked_at IS NULL) AS holds
FROM users u WHERE u.name = :name
"""
_ADD_USER = """
INSERT INTO users (name, full_name, email, admin, disabled, password_hash, created_at)
VALUES (:name, :full_name, :email, :admin, :disabled, :password_hash, to_timestamp(:created_at))
ON CONFLICT DO NOTHING RETURNING name
"""
#: All statements that could take away the last administrator wait for each other here.
_LOCK_ADMINS = "SELECT name FROM users WHERE admin AND NOT disabled ORDER BY name FOR UPDATE"
_USER_COLUMNS = ("full_name", "email", "admin", "disabled", "password_hash")
_PROJECT_COLUMNS = ("description", "weight", "owner")

#: Whatever adds or voids tokens of a user waits here for whoever else does: none is added beside a revocation.
_LOCK_USER = "SELECT token_generation, disabled FROM users WHERE name = :user FOR NO KEY UPDATE"
_OWNER = "SELECT user_name FROM refresh_tokens WHERE id = :id"
_FAMILY_OWNER = "SELECT DISTINCT user_name FROM refresh_tokens WHERE family = :family"
#: Repeated after a commit whose answer was lost, it finds its own successor.
_USE_REFRESH = f"""
SELECT id, family, user_name AS user, {epoch("expires_at")} AS expires_at, revoked_at IS NOT NULL AS revoked,
  used_at IS NOT NULL AND NOT EXISTS (SELECT FROM refresh_tokens s WHERE s.id = :successor) AS used,
  used_at IS NULL AND revoked_at IS NULL AND expires_at > to_timestamp(:now) AS good
FROM refresh_tokens WHERE id = :id
"""
_MARK_USED = "UPDATE refresh_tokens SET used_at = clock_timestamp() WHERE id = :id"
_ADD_REFRESH = """
WITH swept AS (DELETE FROM refresh_tokens WHERE user_name = :user AND expires_at < clock_timestamp())
INSERT INTO refresh_tokens (id, family, user_name, expires_at) VALUES (:id, :family, :user, to_timestamp(:expires_at))
ON CONFLICT (id) DO NOTHING
"""
_REVOKE = "UPDATE refresh_tokens SET revoked_at = clock_timestamp() WHERE revoked_at IS NULL AND "
_PROJECTS = f"""
SELECT p.name, p.description, p.owner, {epoch("p.created_at")} AS created_at, p.weight, coalesce(
  (SELECT json_object_agg(m.user_name, m.role ORDER BY m.user_name) FROM project_members m WHERE m.project = p.name),
  '{{}}'::json) AS members
FROM projects p
"""
_ADD_PROJECT = """
INSERT INTO projects (name, description, owner, weight, created_at)
VALUES (:name, :description, :owner, :weight, to_timestamp(:created_at)) ON CONFLICT DO NOTHING RETURNING name
"""
_SET_MEMBER = """
INSERT INTO project_members (project, user_name, role) VALUES (:project, :user, :role)
ON CONFLICT (project, user_name) DO UPDATE SET role = excluded.role
"""


def _user(row: Mapping[str, Any]) -> UserView:
    return UserView(**{name: row[name] for name in UserView.__dataclass_fields__})


def _account(row: Mapping[str, Any]) -> Account:
    return Account(_user(row), row["password_hash"], row["token_generation"])


def _no_user(name: str) -> NotFoundError:
    return NotFoundError(f"there is no user {name!r}", path="name", remedy="list them with `airavata user list`")


def _project(row: Mapping[str, Any]) -> ProjectView:
    # The owner is a member whether or not a row says so.
    return ProjectView(**{**row, "members": {**row["members"], row["owner"]: "owner"}})


class SqlIdentityStore(Reader):
    """The identity store over an engine of `create_engine`."""

    async def _write(self, statement: str, given: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        async def work(connection: AsyncConnection) -> Sequence[Mapping[str, Any]]:
            found = await connection.execute(sa.text(statement), given)
            return [dict(row) for row in found.mappings()] if found.returns_rows else []

        return await transaction(self._engine, work)

    async def account(self, name: str) -> Account | None:
        row = await self.row(_ACCOUNT, {"name": name})
        return None if row is None else _account(row)

    async def session(self, name: str, family: str) -> tuple[Account, bool] | None:
        row = await self.row(_SESSION, {"name": name, "family": family})
        return None if row is None else (_account(row), bool(row["holds"]))

    async def users(self) -> Sequence[UserView]:
        return [_user(row) for row in await self.rows(f"SELECT {_VIEW} FROM users u ORDER BY u.name")]

    async def add_user(self, view: UserView, password_hash: str) -> UserView:
        given = {name: getattr(view, name) for name in UserView.__dataclass_fields__}
        if not await self._write(_ADD_USER, {**given, "password_hash": password_hash}):
            raise ConflictError(f"there is a user {view.name!r} already", path="name", remedy="choose another name")
        return view

    async def update_user(self, name: str, changes: Mapping[str, Any], *, new_generation: bool = False) -> UserView:
        sets = [f"{column} = :{column}" for column in _USER_COLUMNS if column in changes]
        sets.append(f"token_generation = token_generation + {int(new_generation)}")
        statement = f"UPDATE users u SET {', '.join(sets)} WHERE u.name = :name RETURNING {_VIEW}"
        loses_admin = changes.get("admin") is False or changes.get("disabled") is True

        async def work(connection: AsyncConnection) -> Mapping[str, Any] | None:
            if loses_admin:
                await self._keep_an_admin(connection, name)
            if new_generation:
                await connection.execute(sa.text(_LOCK_USER), {"user": name})
                await connection.execute(sa.text(f"{_REVOKE}user_name = :name"), {"name": name})
            found = (await connection.execute(sa.text(statement), {**changes, "name": name})).mappings().first()
            return None if found is None else dict(found)

        row = await transaction(self._engine, work)
        if row is None:
            raise _no_user(name)
        return _user(row)

    @staticmethod
    async def _keep_an_admin(connection: AsyncConnection, name: str) -> None:
        admins = (await connection.execute(sa.text(_LOCK_ADMINS))).scalars().all()
        if list(admins) == [name]:
            raise ConflictError(
                f"{name!r} is the last administrator", path="name", remedy="make another user an administrator first"
            )

    async def delete_user(self, name: str) -> None:
        async def work(connection: AsyncConnection) -> int:
            await self._keep_an_admin(connection, name)
            return (await connection.execute(sa.text("DELETE FROM users WHERE name = :name"), {"name": name})).rowcount

        try:
            found = await transaction(self._engine, work)
        except IntegrityError:
            remedy = "give its projects to somebody else, or disable the user instead"
            raise ConflictError(
                f"{name!r} owns projects, experiments or credentials", path="name", remedy=remedy
            ) from None
        if not found:
            raise _no_user(name)

    async def add_refresh(self, token: RefreshToken, generation: int) -> bool:
        given = {"id": token.id, "family": token.family, "user": token.user, "expires_at": token.expires_at}

        async def work(connection: AsyncConnection) -> bool:
            user = (await connection.execute(sa.text(_LOCK_USER), {"user": token.user})).first()
            if user is None or user.disabled or user.token_generation != generation:
                return False
            await connection.execute(sa.text(_ADD_REFRESH), given)
            return True

        return await transaction(self._engine, work)

    async def use_refresh(self, token_id: str, successor: str, now: float, expires_at: float) -> RefreshToken | None:
        asked = {"id": token_id, "successor": successor, "now": now}

        async def work(connection: AsyncConnection) -> RefreshToken | None:
            user = (await connection.execute(sa.text(_OWNER), {"id": token_id})).scalar()
            if user is None:
                return None
            await connection.execute(sa.text(_LOCK_USER), {"user": user})
            found = (await connection.execute(sa.text(_USE_REFRESH), asked)).mappings().first()
            if found is None:
                return None
            token = {name: value for name, value in found.items() if name != "good"}
            if found["good"]:
                given = {"id": successor, "family": found["family"], "user": user, "expires_at": expires_at}
                await connection.execute(sa.text(_MARK_USED), {"id": token_id})
                await connection.execute(sa.text(_ADD_REFRESH), given)
            return RefreshToken(**token)

        return await transaction(self._engine, work)

    async def revoke_family(self, family: str) -> None:
        async def work(connection: AsyncConnection) -> None:
            for user in (await connection.execute(sa.text(_FAMILY_OWNER), {"family": family})).scalars().all():
                await connection.execute(sa.text(_LOCK_USER), {"user": user})
            await connection.execute(sa.text(f"{_REVOKE}family = :family"), {"family": family})

        await transaction(self._engine, work)

    async def projects(self, names: Sequence[str] | None) -> Sequence[ProjectView]:
        where = "" if names is None else "WHERE p.name = ANY(:names) "
        given = {} if names is None else {"names": list(names)}
        return [_project(row) for row in await self.rows(f"{_PROJECTS}{where}ORDER BY p.name", given)]

    async def project(self, name: str) -> ProjectView:
        found = await self.projects([name])
        if not found:
            raise NotFoundError(
                f"there is no project {name!r}", path="project", remedy="list them with `airavata project list`"
            )
        return found[0]

    async def add_project(self, view: ProjectView) -> ProjectView:
        given = {name: getattr(view, name) for name in ("name", "description", "owner", "weight", "created_at")}
        try:
            made = await self._write(_ADD_PROJECT, given)
        except IntegrityError:
            raise _no_user(view.owner) from None
        if not made:
            raise ConflictError(f"there is a project {view.name!r} already", path="name", remedy="choose another name")
        return await self.project(view.name)

    async def update_project(self, name: str, changes: Mapping[str, Any]) -> ProjectView:
        sets = ", ".join(f"{column} = :{column}" for column in _PROJECT_COLUMNS if column in changes)
        if sets:
            try:
                await self._write(f"UPDATE projects SET {sets} WHERE name = :name", {**changes, "name": name})
            except IntegrityError:
                raise _no_user(str(changes.get("owner"))) from None
        return await self.project(name)

    async def delete_project(self, name: str) -> None:
        await self.project(name)
        try:
            await self._write("DELETE FROM projects WHERE name = :name", {"name": name})
        except IntegrityError:
            remedy = "delete its experiments first"
            raise ConflictError(f"there are experiments in the project {name!r}", path="name", remedy=remedy) from None

    async def set_member(self, project: str, user: str, role: str) -> ProjectView:
        view = await self.project(project)
        if view.owner == user:
            remedy = "give the project to somebody else first: PATCH its owner"
            raise ConflictError(f"{user!r} owns the project {project!r}", path="user", remedy=remedy)
        try:
            await self._write(_SET_MEMBER, {"project": project, "user": user, "role": role})
        except IntegrityError:
            raise _no_user(user) from None
        return await self.project(project)

    async def remove_member(self, project: str, user: str) -> ProjectView:
        view = await self.project(project)
        if view.owner == user:
            remedy = "give the project to somebody else first: PATCH its owner"
            raise ConflictError(f"{user!r} owns the project {project!r}", path="user", remedy=remedy)
        given = {"project": project, "user": user}
        gone = await self._write(
            "DELETE FROM project_members WHERE project = :project AND user_name = :user RETURNING role", given
        )
        if not gone:
            raise NotFoundError(
                f"{user!r} is not a member of {project!r}", path="user", remedy="see `members` of the project"
            )
        return await self.project(project)
