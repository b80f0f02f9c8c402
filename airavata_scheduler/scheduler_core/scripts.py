"""Scripts worth rehearsing, and making the best one better.

A script is made group by group in some order, each task going where its cost plus the price of its finish is least:
with the horizon at zero this is HEFT (earliest finish, by upward rank), with the horizon at infinity it is
cheapest-first, and between the two it is *the cheapest place that still ends by the horizon*. The relaxed optimum of
the ladder gives one more script, or several with other prices. The best of them is improved by moving tasks away from
the pool that ends last.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import inf

import numpy as np

from .immediate import at_once_quickest, immediate_scripts
from .problem import EPSILON, Floats
from .rehearsal import Cast, Outcome, Script, Tried, judge, late_tasks, rehearse, rehearsed
from .reorder import reorder
from .timeline import compose

_CRITICAL_POOLS = 2
_LAST_GROUPS = 3
_TARGETS = 5
_SAVINGS = 40
_OVERHEAD = 20
#: Horizons are tried as these parts of the solver's own finish; zero is earliest finish, infinity cheapest.
_HORIZONS = (0.95, 1.0, 1.03, 1.1, 1.25, 1.6, 2.5)
_BEST_ORDERS = 2
#: Orders in which those who never look ahead are played.
_AT_ONCE = ("deadline", "due", "given")
#: Scripts are tried while the tasks in them are fewer than this many times the effort.
_TRIES = 2
#: So many scripts are improved, the most promising first, while effort is left.
_IMPROVED = 6


def orders(who: Cast) -> dict[str, list[int]]:
    """Ways to line the groups up: each respects levels first, and predecessors before successors."""
    groups = range(len(who.size))
    quickest = [min((h for h, ok in zip(who.hold[g], who.allowed[g], strict=True) if ok), default=0.0) for g in groups]
    typical = [_mean([h for h, ok in zip(who.hold[g], who.allowed[g], strict=True) if ok]) for g in groups]
    work: dict[int, float] = {}
    for g in groups:
        work[who.experiment[g]] = work.get(who.experiment[g], 0.0) + quickest[g] * who.size[g] * _part(who, g)
    keys: dict[str, Callable[[int], tuple[float, ...]]] = {
        "longest": lambda g: (-quickest[g] - who.rank_s[g],),
        "rank": lambda g: (-typical[g] - who.rank_s[g],),
        "due": lambda g: (who.due_s[g], -quickest[g]),
        "small": lambda g: (work[who.experiment[g]], who.experiment[g], -quickest[g] - who.rank_s[g]),
        "large": lambda g: (-work[who.experiment[g]], who.experiment[g], -quickest[g] - who.rank_s[g]),
        "given": lambda g: (g,),
        "deadline": lambda g: (who.deadline_s[g],),
        "widest": lambda g: (-_part(who, g), -quickest[g] - who.rank_s[g]),
    }
    return {name: _topological(who, [(-who.level[g], *key(g), g) for g in groups]) for name, key in keys.items()}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _part(who: Cast, g: int) -> float:
    total = [sum(column) for column in zip(*who.capacity, strict=True)]
    return max((a / t for a, t in zip(who.request[g], total, strict=True) if t > 0), default=0.0)


def _topological(who: Cast, keys: list[tuple[float, ...]]) -> list[int]:
    """Groups by key, but never before a predecessor; groups of a cycle come last."""
    missing = [sum(parent in who.place for parent in parents) for parents in who.parents]
    ready = sorted((keys[g] for g in range(len(keys)) if missing[g] == 0), reverse=True)
    order = []
    while ready:
        g = int(ready.pop()[-1])
        order.append(g)
        for child in who.children.get(who.index[g], ()):
            missing[child] -= 1
            if missing[child] == 0:
                insort(ready, keys[child], key=lambda k: tuple(-v for v in k))
    placed = set(order)
    return order + [g for g in range(len(keys)) if g not in placed]


def from_assignment(who: Cast, x: Floats, order: list[int], name: str) -> Script:
    """The script that runs an assignment of classes (C, P) of whole tasks; each class's groups share it in order."""
    quota = [[0] * x.shape[1] for _ in who.size]
    left = x.copy()
    room = who.size[:]
    for g in order:
        row = left[who.row[g]]
        for p in np.flatnonzero(row > 0):
            take = min(round(row[p] / who.each[g]), room[g])
            quota[g][p] += take
            row[p] -= take * who.each[g]
            room[g] -= take
    return Script(quota, order, name)


