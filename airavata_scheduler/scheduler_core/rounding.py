"""From a relaxed solution to whole tasks: round down, then place the rest at the solver's own prices.

The rest is filled within the stages' finishes of the relaxation, stretched until the objective is close to that of the
relaxation: the tightest fit may leave only dear places for the last few tasks. The best of the few stretches is kept.
Where the last tasks of an experiment find room but no money, others of it move to cheaper places (see `savings.py`).
"""

from __future__ import annotations

import numpy as np

from .greedy import fill, room
from .objective import Block, Costs, blocks_within, fixed_blocks, stage_finishes, value
from .problem import Floats, Problem
from .savings import save
from .solution import Solution

_STRETCHES = (1.0, 1.0005, 1.003, 1.02, 1.2, 10.0)
_CLOSE = 1e-4


def rounded(problem: Problem, price: Costs, solution: Solution) -> Floats:
    """Whole tasks (C, P) within fixed blocks and budgets."""
    down = np.floor(solution.x + 1e-6)
    over = np.maximum(down.sum(axis=1) - problem.count, 0.0)
    down[np.arange(len(down)), down.argmax(axis=1)] -= over
    bids = np.where(problem.allowed, solution.reduced + 1e-9 * np.abs(price.cell), np.inf)
    if problem.limits.window_s is not None:
        return _filled(problem, bids, price, fixed_blocks(problem), down)
    finishes = stage_finishes(problem, price, solution.x)
    good_enough = value(problem, price, solution.x) * (1.0 + _CLOSE)
    best, best_value = down, value(problem, price, down)
    for stretch in _STRETCHES:
        blocks = _stage_blocks(problem, price, finishes * stretch) + fixed_blocks(problem)
        x = _filled(problem, bids, price, blocks, down)
        score = value(problem, price, x)
        if score < best_value:
            best, best_value = x, score
        if best_value <= good_enough:
            break
    return best


def _stage_blocks(problem: Problem, price: Costs, finishes: Floats) -> list[Block]:
    return [
        Block(price.stage <= s, blocks_within(problem, float(finish))[0].seconds) for s, finish in enumerate(finishes)
    ]


def _filled(problem: Problem, bids: Floats, price: Costs, blocks: list[Block], down: Floats) -> Floats:
    """What `down` (C, P) leaves out, placed; what has room but no money once more, after others have saved for it."""
    left = room(problem, blocks, down)
    x = fill(problem, bids, price.stage, left, down)
    saved = save(problem, bids, left, x)
    return x if saved is x else fill(problem, bids, price.stage, left, saved)
