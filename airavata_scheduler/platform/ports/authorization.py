"""Who may do what to which thing."""

from __future__ import annotations

from typing import Protocol

#: Permissions by kind of object. `platform` has the single id "*".
PERMISSIONS = {
    "platform": ("view", "administer"),
    "project": ("view", "submit", "edit", "administer"),
    "credential": ("view", "use", "edit"),
}
#: What each role in a project may do.
ROLES = {
    "viewer": ("view",),
    "editor": ("view", "submit", "edit"),
    "owner": ("view", "submit", "edit", "administer"),
}


class Authorization(Protocol):
    """Decides. An experiment is judged by its project."""

    async def allowed(self, user: str, permission: str, kind: str, object_id: str) -> bool:
        """Whether the user has the permission; False for unknown users and objects."""
        ...

    async def visible(self, user: str, kind: str) -> list[str] | None:
        """Ids of the objects the user may view; None stands for all of them."""
        ...
