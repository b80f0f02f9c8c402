"""What never changes about steps, kept so that claims and reports read it once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from airavata_scheduler.platform.domain.compiled import CompiledStep
from airavata_scheduler.platform.domain.messages import Program
from airavata_scheduler.platform.ports.repository import ReportContext, StepSpec, TaskStore

_MOST = 2000


@dataclass(frozen=True)
class KnownStep:
    """A step, ready for use."""

    spec: StepSpec
    step: CompiledStep

    @cached_property
    def program(self) -> Program:
        prefix = f"{self.spec.experiment}/{self.spec.name}"
        return self.step.program.program(self.spec.step_id, self.spec.experiment, self.spec.name, prefix)

    @cached_property
    def context(self) -> ReportContext:
        request = self.step.program.request
        return ReportContext(self.spec.experiment, self.step.retry, request.cpu, request.gpu)

    def manifest_key(self, parameter: str) -> str:
        """Where the manifest of a gathered parameter lies on the storage resource."""
        return f"{self.spec.experiment}/{self.spec.name}/.manifests/{parameter}.txt"

    def upstream(self, position: int) -> int:
        """The id of another step of the experiment."""
        return self.spec.step_ids[position]


class StepCache:
    """Steps by id, least recently used ones dropped."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store
        self._known: OrderedDict[int, KnownStep] = OrderedDict()

    async def get(self, step_ids: Iterable[int]) -> Mapping[int, KnownStep]:
        """The steps among these that exist; one statement for all that are not known yet."""
        wanted = set(step_ids)
        missing = [step_id for step_id in wanted if step_id not in self._known]
        if missing:
            for spec in await self._store.step_specs(missing):
                self._known[spec.step_id] = KnownStep(spec, CompiledStep.from_json(spec.spec))
        found = {step_id: self._known[step_id] for step_id in wanted if step_id in self._known}
        for step_id in found:
            self._known.move_to_end(step_id)
        while len(self._known) > _MOST:
            self._known.popitem(last=False)
        return found
