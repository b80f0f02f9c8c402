"""The sparse linear programme: classes by pools, by column generation, from arrays.

    min  sum cell x + sum penalty u + sum finish_weight T_s + sum late_weight L_s
    s.t. sum_p x[c, p] + u[c]                 = count[c]                        class rows
         load of stages <= s on (p, d)       <= capacity[p, d] * reach * T_s    stage rows
         load of a fixed block on (p, d)     <= capacity[p, d] * seconds        block rows
         money of experiment e               <= budget[e]                       budget rows
         L_s >= T_s - due_s,  T_s >= the least any horizon can be,  x, u, L >= 0

`reach = 1 - wait / T_ref` lets a pool that opens late work only after its wait; it is at least the true fraction for
every T_s up to `T_ref` (the incumbent's finish), so the optimum stays a lower bound. Columns enter a few at a time: the
incumbent's, the cheapest of each class, then those whose reduced cost is negative. Whatever columns are in, the duals
give a bound on the whole programme (each class row can gain at most `count * most negative reduced cost`), so stopping
early costs accuracy and never honesty. GLOP solves small programmes, PDLP what would take GLOP too long.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
from ortools.linear_solver.python.model_builder_helper import ModelBuilderHelper, ModelSolverHelper, SolveStatus
from scipy.sparse import coo_matrix

from .errors import SolverError
from .greedy import least_horizon, scarcity
from .objective import Costs, fixed_blocks, stage_finishes
from .problem import Bools, Floats, Ints, Problem
from .solution import Solution

SEED_COLUMNS = 6
MAX_ROUNDS = 6
#: A round of column generation stops the solve when the bound is this close to the restricted optimum.
CLOSE = 2e-4
PDLP_CELLS = 60_000


@dataclass(frozen=True, slots=True)
class Rows:
    """Capacity rows of one block: which classes count, seconds given, or the stage whose finish gives them."""

    member: Bools  #: (C,)
    stage: int  #: -1: fixed
    amount: Floats  #: (P, D) right-hand side if fixed, else the coefficient of the stage's finish


@dataclass(frozen=True, slots=True)
class Duals:
    """Prices of a solved programme, all >= 0 but `task`: what a row's right-hand side is worth."""

    task: Floats  #: (C,) objective seconds for one more task of a class
    capacity: Floats  #: (B, P, D)
    budget: Floats  #: (E,)


class Linear:
    """Exact for any number of dimensions and budgets, up to rounding."""

    name = "linear"

    def suits(self, problem: Problem, price: Costs, incumbent: Floats) -> bool:
        """Always, as long as anything is allowed."""
        del price, incumbent
        return bool(problem.allowed.any())

    def solve(self, problem: Problem, price: Costs, incumbent: Floats) -> Solution:
        """Column generation; raises SolverError if the first programme has no optimum."""
        rows = _rows(problem, price, incumbent)
        columns = _seed(problem, price, incumbent)
        bound, best = -inf, None
        for _ in range(MAX_ROUNDS):
            x, duals, objective = _solve_restricted(problem, price, rows, columns)
            reduced = _reduced_costs(problem, price, rows, duals)
            best = (x, duals, reduced)
            bound = max(bound, objective + float((problem.count * np.minimum(0.0, reduced.min(axis=1))).sum()))
            if objective - bound <= CLOSE * abs(objective):
                break
            columns |= _entering(reduced, columns)
        if best is None:
            raise SolverError("the linear programme was never solved")
        x, duals, reduced = best
        worth = np.einsum("bpd,bp->pd", duals.capacity, _seconds(problem, price, rows, x))
        floor = np.minimum(reduced.min(axis=1), 0.0)
        return Solution(x, bound, worth, duals.budget, reduced - floor[:, None], self.name)


