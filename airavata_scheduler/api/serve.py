"""The API on Ray Serve: two deployments behind one port, and the knowledge of their processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from fastapi import FastAPI
from ray import serve
from ray._private import state as ray_state
from ray.exceptions import RayError
from ray.serve.config import HTTPOptions, ProxyLocation

from airavata_scheduler import __version__
from airavata_scheduler.adapters.actor_calls.proxies import (
    LifecycleProxy,
    LiveOutput,
    MoverProxy,
    OrchestratorProxy,
    RegistryProxy,
    SchedulerProxy,
    VaultProxy,
)
from airavata_scheduler.api.services import ApiServices
from airavata_scheduler.bootstrap import (
    authorization,
    event_bus,
    identity,
    open_stores,
    storage_by_name,
)
from airavata_scheduler.settings import Settings

_LOG = structlog.get_logger(__name__)
_LOOK_EVERY = 3  # looks of the keeper, each about a second


def api_services(home: str) -> ApiServices:
    """Everything that the API calls, for the installation at ``home``."""
    stores = open_stores(Settings.from_run(home))
    who, rate_limit = identity(stores)
    return ApiServices(
        queries=stores.queries,
        identity=who,
        authorization=authorization(stores),
        rate_limit=rate_limit,
        event_bus=event_bus(stores),
        storage=storage_by_name(stores),
        orchestrator=OrchestratorProxy(),
        scheduler=SchedulerProxy(),
        workers=LifecycleProxy(),
        resources=RegistryProxy(),
        vault=VaultProxy(),
        mover=MoverProxy(),
        version=__version__,
        clock=stores.clock,
        live_logs=LiveOutput(stores.queries),
    )


def _api(home: str) -> FastAPI:
    # Imported here, as below, because the keeper and the other replica do without it.
    from airavata_scheduler.api.app import build_app

    return build_app(api_services(home))


def _streams(home: str) -> FastAPI:
    from airavata_scheduler.api.streams import build_streams_app

    return build_streams_app(api_services(home))


def _deployment(name: str, build: Callable[[str], FastAPI], home: str) -> Any:
    def factory() -> FastAPI:
        return build(home)

    @serve.ingress(factory)
    class Replica:
        """Stateless: reads the database, and commands the actors."""

    Replica.__name__ = name
    return serve.deployment(
        Replica,
        name=name,
        num_replicas=1,
        max_ongoing_requests=200,
        ray_actor_options={"num_cpus": 0},
        health_check_period_s=2,
        health_check_timeout_s=15,
    )


class ServedApi:
    """Starts the API, and tells its processes. Blocking: used by the keeper."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._looks = 0
        self.pids: dict[str, int] = {}
        self.problems: list[str] = ["the API was not started yet"]

    def start(self) -> None:
        """Deploy, or take over what is deployed."""
        settings = self._settings
        options = HTTPOptions(
            host=settings.http_host,
            port=settings.http_port,
            ssl_certfile=str(settings.http_tls_cert) if settings.http_tls_cert else None,
            ssl_keyfile=str(settings.http_tls_key) if settings.http_tls_key else None,
        )
        serve.start(proxy_location=ProxyLocation.HeadOnly, http_options=options)
        home = str(settings.home)
        streams = _deployment("streams", _streams, home).bind()
        api = _deployment("api", _api, home).bind()
        # Together, because each start waits for a process of its own.
        serve.run_many(
            [serve.RunTarget(streams, name="streams", route_prefix="/api/v1/stream"), serve.RunTarget(api, name="api")]
        )
        self.look()

    def look(self) -> None:
        """Ask Serve's controller for its processes, now and then."""
        self._looks += 1
        if self._looks % _LOOK_EVERY != 1:
            return
        try:
            client = serve.context._get_global_client()  # noqa: SLF001 - `serve.status` tells states, but no pids
            details = client.get_serve_details() if client else None
        except (RayError, TimeoutError, serve.exceptions.RayServeException) as error:
            self.problems = [f"Ray Serve does not answer: {str(error)[:200]}"]
            return
        self.pids, self.problems = _read(details) if details else ({}, ["Ray Serve does not run"])

    def stop(self) -> None:
        """Take the API away from a cluster that goes on, and Serve with it unless somebody else uses it."""
        try:
            if set(serve.status().applications) <= {"api", "streams"}:
                serve.shutdown()  # type: ignore[no-untyped-call]  # Ray has no types there
            else:
                serve.delete("api")
                serve.delete("streams")
        except RayError as error:
            _LOG.warning("the API was not removed", error=str(error)[:500])


def _read(details: dict[str, Any]) -> tuple[dict[str, int], list[str]]:
    """Pids by name, and what is not running, from the controller's own account."""
    pids: dict[str, int] = {}
    problems = []
    pids["api.controller"] = _actor_pid(details.get("controller_info"))
    for i, proxy in enumerate((details.get("proxies") or {}).values()):
        pids["api.proxy" if i == 0 else f"api.proxy-{i}"] = _actor_pid(proxy)
        if proxy.get("status") != "HEALTHY":
            problems.append(f"the API's proxy is {proxy.get('status', 'starting')}")
    for name, application in details.get("applications", {}).items():
        if application["status"] != "RUNNING":
            problems.append(f"the application {name} is {application['status']}: {application['message'][:200]}")
        for deployment in application["deployments"].values():
            for i, replica in enumerate(deployment["replicas"]):
                pids[f"api.{name}" if i == 0 else f"api.{name}-{i}"] = replica.get("pid") or 0
    return {name: pid for name, pid in pids.items() if pid}, problems


def _actor_pid(details: dict[str, Any] | None) -> int:
    """Serve names the actors of its controller and proxies, but not their processes: those Ray knows. 0 for none."""
    actor_id = (details or {}).get("actor_id")
    return int(ray_state.actors(actor_id).get("Pid") or 0) if actor_id else 0
