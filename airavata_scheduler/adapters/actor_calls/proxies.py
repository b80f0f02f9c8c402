"""The interfaces that the API and other actors call, as proxies: same methods, each one actor call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airavata_scheduler.adapters.actor_calls.handles import (
    LIFECYCLE,
    MOVER,
    ORCHESTRATOR,
    REGISTRY,
    SCHEDULER,
    VAULT,
    ActorHandle,
)
from airavata_scheduler.platform.domain.errors import UnavailableError
from airavata_scheduler.platform.domain.messages import Batch, Directives, Extent, Hello, Report, Welcome
from airavata_scheduler.platform.domain.packed import pack_reports, unpack_batch
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.views import (
    ExperimentView,
    Explanation,
    OutputView,
    Page,
    ResourceView,
    StorageView,
    WorkerView,
)
from airavata_scheduler.platform.interfaces import Alarm, Derivation, Submission, Validation
from airavata_scheduler.platform.ports.queries import Queries

_KNOWN_STEPS = 1000
#: A frontier is some dozens of plans.
_FRONTIER_S = 90.0
#: A manifest names up to ten million files.
_MANIFEST_S = 600.0


class OrchestratorProxy:
    """`ExperimentOrchestrator` in its actor."""

    def __init__(self) -> None:
        self.handle = ActorHandle(ORCHESTRATOR)

    async def validate(self, submission: Submission) -> Validation:
        found: Validation = await self.handle.call("validate", submission)
        return found

    async def preview(self, submission: Submission, *, frontier: bool = False) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await self.handle.call("preview", submission, frontier, wait_s=_FRONTIER_S)
        return found

    async def submit(self, actor: str, submission: Submission) -> ExperimentView:
        return await self._view("submit", actor, submission)

    async def start(self, actor: str, experiment: str) -> ExperimentView:
        return await self._view("start", actor, experiment)

    async def cancel(self, actor: str, experiment: str, reason: str = "") -> ExperimentView:
        return await self._view("cancel", actor, experiment, reason)

    async def pause(self, actor: str, experiment: str, reason: str = "") -> ExperimentView:
        return await self._view("pause", actor, experiment, reason)

    async def resume(
        self, actor: str, experiment: str, budget: float | None = None, deadline: str | None = None
    ) -> ExperimentView:
        return await self._view("resume", actor, experiment, budget, deadline)

    async def retry(self, actor: str, experiment: str) -> ExperimentView:
        return await self._view("retry", actor, experiment)

    async def derive(self, actor: str, experiment: str, derivation: Derivation) -> ExperimentView:
        return await self._view("derive", actor, experiment, derivation)

    async def delete(self, actor: str, experiment: str) -> None:
        await self.handle.call("delete", actor, experiment)

    async def explain(self, experiment: str, step: str | None = None, index: int | None = None) -> Explanation:
        found: Explanation = await self.handle.call("explain", experiment, step, index)
        return found

    async def heed(self, alarms: Sequence[Alarm]) -> None:
        await self.handle.call("heed", list(alarms))

    async def _view(self, method: str, *args: Any) -> ExperimentView:
        view: ExperimentView = await self.handle.call(method, *args)
        return view


class SchedulerProxy:
    """`TaskScheduler` in its actor."""

    def __init__(self) -> None:
        self.handle = ActorHandle(SCHEDULER)
        self._steps: dict[int, str] = {}  #: names for the Ray dashboard

    async def plan(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await self.handle.call("plan")
        return found

    async def current_plan(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await self.handle.call("current_plan")
        return found

    async def explain(self, step_id: int) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await self.handle.call("explain", step_id)
        return found

    async def claim(
        self,
        worker_id: int,
        free: Capacity,
        most: int,
        wait_s: float,
        held: Sequence[tuple[int, int, int]] | None = None,
    ) -> Batch:
        batch = unpack_batch(*await self.handle.call("claim", worker_id, free, most, wait_s, held, wait_s=wait_s))
        if len(self._steps) > _KNOWN_STEPS:
            self._steps.clear()
        self._steps.update({step_id: f"{p.experiment}/{p.step}" for step_id, p in batch.programs.items()})
        return batch

    async def report(self, worker_id: int, reports: Sequence[Report]) -> list[tuple[int, int, int]]:
        stale: list[tuple[int, int, int]] = await self.handle.call(
            "report", worker_id, pack_reports(reports), label=self._label(reports)
        )
        return stale

    def _label(self, reports: Sequence[Report]) -> str:
        """`<experiment>/<step>[first:last]`, which is how the dashboard then shows the call."""
        step = reports[0].step_id
        indexes = [report.index for report in reports if report.step_id == step]
        return f"{self._steps.get(step, step)}[{min(indexes)}:{max(indexes) + 1}]"

    async def wake(self) -> None:
        await self.handle.call("wake")


class LifecycleProxy:
    """`WorkerLifecycle` in its actor."""

    def __init__(self) -> None:
        self.handle = ActorHandle(LIFECYCLE)

    async def register(self, hello: Hello) -> Welcome:
        welcome: Welcome = await self.handle.call("register", hello)
        return welcome

    async def heartbeat(self, worker_id: int, free: Capacity, running: int, wait_s: float) -> Directives:
        directives: Directives = await self.handle.call("heartbeat", worker_id, free, running, wait_s, wait_s=wait_s)
        return directives

    async def goodbye(self, worker_id: int) -> None:
        await self.handle.call("goodbye", worker_id)

    async def workers(self) -> Sequence[WorkerView]:
        found: Sequence[WorkerView] = await self.handle.call("workers")
        return found

    async def drain(self, actor: str, worker_id: int) -> WorkerView:
        found: WorkerView = await self.handle.call("drain", actor, worker_id)
        return found

    async def notify_canceled(self, workers: Sequence[int]) -> None:
        await self.handle.call("notify_canceled", list(workers))

    async def reap(self) -> int:
        found: int = await self.handle.call("reap")
        return found


class RegistryProxy:
    """`ResourceRegistry` in its actor."""

    def __init__(self) -> None:
        self.handle = ActorHandle(REGISTRY)

    async def resources(self) -> Sequence[ResourceView]:
        found: Sequence[ResourceView] = await self.handle.call("resources")
        return found

    async def resource(self, name: str) -> ResourceView:
        found: ResourceView = await self.handle.call("resource", name)
        return found

    async def update(self, actor: str, name: str, changes: Mapping[str, Any]) -> ResourceView:
        found: ResourceView = await self.handle.call("update", actor, name, dict(changes))
        return found

    async def storages(self) -> Sequence[StorageView]:
        found: Sequence[StorageView] = await self.handle.call("storages")
        return found

    async def probe(self) -> None:
        await self.handle.call("probe")


class VaultProxy:
    """`CredentialVault` in its actor."""

    def __init__(self) -> None:
        self.handle = ActorHandle(VAULT)

    async def store(self, actor: str, name: str, kind: str, secret: Mapping[str, str]) -> None:
        await self.handle.call("store", actor, name, kind, dict(secret))

    async def retrieve(self, actor: str, name: str, purpose: str) -> Mapping[str, str]:
        found: Mapping[str, str] = await self.handle.call("retrieve", actor, name, purpose)
        return found

    async def delete(self, actor: str, name: str) -> None:
        await self.handle.call("delete", actor, name)

    async def names(self, actor: str) -> Sequence[Mapping[str, Any]]:
        found: Sequence[Mapping[str, Any]] = await self.handle.call("names", actor)
        return found


class MoverProxy:
    """`DataMover` in its actor."""

    def __init__(self) -> None:
        self.handle = ActorHandle(MOVER)

    async def outputs(self, experiment: str, step: str | None, after: str | None, limit: int) -> Page[OutputView]:
        found: Page[OutputView] = await self.handle.call("outputs", experiment, step, after, limit)
        return found

    async def write_manifest(self, step_id: int) -> None:
        await self.handle.call("write_manifest", step_id, wait_s=_MANIFEST_S)

    async def remove_experiment(self, experiment: str) -> None:
        await self.handle.call("remove_experiment", experiment)


class LiveOutput:
    """Asks the executor that runs an attempt for its output so far: the API's `LiveLogs`."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._executors: dict[str, ActorHandle] = {}

    async def __call__(self, worker_id: int, step_id: int, index: int, attempt: int) -> tuple[Extent, Extent] | None:
        """None if the worker does not hold the attempt, or is no executor that can be asked."""
        name = next((worker.name for worker in await self._queries.workers() if worker.id == worker_id), None)
        if name is None:
            return None
        executor = self._executors.setdefault(name, ActorHandle(name))
        try:
            pieces: tuple[Extent, Extent] | None = await executor.call("live_output", step_id, index, attempt)
        except UnavailableError:
            self._executors.pop(name, None)
            return None
        return pieces
