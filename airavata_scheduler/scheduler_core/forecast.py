"""What an experiment may expect of a plan: finish with a range, cost, data moved, and the risk of its deadline.

A plan that was not rehearsed is forecast as a fluid: projects proceed side by side by their weights, the experiments of
one project by urgency, and nothing ends before the critical path through it does.

The range has two parts: how well the mean runtimes are known (shrinking with the root of the observations behind them;
it stretches the whole schedule) and how much single tasks differ (the last one to end may be a slow one).
"""

from __future__ import annotations

from math import erf, inf, sqrt

import numpy as np

from .objective import by_urgency
from .plan import Forecast
from .problem import Bools, Floats, Problem
from .rehearsal import Cast, Outcome

#: Between the 10 % and the 90 % quantile of a normal distribution lie this many standard deviations.
_DECILES = 2.5631


def forecast(problem: Problem, x: Floats, who: Cast | None, outcome: Outcome | None) -> tuple[Forecast, ...]:
    """One forecast for every experiment that has tasks to place, in the order of the snapshot."""
    if who is not None and outcome is not None:
        finishes = _rehearsed_finishes(who, outcome)
    else:
        finishes = _fluid_finishes(problem, x)
    running = _running_finishes(problem)
    forecasts = []
    for e in np.unique(problem.experiment):
        mine = problem.experiment == e
        placed = int(x[mine].sum())
        finish = max(finishes[int(e)], running[int(e)]) if placed else 0.0
        low, high = _range(problem, x, mine, finish)
        due = float(problem.due_s[e])
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


def _running_finishes(problem: Problem) -> list[float]:
    """(E,) when the last task that runs already ends."""
    ends = [0.0] * len(problem.budget)
    groups = problem.snapshot.groups
    for task in problem.running:
        e = problem.experiment_index[groups[task.group].experiment]
        ends[e] = max(ends[e], task.left_s)
    return ends


def _fluid_finishes(problem: Problem, x: Floats) -> list[float]:
    """(E,) ends of an assignment (C, P). While a project does some work, each other does as much by its weight.

    That is generalised processor sharing (Parekh and Gallager, 1993), pool by pool.
    """
    experiments = problem.snapshot.experiments
    weights = {project.key: project.weight for project in problem.snapshot.projects}
    held = x * problem.hold_s
    load = {
        int(e): held[problem.experiment == e].T @ problem.request[problem.experiment == e] for e in by_urgency(problem)
    }
    of = {e: experiments[e].project for e in load}
    whole: dict[str, Floats] = {}
    for e, work in load.items():
        whole[of[e]] = whole.get(of[e], 0.0) + work
    tail = problem.wait_s + problem.hold_s * np.maximum(1.0, x / np.maximum(problem.most, 1.0))
    tail = tail + problem.rank_s[:, None] / max((r.speed for r in problem.snapshot.resources), default=1.0)
    done: dict[str, Floats] = {}
    ends = [0.0] * len(experiments)
    for e, work in load.items():
        mine, project = problem.experiment == e, of[e]
        done[project] = done.get(project, 0.0) + work
        pace = weights.get(project, 1.0)
        busy = (
            done[project]
            + problem.running_load
            + sum(
                np.minimum(all_of, done[project] * weights.get(other, 1.0) / pace)
                for other, all_of in whole.items()
                if other != project
            )
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            full = np.where((work > 0) & (problem.capacity > 0), busy / problem.capacity, 0.0).max(axis=1, initial=0.0)
        full = np.where(full > 0, full + problem.wait_s, 0.0)
        ends[e] = float(max(full.max(initial=0.0), np.where(x[mine] > 0, tail[mine], 0.0).max(initial=0.0)))
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