def _rows(problem: Problem, price: Costs, incumbent: Floats) -> list[Rows]:
    rows = []
    if price.finish_weight.any() or price.late_weight.any():
        finishes = stage_finishes(problem, price, incumbent)
        reference = max(float(finishes.max(initial=0.0)), least_horizon(problem))
        for s in range(len(price.finish_weight)):
            reach = np.maximum(1.0 - problem.wait_s / reference, 0.0)
            rows.append(Rows(price.stage <= s, s, problem.capacity * reach[:, None]))
    rows.extend(Rows(b.member, -1, problem.capacity * b.seconds[:, None]) for b in fixed_blocks(problem))
    return rows


def _seconds(problem: Problem, price: Costs, rows: list[Rows], x: Floats) -> Floats:
    """(B, P) seconds that one more unit of capacity would add to each block's rows."""
    finishes = stage_finishes(problem, price, x)
    with np.errstate(divide="ignore", invalid="ignore"):
        per_unit = [np.nan_to_num((r.amount / problem.capacity).max(axis=1), posinf=0.0) for r in rows]
    scale = [float(finishes[r.stage]) if r.stage >= 0 else 1.0 for r in rows]
    return np.array([p * s for p, s in zip(per_unit, scale, strict=True)]).reshape(len(rows), len(problem.pools))


def _seed(problem: Problem, price: Costs, incumbent: Floats) -> Bools:
    """(C, P) the incumbent's cells and each class's cheapest few, with and without the price of holding capacity."""
    columns: Bools = incumbent > 0
    held = float(price.finish_weight.sum()) * problem.hold_s * scarcity(problem)
    k = min(SEED_COLUMNS, len(problem.pools))
    for score in (price.cell + held, price.cell, held):
        ranked = np.where(problem.allowed, score, np.inf)
        nearest = np.argpartition(ranked, k - 1, axis=1)[:, :k]
        np.put_along_axis(columns, nearest, True, axis=1)
    columns &= problem.allowed
    return columns


def _entering(reduced: Floats, columns: Bools) -> Bools:
    """(C, P) the cells with the most negative reduced cost of each class and of each pool."""
    waiting = np.where(columns, 0.0, np.minimum(reduced, 0.0))
    k = min(SEED_COLUMNS, waiting.shape[1])
    entering = np.zeros(columns.shape, dtype=np.bool_)
    np.put_along_axis(entering, np.argpartition(waiting, k - 1, axis=1)[:, :k], True, axis=1)
    k = min(SEED_COLUMNS, waiting.shape[0])
    np.put_along_axis(entering, np.argpartition(waiting, k - 1, axis=0)[:k, :], True, axis=0)
    return entering & (waiting < 0)


