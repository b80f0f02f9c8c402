"""The HTTP API as a factory: no Ray in here, so tests need none."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from fastapi_offline import FastAPIOffline
from prometheus_client import CollectorRegistry

from airavata_scheduler.api import errors
from airavata_scheduler.api.metrics import request_durations
from airavata_scheduler.api.middleware import RequestMiddleware
from airavata_scheduler.api.routes import (
    PREFIX,
    auth,
    commands,
    experiments,
    health,
    outputs,
    platform,
    projects,
    tasks,
    users,
)
from airavata_scheduler.api.services import ApiServices

_DESCRIPTION = (
    "Submit experiments, watch them, fetch their results. Every error has one form; lists are paged by cursors; times "
    "are ISO 8601 in UTC. Live updates come through the WebSocket at `/api/v1/stream`."
)
_ROUTERS: tuple[APIRouter, ...] = (
    auth.router,
    users.router,
    projects.router,
    experiments.router,
    commands.router,
    tasks.router,
    outputs.router,
    platform.router,
    health.router,
)


def build_app(services: ApiServices) -> FastAPI:
    """The app over these services."""
    # The framework's own documentation page loads its scripts from elsewhere; an installation may be offline.
    app = FastAPIOffline(
        title="Airavata Scheduler",
        version=services.version,
        description=_DESCRIPTION,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=f"{PREFIX}/docs",
        redoc_url=None,
        static_url=f"{PREFIX}/docs/assets",
        swagger_ui_oauth2_redirect_url=f"{PREFIX}/docs/oauth2-redirect",
        swagger_ui_parameters={"defaultModelsExpandDepth": 0},
    )
    registry = CollectorRegistry()
    app.state.services, app.state.registry = services, registry
    for router in _ROUTERS:
        app.include_router(router)
    app.add_api_route("/metrics", health.metrics, include_in_schema=False)
    app.add_middleware(RequestMiddleware, body_bytes=services.limits.body_bytes, durations=request_durations(registry))
    errors.install(app)
    return app
