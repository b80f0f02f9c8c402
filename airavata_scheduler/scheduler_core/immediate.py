"""Scripts of whoever never looks ahead: when a place is free, the next ready task takes the best one there is.

Simple, and sometimes hard to beat: nothing idles that could work, and nobody waits for a place that would be cheaper.
What such a policy would do is played once; the script keeps where its tasks went.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from math import inf

from .problem import EPSILON, Floats
from .rehearsal import Cast, Script, copies_free

Score = Callable[[int, int], float]  #: (group, pool) -> less is better


def immediate_scripts(who: Cast, orders: Sequence[tuple[str, list[int]]], near: Floats) -> list[Script]:
    """Each order with the quickest, the cheapest, only the cheapest and only the planned places.

    `near` (C, P) is how much worse a place is than what the solver chose. Nobody is kept from overtaking.
    """
    cheapest = [
        min((c for c, ok in zip(*row, strict=True) if ok), default=inf)
        for row in zip(who.cell, who.allowed, strict=True)
    ]

    def only_cheapest(g: int, p: int) -> float:
        return who.hold[g][p] if who.cell[g][p] <= cheapest[g] + EPSILON * abs(cheapest[g]) else inf

    good = (near <= EPSILON).tolist()

    def only_planned(g: int, p: int) -> float:
        return who.hold[g][p] if good[who.row[g]][p] else inf

    scores: dict[str, Score] = {
        "only planned": only_planned,
        "quickest": lambda g, p: who.hold[g][p],
        "cheapest": lambda g, p: who.cell[g][p],
        "only cheapest": only_cheapest,
    }
    return [
        _Play(who, score).script(order, f"at once {what}/{by}")
        for by, order in orders
        for what, score in scores.items()
    ]


def at_once_quickest(who: Cast, order: list[int]) -> Script:
    """Who is first in the order takes the quickest free place; by deadline this is earliest deadline first."""
    return _Play(who, lambda g, p: who.hold[g][p]).script(order, "at once quickest")


class _Play:
    """One such policy on a virtual clock."""

    def __init__(self, who: Cast, score: Score) -> None:
        self.who = who
        pools = range(len(who.capacity))
        self.ranked = [
            sorted((p for p in pools if who.allowed[g][p] and score(g, p) < inf), key=lambda p: (score(g, p), p))
            for g in range(len(who.size))
        ]
        self.free = [list(capacity) for capacity in who.capacity]
        self.open = [wait <= 0 for wait in who.wait]
        self.ready = [n - b for n, b in zip(who.size, who.blocked, strict=True)]
        self.unfinished = who.unfinished[:]
        self.quota = [[0] * len(who.capacity) for _ in who.size]
        self.money = who.problem.budget.tolist()
        least = [
            min((m for m, ok in zip(*row, strict=True) if ok), default=0.0)
            for row in zip(who.money, who.allowed, strict=True)
        ]
        self.least = least
        self.needed = [0.0] * len(self.money)
        for g, n in enumerate(who.size):
            self.needed[who.experiment[g]] += n * least[g]
        self.events: list[tuple[float, int, int, int, int]] = []
        self.sequence = 0

    def script(self, order: list[int], name: str) -> Script:
        """Plays to the end; what never found a place is in no quota."""
        for p, wait in enumerate(self.who.wait):
            if wait > 0:
                self._push(wait, -1, p, 1)
        for i, task in enumerate(self.who.problem.running):
            self._take(task.pool, task.request, -1)
            self._push(task.left_s, -2 - i, task.pool, 1)
        self._serve(order, 0.0, set(range(len(self.free))), set(order))
        while self.events:
            at = self.events[0][0]
            touched: set[int] = set()
            fresh: set[int] = set()
            while self.events and self.events[0][0] <= at + EPSILON:
                _, _, g, p, n = heappop(self.events)
                touched.add(p)
                self._end(g, p, n, fresh)
            self._serve(order, at, touched, fresh)
        return Script(self.quota, order, name, strict=False)

    def _push(self, at: float, g: int, p: int, n: int) -> None:
        self.sequence += 1
        heappush(self.events, (at, self.sequence, g, p, n))

    def _take(self, p: int, request: Sequence[float], times: int) -> None:
        free = self.free[p]
        for d, amount in enumerate(request):
            free[d] += times * amount

    def _end(self, g: int, p: int, n: int, fresh: set[int]) -> None:
        """N tasks of a group end; `fresh` gets the groups that have new ready tasks."""
        who = self.who
        if g == -1:
            self.open[p] = True
            return
        if g < -1:
            task = who.problem.running[-2 - g]
            self._take(p, task.request, 1)
            index = task.group
        else:
            self._take(p, who.request[g], n)
            index = who.index[g]
        self.unfinished[index] -= n
        for child in who.children.get(index, ()):
            self.ready[child] += who.freed(child, n, self.unfinished)
            fresh.add(child)

    def _serve(self, order: list[int], at: float, touched: set[int], fresh: set[int]) -> None:
        """Starts what fits; where nothing changed for a group, only pools that had a change can take it."""
        roomy = {p for p, free in enumerate(self.free) if self.open[p] and not self.who.is_full(free)}
        for g in order:
            if not roomy:
                break
            if self.ready[g] <= 0:
                continue
            for p in self.ranked[g]:
                if p in roomy and (p in touched or g in fresh):
                    self._start(g, p, at)
                    if self.who.is_full(self.free[p]):
                        roomy.discard(p)

    def _start(self, g: int, p: int, at: float) -> None:
        """As many tasks of a group on a pool as are ready, fit and can be paid for."""
        who, end = self.who, at + self.who.hold[g][p]
        if end > who.until_s[g][p] + EPSILON:
            return
        n = min(self.ready[g], copies_free(who.request[g], self.free[p]), self._paid(g, p))
        if n > 0:
            self._take(p, who.request[g], -n)
            self.quota[g][p] += n
            self.ready[g] -= n
            self.money[who.experiment[g]] -= n * who.money[g][p]
            self.needed[who.experiment[g]] -= n * self.least[g]
            self._push(end, g, p, n)

    def _paid(self, g: int, p: int) -> int:
        """Tasks that can be paid for: beyond what all others need, or while money lasts if it is too little for all."""
        e, price = self.who.experiment[g], self.who.money[g][p]
        if price <= 0 or self.money[e] == inf:
            return self.ready[g]
        spare, extra = self.money[e] - self.needed[e], price - self.least[g]
        if spare >= 0:
            return self.ready[g] if extra <= 0 else int((spare + EPSILON) / extra)
        return int((self.money[e] + EPSILON) / price)
