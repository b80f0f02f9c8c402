"""Logins, tokens and passwords, on a clock that the test turns."""

from __future__ import annotations

import pytest

from airavata_scheduler.adapters.memory.identity import MemoryIdentityStore
from airavata_scheduler.adapters.memory.rate_limit import MemoryRateLimit
from airavata_scheduler.platform.domain.errors import (
    ConflictError,
    InvalidRequestError,
    NotAllowedError,
    NotAuthenticatedError,
    RateLimitedError,
)
from airavata_scheduler.platform.services.identity import Identity, IdentitySettings, ensure_admin

PASSWORD = "correct horse battery"


class TurnedClock:
    """Stands still until it is turned."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, delay_s: float) -> None:
        self.now += delay_s


class World:
    """An identity service with an administrator and a user."""

    def __init__(self) -> None:
        self.clock, self.store = TurnedClock(), MemoryIdentityStore()
        limits = MemoryRateLimit(self.clock, {"login": (3, 60.0)})
        self.identity = Identity(self.store, limits, self.clock, IdentitySettings("k" * 40, cost=4))

    async def login(self, name: str = "ada", password: str = PASSWORD) -> str:
        return (await self.identity.login(name, password, "10.0.0.1")).access_token


@pytest.fixture
async def world() -> World:
    made = World()
    assert await ensure_admin(made.store, "admin", PASSWORD, made.clock.now, cost=4)
    assert not await ensure_admin(made.store, "admin", "another password", made.clock.now, cost=4)
    await made.identity.add_user("ada", PASSWORD)
    return made


async def test_the_first_start_makes_an_administrator_and_a_project(world: World) -> None:
    assert (await world.identity.authenticate(await world.login("admin"))).user.admin
    assert (await world.store.project("default")).members == {"admin": "owner"}


async def test_an_access_token_ends_by_itself(world: World) -> None:
    token = await world.login()
    assert (await world.identity.authenticate(token)).name == "ada"
    world.clock.now += 900
    with pytest.raises(NotAuthenticatedError, match="expired"):
        await world.identity.authenticate(token)


@pytest.mark.parametrize(("name", "password"), [("ada", "wrong horse battery"), ("nobody", PASSWORD), ("ada", "")])
async def test_a_wrong_login_says_no_more_than_that(world: World, name: str, password: str) -> None:
    with pytest.raises(NotAuthenticatedError, match="wrong user name or password"):
        await world.login(name, password)


async def test_guessing_is_slowed_down_and_waiting_helps(world: World) -> None:
    for _ in range(3):
        with pytest.raises(NotAuthenticatedError):
            await world.login(password="guess")
    with pytest.raises(RateLimitedError) as limited:
        await world.login()
    world.clock.now += limited.value.retry_after_s
    assert await world.login()


async def test_a_refresh_token_works_once_and_its_reuse_ends_the_login(world: World) -> None:
    first = await world.identity.login("ada", PASSWORD, "a")
    second = await world.identity.refresh(first.refresh_token)
    assert (await world.identity.authenticate(second.access_token)).name == "ada"
    with pytest.raises(NotAuthenticatedError, match="used before"):
        await world.identity.refresh(first.refresh_token)
    with pytest.raises(NotAuthenticatedError):
        await world.identity.refresh(second.refresh_token)
    with pytest.raises(NotAuthenticatedError, match="revoked"):
        await world.identity.authenticate(second.access_token)


async def test_a_refresh_token_gets_too_old(world: World) -> None:
    tokens = await world.identity.login("ada", PASSWORD, "a")
    world.clock.now += 31 * 86400
    with pytest.raises(NotAuthenticatedError, match="not valid any more"):
        await world.identity.refresh(tokens.refresh_token)


async def test_logout_ends_one_login_or_all(world: World) -> None:
    one, two = await world.login(), await world.login()
    await world.identity.logout(await world.identity.authenticate(one))
    with pytest.raises(NotAuthenticatedError):
        await world.identity.authenticate(one)
    await world.identity.logout(await world.identity.authenticate(two), everywhere=True)
    with pytest.raises(NotAuthenticatedError):
        await world.identity.authenticate(two)


async def test_a_new_password_needs_the_old_one_and_ends_all_logins(world: World) -> None:
    token = await world.login()
    ada = (await world.identity.authenticate(token)).user
    with pytest.raises(NotAllowedError):
        await world.identity.set_password(ada, "ada", "staple horse correct", "wrong")
    await world.identity.set_password(ada, "ada", "staple horse correct", PASSWORD)
    with pytest.raises(NotAuthenticatedError):
        await world.identity.authenticate(token)
    assert await world.login(password="staple horse correct")


async def test_a_disabled_user_is_out_at_once(world: World) -> None:
    token = await world.login()
    await world.identity.update_user("ada", {"disabled": True})
    with pytest.raises(NotAuthenticatedError):
        await world.identity.authenticate(token)
    with pytest.raises(NotAuthenticatedError):
        await world.login()


async def test_the_last_administrator_stays(world: World) -> None:
    for changes in ({"admin": False}, {"disabled": True}):
        with pytest.raises(ConflictError):
            await world.identity.update_user("admin", changes)
    with pytest.raises(ConflictError):
        await world.store.delete_user("admin")


@pytest.mark.parametrize("password", ["short", "a" * 20, "ada-is-my-name", "x" * 1025, "aaaabbbbcccc"])
async def test_bad_passwords_are_refused(world: World, password: str) -> None:
    with pytest.raises(InvalidRequestError):
        await world.identity.set_password((await world.store.users())[1], "ada", password, None)


@pytest.mark.parametrize("name", ["", "Ada", "1a", "a b", "a" * 65, "a/b", "ä"])
async def test_bad_names_are_refused(world: World, name: str) -> None:
    with pytest.raises(InvalidRequestError):
        await world.identity.add_user(name, PASSWORD)


async def test_passwords_differ_beyond_72_bytes(world: World) -> None:
    long = "long but different at its very end " * 4
    await world.identity.add_user("kurt", long + "1")
    assert await world.login("kurt", long + "1")
    with pytest.raises(NotAuthenticatedError):
        await world.login("kurt", long + "2")


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ."])
async def test_forged_tokens_are_refused(world: World, token: str) -> None:
    with pytest.raises(NotAuthenticatedError):
        await world.identity.authenticate(token)
