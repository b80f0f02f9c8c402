"""Vaults: secrets by path, in memory and sealed in the database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa
from cryptography.exceptions import InvalidTag

from airavata_scheduler.adapters.memory.vault import MemoryVault
from airavata_scheduler.adapters.persistence.engine import create_engine
from airavata_scheduler.adapters.persistence.secret_store import PostgresSecretStore
from airavata_scheduler.adapters.vault.embedded import EmbeddedVault
from airavata_scheduler.platform.domain.errors import NotFoundError
from airavata_scheduler.platform.ports.vault import Vault


@pytest.fixture(params=["memory", "embedded"])
async def vault(request: pytest.FixtureRequest) -> AsyncIterator[Vault]:
    if request.param == "memory":
        yield MemoryVault()
        return
    engine = create_engine(request.getfixturevalue("database"))
    yield EmbeddedVault(PostgresSecretStore(engine), bytes(32))
    await engine.dispose()


async def test_a_secret_is_kept_replaced_and_deleted(vault: Vault) -> None:
    await vault.put("a/key", {"user": "ada", "password": "x"})
    assert await vault.get("a/key") == {"user": "ada", "password": "x"}
    await vault.put("a/key", {"password": "y"})
    assert await vault.get("a/key") == {"password": "y"}
    await vault.delete("a/key")
    await vault.delete("a/key")
    with pytest.raises(NotFoundError):
        await vault.get("a/key")


async def test_what_was_given_out_changes_nothing_inside(vault: Vault) -> None:
    secret = {"password": "x"}
    await vault.put("b", secret)
    secret["password"] = "y"
    dict(await vault.get("b")).clear()
    assert await vault.get("b") == {"password": "x"}


async def test_the_database_sees_no_secret_and_a_moved_row_does_not_open(database: str) -> None:
    engine = create_engine(database)
    vault = EmbeddedVault(PostgresSecretStore(engine), bytes(range(32)))
    await vault.put("mine", {"password": "in the clear"})
    async with engine.begin() as connection:
        sealed = (await connection.execute(sa.text("SELECT sealed FROM secrets WHERE path = 'mine'"))).scalar_one()
        assert b"in the clear" not in bytes(sealed)
        await connection.execute(sa.text("UPDATE secrets SET path = 'yours' WHERE path = 'mine'"))
    with pytest.raises(InvalidTag):
        await vault.get("yours")
    await engine.dispose()
