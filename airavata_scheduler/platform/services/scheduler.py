"""`TaskScheduler`: the planning loop, claims from the plan's shares, reports, and what limits are in danger."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from math import log2
from typing import Any

from airavata_scheduler.platform.domain.errors import UnavailableError
from airavata_scheduler.platform.domain.messages import Batch, Launch, Report
from airavata_scheduler.platform.domain.request import Capacity
from airavata_scheduler.platform.domain.states import TERMINAL
from airavata_scheduler.platform.interfaces import DEADLINE_AT_RISK, Alarm
from airavata_scheduler.platform.ports.clock import Clock
from airavata_scheduler.platform.ports.repository import (
    Charge,
    Fence,
    LiveWorker,
    PlanningState,
    ReportOutcome,
    TaskKey,
    TaskStore,
)
from airavata_scheduler.platform.ports.solver import Solver
from airavata_scheduler.platform.ports.storage import Storage
from airavata_scheduler.platform.services.alarms import budget_alarms, deadline_alarms, late_alarms
from airavata_scheduler.platform.services.dispatch import Book
from airavata_scheduler.platform.services.experience import Experience, Prior, StepEstimate, recall
from airavata_scheduler.platform.services.plan_json import explanation_json, plan_json
from airavata_scheduler.platform.services.punctuality import LastStarts, last_starts
from airavata_scheduler.platform.services.reads import bytes_read, read_from
from airavata_scheduler.platform.services.running import Running
from airavata_scheduler.platform.services.second_thoughts import SecondThoughts
from airavata_scheduler.platform.services.snapshot import build_snapshot, planned_requests
from airavata_scheduler.platform.services.spending import Spending, charges, cost_of, prior_s
from airavata_scheduler.platform.services.step_cache import KnownStep, StepCache
from airavata_scheduler.platform.services.waits import busy_now, wanted_now
from airavata_scheduler.scheduler_core import Limits, Plan, PlannerError, Snapshot, explain

_LIMITS = Limits(time_s=0.3)
#: After a solve that was given up: what needs no solver and little time, so that new work is served all the same.
_GREEDY = replace(_LIMITS, solver="greedy", detail_tasks=0)
_DEBOUNCE_S = 0.01
_BUSY_PERIOD_S = 1.0
_IDLE_PERIOD_S = 5.0
#: Time alone is a reason for another plan while there are deadlines.
_DEADLINE_PERIOD_S = 20.0
#: However little seems to have changed, a plan does not stand for longer: whatever was overlooked is seen then.
_LONGEST_PLAN_S = 30.0
_NOTHING = Snapshot(groups=(), resources=(), experiments=())


async def _unheeded(_: Sequence[Alarm]) -> None:
    """Where nobody listens to alarms."""


class TaskSchedulerService:
    """See `interfaces.TaskScheduler`. Everything it keeps can be read anew from the store at any moment.

    ``on_advance`` is called after a commit that another service should look at: manifests to write, experiments ended.
    ``heed`` gets alarms: of a budget at every look until the experiment has stopped, of a deadline once. ``thinker`` is
    the solver of `SecondThoughts`; without it they take turns with the quick plans.
    """

    def __init__(
        self,
        store: TaskStore,
        fence: Fence,
        solver: Solver,
        storage: Storage,
        clock: Clock,
        on_advance: Callable[[ReportOutcome], None] = lambda _: None,
        heed: Callable[[Sequence[Alarm]], Awaitable[None]] = _unheeded,
        thinker: Solver | None = None,
    ) -> None:
        self._store = store
        self._fence = fence
        self._solver = solver
        self._storage = storage
        self._clock = clock
        self._on_advance = on_advance
        self._heed = heed
        self._steps = StepCache(store)
        self._experience = Experience()
        self._running = Running()
        self._book = Book(typical_s=self._experience.typical_s)
        self._charges: dict[str, Charge] = {}
        self._looked = asyncio.Event()
        self._requests: dict[int, Capacity] = {}
        self._dirty = asyncio.Event()
        self._planned = asyncio.Event()
        self._generation: dict[int, int] = {}
        self._claiming: dict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._signature: object = None
        #: What the plan in force was made from, and when.
        self._snapshot, self._planned_at = _NOTHING, 0.0
        self._believed: Mapping[int, StepEstimate] = {}
        self._plan_ends_at = 0.0
        self._last_starts: LastStarts = {}
        self._behind_s = 0.0  #: from our clock to the database's
        self._trouble = ""
        self._spent_quotas = self._book.exhausted()
        self._claimed_meanwhile: list[tuple[int, str, int]] = []
        self._telling: asyncio.Task[None] | None = None
        self._told: set[str] = set()
        self._thoughts = SecondThoughts(thinker or solver, clock, self._refine)

    # ------------------------------------------------------------------------------------------------------ planning

    async def run(self) -> None:
        """The planning loop: looks when something changed, and now and then; never returns."""
        while True:
            delay_s = await self._look()
            try:
                async with asyncio.timeout(delay_s):
                    await self._dirty.wait()
                await self._clock.sleep(_DEBOUNCE_S)
            except TimeoutError:
                pass

    async def _look(self) -> float:
        """Read the state, plan if it differs in kind, wake claims. Seconds until the next look is due."""
        self._dirty.clear()
        self._claimed_meanwhile.clear()
        state = await self._store.planning_state()
        known = await self._known(state)
        estimates = await self._believe(state, known)
        self._book.refresh(state)
        reads = bytes_read(known, self._experience)
        self._book.spending = self._spending(state, known, estimates, reads)
        self._charges = charges(state.resources, reads)
        self._looked.set()
        self._last_starts = last_starts(state, known, estimates)
        self._behind_s = state.now - self._clock.monotonic()
        self._requests = planned_requests(state, known, estimates)
        self._book.hidden_bytes = {
            step_id: request.memory_bytes - known[step_id].step.program.request.memory_bytes
            for step_id, request in self._requests.items()
        }
        self._experience.arrivals.look(state)
        self._running.look(state)
        for resource in state.resources:
            self._experience.waits.load(resource.name, resource.queue_waits)
        self._experience.waits.look(wanted_now(state, self._book.plan), busy_now(state), state.now)
        for gone in [i for i, lock in self._claiming.items() if i not in self._book.workers and not lock.locked()]:
            del self._claiming[gone]
            self._generation.pop(gone, None)
        signature = (_signature(state), _affordable(self._book.spending))
        changed = (signature, self._book.exhausted()) != self._signature or self._experience.drifted(estimates)
        changed = changed or (bool(state.steps) and self._clock.monotonic() > self._plan_ends_at)
        # Without a new plan the old one goes on, and the next look asks again.
        if changed and await self._plan(state, known, estimates):
            self._signature = (signature, self._book.exhausted())
        self._thoughts.look()
        self._wake_claims()
        self._raise_alarms(state, known)
        await self._keep_queue_waits()
        if state.next_retry_at is not None:
            return min(_BUSY_PERIOD_S, max(0.05, state.next_retry_at - state.now))
        return _BUSY_PERIOD_S if state.steps else _IDLE_PERIOD_S

    async def _keep_queue_waits(self) -> None:
        unsaved = self._experience.waits.unsaved()
        if unsaved:
            await self._store.keep_queue_waits(self._fence, unsaved)
            self._experience.waits.saved(unsaved)

    async def _known(self, state: PlanningState) -> Mapping[int, KnownStep]:
        """All open steps, and those whose outputs they read."""
        known = await self._steps.get(step.step_id for step in state.steps)
        return {**known, **await self._steps.get(read_from(known))}

    async def _believe(self, state: PlanningState, known: Mapping[int, KnownStep]) -> dict[int, StepEstimate]:
        """Estimates of all open steps; what an earlier process learnt is read once, in two statements."""
        steps = [step for step in state.steps if step.step_id in known]
        fresh = set(self._experience.unknown(known))
        if fresh:
            idle = {s.step_id for s in steps if s.remaining == s.n and not s.active}
            begun = sorted(fresh - idle)
            attempts = await self._store.attempt_statistics(begun)
            self._experience.load(fresh, attempts, await self._store.output_statistics(begun))
            new = [(s.step_id, s.project, known[s.step_id].step) for s in steps if s.step_id in fresh & idle]
            await recall(self._store, self._experience, new)
        priors = {
            step.step_id: Prior(prior_s(step, compiled, state.resources), compiled.program.request.memory_bytes)
            for step in steps
            for compiled in (known[step.step_id].step,)
        }
        return self._experience.estimates(priors, {resource.name: resource.speed for resource in state.resources})

    def _spending(
        self,
        state: PlanningState,
        known: Mapping[int, KnownStep],
        estimates: Mapping[int, StepEstimate],
        reads: Mapping[int, float],
    ) -> Spending:
        """What was claimed while the database was being read may be missing there: rather counted twice than never."""
        spending = Spending.of(state, known, estimates, reads)
        for step_id, resource, n in self._claimed_meanwhile:
            spending.commit(step_id, resource, n)
        return spending

    async def _plan(
        self, state: PlanningState, known: Mapping[int, KnownStep], estimates: Mapping[int, StepEstimate]
    ) -> bool:
        snapshot = build_snapshot(
            state, known, estimates, self._book.plan, self._book.spending, self._experience, self._running
        )
        try:
            decided = await self._solver.solve(snapshot, state.now, _LIMITS)
            if decided is None:
                decided = await self._solver.solve(snapshot, state.now, _GREEDY)
        except PlannerError as error:
            self._trouble = str(error)
            return False
        if decided is None:
            self._trouble = "the latest solve was given up: it took too long, or its process died"
            return False
        self._book.follow(decided)
        self._experience.planned_with(estimates)
        self._snapshot, self._planned_at, self._trouble = snapshot, state.now, ""
        self._believed = estimates
        self._spent_quotas = self._book.exhausted()
        self._plan_ends_at = self._clock.monotonic() + _LONGEST_PLAN_S
        self._thoughts.consider(snapshot, decided, state.now, known, _LIMITS.detail_tasks)
        return True

    def _refine(self, plan: Plan) -> None:
        """A better plan of the same snapshot."""
        self._book.refine(plan)
        self._spent_quotas = self._book.exhausted()
        self._wake_claims()

    def _raise_alarms(self, state: PlanningState, known: Mapping[int, KnownStep]) -> None:
        """Told in the background: whoever heeds alarms may be away, and the next look raises them again.

        A deadline that is in danger by a quick plan may be met by a better one.
        """
        self._told &= {step.experiment for step in state.steps}
        forecast = self._book.plan if self._thoughts.settled else Plan()
        alarms = [
            *budget_alarms(state, known, self._book.spending),
            *late_alarms(state, known, self._last_starts),
            *(
                alarm
                for alarm in deadline_alarms(self._snapshot, forecast, self._planned_at, known)
                if alarm.experiment not in self._told
            ),
        ]
        if alarms and (self._telling is None or self._telling.done()):
            self._telling = asyncio.get_running_loop().create_task(self._tell(alarms))

    async def _tell(self, alarms: Sequence[Alarm]) -> None:
        try:
            await self._heed(alarms)
        except UnavailableError:
            return
        self._told.update(alarm.experiment for alarm in alarms if alarm.kind == DEADLINE_AT_RISK)

    def _wake_claims(self) -> None:
        self._planned.set()
        self._planned = asyncio.Event()

    async def plan(self) -> Mapping[str, Any]:
        """Plan now, whether or not anything changed."""
        self._signature = None
        await self._look()
        return await self.current_plan()

    async def wake(self) -> None:
        """Look soon."""
        self._dirty.set()

    async def current_plan(self) -> Mapping[str, Any]:
        """Shares, what is unplaced and why, and how the plan was found."""
        waits = self._experience.waits.known()
        return plan_json(self._book.plan, self._snapshot, self._believed, waits, self._trouble)

    async def explain(self, step_id: int) -> Mapping[str, Any]:
        """In a thread: large problems take a moment to compile, and claims must not wait for that."""
        snapshot, plan, planned_at, believed = self._snapshot, self._book.plan, self._planned_at, self._believed
        if not any(group.key == str(step_id) for group in snapshot.groups):
            return {}
        found = await asyncio.to_thread(explain, snapshot, plan, planned_at, str(step_id), _LIMITS)
        return explanation_json(found, snapshot, plan, planned_at, believed, self._experience.waits.known())

    def figures(self) -> tuple[int, float]:
        """Tasks that could start now, and the seconds that the plan in force took."""
        return sum(self._book.ready.values()), self._book.plan.spent_s

    # --------------------------------------------------------------------------------------------- claims and reports

    async def claim(
        self, worker_id: int, free: Capacity, most: int, wait_s: float, held: Sequence[TaskKey] | None = None
    ) -> Batch:
        """See `ports.worker_channel`. A newer claim of the same worker ends an older one that still waits."""
        generation = self._generation[worker_id] = self._generation.get(worker_id, 0) + 1
        if held is not None:
            # Not while an older claim of this worker is being carried out, whose tasks would be lost.
            async with self._claiming[worker_id]:
                await self._store.give_back(worker_id, held)
            self._dirty.set()
        until = self._clock.monotonic() + wait_s
        while True:
            planned = self._planned
            async with self._claiming[worker_id]:
                if self._generation.get(worker_id) != generation:
                    return Batch()
                batch = await self._try_claim(worker_id, free, most)
            left_s = until - self._clock.monotonic()
            if batch.launches or left_s <= 0:
                return batch
            try:
                async with asyncio.timeout(left_s):
                    await planned.wait()
            except TimeoutError:
                return Batch()

    async def _try_claim(self, worker_id: int, free: Capacity, most: int) -> Batch:
        worker = self._book.workers.get(worker_id)
        if worker is None:
            # New, or gone: the next look tells.
            self._dirty.set()
            return Batch()
        now = self._clock.monotonic() + self._behind_s
        self._book.late = frozenset(place for place, last in self._last_starts.items() if last < now)
        wants = self._book.wants(worker, free, most, self._requests)
        if not wants:
            if self._book.exhausted() != self._spent_quotas:
                # Work is left and a quota is used up: another plan need not wait for the next look.
                self._dirty.set()
            return Batch()
        claimed = await self._store.claim(self._fence, worker_id, wants)
        got = Counter(step_id for step_id, _, _ in claimed)
        self._book.claimed(worker, wants, got)
        self._claimed_meanwhile.extend((step_id, worker.resource, n) for step_id, n in got.items())
        return await self._batch(claimed)

    async def _batch(self, claimed: Sequence[TaskKey]) -> Batch:
        known = await self._steps.get({step_id for step_id, _, _ in claimed})
        paths = await self._resolve(claimed, known)
        launches = tuple(
            Launch(
                step_id, index, attempt, {**known[step_id].step.parameters(index), **paths.get((step_id, index), {})}
            )
            for step_id, index, attempt in claimed
        )
        return Batch({step_id: step.program for step_id, step in known.items()}, launches)

    async def _resolve(
        self, claimed: Sequence[TaskKey], known: Mapping[int, KnownStep]
    ) -> dict[tuple[int, int], dict[str, str]]:
        """Paths for parameters that refer to outputs; one statement for the whole batch."""
        wanted: list[tuple[int, int, str, str, tuple[int, int]]] = []
        paths: dict[tuple[int, int], dict[str, str]] = {}
        for step_id, index, _ in claimed:
            step = known[step_id]
            for parameter, reference in step.step.references.items():
                if reference.mode == "gather":
                    paths.setdefault((step_id, index), {})[parameter] = self._path(step.manifest_key(parameter))
                else:
                    upstream = index // step.step.fan_out if reference.mode == "foreach" else 0
                    source = (step.upstream(reference.step), upstream)
                    wanted.append((step_id, index, parameter, reference.output, source))
        keys = await self._store.output_keys(sorted({source for *_, source in wanted}))
        for step_id, index, parameter, output, source in wanted:
            paths.setdefault((step_id, index), {})[parameter] = self._path(keys[source][output])
        return paths

    def _path(self, key: str) -> str:
        path = self._storage.local_path(key)
        return path if path is not None else key

    async def report(self, worker_id: int, reports: Sequence[Report]) -> list[TaskKey]:
        """Record what became of attempts; see `ports.worker_channel`.

        Waits for the first look, without which prices are unknown. Who reports may be a worker whose lease is past.
        """
        await self._looked.wait()
        known = await self._steps.get({report.step_id for report in reports})
        valid = [report for report in reports if report.step_id in known]
        worker = self._book.workers.get(worker_id)
        resource = worker.resource if worker else await self._store.resource_of(worker_id)
        outcome = await self._store.report(
            worker_id,
            valid,
            {step_id: step.context for step_id, step in known.items()},
            self._charges.get(resource, Charge(0.0, 0.0)),
        )
        if worker is not None:
            self._count(worker, valid, known, outcome)
        gone = [r[:3] for r in reports if r.step_id not in known]
        return [*outcome.stale, *gone]

    def _count(
        self,
        worker: LiveWorker,
        reports: Sequence[Report],
        known: Mapping[int, KnownStep],
        outcome: ReportOutcome,
    ) -> None:
        stale = set(outcome.stale)
        self._running.heard(worker.id, (r for r in reports if r[:3] not in stale))
        ended = [r for r in reports if r.state in TERMINAL and r[:3] not in stale]
        charge = self._charges.get(worker.resource, Charge(0.0, 0.0))
        walls: dict[int, float] = defaultdict(float)
        for report in ended:
            walls[report.step_id] += report.wall_s
        costs = {step_id: cost_of(known[step_id].step, charge, wall_s) for step_id, wall_s in walls.items()}
        if charge.to_start:
            for step_id, n in Counter(report.step_id for report in ended if report.started_at).items():
                costs[step_id] += n * charge.to_start.get(step_id, 0.0)
        self._book.ended(worker, Counter(report.step_id for report in ended), costs)
        self._experience.add(worker.resource, ended)
        if outcome.released or outcome.finished:
            self._dirty.set()
        if outcome.manifests_due or outcome.finished:
            self._on_advance(outcome)
        if ended and self._book.has_ready:
            self._wake_claims()


def _signature(state: PlanningState) -> object:
    """What a plan depends on, coarsely: a plan stays good while only numbers shrink."""
    return (
        tuple(
            (s.step_id, _magnitude(s.ready), s.priority, s.deadline, s.budget is None or s.cost >= s.budget)
            for s in state.steps
        ),
        tuple((w.id, w.draining, w.capacity.cpu) for w in state.workers),
        tuple(replace(resource, queue_waits={}) for resource in state.resources),
        int(state.now / _DEADLINE_PERIOD_S) if any(step.deadline is not None for step in state.steps) else 0,
    )


def _affordable(spending: Spending) -> object:
    """Coarsely, for how many tasks the money of each experiment is enough."""
    return tuple(
        (step_id, resource, round(log2(1 + max(0.0, spending.left[spending.owner[step_id]]) / price)))
        for (step_id, resource), price in spending.price.items()
        if price > 0
    )


def _magnitude(n: int) -> int:
    return n.bit_length()
