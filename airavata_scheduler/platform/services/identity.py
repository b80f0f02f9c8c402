"""Who somebody is: passwords, access and refresh tokens, users."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import bcrypt
import jwt

from airavata_scheduler.platform.domain.errors import (
    InvalidRequestError,
    NotAllowedError,
    NotAuthenticatedError,
    NotFoundError,
    RateLimitedError,
)
from airavata_scheduler.platform.domain.views import ProjectView, UserView
from airavata_scheduler.platform.ports.clock import Clock
from airavata_scheduler.platform.ports.identity_store import Account, IdentityStore, RefreshToken
from airavata_scheduler.platform.ports.rate_limit import RateLimit

MIN_PASSWORD = 10
MAX_PASSWORD = 1024
USER_NAME = re.compile(r"[a-z][a-z0-9._-]{0,63}")
PROJECT_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
DEFAULT_PROJECT = "default"
_ALGORITHM = "HS256"
_LOG_IN = "log in again with `airavata auth login`"


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a login gives."""

    access_token: str
    refresh_token: str
    expires_in: int  #: seconds


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody whose token was accepted."""

    user: UserView
    family: str  #: of the login that the token comes from

    @property
    def name(self) -> str:
        """The user's name."""
        return self.user.name


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """``cost`` is bcrypt's: each step doubles the work."""

    key: str
    access_s: int = 900
    refresh_s: int = 30 * 86400
    cost: int = 12


def check_password(name: str, password: str) -> None:
    """InvalidRequestError if a password does not do."""
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise InvalidRequestError(
            f"the password has {len(password)} characters",
            path="password",
            remedy=f"choose one of {MIN_PASSWORD} to {MAX_PASSWORD} characters",
        )
    if name.lower() in password.lower() or len(set(password)) < 5:
        raise InvalidRequestError(
            "the password is too easy to guess",
            path="password",
            remedy="choose one that does not contain the user's name and has at least five different characters",
        )


def _digest(password: str) -> bytes:
    # bcrypt reads 72 bytes and stops at a zero byte: the encoded hash of the password is short and free of them.
    return base64.b64encode(hashlib.sha256(password.encode("utf-8", "surrogatepass")).digest())


async def hash_password(password: str, cost: int) -> str:
    """In a thread, because it takes a quarter of a second by design."""
    hashed = await asyncio.to_thread(bcrypt.hashpw, _digest(password), bcrypt.gensalt(cost))
    return hashed.decode()


