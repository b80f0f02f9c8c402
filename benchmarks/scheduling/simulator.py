"""An event simulator on a virtual clock: runs any policy on any instance and scores what came out.

A policy is asked whenever something changed (start, arrival, end of a task, opening of a resource) and starts tasks
through `State.start`, which refuses what breaks a rule: capacity, predecessors, budgets. Budgets are guarded the same
way for every policy: a task may start where it leaves enough money to run all others at their cheapest.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf
from typing import Protocol

from airavata_scheduler.scheduler_core import Experiment

from .instance import Instance
from .model import Charge, charges

_EPSILON = 1e-9
#: An unplaced task counts as if its experiment ended this much later, in seconds.
UNPLACED_S = 1e5


class Policy(Protocol):
    """Decides what starts now."""

    name: str

    def dispatch(self, state: State) -> None:
        """Starts whatever should start at `state.now`."""
        ...


@dataclass(slots=True)
class Score:
    """What came out; times in seconds, money in the instance's currency."""

    objective: float
    cost: float
    makespan_s: float
    missed: int
    moved_bytes: float
    unplaced: int


class State:
    """What a policy sees and may do at one moment. `error` is the relative runtime error (0: none)."""

    def __init__(self, instance: Instance, error: float, seed: int) -> None:
        self.instance = instance
        self.charge: list[list[Charge]] = charges(instance)
        self.now = 0.0
        self.free = [dict(r.capacity) for r in instance.resources]
        self.open = [r.queue_wait_s <= 0 for r in instance.resources]
        self.waiting = [g.n_ready + g.n_blocked for g in instance.groups]
        self.unfinished = self.waiting[:]
        self.ready = [0] * len(instance.groups)
        self.known = [False] * len(instance.groups)
        self.running: list[list[list[float]]] = [[[] for _ in instance.resources] for _ in instance.groups]
        self.arrivals = 0
        self.cost = dict.fromkeys((e.key for e in instance.experiments), 0.0)
        self.finish = dict.fromkeys(self.cost, 0.0)
        self.missed = 0
        self.moved_bytes = 0.0
        self.transfer_s = dict.fromkeys(self.cost, 0.0)
        # The same tasks take the same time whatever the policy, so that only decisions differ.
        self._noise = [random.Random(f"runtimes {seed} {g}") for g in range(len(instance.groups))]  # noqa: S311 - seeded
        self._error = error
        self._events: list[tuple[float, int, str, int, int]] = []
        self._count = 0
        self._place = {g.key: i for i, g in enumerate(instance.groups)}
        self._parents = [[self._place[k] for k in g.after if k in self._place] for g in instance.groups]
        self._children: list[list[int]] = [[] for _ in instance.groups]
        for g, parents in enumerate(self._parents):
            for parent in parents:
                self._children[parent].append(g)
        self.experiment: dict[str, Experiment] = {e.key: e for e in instance.experiments}
        self.money_left = {e.key: inf if e.budget_left is None else e.budget_left for e in instance.experiments}
        self._least = [min((c.money for c in row if c.possible), default=0.0) for row in self.charge]
        self._needed = dict.fromkeys(self.cost, 0.0)
        for g, group in enumerate(instance.groups):
            self._needed[group.experiment] += self.waiting[g] * self._least[g]

    def fits(self, group: int, resource: int) -> bool:
        """Whether one more task of a group may start on a resource now."""
        if not self.open[resource] or self.ready[group] <= 0 or not self.charge[group][resource].possible:
            return False
        g, free = self.instance.groups[group], self.free[resource]
        if any(v * g.nodes > free.get(k, 0.0) + _EPSILON * max(1.0, v) for k, v in g.request.items()):
            return False
        return self.affordable(group, resource)

    def affordable(self, group: int, resource: int) -> bool:
        """Whether the rest of the experiment can still be paid for after a task of a group here."""
        experiment = self.instance.groups[group].experiment
        needed = self._needed[experiment] - self._least[group]
        return self.charge[group][resource].money <= self.money_left[experiment] - needed + 1e-9

    def start(self, group: int, resource: int) -> bool:
        """Starts one task; False if the rules refuse it."""
        if not self.fits(group, resource):
            return False
        g, charge = self.instance.groups[group], self.charge[group][resource]
        for name, amount in g.request.items():
            self.free[resource][name] -= amount * g.nodes
        factor = 1.0 + self._error * self._noise[group].uniform(-1.0, 1.0) if self._error else 1.0
        hold_s = charge.run_s * factor + charge.transfer_s
        self.ready[group] -= 1
        self.waiting[group] -= 1
        self._needed[g.experiment] -= self._least[group]
        self.money_left[g.experiment] -= charge.money
        self.cost[g.experiment] += hold_s / 3600.0 * charge.hourly + charge.egress
        self.moved_bytes += charge.moved_bytes
        self.transfer_s[g.experiment] += charge.transfer_s
        self.running[group][resource].append(self.now + charge.hold_s)
        self._push(self.now + hold_s, "end", group, resource)
        return True

    def run(self, policy: Policy) -> Score:
        """Plays the instance to its end and scores it."""
        for e in self.instance.experiments:
            self._push(self.instance.arrival_s.get(e.key, 0.0), e.key, -1, -1)
        for r, place in enumerate(self.instance.resources):
            if place.queue_wait_s > 0:
                self._push(place.queue_wait_s, "open", -1, r)
        while self._events:
            self.now = self._events[0][0]
            while self._events and self._events[0][0] <= self.now + _EPSILON:
                _, _, kind, group, resource = heappop(self._events)
                if kind == "end":
                    self._end(group, resource)
                elif kind == "open":
                    self.open[resource] = True
                else:
                    self.arrive(kind)
            policy.dispatch(self)
        return self._score()

    def _push(self, at: float, kind: str, group: int, resource: int) -> None:
        self._count += 1
        heappush(self._events, (at, self._count, kind, group, resource))

    def arrive(self, experiment: str) -> None:
        """Makes an experiment known: its groups without predecessors become ready."""
        self.arrivals += 1
        for g, group in enumerate(self.instance.groups):
            if group.experiment == experiment:
                self.known[g] = True
                self.ready[g] += self.waiting[g] if not self._parents[g] else 0

    def _end(self, group: int, resource: int) -> None:
        g = self.instance.groups[group]
        for name, amount in g.request.items():
            self.free[resource][name] += amount * g.nodes
        self.running[group][resource].pop(0)
        self.unfinished[group] -= 1
        self.finish[g.experiment] = max(self.finish[g.experiment], self.now)
        deadline = self.experiment[g.experiment].deadline_at_s
        self.missed += deadline is not None and self.now > deadline + 1e-6
        for child in self._children[group]:
            same = len(self._parents[child]) == 1 and self._size(child) == self._size(group)
            if same:
                self.ready[child] += 1
            elif not any(self.unfinished[p] for p in self._parents[child]):
                self.ready[child] += self.waiting[child]

    def _size(self, group: int) -> int:
        g = self.instance.groups[group]
        return g.n_ready + g.n_blocked

    def _score(self) -> Score:
        total = 0.0
        unplaced = sum(self.waiting)
        for key, experiment in self.experiment.items():
            w = experiment.weights
            total += w.time * (self.finish[key] - self.instance.arrival_s.get(key, 0.0))
            total += w.cost * w.seconds_per_money * self.cost[key] + w.locality * self.transfer_s[key]
            if experiment.deadline_at_s is not None:
                total += w.deadline * max(0.0, self.finish[key] - experiment.deadline_at_s)
        return Score(
            objective=total + unplaced * UNPLACED_S,
            cost=sum(self.cost.values()),
            makespan_s=max(self.finish.values(), default=0.0),
            missed=self.missed,
            moved_bytes=self.moved_bytes,
            unplaced=unplaced,
        )
