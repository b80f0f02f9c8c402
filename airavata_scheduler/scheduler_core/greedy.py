"""Greedy with regret, vectorised: the incumbent that is always there, and the repair step of every other solver.

Rounds: each class bids for its cheapest pool with room; each pool serves its bidders by stage, then by regret (what the
class loses with its second choice), until it is full. A round costs a few operations on (C, P) arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .objective import Block, Costs, blocks_within, fixed_blocks, value
from .problem import EPSILON, Bools, Floats, Ints, Problem

MAX_ROUNDS = 40
_HORIZONS = (1.1, 2.0, 20.0)


@dataclass(slots=True)
class Room:
    """What is left to give away while filling: unit-seconds by block and pool, and money. Changed in place."""

    member: Bools  #: (B, C) the classes of a block
    work: Floats  #: (B, P, D)
    money: Floats  #: (E,)


def room(problem: Problem, blocks: list[Block], x: Floats | None = None) -> Room:
    """All that blocks and budgets leave beside an assignment `x` (C, P)."""
    member = np.array([block.member for block in blocks], dtype=np.bool_).reshape(len(blocks), len(problem.classes))
    seconds = np.array([block.seconds for block in blocks]).reshape(len(blocks), len(problem.pools), 1)
    work = np.maximum(problem.capacity * seconds * (1.0 + EPSILON) - problem.running_load, 0.0)
    money = problem.budget.copy()
    if x is not None:
        held = x * problem.hold_s
        for b, mine in enumerate(member):
            work[b] -= held[mine].T @ problem.request[mine]
        money -= np.bincount(problem.experiment, (problem.money * x).sum(axis=1), len(money))
    return Room(member, work, money)


def greedy(problem: Problem, price: Costs) -> Floats:
    """An integral assignment (C, P) within capacity and budgets; the best of a few horizons."""
    bids = price.cell + _budget_pressure(problem, price.cell)[:, None] * problem.money
    if problem.limits.window_s is not None:
        return fill(problem, bids, price.stage, room(problem, fixed_blocks(problem)))
    best, best_value = np.zeros(problem.cause.shape), np.inf
    shortest = least_horizon(problem)
    for factor in _HORIZONS:
        horizon = shortest * factor
        levelled = bids + float(price.finish_weight.sum()) * problem.hold_s * scarcity(problem)
        x = fill(problem, levelled, price.stage, room(problem, blocks_within(problem, horizon)))
        score = value(problem, price, x)
        if score >= best_value:
            break
        best, best_value = x, score
        if x.sum() >= problem.count[problem.allowed.any(axis=1)].sum() - 0.5:
            break
    return best


def least_horizon(problem: Problem, *, with_running: bool = True) -> float:
    """No horizon below this can hold the work, were every task at its quickest, in seconds.

    Without what runs already it is a lower bound of every plan's finish: a plan may leave busy pools alone.
    """
    allowed = problem.allowed
    able = allowed.any(axis=1)
    if not able.any():
        return 0.0
    quickest = np.where(allowed, problem.hold_s, np.inf).min(axis=1)
    ends = np.where(allowed, problem.hold_s + problem.wait_s[None, :], np.inf).min(axis=1)
    work = (problem.request[able] * (quickest * problem.count)[able, None]).sum(axis=0)
    if with_running:
        work = work + problem.running_load.sum(axis=0)
    total = problem.capacity[allowed.any(axis=0)].sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        busy = np.where(total > 0, work / total, 0.0).max(initial=0.0)
    return float(max(busy, ends[able].max(), EPSILON))


def scarcity(problem: Problem) -> Floats:
    """(C, 1) the part of all capacity one task holds, in its scarcest dimension."""
    total = problem.capacity.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(total > 0, problem.request / total, 0.0)
    scarcity: Floats = part.max(axis=1, initial=0.0)[:, None]
    return scarcity


def _budget_pressure(problem: Problem, cell: Floats) -> Floats:
    """(C,) extra price of money that makes each budgeted experiment's cheapest choices affordable, by bisection."""
    bounded = np.isfinite(problem.budget)
    if not bounded.any():
        return np.zeros(len(problem.classes))
    allowed = problem.allowed
    low = np.zeros(len(problem.budget))
    high = np.where(bounded, 1e9, 0.0)
    rows = np.arange(len(problem.classes))
    pressure = low
    for _ in range(24):
        bids = np.where(allowed, cell + pressure[problem.experiment][:, None] * problem.money, np.inf)
        spent = problem.money[rows, bids.argmin(axis=1)] * problem.count
        over = np.bincount(problem.experiment, spent, len(problem.budget)) > problem.budget
        low, high = np.where(over, pressure, low), np.where(over, high, pressure)
        pressure = np.where(bounded, np.sqrt(np.maximum(low, 1e-3) * np.maximum(high, 1e-3)), 0.0)
        if not over.any() and not low.any():
            return np.zeros(len(problem.classes))
    return np.where(bounded, high, 0.0)[problem.experiment]


