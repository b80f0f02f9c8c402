"""The `CredentialVault` actor: the only process that opens secrets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airavata_scheduler.actors.service import ServiceActor
from airavata_scheduler.bootstrap import Stores, credential_vault
from airavata_scheduler.platform.ports.repository import Fence

if TYPE_CHECKING:
    from airavata_scheduler.platform.services.vault import CredentialVaultService


class CredentialVault(ServiceActor["CredentialVaultService"]):
    """See `interfaces.CredentialVault`."""

    lease = "credential-vault"

    def build(self, stores: Stores, fence: Fence) -> CredentialVaultService:  # noqa: ARG002 - it writes nothing fenced
        return credential_vault(stores)

    async def store(self, actor: str, name: str, kind: str, secret: Mapping[str, str]) -> None:
        await (await self.service()).store(actor, name, kind, secret)

    async def retrieve(self, actor: str, name: str, purpose: str) -> Mapping[str, str]:
        return await (await self.service()).retrieve(actor, name, purpose)

    async def delete(self, actor: str, name: str) -> None:
        await (await self.service()).delete(actor, name)

    async def names(self, actor: str) -> Sequence[Mapping[str, Any]]:
        return await (await self.service()).names(actor)
