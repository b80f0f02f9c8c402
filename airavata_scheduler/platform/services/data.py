"""`DataMover`: what lies on the storage resource, and the manifests of gather steps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from airavata_scheduler.platform.domain.views import OutputView, Page
from airavata_scheduler.platform.ports.clock import Clock
from airavata_scheduler.platform.ports.queries import Queries
from airavata_scheduler.platform.ports.repository import ExperimentStore, TaskStore
from airavata_scheduler.platform.ports.storage import Storage
from airavata_scheduler.platform.services.step_cache import StepCache

_SWEEP_PERIOD_S = 3600.0
#: Less than a caller waits for an answer.
_REMOVAL_ANSWER_S = 10.0


class DataMoverService:
    """See `interfaces.DataMover`."""

    def __init__(
        self, tasks: TaskStore, experiments: ExperimentStore, queries: Queries, storage: Storage, clock: Clock
    ) -> None:
        self._clock = clock
        self._removals: set[asyncio.Future[int]] = set()
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

    async def run(self) -> None:
        """Remove what a deletion left behind when it, or this process, was interrupted; never returns."""
        while True:
            for experiment in await self._experiments.deleted():
                await self._storage.delete_tree(experiment)
            await self._clock.sleep(_SWEEP_PERIOD_S)

    async def remove_experiment(self, experiment: str) -> None:
        """Everything stored below the experiment's prefix; of very much, the rest after the answer."""
        removal = asyncio.ensure_future(self._storage.delete_tree(experiment))
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)
        done, _ = await asyncio.wait({removal}, timeout=_REMOVAL_ANSWER_S)
        for one in done:
            one.result()