def _solve_restricted(problem: Problem, price: Costs, rows: list[Rows], columns: Bools) -> tuple[Floats, Duals, float]:
    """Solves over the given cells; returns x (C, P), the duals and the objective."""
    c, p = np.nonzero(columns)
    n, n_classes, n_stages = len(c), len(problem.classes), len(price.finish_weight)
    n_pools, n_dims = problem.capacity.shape
    row_i: list[Ints] = [c, np.arange(n_classes)]
    col_i: list[Ints] = [np.arange(n), n + np.arange(n_classes)]
    data: list[Floats] = [np.ones(n), np.ones(n_classes)]
    first_finish, first_late = n + n_classes, n + n_classes + n_stages
    scale = _row_scale(problem)
    upper = [problem.count]
    base = n_classes
    for block in rows:
        mine = np.flatnonzero(block.member[c])
        for d in range(n_dims):
            row_i.append(base + p[mine] * n_dims + d)
            col_i.append(mine)
            data.append(problem.request[c[mine], d] * problem.hold_s[c[mine], p[mine]] * scale[p[mine], d])
        amount = (block.amount * scale).ravel()
        if block.stage >= 0:
            row_i.append(base + np.arange(n_pools * n_dims))
            col_i.append(np.full(n_pools * n_dims, first_finish + block.stage))
            data.append(-amount)
            upper.append(-(problem.running_load * scale).ravel())
        else:
            upper.append(np.maximum(amount - (problem.running_load * scale).ravel(), 0.0))
        base += n_pools * n_dims
    budgeted = np.flatnonzero(np.isfinite(problem.budget))
    slot = np.full(len(problem.budget), -1)
    slot[budgeted] = np.arange(len(budgeted))
    paying = np.flatnonzero(slot[problem.experiment[c]] >= 0)
    row_i.append(base + slot[problem.experiment[c[paying]]])
    col_i.append(paying)
    data.append(problem.money[c[paying], p[paying]])
    upper.append(np.maximum(problem.budget[budgeted], 0.0))
    base += len(budgeted)
    due = np.flatnonzero(np.isfinite(price.due_s) & (price.late_weight > 0))
    row_i += [base + np.arange(len(due)), base + np.arange(len(due))]
    col_i += [first_finish + due, first_late + due]
    data += [np.ones(len(due)), -np.ones(len(due))]
    upper.append(price.due_s[due])
    base += len(due)
    matrix = coo_matrix(
        (np.concatenate(data), (np.concatenate(row_i), np.concatenate(col_i))), shape=(base, first_late + n_stages)
    ).tocsr()
    ends = np.concatenate(upper)
    lower = np.full(base, -inf)
    lower[:n_classes] = problem.count
    cost = np.concatenate([price.cell[c, p], price.penalty, price.finish_weight, price.late_weight])
    at_least = np.zeros(len(cost))
    if n_stages and price.finish_weight.any():
        at_least[first_finish + n_stages - 1] = least_horizon(problem)
    values, dual, objective = _run(at_least, cost, lower, ends, matrix)
    x = np.zeros(columns.shape)
    x[c, p] = np.maximum(values[:n], 0.0)
    prices = -dual[n_classes : n_classes + len(rows) * n_pools * n_dims].reshape(len(rows), n_pools, n_dims)
    first_budget = n_classes + len(rows) * n_pools * n_dims
    budget = np.zeros(len(problem.budget))
    budget[budgeted] = -dual[first_budget : first_budget + len(budgeted)]
    duals = Duals(dual[:n_classes], np.maximum(prices * scale, 0.0), np.maximum(budget, 0.0))
    return x, duals, objective


def _row_scale(problem: Problem) -> Floats:
    """(P, D) brings capacity rows near one: bytes and cores would differ by nine orders of magnitude."""
    with np.errstate(divide="ignore"):
        scale: Floats = np.where(problem.capacity > 0, 1.0 / problem.capacity, 1.0)
    return scale


def _run(at_least: Floats, cost: Floats, lower: Floats, upper: Floats, matrix: object) -> tuple[Floats, Floats, float]:
    model = ModelBuilderHelper()
    most = np.full(len(cost), inf)
    model.fill_model_from_sparse_data(at_least, most, cost, lower, upper, matrix)
    size = len(cost)
    solver = ModelSolverHelper("pdlp" if size > PDLP_CELLS else "glop")
    solver.solve(model)
    if not solver.has_solution() or solver.status() != SolveStatus.OPTIMAL:
        raise SolverError(
            f"the linear programme of {size} columns ended as {solver.status_string() or solver.status()}"
        )
    return np.asarray(solver.variable_values()), np.asarray(solver.dual_values()), float(solver.objective_value())


def _reduced_costs(problem: Problem, price: Costs, rows: list[Rows], duals: Duals) -> Floats:
    """(C, P) what one task more in a cell would change the objective by; infinite where it is not allowed."""
    reduced = price.cell - duals.task[:, None] + duals.budget[problem.experiment][:, None] * problem.money
    for b, block in enumerate(rows):
        charge = problem.hold_s * (problem.request @ duals.capacity[b].T)
        reduced = reduced + np.where(block.member[:, None], charge, 0.0)
    return np.where(problem.allowed, reduced, np.inf)
