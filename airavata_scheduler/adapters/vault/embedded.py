"""Secrets sealed with AES-256-GCM under a master key that is not where they are kept."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Protocol

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from airavata_scheduler.platform.domain.errors import NotFoundError

_NONCE_BYTES = 12


class SealedStore(Protocol):
    """Where sealed secrets are kept, by path."""

    async def put(self, path: str, sealed: bytes) -> None:
        """Create or replace."""
        ...

    async def get(self, path: str) -> bytes | None:
        """None if there is nothing at the path."""
        ...

    async def delete(self, path: str) -> None:
        """Deleting what is not there is no error."""
        ...


class EmbeddedVault:
    """`Vault` over a store that sees ciphertexts only. ``master_key`` has 32 bytes.

    The path is authenticated with the secret, so a row moved to another path does not open.
    """

    def __init__(self, store: SealedStore, master_key: bytes) -> None:
        self._store = store
        self._cipher = AESGCM(master_key)

    async def put(self, path: str, secret: Mapping[str, str]) -> None:
        """Create or replace."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, json.dumps(dict(secret)).encode(), path.encode())
        await self._store.put(path, sealed)

    async def get(self, path: str) -> Mapping[str, str]:
        """NotFoundError if there is none."""
        sealed = await self._store.get(path)
        if sealed is None:
            message = f"there is no secret at {path}"
            raise NotFoundError(message)
        opened = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], path.encode())
        secret: dict[str, str] = json.loads(opened)
        return secret

    async def delete(self, path: str) -> None:
        """Deleting what is not there is no error."""
        await self._store.delete(path)
