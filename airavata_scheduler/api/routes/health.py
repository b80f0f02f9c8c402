"""Whether it works, and how much it has to do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from fastapi import APIRouter, Request, Response

from airavata_scheduler.api.access import Caller, Services
from airavata_scheduler.api.errors import responses
from airavata_scheduler.api.metrics import CONTENT_TYPE, exposition
from airavata_scheduler.api.models_platform import Health, HealthDetail, Part
from airavata_scheduler.api.routes import PREFIX
from airavata_scheduler.platform.domain.errors import UnavailableError

router = APIRouter(prefix=PREFIX, tags=["health"])
_PATIENCE_S = 3.0
_METRICS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"text/plain": {"schema": {"type": "string"}, "example": "airavata_queue_length 90.0\n"}},
        "description": "Prometheus text",
    }
}


async def _part(name: str, asking: Awaitable[Any]) -> Part:
    try:
        await asyncio.wait_for(asking, _PATIENCE_S)
    except TimeoutError:
        return Part(name=name, healthy=False, message=f"it did not answer within {_PATIENCE_S:g} s")
    except UnavailableError as error:
        return Part(name=name, healthy=False, message=error.message)
    return Part(name=name, healthy=True)


@router.get("/health", responses=responses())
async def health(services: Services) -> Health:
    """Open to all: the API runs and its database answers; 503 if it does not."""
    found = await _part("database", services.queries.ping())
    if not found.healthy:
        raise UnavailableError("the database does not answer", remedy="look at `airavata status`")
    return Health(version=services.version)


@router.get("/health/detail", responses=responses(401, 403))
async def health_detail(caller: Caller, services: Services) -> HealthDetail:
    """Part by part."""
    await caller.platform()
    found = await asyncio.gather(
        _part("database", services.queries.ping()),
        _part("TaskScheduler", services.scheduler.current_plan()),
        _part("WorkerLifecycle", services.workers.workers()),
        _part("ResourceRegistry", services.resources.resources()),
    )
    parts = list(found)
    workers = await services.queries.workers() if parts[0].healthy else []
    parts.append(Part(name="workers", healthy=bool(workers), message="" if workers else "no worker is live"))
    healthy = all(part.healthy for part in parts)
    return HealthDetail(
        status="ok" if healthy else "degraded", version=services.version, parts=parts, details={"workers": len(workers)}
    )


@router.get("/metrics", response_class=Response, responses={**responses(401, 403), **_METRICS})
async def metrics(request: Request, caller: Caller, services: Services) -> Response:
    """Prometheus metrics."""
    await caller.platform()
    body = exposition(request.app.state.registry, await services.queries.totals())
    return Response(body, media_type=CONTENT_TYPE)
