"""The keeper: the Ray driver among our processes. Makes actors, executors and the API, and sees that they live.

`python -m airavata_scheduler.actors.keeper --home DIR`, started and watched by the supervisor. Ray restarts what died;
the keeper notices what hangs (a ping that is not answered), kills it, and Ray restarts it then. Every second it writes
what it found to `<home>/run/cluster.json`. It holds no state: a new keeper adopts what runs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import structlog
from ray.exceptions import RayError

from airavata_scheduler import __version__
from airavata_scheduler.actors.credential_vault import CredentialVault
from airavata_scheduler.actors.data_mover import DataMover
from airavata_scheduler.actors.executor import Executor
from airavata_scheduler.actors.experiment_orchestrator import ExperimentOrchestrator
from airavata_scheduler.actors.options import executor_options, service_options
from airavata_scheduler.actors.resource_registry import ResourceRegistry
from airavata_scheduler.actors.service import ServiceActor
from airavata_scheduler.actors.task_scheduler import TaskScheduler
from airavata_scheduler.actors.watched import PING_LIMIT_S, Watched
from airavata_scheduler.actors.worker_lifecycle import WorkerLifecycle
from airavata_scheduler.adapters.actor_calls.handles import (
    LIFECYCLE,
    MOVER,
    NAMESPACE,
    ORCHESTRATOR,
    REGISTRY,
    SCHEDULER,
    VAULT,
)
from airavata_scheduler.adapters.compute.ray import RayCompute
from airavata_scheduler.bootstrap import default_storage, identity_store, open_stores
from airavata_scheduler.platform.ports.compute import Compute, Node, RunningWorker
from airavata_scheduler.platform.services.identity import ensure_admin
from airavata_scheduler.settings import Settings, write_private

if TYPE_CHECKING:
    from airavata_scheduler.api.serve import ServedApi

_LOG = structlog.get_logger(__name__)
_CLASSES: Mapping[str, type[ServiceActor[Any]]] = {
    SCHEDULER: TaskScheduler,
    LIFECYCLE: WorkerLifecycle,
    ORCHESTRATOR: ExperimentOrchestrator,
    REGISTRY: ResourceRegistry,
    VAULT: CredentialVault,
    MOVER: DataMover,
}
_PERIOD_S = 1.0
#: No stage of a start takes longer, unless something hangs.
_STAGE_LIMIT_S = 300.0


class Keeper:
    """See the module. All Ray calls are made from the main thread; a thread of its own writes the report, so that the
    supervisor sees a hung keeper only when the process hangs as a whole.
    """

    _api: ServedApi  # from its start on
    _controller: Watched  # Serve's, on which the API's processes depend

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = threading.Event()
        self._report: dict[str, Any] = {"stage": "connecting", "healthy": False, "problems": []}
        self._services: dict[str, Watched] = {}
        self._executors: dict[str, Watched] = {}
        self._compute: Compute = RayCompute(self._spawn_executor)
        self._looked_at_s = time.monotonic()
        self._head = ""
        self._on_head: set[str] = set()

    def stop(self, *_: object) -> None:
        """End after the present look."""
        self._stop.set()

    def run(self) -> None:
        """Connect, make what is missing, then look every second until told to stop."""
        threading.Thread(target=self._write_reports, daemon=True).start()
        self._connect()
        # Only now: connecting sets a handler of Ray's own, with which we would end without leaving.
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, self.stop)
        asyncio.run(self._prepare_database())
        self._stage("starting actors")
        for name in _CLASSES:
            self._services[name] = Watched(name, "actor", self._service(name))
        self._look_at(self._services)
        self._look_at_executors()
        self._stage("starting the API")
        self._start_api()
        self._stage("running")
        while not self._stop.is_set():
            self._look()
            self._stop.wait(_PERIOD_S)
        self._leave()

    # ------------------------------------------------------------------------------------------------------ starting

    def _connect(self) -> None:
        ray.init(
            address=os.environ.get("RAY_ADDRESS", "auto"),
            namespace=NAMESPACE,
            log_to_driver=False,
            configure_logging=False,
        )
        self._head = ray.get_runtime_context().get_node_id()

    async def _prepare_database(self) -> None:
        """The administrator, the default project and the storage resource: made once, harmless later."""
        self._stage("preparing the database")
        stores = open_stores(self._settings)
        credentials = json.loads(self._settings.paths.admin.read_text())
        await ensure_admin(identity_store(stores), credentials["username"], credentials["password"], time.time())
        self._settings.storage_dir.mkdir(parents=True, exist_ok=True)
        await stores.workers.ensure_storage(default_storage(self._settings))
        await stores.engine.dispose()

    def _start_api(self) -> None:
        # Importing Serve takes as long as everything else here, and the actors need not wait for it.
        from airavata_scheduler.api.serve import ServedApi

        self._api = ServedApi(self._settings)
        # Serve waits for its controller without a limit, so one that was found must answer first.
        while (controller := self._api.controller()) is not None and not self._stop.is_set():
            if self._answers(self._watched_controller(controller)):
                break
        self._api.start()
        self._controller = self._watched_controller(self._api.controller())
        self._answers(self._controller)

    def _watched_controller(self, handle: Any) -> Watched:
        return Watched(
            "api.controller",
            "api",
            handle,
            local=self._api.is_on(self._head),
            method=self._api.account_method,
            pid_of=self._api.heed,
            pid=self._api.controller_pid(),
        )

    def _answers(self, watched: Watched) -> bool:
        """Look until it does; False if it is gone for good."""
        while not watched.healthy and not self._stop.is_set():
            if not watched.look(time.monotonic()):
                return False
            self._stop.wait(_PERIOD_S / 10)
        return True

    def _service(self, name: str) -> Any:
        """The running actor of this version, or a new one. One of another version is ended first."""
        try:
            handle: Any = ray.get_actor(name, namespace=NAMESPACE)
        except ValueError:
            return self._new_service(name)
        try:
            if ray.get(handle.ping.remote(), timeout=PING_LIMIT_S)["version"] == __version__:
                return handle
        except (RayError, TimeoutError) as error:
            _LOG.warning("an actor that was found is replaced", actor=name, error=str(error)[:500])
        ray.kill(handle, no_restart=True)
        return self._new_service(name)

    def _new_service(self, name: str) -> Any:
        options = service_options(name, self._head)
        return ray.remote(_CLASSES[name]).options(**options, get_if_exists=True).remote(str(self._settings.home))

    def _spawn_executor(self, name: str, resource: str, node: Node) -> Any:
        if node.node_id == self._head:
            self._on_head.add(name)
        options = executor_options(name, node.node_id, node.capacity.cpu, node.capacity.gpu)
        return (
            ray.remote(Executor)
            .options(**options, get_if_exists=True)
            .remote(
                name,
                resource,
                node.node_id,
                node.capacity,
                str(self._settings.scratch_dir),
                __version__,
                sync_outputs=self._settings.sync_outputs,
            )
        )

    # ------------------------------------------------------------------------------------------------------- looking

    def _look(self) -> None:
        self._look_at(self._services)
        self._look_at_executors()
        if not self._controller.look(time.monotonic()):
            _LOG.error("Serve is gone and is started anew")
            self._start_api()
        self._looked_at_s = time.monotonic()
        self._report = self._found()

    def _look_at_executors(self) -> None:
        """Also makes them where a node lacks one."""
        handles = self._compute.executors()
        self._executors = {
            name: self._executors.get(name) or Watched(name, "executor", handle, local=name in self._on_head)
            for name, handle in handles.items()
        }
        for name in self._look_at(self._executors):
            self._compute.forget(name)
            del self._executors[name]

    def _look_at(self, group: dict[str, Watched]) -> list[str]:
        now_s = time.monotonic()
        gone = [name for name, watched in group.items() if not watched.look(now_s)]
        for name in gone:
            if group is self._services:
                _LOG.error("an actor is gone and is made anew", actor=name)
                self._services[name] = Watched(name, "actor", self._new_service(name))
        return gone if group is not self._services else []

    def _found(self) -> dict[str, Any]:
        everything = [*self._services.values(), *self._executors.values(), self._controller]
        problems = [f"{watched.name} does not answer" for watched in everything if not watched.healthy]
        problems += [f"{w.name} {w.answer['problem']}" for w in everything if w.healthy and w.answer.get("problem")]
        if not self._executors:
            problems.append("no node has an executor")
        problems += self._api.problems
        listed = [{"name": w.name, "role": w.role, "pid": w.pid} for w in self._services.values() if w.pid]
        answered = {name: watched.answer for name, watched in self._executors.items() if watched.pid}
        for worker in self._compute.running(answered):
            listed += self._executor_entries(worker)
        listed += [{"name": name, "role": "api", "pid": pid} for name, pid in self._api.pids.items()]
        workers = [
            {
                "name": worker.name,
                "node_id": worker.node_id,
                "pid": worker.pid,
                "running": worker.facts.get("running", 0),
            }
            for worker in self._compute.running({n: w.answer for n, w in self._executors.items() if w.healthy})
        ]
        return {
            "stage": "running",
            "healthy": not problems,
            "problems": problems,
            "processes": listed,
            "workers": workers,
        }

    def _executor_entries(self, worker: RunningWorker) -> list[dict[str, Any]]:
        """An executor and its spawners; those of another node with its id, as their pids mean nothing here."""
        place = {} if worker.node_id == self._head else {"node_id": worker.node_id}
        named = [(worker.name, worker.pid)]
        named += [(f"{worker.name}/spawner-{i}", pid) for i, pid in enumerate(worker.facts.get("spawners", ()))]
        return [{"name": name, "role": "executor", "pid": pid, **place} for name, pid in named]

    def _stage(self, stage: str) -> None:
        _LOG.info("stage", stage=stage)
        self._looked_at_s = time.monotonic()
        self._report = {"stage": stage, "healthy": False, "problems": [stage], "processes": [], "workers": []}

    def _write_reports(self) -> None:
        """A report that is not renewed says so: a main thread that hangs in Ray must not look healthy."""
        while True:
            report = {"at": time.time(), **self._report}
            silent_s = time.monotonic() - self._looked_at_s
            if silent_s > PING_LIMIT_S and report["stage"] == "running":
                report |= {"healthy": False, "problems": [f"the keeper waits for Ray since {silent_s:.0f} s"]}
            if silent_s < (6 * PING_LIMIT_S if report["stage"] == "running" else _STAGE_LIMIT_S):
                self._write(json.dumps(report))
            time.sleep(_PERIOD_S)

    def _write(self, report: str) -> None:
        """Without room for a report, the last one at least shows that we live, and its age that something is wrong."""
        path = self._settings.paths.cluster
        try:
            write_private(path, report)
        except OSError:
            with contextlib.suppress(OSError):
                os.utime(path)

    def _leave(self) -> None:
        """On a cluster that is not ours, take away what we made; our own cluster ends as a whole."""
        if self._settings.ray_address is None:
            return
        self._stage("leaving the cluster")
        for watched in self._executors.values():
            _quietly(watched.stop)
        for watched in [*self._executors.values(), *self._services.values()]:
            _quietly(watched.remove)
        self._api.stop()


def _quietly(action: Callable[[], object]) -> None:
    try:
        action()
    except (RayError, TimeoutError, ValueError) as error:
        _LOG.warning("not ended", error=str(error)[:500])


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    keeper = Keeper(Settings.from_run(parser.parse_args().home))
    keeper.run()


if __name__ == "__main__":
    main()
