"""Projects and their members."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from airavata_scheduler.api.access import Caller, Services
from airavata_scheduler.api.errors import responses
from airavata_scheduler.api.models import Listing, Membership, NewProject, ProjectChanges, ProjectModel
from airavata_scheduler.api.routes import PREFIX
from airavata_scheduler.platform.domain.errors import InvalidRequestError
from airavata_scheduler.platform.domain.views import ProjectView
from airavata_scheduler.platform.services.identity import PROJECT_NAME

router = APIRouter(prefix=f"{PREFIX}/projects", tags=["projects"])
ProjectName = Annotated[str, Path(max_length=64, description="Name of the project")]
UserName = Annotated[str, Path(max_length=64, description="Name of the user")]


@router.get("", responses=responses(401, 403))
async def list_projects(caller: Caller, services: Services) -> Listing[ProjectModel]:
    """The projects that you may see."""
    visible = await services.authorization.visible(caller.name, "project")
    return Listing(items=[ProjectModel.model_validate(p) for p in await services.identity.store.projects(visible)])


@router.post("", status_code=201, responses=responses(401, 403, 409))
async def add_project(body: NewProject, caller: Caller, services: Services) -> ProjectModel:
    """Make a project, which you will own."""
    await caller.platform()
    if not PROJECT_NAME.fullmatch(body.name):
        remedy = "use lower-case letters, digits, `.`, `_` and `-`"
        raise InvalidRequestError(f"{body.name!r} is not a project name", path="name", remedy=remedy)
    view = ProjectView(body.name, body.description, caller.name, services.clock.time())
    return ProjectModel.model_validate(await services.identity.store.add_project(view))


@router.get("/{name}", responses=responses(401, 403, 404))
async def get_project(name: ProjectName, caller: Caller, services: Services) -> ProjectModel:
    """One project."""
    await caller.project(name)
    return ProjectModel.model_validate(await services.identity.store.project(name))


@router.patch("/{name}", responses=responses(401, 403, 404, 409))
async def change_project(name: ProjectName, body: ProjectChanges, caller: Caller, services: Services) -> ProjectModel:
    """Change the description or hand the project over; its share is for administrators of the platform."""
    await caller.project(name, "administer")
    changes = body.model_dump(exclude_none=True)
    if "weight" in changes:
        await caller.platform("administer")
    return ProjectModel.model_validate(await services.identity.store.update_project(name, changes))


@router.delete("/{name}", status_code=204, responses=responses(401, 403, 404, 409))
async def delete_project(name: ProjectName, caller: Caller, services: Services) -> Response:
    """Remove a project without experiments."""
    await caller.project(name, "administer")
    await services.identity.store.delete_project(name)
    return Response(status_code=204)


@router.put("/{name}/members/{user}", responses=responses(401, 403, 404, 409))
async def set_member(
    name: ProjectName, user: UserName, body: Membership, caller: Caller, services: Services
) -> ProjectModel:
    """Make somebody a member, or change the role: viewers look, editors submit, owners also administer."""
    await caller.project(name, "administer")
    return ProjectModel.model_validate(await services.identity.store.set_member(name, user, body.role))


@router.delete("/{name}/members/{user}", responses=responses(401, 403, 404, 409))
async def remove_member(name: ProjectName, user: UserName, caller: Caller, services: Services) -> ProjectModel:
    """End a membership."""
    await caller.project(name, "administer")
    return ProjectModel.model_validate(await services.identity.store.remove_member(name, user))
