"""`DataMover`: what lies on the storage resource, and the manifests of gather steps."""

from __future__ import annotations

from collections.abc import AsyncIterator

from airavata_scheduler.platform.domain.views import OutputView, Page
from airavata_scheduler.platform.ports.queries import Queries
from airavata_scheduler.platform.ports.repository import ExperimentStore, TaskStore
from airavata_scheduler.platform.ports.storage import Storage
from airavata_scheduler.platform.services.step_cache import StepCache


class DataMoverService:
    """See `interfaces.DataMover`."""

    def __init__(self, tasks: TaskStore, experiments: ExperimentStore, queries: Queries, storage: Storage) -> None:
        self._steps = StepCache(tasks)
        self._experiments = experiments
        self._queries = queries
        self._storage = storage

    async def outputs(self, experiment: str, step: str | None, after: str | None, limit: int) -> Page[OutputView]:
        """Published outputs."""
        return await self._queries.outputs(experiment, step, limit, after)

    async def write_manifest(self, step_id: int) -> None:
        """Each manifest replaces itself atomically, so writing it twice does no harm."""
        step = (await self._steps.get([step_id])).get(step_id)
        if step is None:
            return
        for parameter, reference in step.step.references.items():
            if reference.mode == "gather":
                lines = self._lines(step.upstream(reference.step), reference.output)
                await self._storage.write(step.manifest_key(parameter), lines)

    async def _lines(self, step_id: int, output: str) -> AsyncIterator[bytes]:
        async for keys in self._experiments.manifest_keys(step_id, output):
            yield "".join(f"{self._storage.local_path(key) or key}\n" for key in keys).encode()

    async def remove_experiment(self, experiment: str) -> int:
        """Everything stored below the experiment's prefix."""
        return await self._storage.delete_tree(experiment)
