"""Logging in and out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response

from airavata_scheduler.api.access import Caller, Services
from airavata_scheduler.api.errors import responses
from airavata_scheduler.api.models import Login, Logout, Refresh, TokensModel, UserModel, optional
from airavata_scheduler.api.routes import PREFIX
from airavata_scheduler.platform.domain.errors import RateLimitedError

router = APIRouter(prefix=f"{PREFIX}/auth", tags=["auth"])


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


@router.post("/login", responses=responses(401, 429))
async def login(body: Login, request: Request, services: Services) -> TokensModel:
    """Access and refresh token for a name and password."""
    tokens = await services.identity.login(body.username, body.password, _address(request))
    return TokensModel.model_validate(tokens)


@router.post("/refresh", responses=responses(401, 429))
async def refresh(body: Refresh, request: Request, services: Services) -> TokensModel:
    """New tokens for a refresh token. Each works once: using one again ends the whole login."""
    wait_s = await services.rate_limit.hit("refresh", _address(request))
    if wait_s > 0:
        raise RateLimitedError("too many refreshes", retry_after_s=wait_s, remedy=f"wait {wait_s:.0f} s")
    return TokensModel.model_validate(await services.identity.refresh(body.refresh_token))


@router.post("/logout", status_code=204, responses=responses(401, 403))
async def logout(
    caller: Caller, services: Services, body: Annotated[Logout | None, optional(Logout)] = None
) -> Response:
    """End this login, or with ``everywhere`` all logins of the user: their tokens are void at once."""
    await caller.platform()
    await services.identity.logout(caller.principal, everywhere=body is not None and body.everywhere)
    return Response(status_code=204)


@router.get("/whoami", responses=responses(401, 403))
async def whoami(caller: Caller) -> UserModel:
    """The user of the token."""
    await caller.platform()
    return UserModel.model_validate(caller.user)
