"""Min-cost flow: exact and fast when one dimension of capacity matters, no budget binds, and a window is given.

A task of class c takes `request_c * runtime_c / speed_p` unit-seconds of pool p. That is a product, so work measured in
`request_c * runtime_c` is a plain commodity and pool p has `capacity_p * seconds_p * speed_p` of it: a transportation
problem. Work is cut into whole units; supplies are rounded down and capacities up, so the optimum is a lower bound.
Pool prices are recovered from the optimal flow by relaxing the optimality conditions over pairs of pools.
"""

from __future__ import annotations

import numpy as np
from ortools.graph.python.min_cost_flow import SimpleMinCostFlow

from .errors import SolverError
from .objective import Costs, fixed_blocks
from .problem import Floats, Problem
from .solution import Solution

UNITS = 1e8
COST_STEPS = 1e10
_SEPARABLE = 1e-6


class Flow:
    """Exact for one dimension, up to rounding."""

    name = "flow"

    def suits(self, problem: Problem, price: Costs, incumbent: Floats) -> bool:
        """Windowed, one dimension that matters, loads that are products, budgets that the incumbent leaves slack."""
        del price
        if problem.limits.window_s is None or len(fixed_blocks(problem)) != 1 or not problem.allowed.any():
            return False
        spent = np.bincount(problem.experiment, (problem.money * incumbent).sum(axis=1), len(problem.budget))
        worst = np.where(problem.allowed, problem.money, 0.0).max(axis=1) * problem.count
        dearest = np.bincount(problem.experiment, worst, len(problem.budget))
        if (np.maximum(spent, dearest) > problem.budget).any():
            return False
        return _binding(problem) is not None and _split(problem) is not None

    def solve(self, problem: Problem, price: Costs, incumbent: Floats) -> Solution:
        """Raises SolverError if the flow has no optimum, or the problem does not suit."""
        del incumbent
        binding, parts = _binding(problem), _split(problem)
        if binding is None or parts is None:
            raise SolverError("flow: capacity has several dimensions, or loads are not products")
        work, pace = parts
        work = work * problem.request[:, binding]
        capacity = problem.capacity[:, binding] * fixed_blocks(problem)[0].seconds * pace
        capacity = np.maximum(capacity - problem.running_load[:, binding] * pace, 0.0)
        total = float((work * problem.count).sum())
        scale = UNITS / max(total, 1e-12)
        supply = np.floor(work * problem.count * scale).astype(np.int64)
        stock = np.ceil(np.minimum(capacity * scale, UNITS)).astype(np.int64)
        unit_cost = price.cell / work[:, None]
        none_cost = price.penalty / work
        flow, lower = _transport(problem, supply, stock, unit_cost, none_cost)
        x = np.minimum(flow / scale / work[:, None], problem.count[:, None])
        full = flow.sum(axis=0) >= stock - len(work)
        prices = _pool_prices(np.where(problem.allowed, unit_cost, np.inf), none_cost, flow, supply, full)
        reduced = np.where(problem.allowed, price.cell + prices[None, :] * work[:, None], np.inf)
        reduced = reduced - np.minimum(reduced.min(axis=1), price.penalty)[:, None]
        worth = np.zeros(problem.capacity.shape)
        worth[:, binding] = prices * fixed_blocks(problem)[0].seconds * pace
        return Solution(x, lower / scale, worth, np.zeros(len(problem.budget)), np.maximum(reduced, 0.0), self.name)


def _binding(problem: Problem) -> int | None:
    """The one dimension that fills up first in every pool, whatever is run there; None if there is no such."""
    if not problem.request.size or not (problem.request > 0).any(axis=0).all():
        return None
    if len(problem.dims) == 1:
        return 0 if (problem.request > 0).all() else None
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(problem.capacity > 0, problem.request[:, None, :] / problem.capacity[None, :, :], 0.0)
    first = parts.max(axis=2, initial=0.0)
    for d in range(len(problem.dims)):
        asked = (problem.request[:, d] > 0).all()
        if asked and (parts[:, :, d] >= first - 1e-12)[problem.allowed].all():
            return d
    return None


def _split(problem: Problem) -> tuple[Floats, Floats] | None:
    """Seconds of a class at speed one, and the speed of a pool, if every hold time is their quotient."""
    runtime = np.array([c.runtime.mean_s for c in problem.classes])
    runtime = runtime / np.maximum(1.0 - np.array([c.failure_rate for c in problem.classes]), 0.1)
    ratio = runtime[:, None] / problem.hold_s
    pace: Floats = np.median(ratio, axis=0)
    if (np.abs(ratio - pace[None, :]) > _SEPARABLE * pace[None, :])[problem.allowed].any():
        return None
    return runtime, pace


def _transport(
    problem: Problem, supply: np.ndarray, stock: np.ndarray, unit_cost: Floats, none_cost: Floats
) -> tuple[Floats, float]:
    """Flow (C, P) in units and the optimum's cost, whose unit costs were rounded down."""
    n_classes, n_pools = supply.size, stock.size
    c, p = np.nonzero(problem.allowed)
    sink = n_classes + n_pools
    top = max(float(np.abs(unit_cost[c, p]).max(initial=0.0)), float(none_cost.max(initial=0.0)), 1e-300)
    steps = COST_STEPS / top
    tails = np.concatenate([c, np.arange(n_classes), n_classes + np.arange(n_pools)])
    heads = np.concatenate([n_classes + p, np.full(n_classes, sink), np.full(n_pools, sink)])
    room = np.concatenate([supply[c], supply, stock])
    cost = np.floor(np.concatenate([unit_cost[c, p], none_cost, np.zeros(n_pools)]) * steps).astype(np.int64)
    network = SimpleMinCostFlow()
    network.add_arcs_with_capacity_and_unit_cost(tails, heads, room, cost)
    network.set_nodes_supplies(np.arange(sink + 1), np.append(np.append(supply, np.zeros(n_pools, int)), -supply.sum()))
    if network.solve() != network.OPTIMAL:
        raise SolverError("flow: no optimum")
    flow = np.zeros((n_classes, n_pools))
    flow[c, p] = network.flows(np.arange(len(c)))
    return flow, network.optimal_cost() / steps


def _pool_prices(cost: Floats, none_cost: Floats, flow: Floats, supply: np.ndarray, full: np.ndarray) -> Floats:
    """(P,) the least prices of work at which no class would rather be elsewhere; zero for pools that are not full."""
    n_pools = cost.shape[1]
    gain = np.full((n_pools, n_pools), -np.inf)
    for p in range(n_pools):
        users = np.flatnonzero(flow[:, p] > 0)
        if len(users):
            gain[p] = (cost[users, p : p + 1] - cost[users]).max(axis=0)
    missing = np.flatnonzero(flow.sum(axis=1) < supply)
    outside = (none_cost[missing, None] - cost[missing]).max(axis=0, initial=0.0)
    prices = np.where(full, np.maximum(outside, 0.0), 0.0)
    for _ in range(n_pools):
        better = np.where(full, np.maximum(prices, (gain + prices[:, None]).max(axis=0)), 0.0)
        if np.allclose(better, prices, rtol=1e-9, atol=1e-12):
            break
        prices = better
    return prices
