"""The sparse linear programme: classes by pools, by column generation, from arrays.

    min  sum cell x + sum penalty u + sum finish_weight T_s + sum late_weight L_s
    s.t. sum_p x[c, p] + u[c]                 = count[c]                        class rows
         load of stages <= s on (p, d)       <= capacity[p, d] * reach * T_s    stage rows
         load of a fixed block on (p, d)     <= capacity[p, d] * seconds        block rows
         money of experiment e               <= budget[e]                       budget rows
         sum u[c] of experiment e            >= what no budget pays for, whole  left-out rows
         L_s >= T_s - due_s,  T_s >= the least any horizon can be,  x, u, L >= 0

`reach = 1 - wait / T_ref` lets a pool that opens late work only after its wait; it is at least the true fraction for
every T_s up to `T_ref`, and with one stage `T_ref` is so late that ending after it is worse than the incumbent. What
runs already delays a stage on the pools that the stage uses, and on no others; the rows cannot tell, so what running
tasks contribute to the optimum is taken off the bound again. Columns enter a few at a time: the
incumbent's, the cheapest of each class, then those whose reduced cost is negative. Whatever columns are in, the duals
give a bound on the whole programme (each class row can gain at most `count * most negative reduced cost`), so stopping
early costs accuracy and never honesty. GLOP solves small programmes, PDLP what would take GLOP too long.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import numpy as np
from ortools.linear_solver.python.model_builder_helper import ModelBuilderHelper, ModelSolverHelper, SolveStatus
from scipy.sparse import coo_matrix

from .errors import SolverError
from .greedy import least_horizon, scarcity
from .objective import Costs, fixed_blocks, stage_finishes, value
from .problem import EPSILON, Bools, Floats, Ints, Problem
from .solution import Solution

SEED_COLUMNS = 6
MAX_ROUNDS = 6
#: A round of column generation stops the solve when the bound is this close to the restricted optimum.
CLOSE = 2e-4
PDLP_CELLS = 60_000
#: GLOP may take so many steps for each row and column. Its simplex can go in circles where many rows are alike.
_STEPS = 20


@dataclass(frozen=True, slots=True)
class Rows:
    """Capacity rows of one block: which classes count, seconds given, or the stage whose finish gives them."""

    member: Bools  #: (C,)
    stage: int  #: -1: fixed
    amount: Floats  #: (P, D) right-hand side if fixed, else the coefficient of the stage's finish
    taken: Floats  #: (P, D) by running tasks


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
            missing = float((problem.count * np.minimum(0.0, reduced.min(axis=1))).sum())
            bound = max(bound, objective + missing - _by_running(rows, duals))
            if -missing <= CLOSE * abs(objective):
                break
            columns |= _entering(reduced, columns)
        if best is None:
            raise SolverError("the linear programme was never solved")
        x, duals, reduced = best
        worth = np.einsum("bpd,bp->pd", duals.capacity, _seconds(problem, price, rows, x))
        floor = np.minimum(reduced.min(axis=1), 0.0)
        return Solution(x, bound, worth, duals.budget, reduced - floor[:, None], self.name)


def _rows(problem: Problem, price: Costs, incumbent: Floats) -> list[Rows]:
    rows: list[Rows] = []
    if price.finish_weight.any() or price.late_weight.any():
        reach = np.maximum(1.0 - problem.wait_s / _latest_finish(problem, price, incumbent), 0.0)
        taken = problem.running_within(np.full(len(problem.pools), inf))
        amount = problem.capacity * reach[:, None]
        rows.extend(Rows(price.stage <= s, s, amount, taken) for s in range(len(price.finish_weight)))
    for block in fixed_blocks(problem):
        taken = problem.running_within(problem.wait_s + block.seconds)
        rows.append(Rows(block.member, -1, problem.capacity * block.seconds[:, None], taken))
    return rows


def _latest_finish(problem: Problem, price: Costs, incumbent: Floats) -> float:
    """Up to when a finish is worth considering: the incumbent's; with one stage, the last that could be better."""
    latest = max(float(stage_finishes(problem, price, incumbent).max(initial=0.0)), least_horizon(problem))
    if len(price.finish_weight) > 1 or price.finish_weight.sum() <= 0:
        return latest
    cheapest = np.minimum(np.where(problem.allowed, price.cell, inf).min(axis=1, initial=inf), price.penalty)
    spare = value(problem, price, incumbent) - float((cheapest * problem.count).sum())
    return max(latest, spare / float(price.finish_weight.sum()))


