"""The baselines: what people use, each as well as its idea allows.

Immediate policies look at ready tasks in some order and put each on the best resource *with room*, by some score; they
never leave a resource idle that could take a task. Static ones decide once, when an experiment arrives.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from .simulator import Policy, State

Score = Callable[[State, int, int], tuple[float, ...]]
Order = Callable[[State, int], tuple[float, ...]]


class Immediate:
    """Ready groups in order; each task goes where the score is least among the resources with room."""

    def __init__(self, name: str, order: Order, score: Score) -> None:
        self.name = name
        self._order = order
        self._score = score

    def dispatch(self, state: State) -> None:
        """Starts tasks until nothing fits."""
        groups = [g for g, n in enumerate(state.ready) if n > 0]
        for g in sorted(groups, key=lambda g: (*self._order(state, g), g)):
            while state.ready[g] > 0:
                room = [r for r in range(len(state.free)) if state.fits(g, r)]
                if not room:
                    break
                state.start(g, min(room, key=lambda r: (*self._score(state, g, r), r)))


class RoundRobin:
    """Resources in turn, skipping those without room."""

    name = "round-robin"

    def __init__(self) -> None:
        self._next = 0

    def dispatch(self, state: State) -> None:
        """Starts tasks until nothing fits."""
        n = len(state.free)
        for g in range(len(state.ready)):
            while state.ready[g] > 0:
                turn = next((k for k in range(n) if state.fits(g, (self._next + k) % n)), None)
                if turn is None:
                    break
                state.start(g, (self._next + turn) % n)
                self._next = (self._next + turn + 1) % n


class CostOnly:
    """Every task where it costs least, waiting for that place if need be; equal prices by load."""

    name = "cost-only"

    def dispatch(self, state: State) -> None:
        """Starts what fits at its cheapest place."""
        for g in range(len(state.ready)):
            row = state.charge[g]
            least = min((c.money for c in row if c.possible), default=0.0)
            places = [r for r, c in enumerate(row) if c.possible and c.money <= least * (1 + 1e-9) + 1e-12]
            while state.ready[g] > 0:
                room = [r for r in places if state.fits(g, r)]
                if not room:
                    break
                state.start(g, min(room, key=lambda r: (row[r].hold_s, r)))


class Heft:
    """Heterogeneous earliest finish time: groups by upward rank, each task where it would end first.

    The rank is the mean time over the resources plus the longest chain that follows. Slots are booked by time.
    """

    name = "heft"

    def __init__(self) -> None:
        self._seen = 0
        self._queue: list[list[int]] = []
        self._booked: list[list[tuple[float, int]]] = []

    def dispatch(self, state: State) -> None:
        """Books what arrived, then starts each resource's bookings in order."""
        if state.arrivals != self._seen:
            self._seen = state.arrivals
            self._book(state)
        for r, queue in enumerate(self._queue):
            self._queue[r] = [g for g in queue if not state.start(g, r)]

    def _book(self, state: State) -> None:
        groups = [g for g, known in enumerate(state.known) if known and state.waiting[g] > 0]
        lines = [_Line(state, r) for r in range(len(state.free))]
        for g, row in enumerate(state.running):
            for r, ends in enumerate(row):
                for until in ends:
                    lines[r].hold(g, state.now, until)
        self._queue = [[] for _ in state.free]
        rank = {g: _mean_hold(state, g) + state.instance.groups[g].rank_s for g in groups}
        last: dict[str, float] = {}
        spare = _spare(state)
        for g in sorted(groups, key=lambda g: (-rank[g], g)):
            group = state.instance.groups[g]
            ready = max([last.get(k, state.now) for k in group.after], default=state.now)
            least = min((c.money for c in state.charge[g] if c.possible), default=0.0)
            for _ in range(state.waiting[g]):
                spare[group.experiment] += least
                options = [
                    r
                    for r, charge in enumerate(state.charge[g])
                    if charge.possible and charge.money <= spare[group.experiment] + 1e-9
                ]
                if not options:
                    break
                starts = {r: lines[r].earliest(state, g, ready) for r in options}
                best = min(options, key=lambda r: (starts[r] + state.charge[g][r].hold_s, r))
                spare[group.experiment] -= state.charge[g][best].money
                end = starts[best] + state.charge[g][best].hold_s
                lines[best].hold(g, starts[best], end)
                self._queue[best].append(g)
                last[group.key] = max(last.get(group.key, 0.0), end)


