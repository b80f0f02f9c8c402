"""Our policy: `plan` at every arrival, and claims from its shares in between, by the rules of `scheduler_core.plan`."""

from __future__ import annotations

import time
from dataclasses import replace

from airavata_scheduler.scheduler_core import Limits, Plan, Share, Snapshot, TaskGroup, plan

from .simulator import State

LIMITS = Limits(time_s=5.0, detail_tasks=4000, effort=150_000)
#: Arrivals are counted over the last hour.
RECENT_S = 3600.0


class Ours:
    """Plans when something new is known; `every_s` re-plans while runtimes turn out to differ from the estimates."""

    name = "ours"

    def __init__(self, limits: Limits = LIMITS, every_s: float | None = None) -> None:
        self.limits = limits
        self.plans: list[Plan] = []
        self.solve_s: list[float] = []
        self._seen = 0
        self._every_s = every_s
        self._next_s = 0.0
        self._shares: list[list[tuple[Share, int]]] = []
        self._started: dict[tuple[int, int], int] = {}

    def dispatch(self, state: State) -> None:
        """Plans if there is news, then serves every resource twice over its shares."""
        stale = self._every_s is not None and state.now >= self._next_s
        if state.arrivals != self._seen or stale:
            self._seen = state.arrivals
            self._next_s = state.now + (self._every_s or 0.0)
            self._plan(state)
        for r, shares in enumerate(self._shares):
            if not self._serve(state, r, shares, lambda share: share.hold):
                self._serve(state, r, shares, lambda share: share.burst)

    def _plan(self, state: State) -> None:
        snapshot = observe(state)
        started = time.perf_counter()
        decided = plan(snapshot, state.now, self.limits)
        self.solve_s.append(time.perf_counter() - started)
        self.plans.append(decided)
        place = {g.key: i for i, g in enumerate(state.instance.groups)}
        self._started = {}
        self._shares = [[(s, place[s.group]) for s in decided.of_resource(r.name)] for r in state.instance.resources]

    def _serve(self, state: State, r: int, shares: list[tuple[Share, int]], most: object) -> bool:
        """One pass; True if a share that must not be overtaken stopped it."""
        for share, g in shares:
            held = len(state.running[g][r])
            while held < most(share) and state.ready[g] > 0:  # type: ignore[operator]
                done = self._started.get((g, r), 0)
                if share.quota is not None and done >= share.quota:
                    break
                if not state.start(g, r):
                    if share.reserve and held < share.hold:
                        return True
                    break
                self._started[g, r] = done + 1
                held += 1
        return False


def observe(state: State) -> Snapshot:
    """The snapshot a live service would take of a simulation at this moment."""
    instance = state.instance
    known = [g for g, k in enumerate(state.known) if k and (state.waiting[g] or state.unfinished[g])]
    groups = tuple(_group(state, g) for g in known)
    experiments = tuple(
        replace(e, budget_left=None if e.budget_left is None else state.money_left[e.key])
        for e in instance.experiments
        if state.instance.arrival_s.get(e.key, 0.0) <= state.now + 1e-9
    )
    resources = tuple(replace(r, queue_wait_s=max(0.0, r.queue_wait_s - state.now)) for r in instance.resources)
    return Snapshot(
        groups=groups,
        resources=resources,
        experiments=experiments,
        links=instance.links,
        arrivals_per_s=arrivals_per_s(state),
    )


def arrivals_per_s(state: State) -> float:
    """How often experiments came within the last hour, as the live service counts them: one alone is no stream."""
    instance = state.instance
    seen = sum(state.now - RECENT_S <= at <= state.now + 1e-9 for at in instance.arrival_s.values())
    before = instance.arrivals_per_s * max(0.0, RECENT_S - state.now)
    return max(0.0, seen + before - 1.0) / RECENT_S


def _group(state: State, g: int) -> TaskGroup:
    group = state.instance.groups[g]
    names = [r.name for r in state.instance.resources]
    running = {names[r]: len(ends) for r, ends in enumerate(state.running[g]) if ends}
    left = {
        names[r]: tuple(max(0.0, end - state.now) for end in ends) for r, ends in enumerate(state.running[g]) if ends
    }
    return replace(
        group,
        n_ready=state.ready[g],
        n_blocked=state.waiting[g] - state.ready[g],
        n_running=running,
        running_left_s=left,
    )
