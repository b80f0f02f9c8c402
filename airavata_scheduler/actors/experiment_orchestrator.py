"""The `ExperimentOrchestrator` actor: submissions, life cycle, gates, progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airavata_scheduler.actors.service import ServiceActor
from airavata_scheduler.adapters.actor_calls.handles import nudge
from airavata_scheduler.adapters.actor_calls.proxies import LifecycleProxy, MoverProxy, SchedulerProxy
from airavata_scheduler.bootstrap import Stores, experiment_orchestrator
from airavata_scheduler.platform.domain.views import ExperimentView, Explanation
from airavata_scheduler.platform.interfaces import Alarm, Derivation, Submission, Validation
from airavata_scheduler.platform.ports.repository import Fence

if TYPE_CHECKING:
    from airavata_scheduler.platform.services.orchestrator import ExperimentOrchestratorService


class ExperimentOrchestrator(ServiceActor["ExperimentOrchestratorService"]):
    """See `interfaces.ExperimentOrchestrator`."""

    lease = "experiment-orchestrator"

    def build(self, stores: Stores, fence: Fence) -> ExperimentOrchestratorService:
        scheduler, lifecycle = SchedulerProxy(), LifecycleProxy()

        async def notify_canceled(workers: object) -> None:
            # A nudge: when it is lost, the workers learn of it with their next heartbeat.
            lifecycle.handle.tell("notify_canceled", workers)

        # The first call of an actor looks it up and connects to it: let no cancel wait for that.
        lifecycle.handle.tell("notify_canceled", ())
        return experiment_orchestrator(
            stores,
            fence,
            MoverProxy(),
            scheduler.explain,
            wake_scheduler=nudge(scheduler.handle, "wake"),
            notify_canceled=notify_canceled,
        )

    async def validate(self, submission: Submission) -> Validation:
        return await (await self.service()).validate(submission)

    async def preview(self, submission: Submission, frontier: bool) -> Mapping[str, Any]:
        return await (await self.service()).preview(submission, frontier=frontier)

    async def submit(self, actor: str, submission: Submission) -> ExperimentView:
        return await (await self.service()).submit(actor, submission)

    async def start(self, actor: str, experiment: str) -> ExperimentView:
        return await (await self.service()).start(actor, experiment)

    async def cancel(self, actor: str, experiment: str, reason: str = "") -> ExperimentView:
        return await (await self.service()).cancel(actor, experiment, reason)

    async def pause(self, actor: str, experiment: str, reason: str = "") -> ExperimentView:
        return await (await self.service()).pause(actor, experiment, reason)

    async def resume(
        self, actor: str, experiment: str, budget: float | None = None, deadline: str | None = None
    ) -> ExperimentView:
        return await (await self.service()).resume(actor, experiment, budget, deadline)

    async def retry(self, actor: str, experiment: str) -> ExperimentView:
        return await (await self.service()).retry(actor, experiment)

    async def derive(self, actor: str, experiment: str, derivation: Derivation) -> ExperimentView:
        return await (await self.service()).derive(actor, experiment, derivation)

    async def delete(self, actor: str, experiment: str) -> None:
        await (await self.service()).delete(actor, experiment)

    async def explain(self, experiment: str, step: str | None, index: int | None) -> Explanation:
        return await (await self.service()).explain(experiment, step, index)

    async def heed(self, alarms: Sequence[Alarm]) -> None:
        await (await self.service()).heed(alarms)

    async def advance(self) -> None:
        await (await self.service()).advance()
