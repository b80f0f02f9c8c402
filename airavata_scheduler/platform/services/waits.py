"""How long resources keep work waiting, from when a plan wants something started there until the first start; how often
new work comes. Pure.

Two waits are told apart. With a live worker it is the time a claim and a start take; without one it is how long it
takes until somebody, or something, brings a worker. Times are the database's, starts by the worker's own clock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from math import exp

from airavata_scheduler.platform.ports.repository import PlanningState, QueueWaitsSeen
from airavata_scheduler.scheduler_core import Cause, Estimate, Observed, Plan, estimate

#: Taken for a live worker before anything was seen, in seconds.
_LIVE_PRIOR_S = 0.05
_RECENT_S = 3600.0
#: With a live worker, or without.
_NAMES = {True: "live", False: "none"}


class QueueWaits:
    """Waits by resource; each is observed once, at the first start after it began.

    What is `unsaved` has to be stored by whoever can, and is handed back to `load` after a restart.
    """

    def __init__(self) -> None:
        self._since: dict[str, tuple[float, bool]] = {}
        self._seen: dict[tuple[str, bool], Observed] = {}
        self._changed: set[str] = set()

    def load(self, resource: str, stored: QueueWaitsSeen) -> None:
        """Take what an earlier process saw; what was seen since counts for more than it."""
        for live, name in _NAMES.items():
            if name in stored and (resource, live) not in self._seen:
                sums = stored[name]
                self._seen[resource, live] = Observed(int(sums["n"]), sums["total"], sums["squares"], sums["largest"])

    def unsaved(self) -> dict[str, QueueWaitsSeen]:
        """Everything known of the resources of which something new was seen since `saved`."""
        return {
            resource: {
                name: asdict(self._seen[resource, live])
                for live, name in _NAMES.items()
                if (resource, live) in self._seen
            }
            for resource in sorted(self._changed)
        }

    def saved(self, resources: Collection[str]) -> None:
        """These are stored."""
        self._changed.difference_update(resources)

    def look(self, wanted: Mapping[str, bool], busy: Collection[str], now: float) -> None:
        """Begin waits where nothing runs, and drop those where nothing is wanted any more.

        ``wanted``: where a plan wants tasks started, and whether there is a live worker; ``busy``: where some run.
        """
        for name in [name for name in self._since if name not in wanted and name not in busy]:
            del self._since[name]
        for name, live in wanted.items():
            if name not in busy:
                self._since.setdefault(name, (now, live))

    def started(self, resource: str, at: float) -> None:
        """A task started on a resource; starts from before the wait began say nothing about it."""
        begun = self._since.get(resource)
        if begun is not None and at >= begun[0]:
            del self._since[resource]
            key = (resource, begun[1])
            self._seen[key] = self._seen.get(key, Observed()).plus([at - begun[0]])
            self._changed.add(resource)

    def known(self) -> dict[str, dict[bool, Estimate]]:
        """Resource -> (with a live worker or without) -> what was seen."""
        found: dict[str, dict[bool, Estimate]] = {}
        for resource, live in sorted(self._seen):
            wait = self.estimate(resource, live=live)
            if wait is not None:
                found.setdefault(resource, {})[live] = wait
        return found

    def estimate(self, resource: str, *, live: bool) -> Estimate | None:
        """Seconds from wanted to started; None before the first time."""
        seen = self._seen.get((resource, live))
        if seen is None:
            return None
        return estimate(seen, _LIVE_PRIOR_S if live else max(exp(seen.total / seen.n), 1e-3))


class Arrivals:
    """How often new experiments come, from those that were submitted within the last hour."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}

    def look(self, state: PlanningState) -> None:
        """Notice new experiments, and forget old ones."""
        self._at |= {step.experiment: step.submitted_at for step in state.steps}
        self._at = {key: at for key, at in self._at.items() if at >= state.now - _RECENT_S}

    @property
    def per_s(self) -> float:
        """One experiment alone is no stream of them."""
        return max(0, len(self._at) - 1) / _RECENT_S


def wanted_now(state: PlanningState, plan: Plan) -> dict[str, bool]:
    """Where the plan in force wants tasks started, or workers: resource -> whether it has a live worker."""
    ready = {str(step.step_id) for step in state.steps if step.ready > 0}
    enabled = {resource.name for resource in state.resources if resource.enabled}
    named = {share.resource for share in plan.shares if share.places > 0 and share.group in ready}
    named |= {target.resource for target in plan.targets if target.start > 0}
    named |= {
        reason.resource
        for left in plan.unplaced
        if left.group in ready
        for reason in left.reasons
        if reason.cause is Cause.CUT_OFF
    }
    live = {worker.resource for worker in state.workers if not worker.draining}
    return {name: name in live for name in named & enabled}


def busy_now(state: PlanningState) -> set[str]:
    """Resources on whose workers some task is."""
    names = {resource.id: resource.name for resource in state.resources}
    return {names[resource_id] for step in state.steps for resource_id, n in step.active.items() if n > 0}
