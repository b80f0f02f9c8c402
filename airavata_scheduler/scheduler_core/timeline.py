"""Scripts made task by task: each goes to the cheapest place that still ends by a horizon, else where it ends first.

With the horizon at zero this is HEFT (earliest finish, by upward rank), with the horizon at infinity cheapest-first.
"""

from __future__ import annotations

from bisect import insort
from math import inf

from .problem import EPSILON
from .rehearsal import Cast, Script


class _Timeline:
    """When a pool can take the next task, if tasks are appended in order."""

    def __init__(self, capacity: tuple[float, ...], opens_s: float) -> None:
        self.free = list(capacity)
        self.opens_s = opens_s
        self.ends: list[tuple[float, tuple[float, ...]]] = []

    def earliest(self, request: tuple[float, ...], ready_s: float) -> float:
        """The first time from `ready_s` on when a request fits; infinite if it never does."""
        free, at = self.free[:], max(self.opens_s, ready_s)
        for end, held in self.ends:
            if end > at and all(a <= f + EPSILON * max(1.0, a) for a, f in zip(request, free, strict=True)):
                return at
            at = max(at, end)
            free = [f + h for f, h in zip(free, held, strict=True)]
        fits = all(a <= f + EPSILON * max(1.0, a) for a, f in zip(request, free, strict=True))
        return at if fits else inf

    def book(self, request: tuple[float, ...], start_s: float, end_s: float) -> None:
        """Takes a request's part from its start to its end; what ended before the start is given back."""
        while self.ends and self.ends[0][0] <= start_s + EPSILON:
            end, held = self.ends.pop(0)
            self.opens_s = max(self.opens_s, end)
            self.free = [f + h for f, h in zip(self.free, held, strict=True)]
        self.free = [f - a for f, a in zip(self.free, request, strict=True)]
        insort(self.ends, (end_s, request))


def compose(who: Cast, order: list[int], horizon_s: float, name: str, *, thrifty: bool = True) -> Script:
    """A script of earliest finishes in `order`, preferring the cheapest place that ends by the horizon.

    Of places that end at the same moment it takes the cheapest, or the first if it is not to be `thrifty`.
    """
    pools = range(len(who.capacity))
    lines = [_Timeline(who.capacity[p], who.wait[p]) for p in pools]
    for task in who.problem.running:
        lines[task.pool].book(task.request, 0.0, task.left_s)
    quota = [[0] * len(who.capacity) for _ in who.size]
    money = who.problem.budget.tolist()
    least = [
        min((m for m, ok in zip(who.money[g], who.allowed[g], strict=True) if ok), default=0.0)
        for g in range(len(who.size))
    ]
    needed = [0.0] * len(money)
    for g, n in enumerate(who.size):
        needed[who.experiment[g]] += n * least[g]
    ends: dict[int, float] = {}
    for g in order:
        e = who.experiment[g]
        ready = max([who.released_s[g], *(ends.get(parent, 0.0) for parent in who.parents[g])])
        options = [p for p in pools if who.allowed[g][p]]
        starts = {p: lines[p].earliest(who.request[g], ready) for p in options}
        limit = min(horizon_s - who.rank_s[g], who.due_s[g])
        for _ in range(who.size[g]):
            needed[e] -= least[g]
            spare = money[e] - max(needed[e], 0.0) + EPSILON
            best, best_key = -1, (inf, inf, inf)
            for p in options:
                end = starts[p] + who.hold[g][p]
                if who.money[g][p] <= spare and starts[p] < inf and end <= who.until_s[g][p] + EPSILON:
                    key = (0.0, who.cell[g][p], end) if end <= limit else (1.0, end, who.cell[g][p] if thrifty else 0.0)
                    if key < best_key:
                        best, best_key = p, key
            if best < 0:
                break
            end = starts[best] + who.hold[g][best]
            lines[best].book(who.request[g], starts[best], end)
            starts[best] = lines[best].earliest(who.request[g], ready)
            quota[g][best] += 1
            money[e] -= who.money[g][best]
            ends[who.index[g]] = max(ends.get(who.index[g], 0.0), end)
    return Script(quota, order, name)