def _token_id(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


async def ensure_admin(store: IdentityStore, name: str, password: str, now: float, cost: int = 12) -> bool:
    """The first user and the project `default`, unless there are; whether the user was made now."""
    made = await store.account(name) is None
    if made:
        view = UserView(name, "Administrator", "", admin=True, disabled=False, created_at=now)
        await store.add_user(view, await hash_password(password, cost))
    try:
        await store.project(DEFAULT_PROJECT)
    except NotFoundError:
        await store.add_project(ProjectView(DEFAULT_PROJECT, "Everything without a project of its own", name, now))
    return made


class Identity:
    """Logins and users over an identity store."""

    def __init__(self, store: IdentityStore, rate_limit: RateLimit, clock: Clock, settings: IdentitySettings) -> None:
        self.store = store
        self._rate_limit = rate_limit
        self._clock = clock
        self._settings = settings
        # A login of nobody costs what a wrong password costs, so that names cannot be found out by the clock.
        self._nobody = bcrypt.hashpw(_digest(secrets.token_hex()), bcrypt.gensalt(settings.cost))

    async def login(self, name: str, password: str, address: str) -> Tokens:
        """NotAuthenticatedError for a wrong name or password, RateLimitedError after too many tries."""
        for rule, key in (("login", f"{name[:64]}@{address}"), ("login_address", address)):
            await self._limit(rule, key)
        account = await self.store.account(name)
        expected = account.password_hash.encode() if account else self._nobody
        matches = await asyncio.to_thread(bcrypt.checkpw, _digest(password), expected)
        if account is None or not matches or account.view.disabled:
            raise NotAuthenticatedError(
                "wrong user name or password", remedy="check both; an administrator can set a new one"
            )
        family, refresh = secrets.token_hex(16), secrets.token_urlsafe(32)
        token = RefreshToken(_token_id(refresh), family, account.view.name, self._refresh_expires_at())
        if not await self.store.add_refresh(token, account.generation):
            raise NotAuthenticatedError("the account was changed just now", remedy=_LOG_IN)
        return self._tokens(account, family, refresh)

    async def _limit(self, rule: str, key: str) -> None:
        wait_s = await self._rate_limit.hit(rule, key)
        if wait_s > 0:
            raise RateLimitedError("too many logins", retry_after_s=wait_s, remedy=f"wait {wait_s:.0f} s")

    async def refresh(self, token: str) -> Tokens:
        """New tokens for a refresh token that was never used; a second use ends the whole login."""
        refresh = secrets.token_urlsafe(32)
        found = await self.store.use_refresh(
            _token_id(token), _token_id(refresh), self._clock.time(), self._refresh_expires_at()
        )
        if found is None:
            raise NotAuthenticatedError("the refresh token is not known", remedy=_LOG_IN)
        if found.used or found.revoked:
            await self.store.revoke_family(found.family)
            raise NotAuthenticatedError(
                "the refresh token was used before, so its login has been ended", remedy=_LOG_IN
            )
        account = await self.store.account(found.user)
        if account is None or account.view.disabled or found.expires_at <= self._clock.time():
            raise NotAuthenticatedError("the refresh token is not valid any more", remedy=_LOG_IN)
        return self._tokens(account, found.family, refresh)

    def _refresh_expires_at(self) -> float:
        return self._clock.time() + self._settings.refresh_s

    def _tokens(self, account: Account, family: str, refresh: str) -> Tokens:
        now = int(self._clock.time())
        claims = {
            "sub": account.view.name,
            "fam": family,
            "gen": account.generation,
            "iat": now,
            "exp": now + self._settings.access_s,
        }
        access = jwt.encode(claims, self._settings.key, algorithm=_ALGORITHM)
        return Tokens(access, refresh, self._settings.access_s)

    async def authenticate(self, token: str) -> Principal:
        """Who an access token belongs to; NotAuthenticatedError if it is not, or no longer, valid."""
        try:
            # Expiry is judged by the injected clock below, which tests can turn.
            claims = jwt.decode(
                token,
                self._settings.key,
                algorithms=[_ALGORITHM],
                options={"require": ["sub", "exp"], "verify_exp": False, "verify_iat": False},
            )
            name, family, generation = str(claims["sub"]), str(claims["fam"]), int(claims["gen"])
        except (jwt.PyJWTError, KeyError, ValueError, TypeError):
            raise NotAuthenticatedError("the access token is not valid", remedy=_LOG_IN) from None
        if claims["exp"] <= self._clock.time():
            raise NotAuthenticatedError("the access token has expired", remedy="use the refresh token, or log in again")
        found = await self.store.session(name, family)
        if found is None or not found[1] or found[0].view.disabled or found[0].generation != generation:
            raise NotAuthenticatedError("the access token has been revoked", remedy=_LOG_IN)
        return Principal(found[0].view, family)

    async def look_again(self, principal: Principal) -> None:
        """NotAuthenticatedError once the login of somebody who was let in has ended."""
        found = await self.store.session(principal.name, principal.family)
        if found is None or not found[1] or found[0].view.disabled:
            raise NotAuthenticatedError("the login has ended", remedy=_LOG_IN)

    async def logout(self, principal: Principal, *, everywhere: bool = False) -> None:
        """End this login, or all logins of the user."""
        await self.store.revoke_family(principal.family)
        if everywhere:
            await self.store.update_user(principal.name, {}, new_generation=True)

    async def add_user(
        self, name: str, password: str, full_name: str = "", email: str = "", admin: bool = False
    ) -> UserView:
        """InvalidRequestError for a bad name or password, ConflictError for a name that is taken."""
        if not USER_NAME.fullmatch(name):
            raise InvalidRequestError(
                f"{name!r} is not a user name",
                path="name",
                remedy="use lower-case letters, digits, `.`, `_` and `-`; a letter first",
            )
        check_password(name, password)
        view = UserView(name, full_name, email, admin, disabled=False, created_at=self._clock.time())
        return await self.store.add_user(view, await hash_password(password, self._settings.cost))

    async def update_user(self, name: str, changes: Mapping[str, Any]) -> UserView:
        """Change full_name, email, admin, disabled. Disabling ends all logins."""
        return await self.store.update_user(name, changes, new_generation=bool(changes.get("disabled")))

    async def set_password(self, actor: UserView, name: str, new: str, old: str | None) -> None:
        """Own password with the old one; any password as an administrator. Ends all logins of the user."""
        account = await self.store.account(name)
        if account is None:
            raise NotFoundError(f"there is no user {name!r}", path="name")
        if actor.name == name:
            await self._limit("login", f"{name}@password")
            if not await asyncio.to_thread(bcrypt.checkpw, _digest(old or ""), account.password_hash.encode()):
                raise NotAllowedError(
                    "the old password is wrong", path="old", remedy="give the present password as `old`"
                )
        check_password(name, new)
        changes = {"password_hash": await hash_password(new, self._settings.cost)}
        await self.store.update_user(name, changes, new_generation=True)
