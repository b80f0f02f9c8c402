"""Users. Everybody sees and changes themselves; the rest is for administrators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from airavata_scheduler.api.access import Access, Caller, Services
from airavata_scheduler.api.errors import responses
from airavata_scheduler.api.models import Listing, NewPassword, NewUser, UserChanges, UserModel
from airavata_scheduler.api.routes import PREFIX
from airavata_scheduler.platform.domain.errors import NotAllowedError, NotFoundError

router = APIRouter(prefix=f"{PREFIX}/users", tags=["users"])
UserName = Annotated[str, Path(max_length=64, description="Name of the user")]


async def _self_or_admin(caller: Access, name: str) -> None:
    await caller.platform("view" if caller.name == name else "administer")


@router.get("", responses=responses(401, 403))
async def list_users(caller: Caller, services: Services) -> Listing[UserModel]:
    """All users."""
    await caller.platform("administer")
    return Listing(items=[UserModel.model_validate(user) for user in await services.identity.store.users()])


@router.post("", status_code=201, responses=responses(401, 403, 409))
async def add_user(body: NewUser, caller: Caller, services: Services) -> UserModel:
    """Make a user."""
    await caller.platform("administer")
    user = await services.identity.add_user(body.name, body.password, body.full_name, body.email, body.admin)
    return UserModel.model_validate(user)


@router.get("/{name}", responses=responses(401, 403, 404))
async def get_user(name: UserName, caller: Caller, services: Services) -> UserModel:
    """One user."""
    await _self_or_admin(caller, name)
    account = await services.identity.store.account(name)
    if account is None:
        raise NotFoundError(f"there is no user {name!r}", path="name", remedy="list them with `airavata user list`")
    return UserModel.model_validate(account.view)


@router.patch("/{name}", responses=responses(401, 403, 404, 409))
async def change_user(name: UserName, body: UserChanges, caller: Caller, services: Services) -> UserModel:
    """Change a user. ``admin`` and ``disabled`` are for administrators; disabling ends all logins."""
    await _self_or_admin(caller, name)
    changes = body.model_dump(exclude_none=True)
    if {"admin", "disabled"} & set(changes) and not await caller.may("administer", "platform"):
        raise NotAllowedError("only an administrator may change `admin` and `disabled`", remedy="ask an administrator")
    return UserModel.model_validate(await services.identity.update_user(name, changes))


@router.delete("/{name}", status_code=204, responses=responses(401, 403, 404, 409))
async def delete_user(name: UserName, caller: Caller, services: Services) -> Response:
    """Remove a user who owns nothing."""
    await caller.platform("administer")
    await services.identity.store.delete_user(name)
    return Response(status_code=204)


@router.put("/{name}/password", status_code=204, responses=responses(401, 403, 404, 429))
async def set_password(name: UserName, body: NewPassword, caller: Caller, services: Services) -> Response:
    """Set a password: one's own with the old one, anybody's as an administrator. Ends all logins of the user."""
    await _self_or_admin(caller, name)
    await services.identity.set_password(caller.user, name, body.new, body.old)
    return Response(status_code=204)
