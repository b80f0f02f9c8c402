"""`CredentialVault`: who may read which secret, and the record of every read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airavata_scheduler.platform.domain.errors import InvalidRequestError, NotFoundError
from airavata_scheduler.platform.ports.repository import CredentialStore, ExperimentStore
from airavata_scheduler.platform.ports.vault import Vault

KINDS = ("SSH_KEY", "PASSWORD", "API_KEY", "TOKEN", "CERTIFICATE")


class CredentialVaultService:
    """See `interfaces.CredentialVault`. A credential is its owner's; to everybody else it does not exist."""

    def __init__(self, store: CredentialStore, audit: ExperimentStore, vault: Vault) -> None:
        self._store = store
        self._audit = audit
        self._vault = vault

    async def store(self, actor: str, name: str, kind: str, secret: Mapping[str, str]) -> None:
        """Create, or replace one's own. The record comes first: a secret without a record is never readable."""
        if kind not in KINDS:
            message = f"{kind!r} is not a kind of credential"
            raise InvalidRequestError(message, path="kind", remedy=f"use one of {', '.join(KINDS)}")
        await self._store.put_credential(name, actor, kind)
        await self._vault.put(_path(name), secret)
        await self._audit.audit(actor, "credential.store", name, {"kind": kind})

    async def retrieve(self, actor: str, name: str, purpose: str) -> Mapping[str, str]:
        """Audited before it is read."""
        await self._own(actor, name)
        await self._audit.audit(actor, "credential.retrieve", name, {"purpose": purpose})
        return await self._vault.get(_path(name))

    async def delete(self, actor: str, name: str) -> None:
        """The secret first, so that an interruption leaves a record without a secret and not the other way round."""
        await self._own(actor, name)
        await self._vault.delete(_path(name))
        await self._store.delete_credential(name)
        await self._audit.audit(actor, "credential.delete", name, {})

    async def names(self, actor: str) -> Sequence[Mapping[str, Any]]:
        """One's own."""
        return await self._store.credentials(actor)

    async def _own(self, actor: str, name: str) -> None:
        if all(credential["name"] != name for credential in await self._store.credentials(actor)):
            message = f"there is no credential {name!r}"
            raise NotFoundError(message)


def _path(name: str) -> str:
    return f"credentials/{name}"
