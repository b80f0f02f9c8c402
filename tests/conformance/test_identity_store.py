"""The store of users and refresh tokens, in memory and on PostgreSQL: what adds and what ends a login."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from airavata_scheduler.adapters.memory.identity import MemoryIdentityStore
from airavata_scheduler.adapters.persistence.engine import create_engine
from airavata_scheduler.adapters.persistence.identity import SqlIdentityStore
from airavata_scheduler.platform.domain.views import UserView
from airavata_scheduler.platform.ports.identity_store import IdentityStore, RefreshToken

NOW, LATER = 4e9, 5e9


@pytest.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[IdentityStore]:
    engine = None if request.param == "memory" else create_engine(request.getfixturevalue("own_database"))
    made: Any = MemoryIdentityStore() if engine is None else SqlIdentityStore(engine)
    await made.add_user(UserView("ada", "", "", admin=False, disabled=False, created_at=0.0), "hash")
    yield made
    if engine is not None:
        await engine.dispose()


def token(name: str, family: str = "f", expires_at: float = LATER) -> RefreshToken:
    return RefreshToken(name, family, "ada", expires_at)


async def test_a_token_is_used_once_and_its_successor_is_there_with_it(store: IdentityStore) -> None:
    assert await store.add_refresh(token("one"), 0)
    before = await store.use_refresh("one", "two", NOW, LATER)
    assert before is not None
    assert (before.family, before.user, before.used, before.revoked) == ("f", "ada", False, False)
    again = await store.use_refresh("one", "other", NOW, LATER)
    assert again is not None
    assert again.used
    assert await store.use_refresh("other", "x", NOW, LATER) is None, "a second use makes none"
    following = await store.use_refresh("two", "three", NOW, LATER)
    assert following is not None
    assert (following.used, following.expires_at) == (False, LATER)


@pytest.mark.parametrize("how", ["revoked", "expired"])
async def test_what_is_revoked_or_too_old_has_no_successor(store: IdentityStore, how: str) -> None:
    assert await store.add_refresh(token("one", expires_at=NOW if how == "expired" else LATER), 0)
    if how == "revoked":
        await store.revoke_family("f")
    before = await store.use_refresh("one", "two", NOW, LATER)
    assert before is not None
    assert before.revoked == (how == "revoked")
    assert await store.use_refresh("two", "three", NOW, LATER) is None


async def test_a_login_of_before_a_change_of_the_password_gets_no_token(store: IdentityStore) -> None:
    await store.update_user("ada", {"password_hash": "new"}, new_generation=True)
    assert not await store.add_refresh(token("one"), 0)
    assert await store.add_refresh(token("two"), 1)
    await store.update_user("ada", {"disabled": True})
    assert not await store.add_refresh(token("three"), 1)
    assert not await store.add_refresh(RefreshToken("four", "g", "nobody", LATER), 0)
    assert await store.use_refresh("one", "x", NOW, LATER) is None


async def test_a_refresh_whose_answer_is_lost_in_the_database_is_one(
    own_database: str, lose_commit: Callable[[], list[object]]
) -> None:
    engine = create_engine(own_database)
    store = SqlIdentityStore(engine)
    await store.add_user(UserView("ada", "", "", admin=False, disabled=False, created_at=0.0), "hash")
    assert await store.add_refresh(token("one"), 0)
    lost = lose_commit()
    before = await store.use_refresh("one", "two", NOW, LATER)
    assert lost
    assert before is not None
    assert not before.used
    await engine.dispose()
