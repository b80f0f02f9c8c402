"""CP-SAT for gangs: tasks that take several workers at once are few, large, and badly served by rounding.

The relaxed solution splits a gang class over pools; rounding it down loses whole gangs. Here the gangs of all classes
are placed as integers, beside the load that the relaxed solution plans for everything else, minimising the same costs
and the finish of the last stage. One worker, a fixed seed and a deterministic limit: the same input gives the same
answer. Other classes are left to `rounding`.
"""

from __future__ import annotations

import numpy as np
from ortools.sat.python import cp_model

from .greedy import least_horizon
from .objective import Costs, fixed_blocks
from .problem import Floats, Problem
from .solution import Solution

#: More cells than this are rounded like everything else.
MAX_CELLS = 600
_DETERMINISTIC_S = 0.1
#: Loads and costs are cut into this many steps; CP-SAT knows whole numbers only.
_STEPS = 1_000_000


def place_gangs(problem: Problem, price: Costs, solution: Solution) -> Floats | None:
    """The assignment (C, P) with the rows of gang classes made whole; None if there is nothing to do or no answer."""
    gangs = np.array([task_class.nodes > 1 for task_class in problem.classes], dtype=np.bool_)
    rows, pools = np.nonzero(problem.allowed & gangs[:, None])
    if not 0 < len(rows) <= MAX_CELLS or not problem.dims:
        return None
    rest = np.where(gangs[:, None], 0.0, solution.x)
    base = (rest * problem.hold_s).T @ problem.request + problem.running_load
    model = cp_model.CpModel()
    counts = {
        (int(c), int(p)): model.new_int_var(0, int(problem.count[c]), f"n{c}_{p}")
        for c, p in zip(rows, pools, strict=True)
    }
    left = {int(c): model.new_int_var(0, int(problem.count[c]), f"u{c}") for c in np.unique(rows)}
    for c, unplaced in left.items():
        model.add(sum(n for (row, _), n in counts.items() if row == c) + unplaced == int(problem.count[c]))
    horizon = 4.0 * max(least_horizon(problem), _longest(problem, base))
    finish = model.new_int_var(0, _STEPS, "finish")
    _add_capacity(model, problem, counts, base, finish, horizon)
    _add_budgets(model, problem, counts, rest)
    scale = _STEPS / max(float(price.penalty.max()), float(price.finish_weight.sum()) * horizon, 1e-9)
    per_step = max(1, round(float(price.finish_weight.sum()) * horizon / _STEPS * scale * _STEPS))
    placed = sum(round(float(price.cell[c, p]) * scale * _STEPS) * n for (c, p), n in counts.items())
    missing = sum(round(float(price.penalty[c]) * scale * _STEPS) * n for c, n in left.items())
    model.minimize(placed + missing + per_step * finish)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.max_deterministic_time = _DETERMINISTIC_S
    if solver.solve(model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    x = rest.copy()
    for (c, p), n in counts.items():
        x[c, p] = solver.value(n)
    return x


def _longest(problem: Problem, base: Floats) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        busy = np.where(base > 0, base / problem.capacity, 0.0).max(initial=0.0)
    return float(busy + np.where(problem.allowed, problem.hold_s + problem.wait_s[None, :], 0.0).max(initial=0.0))


def _add_capacity(
    model: cp_model.CpModel,
    problem: Problem,
    counts: dict[tuple[int, int], cp_model.IntVar],
    base: Floats,
    finish: cp_model.IntVar,
    horizon: float,
) -> None:
    """Load of gangs and the rest on every pool and dimension: within the finish, and within every fixed block."""
    seconds = np.minimum.reduce([np.full(len(problem.pools), horizon), *[b.seconds for b in fixed_blocks(problem)]])
    for p in sorted({p for _, p in counts}):
        mine = [(c, n) for (c, pool), n in counts.items() if pool == p]
        for d in np.flatnonzero(problem.capacity[p] > 0):
            whole = float(problem.capacity[p, d]) * horizon
            step = _STEPS / whole
            used = sum(int(np.ceil(problem.request[c, d] * problem.hold_s[c, p] * step)) * n for c, n in mine)
            taken = int(np.ceil(base[p, d] * step))
            waited = int(np.ceil(problem.wait_s[p] / horizon * _STEPS))
            model.add(used + taken + waited <= finish)
            model.add(used <= max(0, int(problem.capacity[p, d] * seconds[p] * step) - taken))


def _add_budgets(
    model: cp_model.CpModel, problem: Problem, counts: dict[tuple[int, int], cp_model.IntVar], rest: Floats
) -> None:
    """Money of gangs beside what the rest of their experiment spends."""
    spent = np.bincount(problem.experiment, (problem.money * rest).sum(axis=1), len(problem.budget))
    for e in np.flatnonzero(np.isfinite(problem.budget)):
        free = max(0.0, float(problem.budget[e] - spent[e]))
        step = _STEPS / max(free, 1e-9)
        mine = [(c, p, n) for (c, p), n in counts.items() if problem.experiment[c] == e]
        if mine:
            paid = sum(min(int(np.ceil(problem.money[c, p] * step)), 2 * _STEPS) * n for c, p, n in mine)
            model.add(paid <= (_STEPS if free > 0 else 0))
