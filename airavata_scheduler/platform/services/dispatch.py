"""Which steps a worker is served from: the plan's shares, in order, as far as the worker has room. Pure.

The rule is that of `scheduler_core.plan`'s module docstring: first every share up to its places, then every share up
to its burst. A worker that prefetches (its room is a multiple of its capacity, because its tasks are short) scales
both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.ports.repository import LiveWorker, PlanningState
from airavata_scheduler.scheduler_core import Plan, Share


@dataclass(slots=True)
class Book:
    """What is known between two looks at the database: tasks ready and active, kept up as claims and reports come."""

    plan: Plan = field(default_factory=Plan)
    ready: dict[int, int] = field(default_factory=dict)
    active: dict[tuple[int, str], int] = field(default_factory=lambda: defaultdict(int))
    started: dict[tuple[int, str], int] = field(default_factory=lambda: defaultdict(int))  #: under this plan
    workers: dict[int, LiveWorker] = field(default_factory=dict)

    def refresh(self, state: PlanningState) -> None:
        """Take what the database says."""
        names = {resource.id: resource.name for resource in state.resources}
        self.ready = {step.step_id: step.ready for step in state.steps}
        self.active = defaultdict(int)
        for step in state.steps:
            for resource_id, n in step.active.items():
                self.active[step.step_id, names[resource_id]] = n
        self.workers = {worker.id: worker for worker in state.workers}

    def follow(self, plan: Plan) -> None:
        """Serve from another plan."""
        self.plan = plan
        self.started = defaultdict(int)

    def wants(
        self, worker: LiveWorker, free: Capacity, most: int, requests: Mapping[int, Capacity]
    ) -> list[tuple[int, int]]:
        """(step id, number) to claim for a worker; ``requests`` has the request of every step of the plan."""
        scale = max(1.0, free.cpu / worker.capacity.cpu) if worker.capacity.cpu else 1.0
        shares = self.plan.of_resource(worker.resource)
        taken: dict[int, int] = defaultdict(int)
        for limit_of in (_places, _burst):
            for share in shares:
                step_id = int(share.group)
                request = requests.get(step_id)
                if request is None or not request.fits_in(worker.capacity):
                    continue
                n = min(
                    most,
                    self.ready.get(step_id, 0) - taken[step_id],
                    request.copies_in(free),
                    int(limit_of(share) * scale) - self.active[step_id, worker.resource] - taken[step_id],
                    self._quota_left(share) - taken[step_id],
                )
                if n > 0:
                    taken[step_id] += n
                    most -= n
                    free = free.plus(request, -n)
        return [(step_id, n) for step_id, n in taken.items() if n > 0]

    def _quota_left(self, share: Share) -> int:
        if share.quota is None:
            return 1 << 30
        return share.quota - self.started[int(share.group), share.resource]

    def exhausted(self) -> frozenset[tuple[str, str]]:
        """Shares whose quota is used up although their steps have ready tasks: only a new plan can serve those."""
        return frozenset(
            (share.group, share.resource)
            for share in self.plan.shares
            if self.ready.get(int(share.group), 0) > 0 and self._quota_left(share) <= 0
        )

    def claimed(self, resource: str, wanted: Iterable[tuple[int, int]], got: Mapping[int, int]) -> None:
        """Count a claim. A step that gave fewer than it was asked for has no more."""
        for step_id, n in wanted:
            found = got.get(step_id, 0)
            self.ready[step_id] = self.ready.get(step_id, 0) - found if found == n else 0
            self.active[step_id, resource] += found
            self.started[step_id, resource] += found

    def ended(self, resource: str, counts: Mapping[int, int]) -> None:
        """Count tasks that left a resource, by step."""
        for step_id, n in counts.items():
            self.active[step_id, resource] = max(0, self.active[step_id, resource] - n)

    @property
    def has_ready(self) -> bool:
        return any(n > 0 for n in self.ready.values())


def _places(share: Share) -> int:
    return share.places


def _burst(share: Share) -> int:
    return share.burst
