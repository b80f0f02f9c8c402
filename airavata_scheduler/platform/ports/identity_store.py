"""Users, refresh tokens, projects and their members, as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from airavata_scheduler.platform.domain.views import ProjectView, UserView


@dataclass(frozen=True, slots=True)
class Account:
    """A user with what is needed to check who it is. Never leaves the identity service."""

    view: UserView
    password_hash: str
    generation: int  #: access tokens of an earlier generation are void


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A refresh token as stored. ``id`` is the hash of the token; a family is all that follow from one login."""

    id: str
    family: str
    user: str
    expires_at: float
    used: bool = False
    revoked: bool = False


class IdentityStore(Protocol):
    """Writes are transactions of their own. NotFoundError and ConflictError name the thing."""

    async def account(self, name: str) -> Account | None: ...

    async def session(self, name: str, family: str) -> tuple[Account, bool] | None:
        """A user, and whether the family of refresh tokens still holds: what every request asks."""
        ...

    async def users(self) -> Sequence[UserView]: ...

    async def add_user(self, view: UserView, password_hash: str) -> UserView:
        """ConflictError if the name is taken."""
        ...

    async def update_user(self, name: str, changes: Mapping[str, Any], *, new_generation: bool = False) -> UserView:
        """Change columns; with ``new_generation`` also void all tokens. ConflictError for the last active admin."""
        ...

    async def delete_user(self, name: str) -> None:
        """ConflictError if the user owns something, or is the last active admin."""
        ...

    async def add_refresh(self, token: RefreshToken, generation: int) -> bool:
        """Store the first token of a login; False if the user is disabled, or of another generation, by now."""
        ...

    async def use_refresh(self, token_id: str, successor: str, now: float, expires_at: float) -> RefreshToken | None:
        """Mark as used and store the successor, in one; the token as it was before, or None if it is unknown.

        Nothing changes if it was used, was revoked or has expired. ``expires_at`` is the successor's.
        """
        ...

    async def revoke_family(self, family: str) -> None: ...

    async def projects(self, names: Sequence[str] | None) -> Sequence[ProjectView]:
        """With their members; None for all."""
        ...

    async def project(self, name: str) -> ProjectView: ...

    async def add_project(self, view: ProjectView) -> ProjectView:
        """ConflictError if the name is taken."""
        ...

    async def update_project(self, name: str, changes: Mapping[str, Any]) -> ProjectView: ...

    async def delete_project(self, name: str) -> None:
        """ConflictError while there are experiments in it."""
        ...

    async def set_member(self, project: str, user: str, role: str) -> ProjectView: ...

    async def remove_member(self, project: str, user: str) -> ProjectView: ...
