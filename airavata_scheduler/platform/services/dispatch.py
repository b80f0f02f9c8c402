"""Which steps a worker is served from: the plan's shares, in order, as far as the worker has room. Pure.

The rule is that of `scheduler_core.plan`'s module docstring: first every share up to its hold, then every share up
to its burst; never more than a quota; and nothing after a share with `reserve` whose next task waits for room. A
worker whose tasks are short claims ahead: what it holds and has room for is a multiple of its capacity, and scales
hold and burst. Of a step it holds, beside what runs, about what starts there within a second, and little while that
is not known: what has to wait, waits where every worker can take it. What a budget does not pay for is not started
either, nor what would end after a hard deadline.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.ports.repository import LiveWorker, PlanningState
from airavata_scheduler.platform.services.snapshot import leaving
from airavata_scheduler.platform.services.spending import UNLIMITED, Spending
from airavata_scheduler.scheduler_core import Plan, Share

#: A worker holds tasks for this long beside those that run, and this many times its capacity while their runtime is
#: unknown.
_AHEAD_S = 1.5
_UNKNOWN_TIMES = 2.0


@dataclass(slots=True)
class Book:
    """What is known between two looks at the database: tasks ready and active, kept up as claims and reports come."""

    plan: Plan = field(default_factory=Plan)
    ready: dict[int, int] = field(default_factory=dict)
    active: dict[tuple[int, str], int] = field(default_factory=lambda: defaultdict(int))
    started: dict[tuple[int, str], int] = field(default_factory=lambda: defaultdict(int))  #: under this plan
    workers: dict[int, LiveWorker] = field(default_factory=dict)
    held: dict[int, dict[int, int]] = field(default_factory=dict)  #: worker id -> step id -> tasks with it
    spending: Spending = field(default_factory=Spending)
    hidden_bytes: Mapping[int, int] = field(default_factory=dict)  #: memory that a step uses beyond what it asks for
    late: frozenset[tuple[int, str]] = frozenset()  #: (step id, resource) where a task would miss a hard deadline
    typical_s: Callable[[int], float | None] = lambda _: None  #: step id -> runtime seen, None while unknown

    def refresh(self, state: PlanningState) -> None:
        """Take what the database says."""
        names = {resource.id: resource.name for resource in state.resources}
        # One in its back-off can be given to nobody, and no worker must be kept free for it.
        self.ready = {s.step_id: max(0, s.ready - state.in_back_off.get(s.step_id, 0)) for s in state.steps}
        self.active = defaultdict(int)
        gone = leaving(state)
        for step in state.steps:
            for resource_id, n in step.active.items():
                self.active[step.step_id, names[resource_id]] = max(0, n - gone.get((step.step_id, resource_id), 0))
        self.workers = {worker.id: worker for worker in state.workers}
        self.held = {worker_id: dict(counts) for worker_id, counts in state.held.items()}

    def follow(self, plan: Plan) -> None:
        """Serve from another plan."""
        self.plan = plan
        self.started = defaultdict(int)

    def refine(self, plan: Plan) -> None:
        """Serve from a better plan of the same moment: what was started since counts."""
        self.plan = plan

    def wants(
        self, worker: LiveWorker, free: Capacity, most: int, requests: Mapping[int, Capacity]
    ) -> list[tuple[int, int]]:
        """(step id, number) to claim for a worker; ``requests`` has the request of every step of the plan."""
        return _Serving(self, worker, free, most, requests).serve()

    def quota_left(self, share: Share) -> int:
        """How many tasks may still be started from a share under this plan."""
        if share.quota is None:
            return UNLIMITED
        return share.quota - self.started[int(share.group), share.resource]

    def exhausted(self) -> frozenset[tuple[str, str]]:
        """Shares whose quota is used up although their steps have ready tasks: only a new plan can serve those."""
        return frozenset(
            (share.group, share.resource)
            for share in self.plan.shares
            if self.ready.get(int(share.group), 0) > 0 and self.quota_left(share) <= 0
        )

    def claimed(self, worker: LiveWorker, wanted: Iterable[tuple[int, int]], got: Mapping[int, int]) -> None:
        """Count a claim. A step that gave fewer than it was asked for has no more."""
        resource = worker.resource
        held = self.held.setdefault(worker.id, {})
        for step_id, n in wanted:
            found = got.get(step_id, 0)
            self.ready[step_id] = self.ready.get(step_id, 0) - found if found == n else 0
            self.active[step_id, resource] += found
            self.started[step_id, resource] += found
            held[step_id] = held.get(step_id, 0) + found
            self.spending.commit(step_id, resource, found)

    def ended(self, worker: LiveWorker, counts: Mapping[int, int], costs: Mapping[int, float] | None = None) -> None:
        """Count tasks that left a worker, by step, and what they cost."""
        resource = worker.resource
        held = self.held.setdefault(worker.id, {})
        for step_id, n in counts.items():
            held[step_id] = max(0, held.get(step_id, 0) - n)
            if not worker.draining:
                self.active[step_id, resource] = max(0, self.active[step_id, resource] - n)
            self.spending.settle(step_id, resource, n, (costs or {}).get(step_id, 0.0))

    @property
    def has_ready(self) -> bool:
        return any(n > 0 for n in self.ready.values())


@dataclass(slots=True)
class _Serving:
    """One claim being served."""

    book: Book
    worker: LiveWorker
    free: Capacity
    most: int
    requests: Mapping[int, Capacity]
    taken: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    spent: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def serve(self) -> list[tuple[int, int]]:
        scale = self._scale()
        # The worker counts with what tasks ask for, the plan with what they were seen to use.
        held = self.book.held.get(self.worker.id, {})
        hidden = sum(n * self.book.hidden_bytes.get(step_id, 0) for step_id, n in held.items())
        self.free = self.free.plus(Capacity(cpu=0.0, memory_bytes=hidden), -1)
        if self._pass(lambda share: int(share.hold * scale)):
            self._pass(lambda share: int(share.burst * scale))
        return [(step_id, n) for step_id, n in self.taken.items() if n > 0]

    def _scale(self) -> float:
        """How many times its capacity the worker holds and has room for."""
        if not self.worker.capacity.cpu:
            return 1.0
        held = self.book.held.get(self.worker.id, {})
        busy = sum(self.requests[step_id].cpu * n for step_id, n in held.items() if step_id in self.requests)
        return max(1.0, (self.free.cpu + busy) / self.worker.capacity.cpu)

    def _pass(self, limit_of: Callable[[Share], int]) -> bool:
        """Once over the shares; False if one that must not be overtaken waits for room."""
        for share in self.book.plan.of_resource(self.worker.resource):
            step_id = int(share.group)
            request = self.requests.get(step_id)
            # What is too large for this worker altogether is none of its business.
            if request is None or not request.fits_in(self.worker.capacity):
                continue
            due = self._due(share, limit_of(share))
            fitting = request.copies_in(self.free)
            n = min(due, fitting, self.most)
            if n > 0:
                self._take(step_id, request, n)
            if share.reserve and due > fitting and self._due(share, share.hold) > 0:
                return False
        return True

    def _due(self, share: Share, limit: int) -> int:
        """Tasks that the share may still start here if they fit: ready, within its places and quota, and paid for."""
        step_id, resource = int(share.group), share.resource
        book, taken = self.book, self.taken[step_id]
        if (step_id, resource) in book.late:
            return 0
        return min(
            book.ready.get(step_id, 0) - taken,
            limit - book.active[step_id, resource] - taken,
            self._ahead(step_id) - taken,
            book.quota_left(share) - taken,
            book.spending.copies(step_id, resource, self.spent),
        )

    def _ahead(self, step_id: int) -> int:
        """How many more tasks of a step the worker may hold, running ones included."""
        typical_s = self.book.typical_s(step_id)
        times = _UNKNOWN_TIMES if typical_s is None else 1.0 + _AHEAD_S / max(typical_s, 1e-4)
        places = self.requests[step_id].copies_in(self.worker.capacity)
        return int(places * times) - self.book.held.get(self.worker.id, {}).get(step_id, 0)

    def _take(self, step_id: int, request: Capacity, n: int) -> None:
        self.taken[step_id] += n
        self.most -= n
        self.free = self.free.plus(request, -n)
        for experiment, amount in self.book.spending.cost(step_id, self.worker.resource, n).items():
            self.spent[experiment] += amount