def fill(problem: Problem, bids: Floats, stage: Ints, left: Room, x: Floats | None = None) -> Floats:
    """Places what `x` (C, P) leaves unplaced, whole tasks only; reduces `left` and returns the sum.

    `left` must already be without what `x` takes.
    """
    x = np.zeros(problem.cause.shape) if x is None else x.copy()
    missing = np.floor(problem.count - x.sum(axis=1) + 1e-6)
    offers = np.where(problem.allowed, bids, np.inf)
    for _ in range(MAX_ROUNDS):
        active = np.flatnonzero(missing >= 1)
        if len(active) == 0:
            break
        fits = has_room(problem, active, left)
        fits &= problem.money[active] <= left.money[problem.experiment[active]][:, None] + EPSILON
        current = np.where(fits, offers[active], np.inf)
        chosen = current.argmin(axis=1)
        bid = current[np.arange(len(active)), chosen]
        able = np.isfinite(bid)
        if not able.any():
            break
        active, chosen, current, bid = active[able], chosen[able], current[able], bid[able]
        current[np.arange(len(active)), chosen] = np.inf
        regret = current.min(axis=1, initial=np.inf) - bid
        given = _serve(problem, active, chosen, np.lexsort((-regret, stage[active], chosen)), missing, left)
        x[active, chosen] += given
        missing[active] -= given
    return x


def has_room(problem: Problem, active: Ints, left: Room) -> Bools:
    """(A, P) where one more task of the classes `active` fits the work that is left, whatever it costs."""
    hold = problem.hold_s[active]
    fits: Bools = problem.allowed[active]
    for b, member in enumerate(left.member):
        mine = member[active]
        for d in range(len(problem.dims)):
            enough = problem.request[active, d : d + 1] * hold <= left.work[b, None, :, d]
            fits &= enough | ~mine[:, None]
    return fits


def _serve(problem: Problem, active: Ints, chosen: Ints, order: Ints, missing: Floats, left: Room) -> Floats:
    """(A,) whole tasks each bidder gets, served in `order`; takes them from `left`."""
    rows, pools = active[order], chosen[order]
    load = problem.request[rows] * problem.hold_s[rows, pools][:, None]
    wanted = missing[rows]
    for b, member in enumerate(left.member):
        mine = member[rows]
        for d in range(load.shape[1]):
            unit = np.where(mine, load[:, d], 0.0)
            wanted = np.minimum(wanted, _in_turn(unit, wanted, pools, left.work[b, :, d]))
    experiments = problem.experiment[rows]
    by_experiment = np.argsort(experiments, kind="stable")
    paid = problem.money[rows, pools]
    affordable = _in_turn(paid[by_experiment], wanted[by_experiment], experiments[by_experiment], left.money)
    wanted[by_experiment] = np.minimum(wanted[by_experiment], affordable)
    for b, member in enumerate(left.member):
        taken = wanted * member[rows]
        for d in range(load.shape[1]):
            left.work[b, :, d] -= np.bincount(pools, load[:, d] * taken, left.work.shape[1])
    left.money -= np.bincount(experiments, paid * wanted, len(left.money))
    given = np.zeros(len(active))
    given[order] = wanted
    return given


def _in_turn(unit: Floats, wanted: Floats, owner: Ints, stock: Floats) -> Floats:
    """How many units fit when each owner's stock is used up in row order; rows are sorted by owner."""
    takes = unit * wanted
    before = np.cumsum(takes) - takes
    first = np.searchsorted(owner, owner)
    rest = stock[owner] - (before - before[first]) + EPSILON
    with np.errstate(divide="ignore", invalid="ignore"):
        fits = np.where(unit > 0, rest / np.where(unit > 0, unit, 1.0), np.inf)
    return np.floor(np.maximum(fits, 0.0))