def _by_running(rows: list[Rows], duals: Duals) -> float:
    """What running tasks contribute to the optimum through the finishes of stages."""
    return sum(float((duals.capacity[b] * r.taken).sum()) for b, r in enumerate(rows) if r.stage >= 0)


def _seconds(problem: Problem, price: Costs, rows: list[Rows], x: Floats) -> Floats:
    """(B, P) seconds that one more unit of capacity would add to each block's rows."""
    finishes = stage_finishes(problem, price, x)
    with np.errstate(divide="ignore", invalid="ignore"):
        per_unit = [np.nan_to_num((r.amount / problem.capacity).max(axis=1, initial=0.0), posinf=0.0) for r in rows]
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


class _Model:
    """The programme over some cells, while its rows are collected; columns are cells, u, T and L, in this order."""

    def __init__(self, problem: Problem, price: Costs, columns: Bools) -> None:
        self.problem = problem
        self.price = price
        self.c, self.p = np.nonzero(columns)
        n, n_classes = len(self.c), len(problem.classes)
        self.first_finish = n + n_classes
        self.first_late = self.first_finish + len(price.finish_weight)
        self.scale = _row_scale(problem)
        self.height = 0
        self.upper: list[Floats] = []
        self._row: list[Ints] = []
        self._column: list[Ints] = []
        self._value: list[Floats] = []
        self.add(self.c, np.arange(n), np.ones(n))
        self.add(np.arange(n_classes), n + np.arange(n_classes), np.ones(n_classes))
        self.close(problem.count)

    def add(self, row: Ints, column: Ints, value: Floats) -> None:
        """Adds coefficients; rows count from the first that is not closed yet."""
        self._row.append(self.height + row)
        self._column.append(column)
        self._value.append(value)

    def close(self, upper: Floats) -> None:
        """Ends a group of rows with their right-hand sides."""
        self.upper.append(upper)
        self.height += len(upper)

    def capacity_rows(self, block: Rows) -> None:
        """One row for each pool and dimension of a block, scaled."""
        problem, n_dims = self.problem, len(self.problem.dims)
        mine = np.flatnonzero(block.member[self.c])
        c, p = self.c[mine], self.p[mine]
        for d in range(n_dims):
            self.add(p * n_dims + d, mine, problem.request[c, d] * problem.hold_s[c, p] * self.scale[p, d])
        amount = (block.amount * self.scale).ravel()
        taken = (block.taken * self.scale).ravel()
        if block.stage < 0:
            self.close(np.maximum(amount - taken, 0.0))
            return
        self.add(np.arange(len(amount)), np.full(len(amount), self.first_finish + block.stage), -amount)
        self.close(-taken)

    def budget_rows(self, budgeted: Ints) -> None:
        """One row for each experiment with a budget."""
        problem = self.problem
        slot = np.full(len(problem.budget), -1)
        slot[budgeted] = np.arange(len(budgeted))
        paying = np.flatnonzero(slot[problem.experiment[self.c]] >= 0)
        c, p = self.c[paying], self.p[paying]
        self.add(slot[problem.experiment[c]], paying, problem.money[c, p])
        self.close(np.maximum(problem.budget[budgeted], 0.0) + EPSILON)

    def left_out_rows(self) -> None:
        """Where even the cheapest places cost too much, no part of a task is left out, but whole ones."""
        problem, first_left_out = self.problem, len(self.c)
        least = _least_left_out(problem)
        short = np.flatnonzero(least > 0)
        slot = np.full(len(problem.budget), -1)
        slot[short] = np.arange(len(short))
        able = np.flatnonzero((slot[problem.experiment] >= 0) & problem.allowed.any(axis=1))
        self.add(slot[problem.experiment[able]], first_left_out + able, -np.ones(len(able)))
        self.close(-least[short])

    def late_rows(self) -> None:
        """Lateness of the stages that have a deadline."""
        price = self.price
        due = np.flatnonzero(np.isfinite(price.due_s) & (price.late_weight > 0))
        self.add(np.arange(len(due)), self.first_finish + due, np.ones(len(due)))
        self.add(np.arange(len(due)), self.first_late + due, -np.ones(len(due)))
        self.close(price.due_s[due])

    def run(self) -> tuple[Floats, Floats, float]:
        """Values, duals and objective."""
        price, problem = self.price, self.problem
        width = self.first_late + len(price.finish_weight)
        places = (np.concatenate(self._row), np.concatenate(self._column))
        matrix = coo_matrix((np.concatenate(self._value), places), shape=(self.height, width)).tocsr()
        lower = np.full(self.height, -inf)
        lower[: len(problem.count)] = problem.count
        cost = np.concatenate([price.cell[self.c, self.p], price.penalty, price.finish_weight, price.late_weight])
        at_least = np.zeros(width)
        # Only when everything allowed is sure to be placed: what a budget leaves out needs no time.
        if price.finish_weight.any() and not np.isfinite(problem.budget).any() and not fixed_blocks(problem):
            at_least[self.first_late - 1] = least_horizon(problem, with_running=False)
        return _run(at_least, cost, lower, np.concatenate(self.upper), matrix)