def _spare(state: State) -> dict[str, float]:
    """Money of each experiment beyond what all of its waiting tasks cost at their cheapest."""
    spare = dict(state.money_left)
    for g, group in enumerate(state.instance.groups):
        least = min((c.money for c in state.charge[g] if c.possible), default=0.0)
        spare[group.experiment] -= least * state.waiting[g]
    return spare


class _Line:
    """The bookings of one resource, none of which starts before the latest that had to wait."""

    def __init__(self, state: State, resource: int) -> None:
        self._capacity = state.instance.resources[resource].capacity
        self._opens = max(state.now, state.instance.resources[resource].queue_wait_s)
        self._ends: list[tuple[float, int]] = []

    def hold(self, group: int, start: float, end: float) -> None:
        """Books a task of a group; what has ended by its start is forgotten, and with it the time before."""
        gone = [until for until, _ in self._ends if until <= start]
        self._opens = max([self._opens, *gone])
        self._ends = sorted([*self._ends[len(gone) :], (end, group)])

    def earliest(self, state: State, group: int, ready: float) -> float:
        """When a task of a group could start, after the bookings made so far."""
        at, free = max(ready, self._opens), dict(self._capacity)
        for _, other in self._ends:
            _add(free, state, other, -1.0)
        for end, other in self._ends:
            if end > at and _fits(free, state, group):
                break
            at = max(at, end)
            _add(free, state, other, 1.0)
        return at


def _add(free: dict[str, float], state: State, group: int, sign: float) -> None:
    g = state.instance.groups[group]
    for name, amount in g.request.items():
        free[name] += sign * amount * g.nodes


def _fits(free: dict[str, float], state: State, group: int) -> bool:
    g = state.instance.groups[group]
    return all(v * g.nodes <= free.get(k, 0.0) + 1e-9 * max(1.0, v) for k, v in g.request.items())


def _mean_hold(state: State, g: int) -> float:
    holds = [c.hold_s for c in state.charge[g] if c.possible]
    return sum(holds) / len(holds) if holds else 0.0


def _by_arrival(state: State, g: int) -> tuple[float, ...]:
    return (state.instance.arrival_s.get(state.instance.groups[g].experiment, 0.0),)


def _by_deadline(state: State, g: int) -> tuple[float, ...]:
    deadline = state.experiment[state.instance.groups[g].experiment].deadline_at_s
    return (float("inf") if deadline is None else deadline,)


def _load(state: State, r: int) -> float:
    return float(sum(len(row[r]) for row in state.running))


def _upstream(state: State, g: int, r: int) -> tuple[float, ...]:
    local = 1.0 if state.charge[g][r].moved_bytes == 0 else 0.0
    return (-(0.6 * local + 0.4 / (_load(state, r) + 1.0)),)


def baselines(seed: int) -> list[Policy]:
    """Fresh instances of every baseline."""
    dice = random.Random(f"policy {seed}")  # noqa: S311 - seeded on purpose, no secret
    return [
        Immediate("random", _by_arrival, lambda _state, _group, _resource: (dice.random(),)),
        RoundRobin(),
        Immediate("cheapest-first", _by_arrival, lambda s, g, r: (s.charge[g][r].money, s.charge[g][r].hold_s)),
        Immediate("earliest-deadline-first", _by_deadline, lambda s, g, r: (s.charge[g][r].hold_s,)),
        Immediate("data-local-first", _by_arrival, lambda s, g, r: (s.charge[g][r].moved_bytes, s.charge[g][r].hold_s)),
        Heft(),
        CostOnly(),
        Immediate("upstream", _by_arrival, _upstream),
    ]
