"""Authorization without a database: the same decisions over sets that a test fills."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from airavata_scheduler.platform.ports.authorization import PERMISSIONS, ROLES


class MemoryAuthorization:
    """``members``: project -> user -> role; ``credentials``: name -> owner."""

    def __init__(
        self,
        users: Iterable[str],
        admins: Iterable[str] = (),
        members: Mapping[str, Mapping[str, str]] | None = None,
        credentials: Mapping[str, str] | None = None,
    ) -> None:
        self.admins = set(admins)
        self.users = set(users) | self.admins
        self.members: dict[str, dict[str, str]] = {name: dict(roles) for name, roles in (members or {}).items()}
        self.credentials = dict(credentials or {})

    async def allowed(self, user: str, permission: str, kind: str, object_id: str) -> bool:
        """Whether the user has the permission. ValueError for a kind or permission that there is not."""
        if permission not in PERMISSIONS.get(kind, ()):
            raise ValueError(f"there is no permission {permission!r} on {kind!r}")
        if user not in self.users:
            return False
        if kind == "project":
            role = self.members.get(object_id, {}).get(user, "")
            return object_id in self.members and (user in self.admins or permission in ROLES.get(role, ()))
        if kind == "credential":
            return object_id in self.credentials and (user in self.admins or self.credentials[object_id] == user)
        return object_id == "*" and (permission == "view" or user in self.admins)

    async def visible(self, user: str, kind: str) -> list[str] | None:
        """Ids of the objects the user may view; None stands for all of them."""
        if user not in self.users:
            return []
        if kind == "platform":
            return ["*"]
        if user in self.admins:
            return None
        if kind == "project":
            return sorted(name for name, roles in self.members.items() if user in roles)
        return sorted(name for name, owner in self.credentials.items() if owner == user)
