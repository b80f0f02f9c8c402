"""Projects, users, resources and workers: what an administrator looks after."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from airavata_scheduler.client.transport import Transport


def _items(answer: Any) -> list[dict[str, Any]]:
    rows = answer["items"] if isinstance(answer, dict) else answer
    return list(rows)


def _given(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


class _Named:
    """Things that have a name, under one path."""

    path = ""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> list[dict[str, Any]]:
        """All of them that you may see."""
        return _items(self._transport.json("GET", self.path))

    def get(self, name: str) -> dict[str, Any]:
        """One of them; raises `NotFoundError`."""
        answer: dict[str, Any] = self._transport.json("GET", self._one(name))
        return answer

    def update(self, name: str, **changes: Any) -> dict[str, Any]:
        """Change fields; raises `InvalidRequestError` for a field or value that cannot be."""
        answer: dict[str, Any] = self._transport.json("PATCH", self._one(name), json=changes, repeatable=True)
        return answer

    def _one(self, name: str) -> str:
        return f"{self.path}/{quote(name, safe='')}"


class Projects(_Named):
    """Projects and their members. Roles: owner, editor, viewer."""

    path = "/projects"

    def create(self, name: str, description: str = "") -> dict[str, Any]:
        """A new project that belongs to you; raises `ConflictError` when the name is taken."""
        answer: dict[str, Any] = self._transport.json(
            "POST", self.path, json={"name": name, "description": description}
        )
        return answer

    def delete(self, name: str) -> None:
        """Remove an empty project."""
        self._transport.json("DELETE", self._one(name))

    def add_member(self, name: str, user: str, role: str = "editor") -> None:
        """Let a user in, or change the role."""
        self._transport.json("PUT", f"{self._one(name)}/members/{quote(user, safe='')}", json={"role": role})

    def remove_member(self, name: str, user: str) -> None:
        """Take a user out."""
        self._transport.json("DELETE", f"{self._one(name)}/members/{quote(user, safe='')}")


class Users(_Named):
    """Users of the platform."""

    path = "/users"

    def create(
        self, name: str, password: str, *, full_name: str | None = None, email: str | None = None, admin: bool = False
    ) -> dict[str, Any]:
        """A new user; raises `ConflictError` when the name is taken."""
        body = _given(name=name, password=password, full_name=full_name, email=email, admin=admin)
        answer: dict[str, Any] = self._transport.json("POST", self.path, json=body)
        return answer

    def delete(self, name: str) -> None:
        """Remove a user."""
        self._transport.json("DELETE", self._one(name))

    def set_password(self, name: str, new: str, old: str | None = None) -> None:
        """Change a password; an admin needs no `old` one for others."""
        self._transport.json("PUT", f"{self._one(name)}/password", json=_given(old=old, new=new))


class Resources(_Named):
    """Compute resources, and where outputs are stored."""

    path = "/resources"

    def storages(self) -> list[dict[str, Any]]:
        """Storage resources."""
        return _items(self._transport.json("GET", "/storages"))


class Workers(_Named):
    """The processes that run tasks."""

    path = "/workers"

    def drain(self, worker: int) -> dict[str, Any]:
        """Let a worker finish what it holds and take nothing more."""
        answer: dict[str, Any] = self._transport.json("POST", f"{self.path}/{worker}/drain", repeatable=True)
        return answer
