"""Secrets in memory."""

from __future__ import annotations

from collections.abc import Mapping

from airavata_scheduler.platform.domain.errors import NotFoundError


class MemoryVault:
    """`Vault` in a dictionary; what was put in or given out is never shared with the caller."""

    def __init__(self) -> None:
        self._secrets: dict[str, dict[str, str]] = {}

    async def put(self, path: str, secret: Mapping[str, str]) -> None:
        """Create or replace."""
        self._secrets[path] = dict(secret)

    async def get(self, path: str) -> Mapping[str, str]:
        """NotFoundError if there is none."""
        if path not in self._secrets:
            message = f"there is no secret at {path}"
            raise NotFoundError(message)
        return dict(self._secrets[path])

    async def delete(self, path: str) -> None:
        """Deleting what is not there is no error."""
        self._secrets.pop(path, None)