def best_script(
    who: Cast, assignments: list[tuple[str, Floats]], near: Floats, effort: int
) -> tuple[Script, Outcome, float]:
    """Rehearses scripts of all orders, then of the best orders with all horizons and assignments; improves a few.

    The first assignment is the most promising and tried with every order; `near` (C, P) is how much worse a place is
    than that of the solver.

    `effort` bounds the tasks started in rehearsals, so that the result depends on the input only. What serves by
    deadline and never looks ahead (earliest deadline first) says how many tasks may be late.
    """
    named = orders(who)
    strict = replace(who, late_allowed=_late_by_deadline(who, named["deadline"]))
    script, outcome, _ = _improve_best(strict, _tried(strict, named, assignments, near, effort), effort)
    return script, outcome, judge(who, outcome)


def _late_by_deadline(who: Cast, order: list[int]) -> float:
    """How many tasks are late where each takes the quickest free place, by deadline; without deadlines infinite."""
    if not any(due < inf for due in who.deadline_s):
        return inf
    return late_tasks(who, rehearse(who, at_once_quickest(who, order)))


def _tried(
    who: Cast, named: dict[str, list[int]], assignments: list[tuple[str, Floats]], near: Floats, effort: int
) -> list[Tried]:
    """All scripts that are rehearsed before any is improved."""
    lined_up = {tuple(order): by for by, order in reversed(named.items())}
    ranked: list[tuple[float, str, list[int]]] = []
    tried: list[Tried] = []
    for key, by in lined_up.items():
        order = list(key)
        scripts = [compose(who, order, 0.0, f"earliest/{by}"), compose(who, order, inf, f"cheapest/{by}")]
        scripts += [from_assignment(who, x, order, f"{name}/{by}") for name, x in assignments[:1]]
        mine = [rehearsed(who, script) for script in scripts]
        ranked.append((min(r[2] for r in mine), by, order))
        tried += mine
    at_once = immediate_scripts(who, [(by, list(order)) for order, by in lined_up.items() if by in _AT_ONCE], near)
    heft = compose(who, named["rank"], 0.0, "heft", thrifty=False)
    tried += [rehearsed(who, script) for script in (*at_once, _loose(heft))]
    leader = min(tried, key=lambda r: r[2])
    scale = max((leader[1].pool_end(p) for p in range(len(who.capacity))), default=0.0)
    for script in _variations(who, assignments[1:], sorted(ranked)[:_BEST_ORDERS], scale):
        tried.append(rehearsed(who, script))
        if len(tried) * sum(who.size) > _TRIES * effort:
            break
    best = min(tried, key=lambda r: r[2])
    if any(any(row) for row in who.large):
        tried.append(rehearsed(who, _loose(best[0])))
    return tried


def _loose(script: Script) -> Script:
    """The same, but nobody is kept from overtaking."""
    return replace(script, quota=[row[:] for row in script.quota], name=f"{script.name}/loose", strict=False)


def _variations(
    who: Cast, assignments: list[tuple[str, Floats]], ranked: list[tuple[float, str, list[int]]], horizon_s: float
) -> Iterator[Script]:
    """Assignments and horizons for the best orders, the best order first."""
    for _, by, order in ranked:
        for factor in _HORIZONS:
            yield compose(who, order, horizon_s * factor, f"horizon {factor:g}/{by}")
        for name, x in assignments:
            yield from_assignment(who, x, order, f"{name}/{by}")


