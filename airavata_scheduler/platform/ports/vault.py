"""Where secrets are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Vault(Protocol):
    """Secrets by path, encrypted at rest."""

    async def put(self, path: str, secret: Mapping[str, str]) -> None: ...

    async def get(self, path: str) -> Mapping[str, str]:
        """NotFoundError if there is none."""
        ...

    async def delete(self, path: str) -> None: ...
