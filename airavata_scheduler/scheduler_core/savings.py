"""Money for the last tasks: where they find room but cannot be paid, others of their experiment move to cheaper places.

Rounding spends a little more than a relaxed solution does, and a budget that binds then leaves out its last tasks.
Each move is the one that costs the least for what it saves, of no more tasks than are needed.
"""

from __future__ import annotations

import numpy as np

from .greedy import Room, has_room
from .problem import EPSILON, Floats, Problem

#: For each class that lacks money; rounding leaves out few tasks, and few moves pay for them.
_MAX_MOVES = 30


def save(problem: Problem, bids: Floats, left: Room, x: Floats) -> Floats:
    """An assignment (C, P) that leaves the money `x` lacks for what it does not place; `x` itself if it lacks none.

    `left` is what `x` leaves, and is changed along with it.
    """
    missing = problem.count - x.sum(axis=1)
    bounded = np.isfinite(problem.budget)[problem.experiment]
    needed = np.zeros(len(problem.budget))
    for c in np.flatnonzero((missing > 0.5) & bounded):
        cheapest = problem.money[c, has_room(problem, np.array([c]), left)[0]].min(initial=np.inf)
        if np.isfinite(cheapest):
            e = problem.experiment[c]
            needed[e] += missing[c] * cheapest
            x = _save(problem, bids, left, int(e), float(needed[e]), x)
    return x


def _save(problem: Problem, bids: Floats, left: Room, e: int, needed: float, x: Floats) -> Floats:
    """Moves until an experiment has the money that is needed, or nothing is left that would save any."""
    mine = problem.experiment == e
    for _ in range(_MAX_MOVES):
        lack = needed - float(left.money[e])
        if lack <= EPSILON:
            break
        rows, sources = np.nonzero((x >= 1) & mine[:, None])
        saving = problem.money[rows, sources][:, None] - problem.money[rows]
        loss = bids[rows] - bids[rows, sources][:, None]
        useful = has_room(problem, rows, left) & np.isfinite(loss) & (saving > EPSILON)
        if not useful.any():
            break
        # A saving beyond what lacks is worth nothing.
        ratio = np.where(useful, loss / np.clip(saving, EPSILON, lack), np.inf)
        k, target = np.unravel_index(int(ratio.argmin()), ratio.shape)
        x = _moved(problem, left, x, (int(rows[k]), int(sources[k]), int(target)), lack / float(saving[k, target]))
    return x


def _moved(problem: Problem, left: Room, x: Floats, move: tuple[int, int, int], wanted: float) -> Floats:
    """At most so many tasks, rounded up, of a class from one pool to another, as far as there is room."""
    c, source, target = move
    load = problem.request[c] * problem.hold_s[c, target]
    mine = left.member[:, c]
    with np.errstate(divide="ignore", invalid="ignore"):
        fit = np.where(load > 0, left.work[mine, target] / load, np.inf).min(initial=np.inf)
    n = min(np.ceil(wanted), x[c, source], np.floor(fit + EPSILON))
    left.work[mine, target] -= n * load
    left.work[mine, source] += n * problem.request[c] * problem.hold_s[c, source]
    left.money[problem.experiment[c]] += n * (problem.money[c, source] - problem.money[c, target])
    x = x.copy()
    x[c, source] -= n
    x[c, target] += n
    return x
