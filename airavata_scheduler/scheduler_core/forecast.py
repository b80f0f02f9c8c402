"""What an experiment may expect of a plan: finish with a range, cost, data moved, and the risk of its deadline.

The range has two parts: how well the mean runtimes are known (shrinking with the root of the observations behind them;
it stretches the whole schedule) and how much single tasks differ (the last one to end may be a slow one).
"""

from __future__ import annotations

from math import erf, inf, sqrt

import numpy as np

from .objective import Costs, stage_finishes
from .plan import Forecast
from .problem import Bools, Floats, Problem
from .rehearsal import Cast, Outcome

#: Between the 10 % and the 90 % quantile of a normal distribution lie this many standard deviations.
_DECILES = 2.5631


def forecast(
    problem: Problem, price: Costs, x: Floats, who: Cast | None, outcome: Outcome | None
) -> tuple[Forecast, ...]:
    """One forecast for every experiment that has tasks to place, in the order of the snapshot."""
    finishes = _rehearsed_finishes(who, outcome) if who is not None and outcome is not None else None
    staged = stage_finishes(problem, price, x)
    forecasts = []
    for e in np.unique(problem.experiment):
        mine = problem.experiment == e
        placed = int(x[mine].sum())
        finish = float(staged[int(price.stage[mine][0])]) if finishes is None else finishes[int(e)]
        finish = finish if placed else 0.0
        low, high = _range(problem, x, mine, finish)
        due = float(problem.deadline_s[mine].min())
        forecasts.append(
            Forecast(
                experiment=problem.snapshot.experiments[int(e)].key,
                finish_s=finish,
                finish_low_s=low,
                finish_high_s=high,
                cost=float((x * problem.money)[mine].sum()),
                moved_bytes=float((x * problem.moved_bytes)[mine].sum()),
                late_s=max(0.0, finish - due) if due < inf else 0.0,
                deadline_risk=_risk(finish, low, high, due),
                placed=placed,
                unplaced=int(problem.count[mine].sum()) - placed,
            )
        )
    return tuple(forecasts)


def _rehearsed_finishes(who: Cast, outcome: Outcome) -> list[float]:
    ends = [0.0] * len(who.problem.budget)
    for by_group in outcome.end:
        for g, end in by_group.items():
            ends[who.experiment[g]] = max(ends[who.experiment[g]], end)
    return ends


def _range(problem: Problem, x: Floats, mine: Bools, finish: float) -> tuple[float, float]:
    rows = np.flatnonzero(mine)
    weight = (x[rows] * problem.hold_s[rows]).sum(axis=1)
    if weight.sum() <= 0:
        return finish, finish
    bounds = [(*problem.classes[c].runtime.bounds(), problem.classes[c].runtime) for c in rows]
    part = weight / weight.sum()
    mean = np.array([runtime.mean_s for _, _, runtime in bounds])
    known = np.sqrt(1.0 + np.array([runtime.n for _, _, runtime in bounds]))
    down = np.maximum(0.0, 1.0 - np.array([low for low, _, _ in bounds]) / mean)
    up = np.maximum(0.0, np.array([high for _, high, _ in bounds]) / mean - 1.0)
    slowest = np.where(x[rows] > 0, problem.run_s[rows], 0.0).max(axis=1)
    low = finish * (1.0 - float((part * down / known).sum()))
    high = finish * (1.0 + float((part * up / known).sum())) + float((up * slowest).max())
    return max(0.0, low), high


def _risk(finish: float, low: float, high: float, due: float) -> float:
    """The probability of ending after the deadline, with a normal error around the forecast."""
    if due == inf or finish <= 0:
        return 0.0
    deviation = max((high - low) / _DECILES, 1e-9)
    return 0.5 * (1.0 - erf((due - finish) / deviation / sqrt(2.0)))