def _solve_restricted(problem: Problem, price: Costs, rows: list[Rows], columns: Bools) -> tuple[Floats, Duals, float]:
    """Solves over the given cells; returns x (C, P), the duals and the objective."""
    model = _Model(problem, price, columns)
    for block in rows:
        model.capacity_rows(block)
    budgeted = np.flatnonzero(np.isfinite(problem.budget))
    first_budget = model.height
    model.budget_rows(budgeted)
    model.late_rows()
    model.left_out_rows()
    values, dual, objective = model.run()
    n_classes, shape = len(problem.classes), (len(rows), *problem.capacity.shape)
    x = np.zeros(columns.shape)
    x[model.c, model.p] = np.maximum(values[: len(model.c)], 0.0)
    prices = -dual[n_classes:first_budget].reshape(shape)
    budget = np.zeros(len(problem.budget))
    budget[budgeted] = -dual[first_budget : first_budget + len(budgeted)]
    duals = Duals(dual[:n_classes], np.maximum(prices * model.scale, 0.0), np.maximum(budget, 0.0))
    return x, duals, objective


def _least_left_out(problem: Problem) -> Floats:
    """(E,) how few tasks can be left out for the rest to be affordable: the dearest, were all at their cheapest."""
    least = np.zeros(len(problem.budget))
    cheapest = np.where(problem.allowed, problem.money, inf).min(axis=1, initial=inf)
    for e in np.flatnonzero(np.isfinite(problem.budget)):
        mine = np.flatnonzero((problem.experiment == e) & np.isfinite(cheapest))
        lack = float(cheapest[mine] @ problem.count[mine]) - max(float(problem.budget[e]), 0.0) - EPSILON
        for c in mine[np.argsort(-cheapest[mine], kind="stable")]:
            if lack <= 0:
                break
            least[e] += min(problem.count[c], np.ceil(lack / cheapest[c] - 1e-6))
            lack -= cheapest[c] * problem.count[c]
    return least


def _row_scale(problem: Problem) -> Floats:
    """(P, D) brings capacity rows near one: bytes and cores would differ by nine orders of magnitude."""
    with np.errstate(divide="ignore"):
        scale: Floats = np.where(problem.capacity > 0, 1.0 / problem.capacity, 1.0)
    return scale


def _run(at_least: Floats, cost: Floats, lower: Floats, upper: Floats, matrix: object) -> tuple[Floats, Floats, float]:
    model = ModelBuilderHelper()
    most = np.full(len(cost), inf)
    # The stubs of OR-Tools give array types that no numpy array has.
    fill: Callable[..., None] = model.fill_model_from_sparse_data
    fill(at_least, most, cost, lower, upper, matrix)
    size = len(cost)
    if size > PDLP_CELLS:
        solver = _solved(model, "pdlp", "")
    else:
        steps = f"max_number_of_iterations: {_STEPS * (size + len(lower))}"
        solver = _solved(model, "glop", steps)
        if solver.status() != SolveStatus.OPTIMAL:
            solver = _solved(model, "glop", f"use_preprocessing: false {steps}")
    if not solver.has_solution() or solver.status() != SolveStatus.OPTIMAL:
        raise SolverError(
            f"the linear programme of {size} columns ended as {solver.status_string() or solver.status()}"
        )
    return np.asarray(solver.variable_values()), np.asarray(solver.dual_values()), float(solver.objective_value())


def _solved(model: ModelBuilderHelper, name: str, parameters: str) -> ModelSolverHelper:
    solver = ModelSolverHelper(name)
    solver.set_solver_specific_parameters(parameters)
    solver.solve(model)
    return solver


def _reduced_costs(problem: Problem, price: Costs, rows: list[Rows], duals: Duals) -> Floats:
    """(C, P) what one task more in a cell would change the objective by; infinite where it is not allowed."""
    reduced = price.cell - duals.task[:, None] + duals.budget[problem.experiment][:, None] * problem.money
    for b, block in enumerate(rows):
        charge = problem.hold_s * (problem.request @ duals.capacity[b].T)
        reduced = reduced + np.where(block.member[:, None], charge, 0.0)
    return np.where(problem.allowed, reduced, np.inf)
