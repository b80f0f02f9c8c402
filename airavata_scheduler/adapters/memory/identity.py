"""Users, refresh tokens and projects in dictionaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from airavata_scheduler.platform.domain.errors import ConflictError, NotFoundError
from airavata_scheduler.platform.domain.views import ProjectView, UserView
from airavata_scheduler.platform.ports.identity_store import Account, RefreshToken


class MemoryIdentityStore:
    """The identity store of one process."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.tokens: dict[str, RefreshToken] = {}
        self.spaces: dict[str, ProjectView] = {}

    def _account(self, name: str) -> Account:
        if name not in self.accounts:
            raise NotFoundError(f"there is no user {name!r}", path="name", remedy="list them with `airavata user list`")
        return self.accounts[name]

    async def account(self, name: str) -> Account | None:
        return self.accounts.get(name)

    async def session(self, name: str, family: str) -> tuple[Account, bool] | None:
        if name not in self.accounts:
            return None
        holds = any(t.family == family and t.user == name and not t.revoked for t in self.tokens.values())
        return self.accounts[name], holds

    async def users(self) -> Sequence[UserView]:
        return [self.accounts[name].view for name in sorted(self.accounts)]

    async def add_user(self, view: UserView, password_hash: str) -> UserView:
        if view.name in self.accounts:
            raise ConflictError(f"there is a user {view.name!r} already", path="name", remedy="choose another name")
        self.accounts[view.name] = Account(view, password_hash, 0)
        return view

    def _keep_an_admin(self, name: str) -> None:
        if [a.view.name for a in self.accounts.values() if a.view.admin and not a.view.disabled] == [name]:
            raise ConflictError(
                f"{name!r} is the last administrator", path="name", remedy="make another user an administrator first"
            )

    async def update_user(self, name: str, changes: Mapping[str, Any], *, new_generation: bool = False) -> UserView:
        account = self._account(name)
        if changes.get("admin") is False or changes.get("disabled") is True:
            self._keep_an_admin(name)
        shown = {key: value for key, value in changes.items() if key != "password_hash"}
        self.accounts[name] = Account(
            replace(account.view, **shown),
            changes.get("password_hash", account.password_hash),
            account.generation + int(new_generation),
        )
        if new_generation:
            self._revoke(lambda token: token.user == name)
        return self.accounts[name].view

    def _revoke(self, test: Any) -> None:
        self.tokens = {key: replace(t, revoked=True) if test(t) else t for key, t in self.tokens.items()}

    async def delete_user(self, name: str) -> None:
        self._account(name)
        self._keep_an_admin(name)
        if any(project.owner == name for project in self.spaces.values()):
            remedy = "give its projects to somebody else, or disable the user instead"
            raise ConflictError(f"{name!r} owns projects, experiments or credentials", path="name", remedy=remedy)
        del self.accounts[name]

    async def add_refresh(self, token: RefreshToken, generation: int) -> bool:
        account = self.accounts.get(token.user)
        if account is None or account.view.disabled or account.generation != generation:
            return False
        self.tokens[token.id] = token
        return True

    async def use_refresh(self, token_id: str, successor: str, now: float, expires_at: float) -> RefreshToken | None:
        before = self.tokens.get(token_id)
        if before is not None and not (before.used or before.revoked or before.expires_at <= now):
            self.tokens[token_id] = replace(before, used=True)
            self.tokens[successor] = replace(before, id=successor, expires_at=expires_at)
        return before

    async def revoke_family(self, family: str) -> None:
        self._revoke(lambda token: token.family == family)

    async def projects(self, names: Sequence[str] | None) -> Sequence[ProjectView]:
        return [self.spaces[name] for name in sorted(self.spaces) if names is None or name in names]

    async def project(self, name: str) -> ProjectView:
        if name not in self.spaces:
            raise NotFoundError(
                f"there is no project {name!r}", path="project", remedy="list them with `airavata project list`"
            )
        return self.spaces[name]

    async def add_project(self, view: ProjectView) -> ProjectView:
        if view.name in self.spaces:
            raise ConflictError(f"there is a project {view.name!r} already", path="name", remedy="choose another name")
        self._account(view.owner)
        self.spaces[view.name] = replace(view, members={**view.members, view.owner: "owner"})
        return self.spaces[view.name]

    async def update_project(self, name: str, changes: Mapping[str, Any]) -> ProjectView:
        project = await self.project(name)
        owner = self._account(changes.get("owner", project.owner)).view.name
        self.spaces[name] = replace(project, **changes, members={**project.members, owner: "owner"})
        return self.spaces[name]

    async def delete_project(self, name: str) -> None:
        await self.project(name)
        del self.spaces[name]

    async def set_member(self, project: str, user: str, role: str) -> ProjectView:
        view = await self.project(project)
        self._account(user)
        self._not_owner(view, user)
        self.spaces[project] = replace(view, members={**view.members, user: role})
        return self.spaces[project]

    @staticmethod
    def _not_owner(project: ProjectView, user: str) -> None:
        if project.owner == user:
            remedy = "give the project to somebody else first: PATCH its owner"
            raise ConflictError(f"{user!r} owns the project {project.name!r}", path="user", remedy=remedy)

    async def remove_member(self, project: str, user: str) -> ProjectView:
        view = await self.project(project)
        self._not_owner(view, user)
        if user not in view.members:
            raise NotFoundError(
                f"{user!r} is not a member of {project!r}", path="user", remedy="see `members` of the project"
            )
        self.spaces[project] = replace(view, members={k: v for k, v in view.members.items() if k != user})
        return self.spaces[project]
