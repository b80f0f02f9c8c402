"""The API on Ray Serve: two deployments behind one port, and the knowledge of their processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ray
import structlog
from fastapi import FastAPI
from ray import serve
from ray._private import state as ray_state
from ray.exceptions import RayError
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
from ray.serve.config import HTTPOptions, ProxyLocation
from ray.serve.schema import ApplicationStatus

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
    """Starts the API, and reads the account of its processes that Serve's controller gives. Used by the keeper."""

    #: The method of the controller that gives the account.
    account_method = "get_serve_instance_details"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.pids: dict[str, int] = {}
        self.problems: list[str] = ["the API was not started yet"]

    def controller(self) -> Any:
        """The handle of Serve's controller; None when Serve does not run."""
        try:
            return ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
        except ValueError:
            return None

    def controller_pid(self) -> int:
        """Its process, whether that answers or not; 0 for none."""
        return int(self._controller_entry().get("Pid") or 0)

    def is_on(self, node_id: str) -> bool:
        """Whether the controller is a process of that node."""
        return (self._controller_entry().get("Address") or {}).get("NodeID") == node_id

    def _controller_entry(self) -> dict[str, Any]:
        handle = self.controller()
        return ray_state.actors(handle._actor_id.hex()) if handle is not None else {}  # noqa: SLF001 - nothing else names it

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

    def heed(self, account: Mapping[str, Any]) -> int:
        """Take over an account: pids by name, and what is not running. The pid of the controller itself; 0 for none."""
        pids = {"api.controller": _actor_pid(account.get("controller_info"))}
        problems = []
        for i, proxy in enumerate((account.get("proxies") or {}).values()):
            pids["api.proxy" if i == 0 else f"api.proxy-{i}"] = _actor_pid(proxy)
            if proxy.get("status") != "HEALTHY":
                problems.append(f"the API's proxy is {proxy.get('status', 'starting')}")
        for name, application in account.get("applications", {}).items():
            status = ApplicationStatus(application["status"])
            if status is not ApplicationStatus.RUNNING:
                problems.append(f"the application {name} is {status.value}: {application['message'][:200]}".strip(" :"))
            for deployment in application["deployments"].values():
                for i, replica in enumerate(deployment["replicas"]):
                    pids[f"api.{name}" if i == 0 else f"api.{name}-{i}"] = replica.get("pid") or 0
        self.pids, self.problems = {name: pid for name, pid in pids.items() if pid}, problems
        return pids["api.controller"]


def _actor_pid(details: dict[str, Any] | None) -> int:
    """Serve names the actors of its controller and proxies, but not their processes: those Ray knows. 0 for none."""
    actor_id = (details or {}).get("actor_id")
    return int(ray_state.actors(actor_id).get("Pid") or 0) if actor_id else 0
