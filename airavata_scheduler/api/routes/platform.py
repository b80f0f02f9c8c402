"""Resources, storages, workers and the plan."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from airavata_scheduler.api.access import Caller, Services
from airavata_scheduler.api.errors import responses
from airavata_scheduler.api.etag import answer
from airavata_scheduler.api.models import Listing, example
from airavata_scheduler.api.models_platform import ResourceChanges, ResourceModel, StorageModel, WorkerModel
from airavata_scheduler.api.routes import PREFIX

router = APIRouter(prefix=PREFIX, tags=["platform"], responses=responses(401, 403))
_PLAN = {
    "solver": "flow",
    "objective": 0.42,
    "gap": 0.0,
    "shares": [{"step_id": 7, "resource": "local", "places": 8, "burst": 16, "order": 0, "quota": 100, "reserve": 0}],
    "unplaced": [],
}
ResourceName = Annotated[str, Path(max_length=200, description="Name of the resource")]


@router.get("/resources")
async def list_resources(caller: Caller, services: Services) -> Listing[ResourceModel]:
    """Compute resources."""
    await caller.platform()
    return Listing(items=[ResourceModel.model_validate(found) for found in await services.queries.resources()])


@router.get("/resources/{name}", responses=responses(404))
async def get_resource(name: ResourceName, caller: Caller, services: Services) -> ResourceModel:
    """One compute resource."""
    await caller.platform()
    return ResourceModel.model_validate(await services.queries.resource(name))


@router.patch("/resources/{name}", responses=responses(404))
async def change_resource(
    name: ResourceName, body: ResourceChanges, caller: Caller, services: Services
) -> ResourceModel:
    """Set prices, speed, labels, or whether it is used at all."""
    await caller.platform("administer")
    changes = body.model_dump(exclude_none=True)
    return ResourceModel.model_validate(await services.resources.update(caller.name, name, changes))


@router.get("/storages")
async def list_storages(caller: Caller, services: Services) -> Listing[StorageModel]:
    """Storage resources."""
    await caller.platform()
    return Listing(items=[StorageModel.model_validate(found) for found in await services.queries.storages()])


@router.get("/workers")
async def list_workers(
    caller: Caller,
    services: Services,
    ended: Annotated[bool, Query(description="Also those that are lost or gone")] = False,
) -> Listing[WorkerModel]:
    """Workers that live; with ``ended`` also those that are lost or gone."""
    await caller.platform()
    return Listing(items=[WorkerModel.model_validate(found) for found in await services.queries.workers(ended=ended)])


@router.post("/workers/{worker}/drain", responses=responses(404, 409))
async def drain(
    worker: Annotated[int, Path(ge=0, lt=2**31, description="Number of the worker")], caller: Caller, services: Services
) -> WorkerModel:
    """Let it finish what it holds and claim nothing more."""
    await caller.platform("administer")
    return WorkerModel.model_validate(await services.workers.drain(caller.name, worker))


@router.get(
    "/plan",
    response_model=dict[str, Any],
    responses={304: {"description": "It is as the ETag says"}, **example(_PLAN)},
)
async def plan(request: Request, caller: Caller, services: Services) -> Response:
    """The plan in force. Send the ETag back as If-None-Match: 304 means that nothing changed."""
    await caller.platform()
    body = json.dumps(dict(await services.scheduler.current_plan()), allow_nan=False, sort_keys=True)
    return answer(request, body.encode())