def _improve_best(who: Cast, tried: list[Tried], effort: int) -> Tried:
    """The best of the few most promising scripts after improvement; those that score alike are one."""
    best: Tried | None = None
    seen: set[float] = set()
    has_large = any(any(row) for row in who.large)
    for promising in sorted(tried, key=lambda r: r[2]):
        if promising[2] in seen:
            continue
        if len(seen) == _IMPROVED or (best is not None and effort <= 0):
            break
        seen.add(promising[2])
        start, effort = reorder(who, promising, effort)
        script, outcome, value, effort = improve(who, start, effort)
        if script.strict and has_large:
            loose = rehearsed(who, _loose(script))
            if loose[2] < value:
                script, outcome, value, effort = improve(who, loose, effort)
        if best is None or value < best[2] - EPSILON:
            best = script, outcome, value
    if best is None:
        raise ValueError("best_script: there is nothing to rehearse; pass at least one group")
    return best


def improve(who: Cast, start: Tried, effort: int) -> tuple[Script, Outcome, float, int]:
    """Moves tasks between pools, keeping what helps, until nothing does or the effort is spent; what is left of it."""
    script, outcome, value = start
    tasks = sum(who.size)
    money = _money_left(who, script)
    progress = True
    while progress and effort > 0:
        progress = False
        for g, source, target, n in _moves(who, script, outcome):
            extra = n * (who.money[g][target] - who.money[g][source])
            e = who.experiment[g]
            possible = script.quota[g][source] >= n and who.allowed[g][target]
            if effort <= 0 or not possible or (extra > 0 and extra > money[e] + EPSILON):
                continue
            script.quota[g][source] -= n
            script.quota[g][target] += n
            pools = None if who.chained else [source, target]
            rival = rehearse(who, script, pools)
            if pools is not None:
                rival = outcome.with_pools(pools, rival)
            effort -= tasks if pools is None else _OVERHEAD + sum(sum(rival.started[p].values()) for p in pools)
            score = judge(who, rival)
            if score < value * (1.0 - 1e-7):
                outcome, value, progress = rival, score, True
                money[e] -= extra
            else:
                script.quota[g][source] += n
                script.quota[g][target] -= n
    return script, outcome, value, effort


def _money_left(who: Cast, script: Script) -> list[float]:
    money: list[float] = who.problem.budget.tolist()
    for g, row in enumerate(script.quota):
        money[who.experiment[g]] -= sum(n * who.money[g][p] for p, n in enumerate(row) if n)
    return money


def _moves(who: Cast, script: Script, outcome: Outcome) -> list[tuple[int, int, int, int]]:
    """Moves (group, from, to, tasks) worth trying: away from the pools that end last, then to cheaper places."""
    pools = range(len(who.capacity))
    ends = [outcome.pool_end(p) for p in pools]
    moves = []
    for source in sorted(pools, key=lambda p: -ends[p])[:_CRITICAL_POOLS]:
        late = sorted(outcome.end[source], key=lambda g: -outcome.end[source][g])[:_LAST_GROUPS]
        for g in late:
            targets = sorted((p for p in pools if p != source), key=lambda p: ends[p] + who.hold[g][p])
            held = script.quota[g][source]
            sizes = sorted({1, max(1, held // 16), max(1, held // 4)})
            moves += [(g, source, target, n) for target in targets[:_TARGETS] for n in sizes]
    savings = []
    for g, row in enumerate(script.quota):
        for source in (p for p in pools if row[p]):
            for target in pools:
                saved = who.cell[g][source] - who.cell[g][target]
                if saved > EPSILON and who.allowed[g][target]:
                    savings.append((-saved * row[source], g, source, target, row[source]))
    for _, g, source, target, held in sorted(savings)[:_SAVINGS]:
        moves += [(g, source, target, n) for n in sorted({held, max(1, held // 4), 1}, reverse=True)]
    return moves
