"""Who asks, and whether it may: what the routes depend on."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from airavata_scheduler.api.services import ApiServices
from airavata_scheduler.platform.domain.errors import NotAllowedError, NotAuthenticatedError, NotFoundError
from airavata_scheduler.platform.domain.views import UserView
from airavata_scheduler.platform.services.identity import Principal

_BEARER = HTTPBearer(auto_error=False, description="The access token of /auth/login")


async def services_of(request: Request) -> ApiServices:
    """The services that the app was built with. Asynchronous, because FastAPI calls everything else in a thread."""
    services = request.app.state.services
    assert isinstance(services, ApiServices)
    return services


Services = Annotated[ApiServices, Depends(services_of)]


class Access:
    """Permission checks of one authenticated request; each is one decision of the authorization port."""

    def __init__(self, services: ApiServices, principal: Principal) -> None:
        self._services = services
        self.principal = principal

    @property
    def user(self) -> UserView:
        """Who asks."""
        return self.principal.user

    @property
    def name(self) -> str:
        """The name of who asks."""
        return self.principal.user.name

    async def may(self, permission: str, kind: str, object_id: str = "*") -> bool:
        """Whether the user has the permission."""
        return await self._services.authorization.allowed(self.name, permission, kind, object_id)

    async def platform(self, permission: str = "view") -> None:
        """NotAllowedError without that permission on the platform."""
        if not await self.may(permission, "platform"):
            needed = "an administrator" if permission == "administer" else "an active user"
            raise NotAllowedError(f"this needs {needed}", remedy="ask an administrator of the platform")

    async def project(self, name: str, permission: str = "view") -> None:
        """NotFoundError if the project may not be viewed, NotAllowedError if more is needed than the user has."""
        if await self.may(permission, "project", name):
            return
        if permission != "view" and await self.may("view", "project", name):
            message = f"you may not {permission} in the project {name!r}"
            raise NotAllowedError(message, path="project", remedy="ask an owner of the project for another role")
        raise NotFoundError(
            f"there is no project {name!r}", path="project", remedy="list them with `airavata project list`"
        )

    async def experiment(self, experiment: str, permission: str = "view") -> str:
        """The project of the experiment; the same errors, in the name of the experiment."""
        project = await self._services.queries.project_of(experiment)
        if project is not None:
            try:
                await self.project(project, permission)
            except NotFoundError:
                project = None
        if project is None:
            remedy = "list them with `airavata experiment list`"
            raise NotFoundError(f"there is no experiment {experiment!r}", path="experiment", remedy=remedy)
        return project


async def _access(
    services: Services, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]
) -> Access:
    if credentials is None:
        raise NotAuthenticatedError(
            "no access token was sent", remedy="send `Authorization: Bearer …`, from /api/v1/auth/login"
        )
    return Access(services, await services.identity.authenticate(credentials.credentials))


Caller = Annotated[Access, Depends(_access)]
ExperimentId = Annotated[str, Path(max_length=64, description="Id of the experiment", examples=["e-7xk2mz7qpc"])]


async def _viewing(experiment: ExperimentId, caller: Caller) -> str:
    await caller.experiment(experiment)
    return experiment


async def _submitting(experiment: ExperimentId, caller: Caller) -> str:
    await caller.experiment(experiment, "submit")
    return experiment


async def _editing(experiment: ExperimentId, caller: Caller) -> str:
    await caller.experiment(experiment, "edit")
    return experiment


#: The experiment of the path, which the caller may view, submit in the project of, or edit.
Viewed = Annotated[str, Depends(_viewing)]
Submittable = Annotated[str, Depends(_submitting)]
Edited = Annotated[str, Depends(_editing)]
